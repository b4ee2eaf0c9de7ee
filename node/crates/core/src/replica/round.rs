//! What one round of the Raft library asks for, in our words.

use super::entry::{Checkpoint, HardState, LogEntry};
use super::message::PeerMessage;
use super::reads::ReadContext;
use crate::ids::{Index, NodeId};

/// Work of one round. Rounds are numbered from 1 in the life of a replica.
pub(super) struct Round {
    pub number: u64,
    pub reads: Vec<(ReadContext, Index)>,
    pub install: Option<Checkpoint>,
    /// Given only when it must be synced.
    pub hard_state: Option<HardState>,
    pub entries: Vec<LogEntry>,
    pub committed: Vec<LogEntry>,
    pub send: Vec<(NodeId, PeerMessage)>,
    pub send_when_durable: Vec<(NodeId, PeerMessage)>,
}
