//! What applying a command to the catalogue did: the answer of its proposer, the same on every
//! replica.

use std::fmt;
use std::sync::Arc;

use super::access::InvalidAccess;
use super::members::MemberState;
use crate::ids::{Epoch, GroupId, NodeId, ProducerId, ViewId};
use crate::stream::Stream;
use crate::view::{View, ViewEntry};

/// What applying a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaOutcome {
    /// The stream is there, new, with its ids.
    StreamCreated(Arc<Stream>),
    /// The name is taken; nothing changed.
    StreamExists {
        /// The name.
        name: String,
    },
    /// The stream is gone; its groups are to be stopped and removed.
    StreamDropped(Arc<Stream>),
    /// There is no such stream; nothing changed.
    StreamUnknown {
        /// The name.
        name: String,
    },
    /// What was asked was so already, and the command said that is fine.
    NothingToDo,
    /// A new life of a producer. Lives before it are fenced as its batches arrive.
    ProducerOpened {
        /// The same for every life.
        id: ProducerId,
        /// 1 for the first life.
        epoch: Epoch,
    },
    /// The view is there, new. Readers see it.
    ViewCreated(Arc<View>),
    /// The view has another life that is built beside the current one.
    ViewBuilding {
        /// What is to be built.
        next: Arc<View>,
        /// What was being built until now; its state is to be removed.
        abandoned: Option<Arc<View>>,
    },
    /// Readers see this life of the view from now on.
    ViewSwitched {
        /// What they see.
        view: Arc<View>,
        /// Lives that ended with it; their state is to be removed.
        ended: Vec<Arc<View>>,
    },
    /// What was being built beside is gone; its state is to be removed. Readers saw nothing of it.
    ViewCancelled(Arc<View>),
    /// A parked view goes on.
    ViewResumed {
        /// The name.
        name: String,
        /// How often it was told so.
        resumed: u32,
    },
    /// The view is gone; the state of its lives is to be removed.
    ViewDropped(ViewEntry),
    /// The name is taken by a view; nothing changed.
    ViewExists {
        /// The name.
        name: String,
    },
    /// There is no such view; nothing changed.
    ViewUnknown {
        /// The name.
        name: String,
    },
    /// The name belongs to another kind of table; nothing changed.
    NameTaken {
        /// The name.
        name: String,
        /// What has it.
        what: TableKind,
    },
    /// Views read it, so it stays as it is.
    HasDependants {
        /// The stream or view.
        name: String,
        /// The views, in order.
        dependants: Vec<String>,
    },
    /// A view was to read a stream or view that is not there (any more); nothing changed.
    ReadsUnknown {
        /// What is not there.
        name: String,
    },
    /// A view was to read what reads the view; nothing changed.
    ReadsItself {
        /// The view.
        name: String,
        /// Which of the views it was to read leads back to it.
        through: String,
    },
    /// A partition of a life that is built has caught up, and others have not.
    ViewPartBuilt {
        /// The name.
        name: String,
        /// The life.
        id: ViewId,
        /// How many partitions have not.
        left: u32,
    },
    /// The node is a member, by this id.
    Joined {
        /// The same for every command with the same token.
        node: NodeId,
    },
    /// There is no place for the node; nothing changed.
    JoinRefused {
        /// Why, for people.
        reason: String,
    },
    /// The member is as it said, and alive.
    Announced,
    /// There is no such member; nothing changed.
    MemberUnknown {
        /// The id.
        node: NodeId,
    },
    /// The member was removed and stays so; nothing changed.
    MemberRemoved {
        /// The id.
        node: NodeId,
    },
    /// Not with this member as it is; nothing changed.
    MemberRefused {
        /// The id.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// The member is in another state, or alive or no more.
    MemberChanged {
        /// The id.
        node: NodeId,
        /// Its state now.
        state: MemberState,
    },
    /// The group has another placement.
    Placed {
        /// The group.
        group: GroupId,
    },
    /// The cluster speaks a newer version from now on.
    VersionRaised {
        /// The version.
        version: u32,
    },
    /// A member cannot serve the version; nothing changed.
    VersionRefused {
        /// The version.
        version: u32,
        /// Who and why, for people.
        reason: String,
    },
    /// Roles, grants, owners or policies are as the command asked.
    AccessChanged,
    /// Not with roles, grants and policies as they are; nothing changed.
    AccessRefused(InvalidAccess),
}

/// What a name in the catalogue can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A stream.
    Stream,
    /// A view.
    View,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableKind::Stream => "stream",
            TableKind::View => "view",
        })
    }
}
