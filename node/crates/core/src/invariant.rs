//! The promises of the system, by name.
//!
//! A promise is checked where it could break, in release builds too: wrong data must not spread.
//! What a disk, a network or a user can cause is never an invariant; it is an error value.
//!
//! Not here: what only an observer of the whole cluster can check (one leader for each term, an
//! acknowledged event kept by every later leader). The simulator checks those under the same names.

use std::fmt;
use std::sync::OnceLock;

/// A promise with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: at most one leader for each group and term.
    OneLeaderPerTerm,
    /// I2: two logs that agree on the term of an index agree on everything before it.
    LogsMatch,
    /// I3: the log of a new leader holds every entry that was ever committed.
    LeaderComplete,
    /// I4: an index of a group holds one command for ever.
    OneCommandPerIndex,
    /// I5: one vote for each node and term, across crashes.
    OneVotePerTerm,
    /// I6: an entry is synced on a majority of the voters before it is applied anywhere.
    CommittedIsDurable,
    /// I7: term, commit and applied never go back; applied <= commit <= last.
    ProgressNeverGoesBack,
    /// I8: one change of voters at a time; a node outside the group neither votes nor acknowledges.
    OneChangeOfVoters,
    /// I9: a checkpoint and the log after it give the same state as the whole log.
    CheckpointEqualsReplay,
    /// I11: an acknowledged batch is present exactly once, in the producer's order.
    AckedExactlyOnce,
    /// I12: offsets of a partition are dense from 0.
    OffsetsDense,
    /// I17: replicas with the same applied index have the same state.
    ReplicasAgree,
    /// I18: a linearizable read sees everything acknowledged before it began.
    ReadsSeeAcked,
    /// What the catalogue says of where a group is was so, and never goes back to what was before.
    PlacementFollowsGroup,
    /// A replica is removed only when its group has agreed on doing without it.
    RemovedWhenAgreed,
    /// I21: once the faults end, the cluster serves again and every waiting caller is answered.
    Converges,
    /// R4: entries are applied one after the other, without gap.
    AppliedInOrder,
    /// R5: the log is cut only below what a durable checkpoint covers.
    TruncatedBelowCheckpoint,
    /// What waits for the disk is released only with the proof of its own writes.
    ProofMatchesWrites,
    /// A sequence applied for a producer is exactly one after its last.
    SequencesDense,
    /// The rows of a payload are as many as its parts declare.
    PayloadMatchesParts,
    /// An id given out is never given out again.
    IdsNeverReused,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Called with the name of a promise just before the process stops over it.
type OnBroken = fn(Invariant);

static ON_BROKEN: OnceLock<OnBroken> = OnceLock::new();

/// Asks to be told of a broken promise before the panic, to count or log it. The first caller wins.
pub fn on_broken(hook: OnBroken) {
    let _already_set = ON_BROKEN.set(hook);
}

/// Stops when a promise is broken.
///
/// # Panics
/// When `holds` is false: the code is wrong, and going on would spread wrong data.
#[track_caller]
pub fn hold(invariant: Invariant, holds: bool) {
    if holds {
        return;
    }
    if let Some(hook) = ON_BROKEN.get() {
        hook(invariant);
    }
    panic!("invariant broken: {invariant}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_promise_is_silent() {
        hold(Invariant::OffsetsDense, true);
    }

    #[test]
    #[should_panic(expected = "invariant broken: OffsetsDense")]
    fn a_broken_promise_stops_with_its_name() {
        hold(Invariant::OffsetsDense, false);
    }
}
