//! What nobody in a cluster can check alone: who had an entry before anybody executed it, which
//! configuration follows which, and whether a replica could go.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::invariant::Invariant;
use alluvium_core::meta::{MemberState, MetaOutcome};
use alluvium_core::replica::LogPosition;

use super::Cluster;
use crate::coverage::Event;
use crate::quorum::Configuration;
use crate::violation::{Violation, ensure};

impl Cluster {
    /// I8: looks at the configuration a replica is in after a step. One that nobody was in before
    /// must follow the newest one.
    pub(super) fn see_configuration(
        &mut self,
        id: NodeId,
        group: GroupId,
    ) -> Result<(), Violation> {
        let replica = self.node(id).replica(group).expect("it just took a step");
        let applied = replica.status().applied;
        let (voters, outgoing) = (replica.members().voters, replica.outgoing_voters());
        let now = Configuration { voters, outgoing };
        let configurations = &mut self.group(group).configurations;
        let (seen, newest) = configurations.last().expect("the founders are one");
        if applied < *seen || *newest == now {
            return Ok(());
        }
        ensure(Invariant::OneChangeOfVoters, now.follows(newest), || {
            format!("{id} {group} goes from {newest:?} to {now:?} at {applied}")
        })?;
        configurations.push((applied, now.clone()));
        self.trace.line(self.now, format_args!("{id} {group} is the first in {now:?}"));
        self.coverage.count(Event::ConfigurationEntered);
        Ok(())
    }

    /// I6.
    pub(super) fn durable_on_majority(
        &mut self,
        id: NodeId,
        group: GroupId,
        at: LogPosition,
    ) -> Result<(), Violation> {
        let has = |voter: NodeId| {
            let stored = self.nodes.get(&voter).and_then(|node| node.disk.groups.get(&group));
            stored.is_some_and(|stored| stored.has(at))
        };
        let mut lately = self.groups[&group].configurations.iter().rev().take(2);
        let durable = lately.any(|(_, configuration)| configuration.agrees(has));
        ensure(Invariant::CommittedIsDurable, durable, || {
            format!("{id} {group} executed {at}, which is not on the disks of a majority")
        })
    }

    /// A replica goes: its group must have agreed on doing without it.
    pub(super) fn may_go(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        let (_, newest) = self.group(group).configurations.last().expect("the founders are one");
        let counts = newest.voters.contains(&id) || newest.outgoing.contains(&id);
        ensure(Invariant::RemovedWhenAgreed, !counts, || {
            format!("{id} removes its replica of {group}, which counts on it: {newest:?}")
        })
    }

    /// A node was removed from the cluster: no group may count on it, for it does not come back.
    fn nobody_counts_on(&self, id: NodeId) -> Result<(), Violation> {
        for (group, of) in &self.groups {
            let (_, newest) = of.configurations.last().expect("the founders are one");
            let counts = newest.voters.contains(&id) || newest.outgoing.contains(&id);
            ensure(Invariant::RemovedWhenAgreed, !counts, || {
                format!("{id} is removed, and {group} counts on it: {newest:?}")
            })?;
        }
        Ok(())
    }

    /// The catalogue agreed on something, seen for the first time.
    pub(super) fn agreed(&mut self, id: NodeId, outcome: &MetaOutcome) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("the catalogue: {outcome:?}"));
        if let MetaOutcome::Joined { .. } = outcome {
            self.coverage.count(Event::NodeJoined);
        }
        if let MetaOutcome::MemberChanged { node, state } = outcome {
            return self.member_changed(id, *node, *state);
        }
        if let MetaOutcome::Placed { group } = outcome {
            return self.placed(id, *group);
        }
        Ok(())
    }

    fn member_changed(
        &mut self,
        id: NodeId,
        node: NodeId,
        state: MemberState,
    ) -> Result<(), Violation> {
        let member = self.node(id).meta().and_then(|meta| meta.member(node));
        let silent = member.is_some_and(|member| !member.alive);
        if state == MemberState::Removed {
            self.coverage.count(Event::NodeRemoved);
            return self.nobody_counts_on(node);
        }
        if silent {
            self.coverage.count(Event::NodeSilent);
        } else if state == MemberState::Draining {
            self.coverage.count(Event::NodeDrained);
        }
        Ok(())
    }

    /// Where a group is and shall be is written down anew. What is said of where it is must not be
    /// older than what was said before.
    fn placed(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(placement) = self.node(id).meta().and_then(|meta| meta.placement(group)).cloned()
        else {
            return Ok(());
        };
        self.trace.line(self.now, format_args!("{group} is placed: {placement:?}"));
        if placement.is_settled() {
            self.coverage.count(Event::MoveFinished);
            if placement.initial.len() == 1 && 3 <= placement.replicas.len() {
                self.coverage.count(Event::ReplicasRaised);
            }
        }
        let Some(of) = self.groups.get_mut(&group) else { return Ok(()) };
        let found = of.configurations.iter().rposition(|(_, configuration)| {
            configuration.outgoing.is_empty() && configuration.voters == placement.replicas
        });
        let told = std::mem::replace(&mut of.told, found.unwrap_or(0));
        ensure(Invariant::PlacementFollowsGroup, found.is_some_and(|found| told <= found), || {
            let known = &of.configurations[told..];
            format!("{group} is said to be at {:?}, after {known:?}", placement.replicas)
        })
    }
}
