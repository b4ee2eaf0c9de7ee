//! Where the replicas shall be, and how the group gets there: what the catalogue and the owner's
//! shell do about it.
//!
//! A goal is drawn now and then. Whoever leads takes the next step towards it on its ticks. A node
//! that the goal names begins to hold a replica; one that it does not name removes its own as soon
//! as an owner of its own term or a later one says that the group can do without. A node may be
//! lost with its disk: another one comes in its place, empty, under a name of its own.

use alluvium_core::ids::{NodeId, Term};
use alluvium_core::replica::{Goal, Input, Members, Step, next_step};

use crate::coverage::Event;
use crate::mutant::Mutant;
use crate::node::{Node, Waiting};
use crate::violation::Violation;
use crate::world::{Happening, World};

/// What the catalogue says of the group.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Who shall hold a replica.
    pub wanted: Members,
    /// Who shall lead.
    pub leader: NodeId,
    /// Whether the group was there once.
    pub reached: bool,
}

impl World {
    /// Whether the group moves at all in this run.
    pub(crate) fn moves(&self) -> bool {
        self.plan.place_every != 0
    }

    /// The goal changes.
    pub(crate) fn place(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.place_every, Happening::Place);
        if self.calm { Ok(()) } else { self.draw_placement() }
    }

    fn draw_placement(&mut self) -> Result<(), Violation> {
        let voter_count = *self.chance.pick(&[1, 3, 3, 3, 5]);
        let mut rest: Vec<NodeId> = self.living();
        let mut voters = Vec::new();
        while voters.len() < voter_count && !rest.is_empty() {
            let at = self.chance.between(0, rest.len() as u64);
            voters.push(rest.remove(usize::try_from(at).expect("a small number")));
        }
        let leader = *self.chance.pick(&voters);
        if self.chance.coin() {
            rest.clear();
        }
        let wanted = Members::new(voters, rest);
        self.trace.line(self.now, format_args!("placed on {wanted:?}, led by {leader}"));
        self.placement = Placement { wanted, leader, reached: false };
        for id in self.living() {
            if self.placement.wanted.contains(id) {
                self.host(id)?;
            } else {
                let soon = self.chance.around(self.plan.remove_after);
                self.after(soon, Happening::Remove(id));
            }
        }
        Ok(())
    }

    /// A node begins to hold a replica, unless it does.
    fn host(&mut self, id: NodeId) -> Result<(), Violation> {
        let node = self.node(id);
        if node.hosts {
            return Ok(());
        }
        node.hosts = true;
        let again = node.disk.stored.forgotten.index.0 != 0;
        self.coverage.count(if again { Event::ReplicaBack } else { Event::ReplicaAdded });
        self.trace.line(self.now, format_args!("{id} holds a replica from now on"));
        self.start(id)
    }

    /// A node the goal does not name asks an owner whether it is needed, and removes its replica
    /// when it is not. An owner of an older term than its own would not know.
    pub(crate) fn remove(&mut self, id: NodeId) -> Result<(), Violation> {
        let named = self.placement.wanted.contains(id);
        let node = self.node(id);
        if named || node.gone || !node.hosts {
            return Ok(());
        }
        let own = node.replica.as_ref().map(|replica| replica.status().term);
        let needless = own.is_some_and(|own| self.is_needless(id, own));
        if !needless || self.paused(id).is_some() {
            let later = self.chance.around(self.plan.remove_after);
            self.after(later, Happening::Remove(id));
            return Ok(());
        }
        self.trace.line(self.now, format_args!("{id} removes its replica"));
        self.coverage.count(Event::ReplicaRemoved);
        let forgets = self.mutant == Some(Mutant::RemovedLogForgotten);
        let (founders, state) = (self.founders.clone(), self.blank.clone());
        let node = self.node(id);
        node.stop();
        node.hosts = false;
        node.disk.remove(founders, state, !forgets);
        self.oracle.removed(id);
        Ok(())
    }

    fn is_needless(&self, id: NodeId, own: Term) -> bool {
        self.nodes.iter().filter(|node| node.leads() && node.paused_until <= self.now).any(|node| {
            let Some(replica) = &node.replica else { return false };
            let reached = !self.blocked.contains(&(id, node.id))
                && !self.blocked.contains(&(node.id, id))
                && own <= replica.status().term;
            reached && replica.can_checkpoint() && !replica.members().contains(id)
        })
    }

    /// What the owner's shell does on a tick.
    pub(crate) fn drive(&mut self, id: NodeId) -> Result<(), Violation> {
        if !self.moves() {
            return Ok(());
        }
        match self.next_step_of(id) {
            None => Ok(()),
            Some(Step::Done) => {
                if !std::mem::replace(&mut self.placement.reached, true) {
                    self.coverage.count(Event::MoveFinished);
                }
                Ok(())
            }
            Some(Step::Transfer(to)) => {
                self.trace.line(self.now, format_args!("{id} hands over to {to}"));
                self.handed_to = Some(to);
                self.feed(id, Input::TransferLeader { to })
            }
            Some(Step::AddLearners(to) | Step::RemoveLearners(to)) => {
                self.ask_for_members(id, to, Waiting::Change { promotes: false })
            }
            Some(Step::Promote(to)) => {
                self.ask_for_members(id, to, Waiting::Change { promotes: true })
            }
        }
    }

    /// The step that a node would take now; none when it is waiting for one, too.
    pub(crate) fn next_step_of(&self, id: NodeId) -> Option<Step> {
        let node = self.nodes.iter().find(|node| node.id == id)?;
        let replica = node.replica.as_ref().filter(|_| node.leads())?;
        if node.is_changing() {
            return None;
        }
        let Placement { wanted, leader, .. } = &self.placement;
        let goal = Goal { voters: &wanted.voters, learners: &wanted.learners, leader: *leader };
        let settled = replica.can_checkpoint();
        next_step(&goal, &replica.members(), settled, &replica.progress(), &replica.status())
    }

    /// A node is lost with its disk.
    pub(crate) fn lose(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.lose_every, Happening::Lose);
        let id = self.some_victim();
        if self.calm || !self.may_lose(id) {
            return Ok(());
        }
        self.lose_node(id)
    }

    /// Another node comes in its place, and the placement does not name the lost one any more.
    pub(crate) fn lose_node(&mut self, id: NodeId) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} is lost with its disk"));
        self.coverage.count(Event::NodeLost);
        let node = self.node(id);
        node.stop();
        node.gone = true;
        let new = NodeId(self.nodes.len() as u64 + 1);
        self.nodes.push(Node::new(new, self.founders.clone(), self.blank.clone(), false));
        self.set_clock(new);
        self.draw_placement()
    }

    /// Whether the group can bear to lose a node now. Only one loss at a time: the voters must not
    /// count on another lost one, and no change of members may be on its way.
    pub(crate) fn may_lose(&self, id: NodeId) -> bool {
        let newest = self.nodes.iter().filter(|node| !node.gone).map(Node::term).max();
        self.nodes.iter().filter(|node| Some(node.term()) == newest && node.leads()).any(|node| {
            let Some(replica) = &node.replica else { return false };
            let members = replica.members();
            let mut named = members.voters.iter().chain(&members.learners);
            let all_there = named.all(|member| self.nodes.iter().any(|it| it.is(*member)));
            let spared = !members.voters.contains(&id) || 3 <= members.voters.len();
            let steady = replica.can_checkpoint() && !node.is_changing();
            self.nodes.iter().any(|it| it.is(id)) && all_there && spared && steady
        })
    }

    /// The nodes that are not lost.
    pub(crate) fn living(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|node| !node.gone).map(|node| node.id).collect()
    }
}
