//! The cluster as this node knows it: who is in it, where partitions live, who owns them.
//!
//! Members and placements are what the node's own replica of the meta group has applied; who leads
//! a group is what its replicas here or elsewhere said last, and may be out of date. Everybody
//! reads without locks that are held for long.

mod fetch;
mod outbox;
pub mod risk;

use std::collections::{BTreeMap, BTreeSet};

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::access::Access;
use alluvium_core::meta::placement::REPLICAS_MIN_TO_SURVIVE;
use alluvium_core::meta::{Member, MemberState, Placement};
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;

pub use fetch::{FetchError, FetchedCheckpoint, fetch};
pub use outbox::{Outbox, Outgoing, Queue};

/// Members and placements at one moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Everyone there ever was, by id.
    pub members: BTreeMap<NodeId, Member>,
    /// Where each group lives.
    pub placements: BTreeMap<GroupId, Placement>,
    /// Who may touch what.
    pub access: std::sync::Arc<Access>,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    me: NodeId,
    id: u128,
    own_addr: String,
    known: ArcSwap<Known>,
    owners: RwLock<BTreeMap<GroupId, NodeId>>,
    /// Where nodes say that they listen for nodes, until the catalogue knows.
    heard: RwLock<BTreeMap<NodeId, String>>,
    /// Nodes that say they are about to stop.
    stopping: RwLock<BTreeSet<NodeId>>,
    changed: watch::Sender<u64>,
}

impl Cluster {
    /// Of a node that has its identity and knows nobody yet.
    pub fn new(me: NodeId, id: u128, own_addr: String) -> Cluster {
        Cluster {
            me,
            id,
            own_addr,
            heard: RwLock::default(),
            stopping: RwLock::default(),
            known: ArcSwap::default(),
            owners: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The cluster's id, as it stands in messages.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Members and placements at this moment.
    pub fn known(&self) -> std::sync::Arc<Known> {
        self.known.load_full()
    }

    /// Replaces members and placements. Only the meta group's actor calls this.
    pub fn publish(&self, known: Known) {
        self.known.store(std::sync::Arc::new(known));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Somebody says who leads a group, or that nobody does as far as they know.
    pub fn led_by(&self, group: GroupId, owner: Option<NodeId>) {
        let mut owners = self.owners.write();
        let before = match owner {
            Some(owner) => owners.insert(group, owner),
            None => owners.remove(&group),
        };
        drop(owners);
        if before != owner {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Who owns a group, as far as is known.
    pub fn owner(&self, group: GroupId) -> Option<NodeId> {
        self.owners.read().get(&group).copied()
    }

    /// How many groups this node leads.
    pub fn led_here(&self) -> u64 {
        self.owners.read().values().filter(|owner| **owner == self.me).count() as u64
    }

    /// How many partitions have fewer replicas than survive the loss of a node.
    pub fn partitions_at_risk(&self) -> u64 {
        let known = self.known.load();
        let partitions = known.placements.iter().filter(|(group, _)| **group != GroupId::META);
        let at_risk = partitions.filter(|(_, it)| it.replicas.len() < REPLICAS_MIN_TO_SURVIVE);
        at_risk.count() as u64
    }

    /// How many partitions whose replicas are here have no owner that is known.
    pub fn partitions_without_owner(&self) -> u64 {
        let known = self.known.load();
        let held = known
            .placements
            .iter()
            .filter(|(group, it)| **group != GroupId::META && it.replicas.contains(&self.me));
        held.filter(|(group, _)| self.owner(**group).is_none()).count() as u64
    }

    /// Groups with a replica here, as far as is known without asking their owners.
    pub fn held_here(&self) -> Vec<risk::Held> {
        let known = self.known.load();
        let held = known.placements.iter().filter(|(_, it)| it.replicas.contains(&self.me));
        let held = held.map(|(group, placement)| risk::Held {
            group: *group,
            replicas: placement.replicas.clone(),
            reached: None,
        });
        held.collect()
    }

    /// Members that were heard of lately and are not about to stop.
    pub fn alive(&self) -> BTreeSet<NodeId> {
        let known = self.known.load();
        let alive = known.members.values().filter(|member| member.alive);
        let alive = alive.map(|member| member.node);
        alive.filter(|node| !self.is_stopping(*node)).collect()
    }

    /// Whom to ask about a group when nobody has said who owns it: those that hold it, the one that
    /// shall own it first.
    pub fn candidates(&self, group: GroupId) -> Vec<NodeId> {
        let known = self.known.load();
        let Some(placement) = known.placements.get(&group) else { return Vec::new() };
        let mut nodes = vec![placement.leader];
        nodes.extend(placement.replicas.iter().chain(&placement.wanted));
        let mut asked = Vec::with_capacity(nodes.len());
        for node in nodes {
            if node != self.me && !asked.contains(&node) && known.members.contains_key(&node) {
                asked.push(node);
            }
        }
        asked
    }

    /// Where this node listens for nodes.
    pub fn own_addr(&self) -> &str {
        &self.own_addr
    }

    /// A node says whether it is about to stop.
    pub fn set_stopping(&self, node: NodeId, stopping: bool) {
        // Asked with each batch of messages: mostly nothing changes.
        if self.is_stopping(node) != stopping {
            let mut nodes = self.stopping.write();
            if stopping {
                nodes.insert(node);
            } else {
                nodes.remove(&node);
            }
        }
    }

    /// Whether a node is about to stop: nothing is handed to it.
    pub fn is_stopping(&self, node: NodeId) -> bool {
        self.stopping.read().contains(&node)
    }

    /// A node says where it listens for nodes.
    pub fn heard_from(&self, node: NodeId, addr: &str) {
        if self.known.load().members.contains_key(&node) || addr.is_empty() {
            return;
        }
        let before = self.heard.write().insert(node, addr.to_owned());
        if before.as_deref() != Some(addr) {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Where a node listens for nodes.
    pub fn peer_addr(&self, node: NodeId) -> Option<String> {
        match self.known.load().members.get(&node) {
            Some(member) if member.state == MemberState::Removed => None,
            Some(member) => Some(member.addresses.peer.clone()),
            None => self.heard.read().get(&node).cloned(),
        }
    }

    /// The other nodes that can be reached.
    pub fn others(&self) -> Vec<NodeId> {
        let known = self.known.load();
        let mut nodes: Vec<NodeId> = known.members.keys().copied().collect();
        nodes.extend(self.heard.read().keys());
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|node| *node != self.me && self.is_member(*node));
        nodes
    }

    /// Who holds a copy of a group beside its voters: in a cluster of two the other node, so that
    /// each of them can answer everything. Three nodes have replicas that survive a loss instead.
    pub fn learners(&self, placement: &Placement) -> Vec<NodeId> {
        let known = self.known.load();
        let standing: Vec<_> = known.members.values().filter(|member| member.stands()).collect();
        if standing.len() != 2 {
            return Vec::new();
        }
        let stay = standing.into_iter().filter(|member| member.state != MemberState::Leaving);
        stay.map(|member| member.node).filter(|node| !placement.wanted.contains(node)).collect()
    }

    /// Whether a replica of the group is on this node or shall be.
    pub fn hosts(&self, group: GroupId) -> bool {
        let known = self.known.load();
        known.placements.get(&group).is_some_and(|placement| {
            placement.hosts(self.me) || self.learners(placement).contains(&self.me)
        })
    }

    /// Whether messages of this node are to be taken.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.peer_addr(node).is_some()
    }

    /// Waits until somebody says that another node than `node` owns the group, who did not say so
    /// when `known` was the owner.
    pub async fn owned_by_another(&self, group: GroupId, node: NodeId, known: Option<NodeId>) {
        let mut changes = self.changes();
        let is_news = |owner: Option<NodeId>| owner != known && owner.is_some_and(|it| it != node);
        while !is_news(self.owner(group)) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Told after each change of members, placements or owners.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_asks_an_owner_is_interrupted_by_news_alone() {
        let (group, [a, b, c]) = (GroupId(7), [1, 2, 3].map(NodeId));
        let cluster = Cluster::new(a, 1, String::new());
        cluster.led_by(group, Some(b));
        // The replica here has heard of another owner than the node last said.
        let mut asked = Box::pin(cluster.owned_by_another(group, c, cluster.owner(group)));
        assert_eq!(asked.as_mut().now_or_never(), None, "an old word is no news");
        cluster.led_by(group, None);
        assert_eq!(asked.as_mut().now_or_never(), None, "nobody owns it");
        cluster.led_by(group, Some(c));
        assert_eq!(asked.as_mut().now_or_never(), None, "the one that is asked owns it");
        cluster.led_by(group, Some(a));
        assert_eq!(asked.now_or_never(), Some(()));
    }
}
