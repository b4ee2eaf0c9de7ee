//! The planner: decides the next moves from members and placements.
//!
//! [`plan`] is a function of its arguments. The leader of the meta group runs it now and then and
//! proposes what it says; what it said before and is not applied yet it would say again. It knows
//! what shall be and what owners reported, not what Raft is doing at this moment, and starts
//! nothing.
//!
//! The rules, in order:
//!
//! 1. A member that leaves and holds nothing is removed.
//! 2. Nobody owns a group who is not alive, draining or leaving while another replica could
//!    (`leaders`).
//! 3. Owners are balanced, because handing over is cheap (`leaders`).
//! 4. Groups get the replicas they shall have, and leave who leaves or is lost (`replicas`).
//! 5. Only when nothing waits for rule 4: replicas are spread over localities, then balanced
//!    (`replicas`).
//!
//! It is biased against moving: what already is as good as anything else stays. Each move makes
//! something better that no later one makes worse, so the planner falls silent when nothing changes
//! around it.
//!
//! Invariants: a node holds a replica of a group once; a group has one replica or at least three
//! (the meta group an odd number); no move is planned that does not leave a majority alive; at most
//! [`MOVES_MAX`] moves are under way, at most one of them to each node.

mod leaders;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::catalogue::Meta;
use super::command::MetaCommand;
use super::members::{Member, MemberState};
use super::placement::{Loads, Placement, REPLICAS_MIN_TO_SURVIVE, replica_count};
use crate::ids::{GroupId, NodeId};
use crate::time::Time;

/// Moves under way in the cluster. A move copies a partition, and copies take disk and network from
/// what the cluster is for.
pub const MOVES_MAX: usize = 2;

/// How full the disk of a node may be, in hundredths, to be given another replica: what is left is
/// for the growth of those it has.
pub const DISK_USED_PERCENT_MAX: u64 = 85;

/// Members from which on the meta group survives the loss of two.
const META_MEMBERS_FOR_FIVE: usize = 5;

/// What a node last said of itself to the leader of the meta group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Bytes used on its disk, by whomever.
    pub disk_used_bytes: u64,
    /// Bytes its disk has.
    pub disk_total_bytes: u64,
    /// Groups it leads. For people: the planner counts what placements say, which is not a moment
    /// old.
    pub groups_led: u64,
}

/// What to propose next. Empty when all is as it shall be, or until something under way is done.
///
/// `dead_after` is how long a member may be not alive before its replicas are made elsewhere.
#[must_use]
pub fn plan(
    meta: &Meta,
    dead_after: Duration,
    now: Time,
    reports: &BTreeMap<NodeId, NodeReport>,
) -> Vec<MetaCommand> {
    let mut planner = Planner::new(meta, dead_after, now, reports);
    planner.hand_over();
    planner.balance_owners();
    if planner.repair() == Waiting::Nothing {
        planner.improve();
    }
    let mut commands = removals(meta, now);
    commands.extend(planner.commands());
    commands
}

/// What a member can do for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    /// Take replicas, and keep those it has.
    Takes,
    /// Keep those it has: it is draining, full, or not alive for a short time.
    Keeps,
    /// Nothing: it was not alive for too long.
    Lost,
    /// Nothing for much longer: it leaves.
    Leaves,
}

/// Whether a group needs a move that could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Something,
}

struct Node<'a> {
    member: &'a Member,
    fitness: Fitness,
}

/// The placements as they will be after what was decided so far.
struct Planner<'a> {
    meta: &'a Meta,
    nodes: BTreeMap<NodeId, Node<'a>>,
    /// Replicas that streams ask for, of each of their groups.
    asked: BTreeMap<GroupId, u32>,
    placements: BTreeMap<GroupId, Placement>,
    loads: Loads,
    moves: usize,
    receiving: BTreeSet<NodeId>,
}

fn removals(meta: &Meta, now: Time) -> Vec<MetaCommand> {
    let mut removals = Vec::new();
    for (&node, member) in meta.members() {
        let is_leaving = member.state == MemberState::Leaving;
        if is_leaving && !meta.placements().values().any(|placement| placement.hosts(node)) {
            let state = MemberState::Removed;
            removals.push(MetaCommand::SetMemberState { node, state, at: now });
        }
    }
    removals
}

impl<'a> Planner<'a> {
    fn new(
        meta: &'a Meta,
        dead_after: Duration,
        now: Time,
        reports: &BTreeMap<NodeId, NodeReport>,
    ) -> Planner<'a> {
        let mut nodes = BTreeMap::new();
        for (&node, member) in meta.members() {
            let is_lost = !member.alive && dead_after <= now.since(member.changed_at);
            let fitness = match member.state {
                MemberState::Removed => continue,
                MemberState::Leaving => Fitness::Leaves,
                MemberState::Active | MemberState::Draining if is_lost => Fitness::Lost,
                MemberState::Active if member.alive && has_room(reports.get(&node)) => {
                    Fitness::Takes
                }
                MemberState::Active | MemberState::Draining => Fitness::Keeps,
            };
            nodes.insert(node, Node { member, fitness });
        }
        let mut asked = BTreeMap::new();
        for stream in meta.streams().values() {
            asked.extend(stream.groups.iter().map(|&group| (group, stream.definition.replicas)));
        }
        let placements = meta.placements().clone();
        let loads = Loads::of(&placements);
        let mut planner =
            Planner { meta, nodes, asked, placements, loads, moves: 0, receiving: BTreeSet::new() };
        planner.count_moves();
        planner
    }

    /// Counts the moves under way. One whose group cannot agree on anything is not: it costs
    /// nothing, and may wait for a node that never comes back.
    fn count_moves(&mut self) {
        (self.moves, self.receiving) = (0, BTreeSet::new());
        for placement in self.placements.values() {
            if !placement.is_settled() && self.is_live(&placement.replicas) {
                self.moves += 1;
                self.receiving.extend(gaining(placement));
            }
        }
    }

    /// What was decided, as commands, in order of groups.
    fn commands(self) -> Vec<MetaCommand> {
        let mut commands = Vec::new();
        for (group, placement) in self.placements {
            let before = self.meta.placement(group).expect("groups are neither made nor dropped");
            if placement != *before {
                let Placement { wanted, leader, .. } = placement;
                commands.push(MetaCommand::Place { group, wanted, leader });
            }
        }
        commands
    }

    /// Changes what shall be of a group. Who owns it stays, where that can be.
    fn want(&mut self, group: GroupId, wanted: Vec<NodeId>) {
        let mut placement = self.placements[&group].clone();
        placement.wanted = wanted;
        self.set(group, placement);
        self.hand_over_group(group);
    }

    /// Replaces a placement and counts it.
    fn set(&mut self, group: GroupId, placement: Placement) {
        let before = self.placements.insert(group, placement).expect("groups are not made here");
        if group != GroupId::META {
            self.loads.add(&before, -1);
            self.loads.add(&self.placements[&group], 1);
        }
    }

    /// How many replicas the group shall have, by the members that stay. Whether they are alive
    /// does not count: a node that is away for an hour shall not cost every group a copy.
    fn desired(&self, group: GroupId) -> usize {
        let staying = self.staying().count();
        match (self.asked.get(&group), staying) {
            (Some(&asked), staying) => replica_count(asked, staying),
            (None, ..REPLICAS_MIN_TO_SURVIVE) => 1,
            (None, REPLICAS_MIN_TO_SURVIVE..META_MEMBERS_FOR_FIVE) => 3,
            (None, META_MEMBERS_FOR_FIVE..) => 5,
        }
    }

    fn staying(&self) -> impl Iterator<Item = &'a Member> {
        let nodes = self.nodes.values().filter(|node| node.fitness != Fitness::Leaves);
        nodes.map(|node| node.member)
    }

    fn fitness(&self, node: NodeId) -> Option<Fitness> {
        self.nodes.get(&node).map(|node| node.fitness)
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.member.alive)
    }

    fn is_active(&self, node: NodeId) -> bool {
        let state = self.nodes.get(&node).map(|node| node.member.state);
        state == Some(MemberState::Active) && self.is_alive(node)
    }

    /// Whether a group with these voters can agree on something.
    fn is_live(&self, voters: &[NodeId]) -> bool {
        let alive = voters.iter().filter(|&&node| self.is_alive(node)).count();
        voters.len() < 2 * alive
    }

    fn members<'s>(&'s self, nodes: &'s [NodeId]) -> impl Iterator<Item = &'a Member> + 's {
        nodes.iter().filter_map(|node| self.nodes.get(node)).map(|node| node.member)
    }
}

/// The nodes that a move gives a replica.
fn gaining(placement: &Placement) -> impl Iterator<Item = NodeId> + '_ {
    placement.wanted.iter().copied().filter(|node| !placement.replicas.contains(node))
}

/// A node that has not reported yet is taken to have room: it has just joined, or the leader of the
/// meta group has just changed.
fn has_room(report: Option<&NodeReport>) -> bool {
    report.is_none_or(|report| {
        let (used, total) = (report.disk_used_bytes, report.disk_total_bytes);
        u128::from(used) * 100 < u128::from(total) * u128::from(DISK_USED_PERCENT_MAX)
    })
}
