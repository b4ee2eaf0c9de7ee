//! Everything that can happen to a replica.

use bytes::Bytes;

use super::effects::Reply;
use super::entry::{Checkpoint, Envelope};
use super::members::Members;
use crate::ids::{GroupId, Index, NodeId, RequestId};

/// Something that happened, handed to [`super::Replica::step`].
#[derive(Debug)]
pub enum Input {
    /// A caller wants a command agreed. Answered once: by [`super::Applied::request`] or by a
    /// [`super::Reply`].
    Propose {
        /// Who waits.
        request: RequestId,
        /// The command; never empty.
        command: Bytes,
    },
    /// A caller wants to read everything acknowledged so far. Answered once, by a
    /// [`super::Reply`].
    ReadIndex {
        /// Who waits.
        request: RequestId,
    },
    /// A caller wants other members. Answered once, by a [`super::Reply`].
    ChangeMembers {
        /// Who waits.
        request: RequestId,
        /// All members there shall be, as [`Members::make_a_group`] asks.
        members: Members,
    },
    /// Hand leadership to another voter. Ignored unless this replica leads and that one is alive
    /// and nearly caught up.
    TransferLeader {
        /// The voter.
        to: NodeId,
    },
    /// What [`super::Effects::checkpoint_wanted`] asked for is durable. Its state may be empty: a
    /// follower fetches that from the shell.
    OfferCheckpoint {
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// What [`super::Effects::fetch`] asked for is here: everything the checkpoint names is staged
    /// on this node.
    Fetched {
        /// The checkpoint, with its state.
        checkpoint: Checkpoint,
    },
    /// What [`super::Effects::fetch`] asked for could not be had. The leader asks again.
    FetchFailed,
    /// A message from another replica of the group.
    Message(Envelope),
    /// Writes of an earlier step, and all before them, are durable.
    Persisted(Persisted),
    /// One unit of time went by.
    Tick,
    /// Stand for election now instead of waiting for the timeout.
    Campaign,
    /// A checkpoint at `through` or later is durable: the log up to there may go.
    Truncate {
        /// Last index to drop.
        through: Index,
    },
    /// Messages to this node are not getting through.
    Unreachable {
        /// The node.
        node: NodeId,
    },
}

impl Input {
    /// A replica that cannot go on names no owner: it does not know one any more.
    pub(super) fn refuse(self, replies: &mut Vec<Reply>) {
        match self {
            Input::Propose { request, .. }
            | Input::ReadIndex { request }
            | Input::ChangeMembers { request, .. } => {
                replies.push(Reply::NotOwner { request, owner: None });
            }
            Input::TransferLeader { .. }
            | Input::OfferCheckpoint { .. }
            | Input::Fetched { .. }
            | Input::FetchFailed
            | Input::Message(_)
            | Input::Persisted(_)
            | Input::Tick
            | Input::Campaign
            | Input::Truncate { .. }
            | Input::Unreachable { .. } => {}
        }
    }
}

/// Word that the writes of a step are durable. Only [`super::Held::release`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Persisted {
    pub(super) group: GroupId,
    pub(super) step: u64,
}
