//! Faults of ours, put in on purpose: the simulator must catch each of them.
//!
//! They live in the simulator's shell and machine. The core has no switch for wrong behaviour.

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// What waits for the disk goes out when it is written, not when it is synced.
    AckBeforeSync,
    /// Votes and terms are written but not synced.
    VoteNotSynced,
    /// Who sent a batch is overlooked, so a retry counts again.
    DuplicateNotRecognised,
    /// The log is cut before the checkpoint that replaces it is synced.
    TruncateTooEarly,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 4] = [
        Mutant::AckBeforeSync,
        Mutant::VoteNotSynced,
        Mutant::DuplicateNotRecognised,
        Mutant::TruncateTooEarly,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AckBeforeSync => "ack-before-sync",
            Mutant::VoteNotSynced => "vote-not-synced",
            Mutant::DuplicateNotRecognised => "duplicate-not-recognised",
            Mutant::TruncateTooEarly => "truncate-too-early",
        }
    }

    /// The mutant of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
