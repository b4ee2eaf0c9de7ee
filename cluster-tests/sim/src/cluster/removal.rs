//! How a replica goes from a node that shall not hold it: when the catalogue says so and the group
//! has agreed on doing without it. The catalogue alone is not enough: it may be ahead of what the
//! group has agreed, or behind.

use alluvium_core::ids::{GroupId, NodeId, Term};
use alluvium_core::replica::{Goal, lets_go};

use super::catalogue::{hosts, learners};
use super::network::Word;
use super::node::Readiness;
use super::{Cluster, Twist};
use crate::coverage::Event;
use crate::violation::Violation;

/// Ticks between two questions whether a replica is needed.
const ASK_AGAIN_TICKS: u32 = 10;

impl Cluster {
    /// Looks whether a replica shall not be here any more.
    pub(super) fn consider_removal(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        if !self.shall_go(id, group) {
            return Ok(());
        }
        if self.twist == Some(Twist::CatalogueAloneRemoves) {
            return self.remove(id, group);
        }
        let node = self.node(id);
        let placement = node.meta().and_then(|meta| meta.placement(group));
        let holders = placement.map(|placement| placement.replicas.clone()).unwrap_or_default();
        let Some(slot) = node.slots.get_mut(&group) else { return Ok(()) };
        let term = slot.replica.status().term;
        slot.asks = slot.asks.saturating_sub(1);
        if slot.asks == 0 {
            slot.asks = ASK_AGAIN_TICKS;
            self.coverage.count(Event::RemovalWaited);
            for holder in holders {
                self.say(id, holder, Word::Needless(group, term));
            }
        }
        Ok(())
    }

    fn shall_go(&self, id: NodeId, group: GroupId) -> bool {
        let Some(node) = self.nodes.get(&id) else { return false };
        let alone = self.twist == Some(Twist::CatalogueAloneRemoves);
        let named = node.meta().is_none_or(|meta| {
            let placement = meta.placement(group).filter(|_| alone);
            placement.map_or_else(|| hosts(meta, group, id), |it| it.wanted.contains(&id))
        });
        node.readiness == Readiness::Ready && node.slots.contains_key(&group) && !named
    }

    /// An owner is asked whether a replica is needed. One of an older term than the asker's would
    /// not know.
    pub(super) fn needless_asked(&mut self, id: NodeId, from: NodeId, group: GroupId, term: Term) {
        let node = self.node(id);
        let Some(replica) = node.replica(group) else { return };
        let placement = node.meta().and_then(|meta| Some((meta, meta.placement(group)?)));
        let Some((meta, placement)) = placement else { return };
        let (voters, learners) = (&placement.wanted, learners(meta, placement));
        let goal = Goal { voters, learners: &learners, leader: placement.leader };
        let (members, settled) = (replica.members(), replica.can_checkpoint());
        if lets_go(&goal, &members, settled, &replica.status(), from, term) {
            self.say(id, from, Word::NeedlessIs(group));
        }
    }

    /// A node removes its replica.
    pub(super) fn remove(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        if !self.shall_go(id, group) {
            return Ok(());
        }
        self.may_go(id, group)?;
        self.trace.line(self.now, format_args!("{id} removes its replica of {group}"));
        self.coverage.count(Event::ReplicaRemoved);
        self.give_up_requests(id, group);
        let node = self.node(id);
        node.slots.remove(&group);
        node.owners.remove(&group);
        node.disk.remove(group);
        self.group(group).oracle.removed(id);
        Ok(())
    }
}
