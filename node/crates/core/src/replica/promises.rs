//! Whether the term of this replica is on its disk.
//!
//! What a leader sends at once, before its own writes are durable, is safe because it can lead its
//! term once only: its vote for itself is on its disk. A leader that was elected by others had to
//! write that before it could ask them; the only voter of a group elects itself in one step, and
//! would send entries to its learners in a term that a crash makes it forget and begin anew.

use crate::ids::Term;

/// Which round brought the term, and up to which round everything is durable.
#[derive(Debug, Default)]
pub(super) struct Promises {
    term: Term,
    written_in: u64,
    durable: u64,
}

impl Promises {
    /// A round asks for a term to be written.
    pub(super) fn written(&mut self, round: u64, term: Term) {
        if self.term < term {
            self.term = term;
            self.written_in = round;
        }
    }

    /// Everything up to a round is durable.
    pub(super) fn persisted(&mut self, round: u64) {
        self.durable = round;
    }

    /// Whether the newest term is durable.
    pub(super) fn term_is_durable(&self) -> bool {
        self.written_in <= self.durable
    }
}
