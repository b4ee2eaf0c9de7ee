//! Mutants that sit between nodes: they change messages on their way, as a mistake in the code that
//! writes or reads them would. Without a mutant every message passes as it is.
//!
//! They know the bytes of a message: `node/crates/core/src/replica/message.rs`.

use alluvium_core::replica::Envelope;
use bytes::Bytes;

use crate::mutant::Mutant;
use crate::world::World;

const KIND_APPEND: u8 = 1;
const KIND_APPEND_ANSWER: u8 = 2;
const KIND_HEARTBEAT: u8 = 7;
const KIND_HEARTBEAT_ANSWER: u8 = 8;
const FLAG_REJECT: u8 = 1;
/// Where the context begins: after version, kind, flags and six numbers.
const CONTEXT_AT: usize = 3 + 6 * 8;
/// A read's context: a term and a counter.
const CONTEXT_BYTES: usize = 16;

impl World {
    /// What really goes out.
    pub(crate) fn twisted(&mut self, envelope: Envelope) -> Vec<Envelope> {
        match self.mutant {
            Some(Mutant::LearnerCounted) => self.counted(envelope),
            Some(Mutant::ReadContextReused) => {
                if envelope.bytes[1] == KIND_HEARTBEAT
                    && let Some(context) = context(&envelope.bytes)
                {
                    self.last_read.insert(envelope.from, context);
                }
                vec![envelope]
            }
            Some(
                Mutant::AckBeforeSync
                | Mutant::VoteNotSynced
                | Mutant::DuplicateNotRecognised
                | Mutant::TruncateTooEarly
                | Mutant::PositionApart
                | Mutant::CheckpointWithoutMembers
                | Mutant::LeaveJointSkipped
                | Mutant::RemovedLogForgotten,
            )
            | None => vec![envelope],
        }
    }

    /// What the receiver takes a message for.
    pub(crate) fn misread(&mut self, mut envelope: Envelope) -> Envelope {
        match self.mutant {
            Some(Mutant::ReadContextReused) => {
                let last = self.last_read.get(&envelope.to);
                let asked = context(&envelope.bytes);
                if envelope.bytes[1] == KIND_HEARTBEAT_ANSWER
                    && let (Some(_), Some(last)) = (asked, last)
                {
                    let mut bytes = envelope.bytes.to_vec();
                    let at = CONTEXT_AT + 4;
                    bytes[at..at + CONTEXT_BYTES].copy_from_slice(last);
                    envelope.bytes = bytes.into();
                }
            }
            Some(Mutant::LeaveJointSkipped) => {
                if envelope.bytes[1] == KIND_APPEND {
                    let mut bytes = envelope.bytes.to_vec();
                    skip_empty(&mut bytes);
                    envelope.bytes = bytes.into();
                }
            }
            Some(
                Mutant::AckBeforeSync
                | Mutant::VoteNotSynced
                | Mutant::DuplicateNotRecognised
                | Mutant::TruncateTooEarly
                | Mutant::LearnerCounted
                | Mutant::PositionApart
                | Mutant::CheckpointWithoutMembers
                | Mutant::RemovedLogForgotten,
            )
            | None => {}
        }
        envelope
    }

    /// A learner's word that it has entries goes out as a voter's, too.
    fn counted(&mut self, envelope: Envelope) -> Vec<Envelope> {
        let acknowledges =
            envelope.bytes[1] == KIND_APPEND_ANSWER && envelope.bytes[2] & FLAG_REJECT == 0;
        let Some(owner) = &self.node(envelope.to).replica else { return vec![envelope] };
        let members = owner.members();
        if !acknowledges || !members.learners.contains(&envelope.from) {
            return vec![envelope];
        }
        let voter = members.voters.into_iter().find(|voter| *voter != envelope.to);
        let voter = voter.map(|from| Envelope { from, ..envelope.clone() });
        voter.into_iter().chain([envelope]).collect()
    }
}

fn context(bytes: &Bytes) -> Option<Bytes> {
    let length = number(bytes, CONTEXT_AT);
    let at = CONTEXT_AT + 4;
    (length == CONTEXT_BYTES).then(|| bytes.slice(at..at + CONTEXT_BYTES))
}

/// Makes entries of two zero-length halves plain empty ones, whatever their kind.
fn skip_empty(bytes: &mut [u8]) {
    let mut at = CONTEXT_AT + 4 + number(bytes, CONTEXT_AT);
    let count = number(bytes, at);
    at += 4;
    for _ in 0..count {
        let length = number(bytes, at + 17) + number(bytes, at + 21);
        if length == 0 {
            bytes[at] = 0;
        }
        at += 25 + length;
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(bytes)).expect("a u32 fits")
}
