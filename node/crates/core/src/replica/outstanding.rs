//! Steps whose writes are not known to be durable yet.
//!
//! A step without writes may still have messages that must wait: a follower's answer to an entry
//! it received before promises that the entry is durable. Such messages wait for the last step
//! with writes before them.

use std::collections::VecDeque;

use super::entry::Envelope;

#[derive(Debug)]
struct Step {
    /// The number of the writes.
    number: u64,
    /// The last round covered once those are durable.
    covers: u64,
    /// Messages of later steps that wait for these writes.
    envelopes: Vec<Envelope>,
}

/// Steps with writes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    steps: VecDeque<Step>,
}

impl Outstanding {
    /// Whether everything asked for is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A step with writes.
    pub(super) fn push(&mut self, number: u64) {
        self.steps.push_back(Step { number, covers: number, envelopes: Vec::new() });
    }

    /// A round without writes, whose messages wait for the writes before it. Gives them back when
    /// nothing is outstanding: they may go at once.
    pub(super) fn wait(&mut self, round: u64, envelopes: Vec<Envelope>) -> Option<Vec<Envelope>> {
        let Some(last) = self.steps.back_mut() else { return Some(envelopes) };
        last.covers = round;
        last.envelopes.extend(envelopes);
        None
    }

    /// Writes up to `number` are durable. Gives the last round covered and the messages that
    /// waited; nothing when that was known.
    pub(super) fn finish(&mut self, number: u64) -> Option<(u64, Vec<Envelope>)> {
        let mut finished: Option<(u64, Vec<Envelope>)> = None;
        while let Some(step) = self.steps.pop_front_if(|step| step.number <= number) {
            let (covers, envelopes) = finished.get_or_insert_default();
            *covers = step.covers;
            envelopes.extend(step.envelopes);
        }
        finished
    }
}
