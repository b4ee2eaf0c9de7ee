//! The log in our own words: what is stored, sent and restored.

use bytes::Bytes;

use super::members::Members;
use crate::ids::{GroupId, Index, NodeId, Term};

/// A place in a Raft log. Equal positions mean equal logs up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Index of the entry; 0 is before the first.
    pub index: Index,
    /// Term of the entry at that index.
    pub term: Term,
}

/// What a replica must not forget besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Highest term seen.
    pub term: Term,
    /// Whom this replica voted for in that term.
    pub vote: Option<NodeId>,
    /// Highest index known to be committed when this was written; may lag.
    pub commit: Index,
}

/// What an entry is. Looked at before the data: an empty [`EntryKind::ConfChangeV2`] means
/// something, an empty [`EntryKind::Normal`] does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command, or nothing: a leader opens its term with an empty entry.
    Normal,
    /// A change of one voter in the old form; read, never written by us.
    ConfChange,
    /// A change of voters. Without data: leave the joint configuration.
    ConfChangeV2,
}

/// One item of a Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it is.
    pub kind: EntryKind,
    /// Free bytes beside the data; empty for commands.
    pub context: Bytes,
    /// The command, or the encoded change of voters.
    pub data: Bytes,
}

impl LogEntry {
    /// What an entry costs beside its bytes: a rounded guess, used for limits only.
    const OVERHEAD_BYTES: u64 = 32;

    /// Index and term.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term }
    }

    /// Size for limits and for [`super::Status::log_bytes`].
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        Self::OVERHEAD_BYTES + self.context.len() as u64 + self.data.len() as u64
    }
}

/// What the store found at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// Who belongs to the group, as of `truncated`.
    pub members: Members,
    /// Where the durable checkpoint stands; the log begins after it.
    pub truncated: LogPosition,
    /// Everything stored after `truncated`, without gap.
    pub entries: Vec<LogEntry>,
    /// Where the log of a former replica of this group on this node ended, when it was removed
    /// and its log with it; zero when there was none. What that replica acknowledged still counts:
    /// until the new one has it again, it must neither be elected nor vote for anybody who lacks
    /// it.
    pub forgotten: LogPosition,
}

/// The state of a machine at a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry it contains.
    pub position: LogPosition,
    /// Who belongs to the group, as of that entry.
    pub members: Members,
    /// What [`super::Machine::checkpoint`] wrote.
    pub state: Bytes,
}

/// An addressed Raft message. The bytes are this crate's own form; only a replica reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The group both replicas belong to.
    pub group: GroupId,
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// The message.
    pub bytes: Bytes,
}
