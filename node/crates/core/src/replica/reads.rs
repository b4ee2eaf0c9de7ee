//! Reads that must see everything acknowledged before them.
//!
//! A leader asks its followers once whether it still leads, for all reads that wait at that moment
//! (a context names the attempt), and then waits until the commit index of that moment is applied.
//! Reads that arrive while an attempt is under way wait for the next one: they may have seen
//! acknowledgements the attempt does not cover.
//!
//! A context is the term and a counter. A node leads a term at most once, so no two attempts of a
//! group share a context, restarts included.

use std::collections::VecDeque;

use super::effects::Reply;
use crate::ids::{Index, NodeId, RequestId, Term};

/// Names one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadContext {
    term: Term,
    attempt: u64,
}

impl ReadContext {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&self.term.0.to_le_bytes());
        bytes.extend_from_slice(&self.attempt.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<ReadContext> {
        let (term, attempt) = bytes.split_first_chunk::<8>()?;
        let term = Term(u64::from_le_bytes(*term));
        let attempt = u64::from_le_bytes(attempt.try_into().ok()?);
        Some(ReadContext { term, attempt })
    }
}

#[derive(Debug)]
struct Attempt {
    context: ReadContext,
    requests: Vec<RequestId>,
    ticks: u32,
}

/// Waiting reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<RequestId>,
    asked: Option<Attempt>,
    confirmed: VecDeque<(Index, Vec<RequestId>)>,
    attempts: u64,
}

impl Reads {
    /// Adds a read; it belongs to the next attempt.
    pub(super) fn push(&mut self, request: RequestId) {
        self.waiting.push(request);
    }

    /// Whether an attempt should begin.
    pub(super) fn wants_attempt(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    /// Begins an attempt for all reads that wait.
    pub(super) fn begin(&mut self, term: Term) -> ReadContext {
        self.attempts += 1;
        let context = ReadContext { term, attempt: self.attempts };
        let requests = std::mem::take(&mut self.waiting);
        self.asked = Some(Attempt { context, requests, ticks: 0 });
        context
    }

    /// The attempt is confirmed: its reads may go on once `index` is applied.
    pub(super) fn confirm(&mut self, context: ReadContext, index: Index) {
        if let Some(attempt) = self.asked.take_if(|attempt| attempt.context == context) {
            self.confirmed.push_back((index, attempt.requests));
        }
    }

    /// A tick went by; an attempt that takes `ticks_max` is given up and begun anew, under another
    /// context.
    pub(super) fn tick(&mut self, ticks_max: u32) {
        let Some(attempt) = &mut self.asked else { return };
        attempt.ticks += 1;
        if attempt.ticks < ticks_max {
            return;
        }
        let mut requests = self.asked.take().expect("looked at above").requests;
        requests.append(&mut self.waiting);
        self.waiting = requests;
    }

    /// Answers the reads whose index is applied.
    pub(super) fn answer(&mut self, applied: Index, replies: &mut Vec<Reply>) {
        while let Some((_, requests)) = self.confirmed.pop_front_if(|(index, _)| *index <= applied)
        {
            let ready = requests.into_iter();
            replies.extend(ready.map(|request| Reply::ReadReady { request, index: applied }));
        }
    }

    /// Refuses every read: this replica does not lead any more.
    pub(super) fn refuse_all(&mut self, owner: Option<NodeId>, replies: &mut Vec<Reply>) {
        let confirmed = self.confirmed.drain(..).flat_map(|(_, requests)| requests);
        let asked = self.asked.take().into_iter().flat_map(|attempt| attempt.requests);
        let requests = confirmed.chain(asked).chain(self.waiting.drain(..));
        replies.extend(requests.map(|request| Reply::NotOwner { request, owner }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_share_an_attempt_and_wait_for_the_index() {
        let mut reads = Reads::default();
        let mut replies = Vec::new();
        reads.push(RequestId(1));
        reads.push(RequestId(2));
        let first = reads.begin(Term(3));
        reads.push(RequestId(3));
        assert!(!reads.wants_attempt(), "one attempt at a time");
        reads.confirm(first, Index(5));
        reads.answer(Index(4), &mut replies);
        assert_eq!(replies, []);
        reads.answer(Index(5), &mut replies);
        assert_eq!(replies.len(), 2, "the third read came after the attempt began");
        assert!(reads.wants_attempt());
    }

    #[test]
    fn an_attempt_given_up_is_not_confirmed_later() {
        let mut reads = Reads::default();
        let mut replies = Vec::new();
        reads.push(RequestId(1));
        let first = reads.begin(Term(3));
        reads.tick(2);
        reads.tick(2);
        assert!(reads.wants_attempt());
        let second = reads.begin(Term(3));
        assert_ne!(first, second);
        reads.confirm(first, Index(1));
        reads.answer(Index(1), &mut replies);
        assert_eq!(replies, []);
        reads.confirm(second, Index(1));
        reads.answer(Index(1), &mut replies);
        assert_eq!(replies, [Reply::ReadReady { request: RequestId(1), index: Index(1) }]);
    }

    #[test]
    fn a_context_survives_the_wire() {
        let mut reads = Reads::default();
        let context = reads.begin(Term(9));
        assert_eq!(ReadContext::decode(&context.encode()), Some(context));
        assert_eq!(ReadContext::decode(&[1, 2, 3]), None);
        assert_eq!(ReadContext::decode(&[0; 17]), None);
    }
}
