//! What the meta group's actor is told and asked, and why it may say no.

use std::collections::BTreeMap;

use actix::Message;
use alluvium_core::ids::{Index, NodeId, ProducerId};
use alluvium_core::meta::{MetaCommand, MetaOutcome};
use alluvium_store::StoreError;
use tokio::sync::oneshot;

/// A caller who waits for a change to be agreed, applied and carried out here.
pub type Changer = oneshot::Sender<Result<Changed, ChangeError>>;

/// A change that was applied, here.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Where in the log.
    pub index: Index,
    /// What it did.
    pub outcome: MetaOutcome,
}

/// Proposes a change of the catalogue; answered when it is agreed, applied and carried out here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Change(pub MetaCommand, pub Changer);

/// Waits until a change that another node proposed is applied and carried out here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Await(pub Index, pub Changer);

/// Waits until everything up to an index is applied and carried out here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Settle(pub Index, pub oneshot::Sender<()>);

/// Asks up to where everything acknowledged is applied here, of the leader.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AskIndex(pub oneshot::Sender<Result<Index, ChangeError>>);

/// The leader has applied everything acknowledged up to an index; or could not be asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Heard(pub Option<Index>);

/// Names of producers, for `system.producers`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NameProducers(pub Vec<ProducerId>, pub oneshot::Sender<BTreeMap<ProducerId, String>>);

/// Why the catalogue was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads the meta group, or none.
    #[error(
        "the meta group has no leader that can be reached: most of its members are down or cut \
         off; try again"
    )]
    NotLeader {
        /// Who does, when known.
        leader: Option<NodeId>,
    },
    /// The other nodes do not listen to this one.
    #[error("the cluster refuses this node: {reason}")]
    Refused {
        /// As they say.
        reason: String,
    },
    /// Too many changes wait, or the log is behind.
    #[error("too many changes of the catalogue are under way; try again")]
    Busy,
    /// The meta group lost its leader meanwhile: the outcome is not known.
    #[error(
        "the meta group has no settled leader; look whether the change was made, then try again"
    )]
    Lost,
    /// A partition could not be started.
    #[error("{reason}")]
    NotStarted {
        /// What failed.
        reason: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// The catalogue's log was let go up to an index, or not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CheckpointWritten(pub Result<Index, StoreError>);
