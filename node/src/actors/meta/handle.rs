//! How the rest of the node reaches the meta group, wherever its leader is.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::SendError;
use actix::{Addr, Handler, Message, Recipient};
use alluvium_core::ids::{GroupId, Index, NodeId, ProducerId};
use alluvium_core::meta::{MetaCommand, MetaOutcome, NodeReport};
use tokio::sync::oneshot;

use super::lead::{HeardOf, Tell};
use super::messages::{AskIndex, Await, Settle};
use super::{Change, ChangeError, Changed, MetaActor, NameProducers};
use crate::actors::inbox::StepDown;
use crate::actors::ticker::Tick;
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::grpc::peer::{Answered, Fetched, PeerError, Peers};

/// How long a change looks for a leader: several elections.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries, unless something changes before.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct MetaHandle {
    addr: Addr<MetaActor>,
    cluster: Arc<Cluster>,
    peers: Arc<Peers>,
}

/// The way of this node's own words to the catalogue, there before the catalogue is.
#[derive(Clone, Debug, Default)]
pub struct MetaLink(Arc<OnceLock<Recipient<Tell>>>);

impl MetaLink {
    /// From now on there is a catalogue to speak to.
    pub fn meet(&self, meta: &MetaHandle) {
        // Once in the life of a node.
        let _ = self.0.set(meta.addr.clone().recipient());
    }

    /// Proposes a change, here or at the leader; nobody waits. What must happen is said again until
    /// the catalogue shows it.
    pub fn tell(&self, command: MetaCommand) {
        if let Some(meta) = self.0.get() {
            match meta.try_send(Tell(command)) {
                Ok(()) | Err(SendError::Full(_) | SendError::Closed(_)) => {}
            }
        }
    }
}

impl MetaHandle {
    pub(super) fn new(
        addr: Addr<MetaActor>,
        cluster: Arc<Cluster>,
        peers: Arc<Peers>,
    ) -> MetaHandle {
        MetaHandle { addr, cluster, peers }
    }

    /// Proposes a change wherever the leader is, and waits until it is agreed, applied and carried
    /// out on this node.
    pub async fn change(&self, command: MetaCommand) -> Result<MetaOutcome, ChangeError> {
        let watch = Stopwatch::start();
        let mut changes = self.cluster.changes();
        loop {
            changes.mark_unchanged();
            let leader = match self.change_here(command.clone()).await {
                Err(ChangeError::NotLeader { leader }) => leader,
                answer => return answer.map(|changed| changed.outcome),
            };
            let known = leader.or_else(|| self.cluster.owner(GroupId::META));
            let others =
                known.map_or_else(|| self.cluster.candidates(GroupId::META), |leader| vec![leader]);
            for node in others.into_iter().filter(|node| *node != self.cluster.me()) {
                match self.peers.change(node, &command).await {
                    Ok(Fetched::Applied(index)) => {
                        return self.applied_here(index).await.map(|changed| changed.outcome);
                    }
                    Ok(Fetched::Failed(error)) => return Err(error),
                    Err(PeerError::Refused { reason, .. }) => {
                        return Err(ChangeError::Refused { reason });
                    }
                    Ok(Fetched::Elsewhere(_))
                    | Err(PeerError::Unreachable { .. } | PeerError::Unknown { .. }) => {}
                }
            }
            if PATIENCE < watch.elapsed() {
                return Err(ChangeError::NotLeader { leader: None });
            }
            // Its own end says nothing: time goes on either way.
            let _ = tokio::time::timeout(TRY_AGAIN, changes.changed()).await;
        }
    }

    /// Proposes a change for another node, if this one leads.
    pub async fn propose_here(&self, command: MetaCommand) -> Result<Index, ChangeError> {
        self.change_here(command).await.map(|changed| changed.index)
    }

    async fn change_here(&self, command: MetaCommand) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Change(command, reply), answer).await
    }

    async fn applied_here(&self, index: Index) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let applied = self.ask(Await(index, reply), answer);
        tokio::time::timeout(PATIENCE, applied).await.unwrap_or(Err(ChangeError::Lost))
    }

    /// Waits until every change that was acknowledged before the call, anywhere, is applied and
    /// carried out on this node.
    pub async fn catch_up(&self) -> Result<(), ChangeError> {
        let index = match self.index_here().await {
            Err(ChangeError::NotLeader { leader }) => self.index_of(leader).await?,
            answer => answer?,
        };
        let (reply, settled) = oneshot::channel();
        match self.addr.try_send(Settle(index, reply)) {
            Ok(()) => {}
            Err(SendError::Full(_)) => return Err(ChangeError::Busy),
            Err(SendError::Closed(_)) => return Err(ChangeError::Stopping),
        }
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        settled.map_err(|_| ChangeError::Busy)?.map_err(|_| ChangeError::Stopping)
    }

    async fn index_of(&self, leader: Option<NodeId>) -> Result<Index, ChangeError> {
        let leader = leader.or_else(|| self.cluster.owner(GroupId::META));
        let known = leader.filter(|leader| *leader != self.cluster.me());
        let asked = known.ok_or(ChangeError::NotLeader { leader })?;
        match self.peers.catalogue_index(asked).await {
            Ok(Answered::Here(index)) => Ok(index),
            Ok(Answered::Elsewhere(_) | Answered::NotServed(_)) | Err(_) => {
                Err(ChangeError::NotLeader { leader })
            }
        }
    }

    /// Up to where everything acknowledged is applied here, if this node leads.
    pub async fn index_here(&self) -> Result<Index, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.ask(AskIndex(reply), answer).await
    }

    async fn ask<M, T>(
        &self,
        message: M,
        answer: oneshot::Receiver<Result<T, ChangeError>>,
    ) -> Result<T, ChangeError>
    where
        M: Message<Result = ()> + Send + 'static,
        MetaActor: Handler<M>,
    {
        match self.addr.try_send(message) {
            Ok(()) => answer.await.unwrap_or(Err(ChangeError::Stopping)),
            Err(SendError::Full(_)) => Err(ChangeError::Busy),
            Err(SendError::Closed(_)) => Err(ChangeError::Stopping),
        }
    }

    /// A node gave a sign of life; false where this node does not lead.
    pub fn heard_of(&self, node: NodeId, report: NodeReport) -> bool {
        if self.cluster.owner(GroupId::META) != Some(self.cluster.me()) {
            return false;
        }
        self.addr.try_send(HeardOf { node, report }).is_ok()
    }

    /// Hands leadership of the meta group to another node, if this one leads.
    pub async fn step_down(&self) {
        let (done, stepped_down) = oneshot::channel();
        if self.addr.try_send(StepDown(done)).is_ok() {
            let _ = stepped_down.await;
        }
    }

    /// Names of these producers, as far as they are known.
    pub async fn producer_names(&self, ids: Vec<ProducerId>) -> BTreeMap<ProducerId, String> {
        let (reply, answer) = oneshot::channel();
        if self.addr.try_send(NameProducers(ids, reply)).is_err() {
            return BTreeMap::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Where ticks go.
    pub fn tick_recipient(&self) -> Recipient<Tick> {
        self.addr.clone().recipient()
    }
}
