//! What a replica is told at start, and why it may refuse to start.

use std::ops::Range;

use crate::ids::{GroupId, Index, NodeId, Term};

/// Bytes of entries in one message: large enough to fill a link, small enough that heartbeats
/// behind it are not late.
pub(super) const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages on the way to one follower: 32 MiB at the size above.
pub(super) const MESSAGES_IN_FLIGHT_MAX: usize = 32;
/// Commands executed in one round.
pub(super) const ROUND_BYTES_MAX: u64 = 16 << 20;
/// Proposed and not yet agreed; more is answered with busy.
pub(super) const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Ticks after which a checkpoint sent to a follower counts as lost: the length of an election.
pub(super) const CHECKPOINT_TICKS_MAX: u32 = 10;
/// An encoded change of voters is a few bytes each; anything larger is not one. Also bounds how
/// deep the library's parser can be driven.
pub(super) const CONF_CHANGE_BYTES_MAX: usize = 4 << 10;

/// A follower so many entries behind the end of the log counts as caught up: it has the rest within
/// a message or two.
pub(super) const LAG_ENTRIES_MAX: u64 = 256;

/// Settings of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The group.
    pub group: GroupId,
    /// This node; not 0.
    pub node: NodeId,
    /// Election timeouts are drawn from this number, so that the same seed gives the same run. The
    /// shell gives every replica another one.
    pub seed: u64,
    /// Ticks without a leader before a follower stands for election: drawn from this range.
    pub election_ticks: Range<u32>,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u32,
    /// Size of the log kept in memory, beyond what a checkpoint needs, for members that are alive
    /// and behind. Who is further behind must fetch a checkpoint.
    pub retained_bytes_max: u64,
}

impl ReplicaConfig {
    /// Enough for a follower whose disk or link stalls for a moment at full load, small enough for
    /// a node that leads hundreds of groups with a slow member.
    pub const RETAINED_BYTES_MAX: u64 = 16 << 20;

    /// With ticks of 100 ms in mind: a new leader about 1 to 2 s after the old one died.
    #[must_use]
    pub fn new(group: GroupId, node: NodeId, seed: u64) -> ReplicaConfig {
        ReplicaConfig {
            group,
            node,
            seed,
            election_ticks: 10..20,
            heartbeat_ticks: 3,
            retained_bytes_max: Self::RETAINED_BYTES_MAX,
        }
    }
}

/// Why a replica does not start. Trying again does not help: the store or the caller is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The settings contradict themselves.
    #[error("replica settings: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The log has a hole, or does not begin after the checkpoint.
    #[error("entry {expected} is missing from the log, found {found}")]
    Gap {
        /// The index that should follow.
        expected: Index,
        /// The index that does.
        found: Index,
    },
    /// The terms of the log go back, or one is beyond the stored term.
    #[error("entry {index} has term {found}, outside {min} to {max}")]
    TermOutOfOrder {
        /// The entry.
        index: Index,
        /// Its term.
        found: Term,
        /// The term before it.
        min: Term,
        /// The stored term.
        max: Term,
    },
    /// More was committed than the log holds.
    #[error("commit {commit} is beyond the last entry {last}")]
    CommitBeyondLog {
        /// The stored commit index.
        commit: Index,
        /// The last entry.
        last: Index,
    },
}
