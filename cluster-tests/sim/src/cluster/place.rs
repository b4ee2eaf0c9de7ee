//! What an owner does about its group's place: takes the next step, one at a time, and tells the
//! catalogue when it is done.

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::meta::MetaCommand;
use alluvium_core::replica::{Goal, Input, Members, Step, next_step};

use super::catalogue::learners;
use super::node::{Asker, Change, Waiting};
use super::{Cluster, Twist};
use crate::violation::Violation;

/// Ticks between two words to the catalogue of the same change: it may have got lost.
const TELL_AGAIN_TICKS: u32 = 20;

impl Cluster {
    /// Takes the next step towards the partition's place, if it is this node's to take.
    pub(super) fn keep_place(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        let believed = self.twist == Some(Twist::FormerOwnerBelieved);
        let node = self.node(id);
        let leads = node.leads(group);
        let Some(slot) = node.slots.get_mut(&group) else { return Ok(()) };
        slot.told = slot.told.saturating_sub(1);
        let speaks = leads || believed && slot.has_led;
        let Some(meta) = node.meta().filter(|_| speaks) else { return Ok(()) };
        let Some(placement) = meta.placement(group).cloned() else { return Ok(()) };
        let learners = learners(meta, &placement);
        let goal =
            Goal { voters: &placement.wanted, learners: &learners, leader: placement.leader };
        self.take_step(id, group, &goal)?;
        let node = self.node(id);
        let Some(replica) = node.replica(group) else { return Ok(()) };
        let (members, settled) = (replica.members(), replica.can_checkpoint());
        // Nodes that leave stay until they have left the group too.
        let under_way = members.voters == placement.wanted && members.learners != learners;
        if settled && !under_way && placement.lacks(&members.voters) {
            let as_of = if believed { Index(0) } else { replica.status().applied };
            let (voters, by) = (members.voters, placement.placed_at);
            return self.tell_moved(id, group, MetaCommand::Moved { group, voters, as_of, by });
        }
        Ok(())
    }

    fn tell_moved(
        &mut self,
        id: NodeId,
        group: GroupId,
        command: MetaCommand,
    ) -> Result<(), Violation> {
        let Some(slot) = self.node(id).slots.get_mut(&group) else { return Ok(()) };
        if slot.told != 0 {
            return Ok(());
        }
        slot.told = TELL_AGAIN_TICKS;
        self.change(id, Change { command, asker: Asker::Nobody })
    }

    /// Takes the next step towards a goal, if the node leads and there is one to take.
    pub(super) fn take_step(
        &mut self,
        id: NodeId,
        group: GroupId,
        goal: &Goal<'_>,
    ) -> Result<(), Violation> {
        let hasty = self.twist == Some(Twist::NoLearners) && group != GroupId::META;
        let Some(replica) = self.node(id).replica(group) else { return Ok(()) };
        let (members, progress) = (replica.members(), replica.progress());
        let (settled, status) = (replica.can_checkpoint(), replica.status());
        match next_step(goal, &members, settled, &progress, &status) {
            None | Some(Step::Done) => Ok(()),
            Some(Step::Transfer(to)) => {
                self.trace.line(self.now, format_args!("{id} hands {group} over to {to}"));
                self.handed.insert(group, to);
                self.feed(id, group, Input::TransferLeader { to })
            }
            Some(Step::AddLearners(_)) if hasty && members.voters != goal.voters => {
                let to = Members::of_voters(goal.voters.iter().copied());
                self.ask_for_members(id, group, to, true)
            }
            Some(Step::AddLearners(to) | Step::RemoveLearners(to)) => {
                self.ask_for_members(id, group, to, false)
            }
            Some(Step::Promote(to)) => self.ask_for_members(id, group, to, true),
        }
    }

    fn ask_for_members(
        &mut self,
        id: NodeId,
        group: GroupId,
        members: Members,
        promotes: bool,
    ) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} asks {group} for {members:?}"));
        let request = self.wait(id, group, Waiting::Members { promotes });
        self.feed(id, group, Input::ChangeMembers { request, members })
    }
}
