//! When a cluster has come to rest: everything acknowledged, every group where the planner wants
//! it and led by whom it wants, all replicas equal, and nobody holds what is not his.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::{MemberState, Meta, plan};
use alluvium_core::replica::Members;

use super::Cluster;
use super::catalogue::{catalogue_goal, learners};

/// Members from which on the meta group has five voters.
const MEMBERS_FOR_FIVE: usize = 5;

impl Cluster {
    /// What is not done yet; none when the cluster has come to rest.
    #[must_use]
    pub fn unrest(&self) -> Option<String> {
        if let Some(client) = self.clients.iter().find(|it| !it.producer.unacked.is_empty()) {
            let (number, group) = (client.producer.id, client.group);
            return Some(format!("producer {number} waits for {group}"));
        }
        if self.made.len() < self.plan.streams.len() {
            return Some("not all streams are made".into());
        }
        let leader = self.nodes.values().find(|node| node.leads(GroupId::META));
        let Some((leader, meta)) = leader.and_then(|node| Some((node, node.meta()?))) else {
            return Some("nobody leads the meta group".into());
        };
        let planned =
            plan(meta, self.plan.dead_after, self.clock(leader.id), &leader.leading.reports);
        if let Some(next) = planned.first() {
            return Some(format!("the planner wants {next:?}"));
        }
        let members = self.members_unrest(meta);
        members
            .or_else(|| meta.placements().keys().find_map(|&group| self.group_unrest(meta, group)))
    }

    /// Every member that stands is a node that runs, and every such node stands.
    fn members_unrest(&self, meta: &Meta) -> Option<String> {
        for member in meta.members().values().filter(|member| member.stands()) {
            let there = self.nodes.get(&member.node).is_some_and(|node| node.up && !node.gone);
            if !there || !member.alive || member.state != MemberState::Active {
                return Some(format!("there is {member:?}"));
            }
        }
        let mut living = self.nodes.values().filter(|node| !node.gone);
        let stranger = living.find(|node| meta.member(node.id).is_none_or(|it| !it.stands()));
        stranger.map(|node| format!("{} does not know that it was removed", node.id))
    }

    fn group_unrest(&self, meta: &Meta, group: GroupId) -> Option<String> {
        let placement = meta.placement(group)?;
        let staying = meta.members().values().filter(|member| member.stands()).count();
        let count = match (group == GroupId::META, staying) {
            (_, ..3) => 1,
            (true, MEMBERS_FOR_FIVE..) => 5,
            (_, _) => 3,
        };
        let settled = placement.is_settled() && placement.given_up.is_empty();
        if !settled || placement.wanted.len() != count {
            return Some(format!("{group} shall have {count} replicas: {placement:?}"));
        }
        let Some(leader) = self.nodes.values().find(|node| node.leads(group)) else {
            return Some(format!("nobody leads {group}"));
        };
        if group != GroupId::META && leader.id != placement.leader {
            return Some(format!("{} leads {group}, not {}", leader.id, placement.leader));
        }
        let learners = if group == GroupId::META {
            catalogue_goal(meta)?.1
        } else {
            learners(meta, placement)
        };
        let expected = Members::new(placement.wanted.iter().copied(), learners);
        let replica = leader.replica(group)?;
        if replica.members() != expected {
            return Some(format!("{group} has {:?}, not {expected:?}", replica.members()));
        }
        self.replica_unrest(group, leader.id, &expected)
    }

    /// All replicas are equal, and nobody else has one.
    fn replica_unrest(&self, group: GroupId, leader: NodeId, expected: &Members) -> Option<String> {
        let led = self.nodes.get(&leader)?.replica(group)?;
        let (status, state) = (led.status(), led.machine().state());
        if status.applied != status.last_index {
            return Some(format!("{leader} has not executed all of {group}"));
        }
        for node in self.nodes.values().filter(|node| !node.gone) {
            let id = node.id;
            match (node.replica(group), expected.contains(id)) {
                (None, false) => {}
                (None, true) => return Some(format!("{id} has no replica of {group}")),
                (Some(_), false) => return Some(format!("{id} still has a replica of {group}")),
                (Some(replica), true) => {
                    let same = replica.status().applied == status.applied
                        && replica.machine().state() == state;
                    if !same {
                        return Some(format!("{id} is behind {leader} in {group}"));
                    }
                }
            }
        }
        None
    }
}
