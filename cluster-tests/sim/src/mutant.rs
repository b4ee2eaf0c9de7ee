//! Faults of ours, put in on purpose: the simulator must catch each of them.
//!
//! They live in the simulator's shell, disk and machine, and where messages pass (`twist`). The
//! core has no switch for wrong behaviour.

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
    /// What a learner has counts as if a voter had it.
    LearnerCounted,
    /// All attempts of a leader's reads go under one name, so that a late answer to an earlier one
    /// counts for the next.
    ReadContextReused,
    /// The state of a checkpoint and its position are written one after the other.
    PositionApart,
    /// A checkpoint does not keep who belonged to the group.
    CheckpointWithoutMembers,
    /// Followers skip empty entries without a look at their kind, and never leave a joint
    /// configuration.
    LeaveJointSkipped,
    /// A removed replica leaves its vote behind and forgets what it acknowledged.
    RemovedLogForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 10] = [
        Mutant::AckBeforeSync,
        Mutant::VoteNotSynced,
        Mutant::DuplicateNotRecognised,
        Mutant::TruncateTooEarly,
        Mutant::LearnerCounted,
        Mutant::ReadContextReused,
        Mutant::PositionApart,
        Mutant::CheckpointWithoutMembers,
        Mutant::LeaveJointSkipped,
        Mutant::RemovedLogForgotten,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AckBeforeSync => "ack-before-sync",
            Mutant::VoteNotSynced => "vote-not-synced",
            Mutant::DuplicateNotRecognised => "duplicate-not-recognised",
            Mutant::TruncateTooEarly => "truncate-too-early",
            Mutant::LearnerCounted => "learner-counted",
            Mutant::ReadContextReused => "read-context-reused",
            Mutant::PositionApart => "position-apart",
            Mutant::CheckpointWithoutMembers => "checkpoint-without-members",
            Mutant::LeaveJointSkipped => "leave-joint-skipped",
            Mutant::RemovedLogForgotten => "removed-log-forgotten",
        }
    }

    /// The mutant of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
