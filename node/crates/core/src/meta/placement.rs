//! Which nodes hold which replicas, and which of them shall own the partition.
//!
//! What shall be (`wanted`, `leader`) is written by the planner ([`plan`](mod@super::plan)) and,
//! for new streams, here; what is (`replicas`) by the owner once Raft has done it. Nobody here
//! talks to a replica.
//!
//! Owners report `replicas` with the place of the group's log as of which it is so. A report as of
//! an earlier place than the last one counts for nothing: it is from who owned the group before.
//! Who was to have a replica and is not any more may have got it all the same, because the owner
//! has not heard of that, or has not been heard: such nodes count as holding one until the owner
//! says, acting by the placement of that time or a later one, that the replicas are where they
//! shall be.
//!
//! Invariants: every group of the catalogue has a placement, the meta group too, and no other; a
//! node is in a list once; who shall own a group is one of those who shall hold it.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! placement:  initial, replicas, wanted: nodes, as in `member_form` | leader u64
//! placements: list of group u64 | placement | given_up: nodes | placed_at u64 | as_of u64
//! ```

use std::collections::BTreeMap;

use super::locality::Closeness;
use super::member_form::{decode_nodes, encode_nodes};
use super::members::{FIRST_NODE, Member, MemberState, Members};
use super::outcome::MetaOutcome;
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{GroupId, Index, NodeId};

/// Fewest replicas that survive the loss of one. Two would need both to agree, so they would be
/// less available than one.
pub const REPLICAS_MIN_TO_SURVIVE: usize = 3;

const PLACEMENT_BYTES_MIN: usize = 8 + 3 * 12 + 8;

/// Where one group is and shall be. The lists are in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Voters the group began with; every replica is created with them.
    pub initial: Vec<NodeId>,
    /// Voters as the owner last reported.
    pub replicas: Vec<NodeId>,
    /// Voters there shall be.
    pub wanted: Vec<NodeId>,
    /// Who shall own it.
    pub leader: NodeId,
    /// Nodes that were to be voters, are not to be any more, and may be for all that is known.
    pub given_up: Vec<NodeId>,
    /// Where in the log of the meta group `wanted` was said last; 0 where that was the stream's
    /// beginning.
    pub placed_at: Index,
}

/// What an owner says of its group: see [`super::MetaCommand::Moved`].
pub(super) struct Report {
    pub voters: Vec<NodeId>,
    pub as_of: Index,
    pub by: Index,
}

/// The placement of every group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placements {
    rows: BTreeMap<GroupId, Placement>,
    /// As of which place of the group's log the owner reported it last; 0 where nobody did.
    as_of: BTreeMap<GroupId, Index>,
}

/// Whether stored placements say as of when they were reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithAsOf {
    Yes,
    No,
}

/// How much each node holds and leads, as it shall be, partitions only: the meta group is small and
/// follows rules of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    pub replicas: BTreeMap<NodeId, usize>,
    pub leaders: BTreeMap<NodeId, usize>,
}

impl Placement {
    /// One that begins as it shall be.
    #[must_use]
    pub fn new(nodes: Vec<NodeId>, leader: NodeId) -> Placement {
        let (initial, replicas) = (nodes.clone(), nodes.clone());
        let (given_up, placed_at) = (Vec::new(), Index(0));
        Placement { initial, replicas, wanted: nodes, leader, given_up, placed_at }
    }

    /// Whether the node has a replica, may have one, or shall have one.
    #[must_use]
    pub fn hosts(&self, node: NodeId) -> bool {
        [&self.replicas, &self.wanted, &self.given_up].into_iter().any(|it| it.contains(&node))
    }

    /// Whether the replicas are where they shall be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.replicas == self.wanted
    }

    /// Changes who shall have a replica. Who was to have one may have it, or may get it still.
    fn want(&mut self, wanted: Vec<NodeId>, at: Index) {
        if self.wanted == wanted {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        let given_up = before.into_iter().chain(std::mem::take(&mut self.given_up));
        let given_up = given_up.filter(|node| !self.wanted.contains(node)).collect();
        self.given_up = ascending(given_up);
        self.placed_at = at;
    }

    /// Whether the catalogue is to hear of these voters from the owner of the group.
    #[must_use]
    pub fn lacks(&self, voters: &[NodeId]) -> bool {
        self.replicas != voters || self.wanted == voters && !self.given_up.is_empty()
    }
}

impl Default for Placements {
    fn default() -> Placements {
        let first = Placement::new(vec![FIRST_NODE], FIRST_NODE);
        Placements { rows: BTreeMap::from([(GroupId::META, first)]), as_of: BTreeMap::new() }
    }
}

impl Placements {
    pub fn rows(&self) -> &BTreeMap<GroupId, Placement> {
        &self.rows
    }

    /// Places the partitions of a new stream.
    pub fn create(&mut self, groups: &[GroupId], replicas: u32, members: &Members) {
        let mut loads = Loads::of(&self.rows);
        for &group in groups {
            let placement = place_new(&members.rows, &loads, replicas);
            loads.add(&placement, 1);
            self.rows.insert(group, placement);
        }
    }

    pub fn remove(&mut self, groups: &[GroupId]) {
        for group in groups {
            self.rows.remove(group);
            self.as_of.remove(group);
        }
    }

    pub fn place(
        &mut self,
        group: GroupId,
        wanted: Vec<NodeId>,
        leader: NodeId,
        at: Index,
        members: &Members,
    ) -> MetaOutcome {
        let wanted = ascending(wanted);
        let are_members = are_standing(&wanted, members);
        match self.rows.get_mut(&group) {
            Some(placement) if are_members && wanted.contains(&leader) => {
                if placement.wanted == wanted && placement.leader == leader {
                    return MetaOutcome::NothingToDo;
                }
                placement.leader = leader;
                placement.want(wanted, at);
                MetaOutcome::Placed { group }
            }
            Some(_) | None => MetaOutcome::NothingToDo,
        }
    }

    pub fn moved(&mut self, group: GroupId, report: Report, members: &Members) -> MetaOutcome {
        let Report { voters, as_of, by } = report;
        let voters = ascending(voters);
        let known = self.as_of.get(&group).copied().unwrap_or_default();
        // A report that was under way while its node was removed is about a time long past.
        let are_members = are_standing(&voters, members);
        match self.rows.get_mut(&group) {
            Some(placement) if are_members && known <= as_of && placement.lacks(&voters) => {
                if by == placement.placed_at && voters == placement.wanted {
                    placement.given_up.clear();
                } else if placement.replicas == voters {
                    return MetaOutcome::NothingToDo;
                }
                placement.replicas = voters;
                if as_of != Index(0) {
                    self.as_of.insert(group, as_of);
                }
                MetaOutcome::Placed { group }
            }
            Some(_) | None => MetaOutcome::NothingToDo,
        }
    }

    /// The groups that a node has a replica of or shall have one of.
    pub fn held_by(&self, node: NodeId) -> Vec<GroupId> {
        let held = self.rows.iter().filter(|(_, placement)| placement.hosts(node));
        held.map(|(&group, _)| group).collect()
    }

    pub fn encode(&self, writer: &mut Writer) {
        writer.count(self.rows.len());
        for (group, placement) in &self.rows {
            writer.u64(group.0);
            for nodes in [&placement.initial, &placement.replicas, &placement.wanted] {
                encode_nodes(writer, nodes);
            }
            writer.u64(placement.leader.0);
            encode_nodes(writer, &placement.given_up);
            writer.u64(placement.placed_at.0);
            writer.u64(self.as_of.get(group).copied().unwrap_or_default().0);
        }
    }

    pub fn decode(reader: &mut Reader<'_>, with: WithAsOf) -> Result<Placements, Malformed> {
        let (mut rows, mut as_of) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..reader.count(PLACEMENT_BYTES_MIN)? {
            let group = GroupId(reader.u64()?);
            let mut placement = Placement {
                initial: decode_nodes(reader)?,
                replicas: decode_nodes(reader)?,
                wanted: decode_nodes(reader)?,
                leader: NodeId(reader.u64()?),
                given_up: Vec::new(),
                placed_at: Index(0),
            };
            if with == WithAsOf::Yes {
                placement.given_up = decode_nodes(reader)?;
                placement.placed_at = Index(reader.u64()?);
                let known = Index(reader.u64()?);
                if known != Index(0) {
                    as_of.insert(group, known);
                }
            }
            if rows.insert(group, placement).is_some() {
                return Err(Malformed::inconsistent(format!("{group} is placed twice")));
            }
        }
        Ok(Placements { rows, as_of })
    }

    /// What stood in checkpoints of one node, which did not say where its groups are.
    pub fn on_first_node(groups: impl Iterator<Item = GroupId>) -> Placements {
        let placement = Placement::new(vec![FIRST_NODE], FIRST_NODE);
        let groups = groups.chain([GroupId::META]);
        let rows = groups.map(|group| (group, placement.clone())).collect();
        Placements { rows, as_of: BTreeMap::new() }
    }

    /// A checkpoint that breaks what the commands keep is not believed. `groups` are those of the
    /// catalogue.
    pub fn check(
        &self,
        groups: impl Iterator<Item = GroupId>,
        members: &Members,
    ) -> Result<(), Malformed> {
        let mut count = 0;
        for group in groups.chain([GroupId::META]) {
            count += 1;
            if !self.rows.contains_key(&group) {
                return Err(Malformed::inconsistent(format!("{group} is not placed")));
            }
        }
        if count != self.rows.len() {
            return Err(Malformed::inconsistent("a group is placed that is not there"));
        }
        let is_known = |node: NodeId| FIRST_NODE <= node && node.0 < members.next_id;
        for (group, placement) in &self.rows {
            let Placement { initial, replicas, wanted, leader, given_up, .. } = placement;
            if !given_up.is_sorted_by(|a, b| a < b) || !given_up.iter().all(|&it| is_known(it)) {
                return Err(Malformed::inconsistent(format!("{group} was on what is not there")));
            }
            for nodes in [initial, replicas, wanted] {
                let is_list = !nodes.is_empty() && nodes.is_sorted_by(|a, b| a < b);
                if !is_list || !nodes.iter().all(|&node| is_known(node)) {
                    let reason = format!("{group} is placed where nothing can be");
                    return Err(Malformed::inconsistent(reason));
                }
            }
            let is_removed = |node| members.rows.get(node).is_some_and(|row| !row.stands());
            let holders = replicas.iter().chain(wanted).chain(given_up);
            if !wanted.contains(leader) || holders.clone().any(is_removed) {
                return Err(Malformed::inconsistent(format!("{group} has no owner to be")));
            }
        }
        Ok(())
    }
}

impl Loads {
    pub fn of(placements: &BTreeMap<GroupId, Placement>) -> Loads {
        let mut loads = Loads::default();
        for (&group, placement) in placements {
            if group != GroupId::META {
                loads.add(placement, 1);
            }
        }
        loads
    }

    /// Counts a placement, or takes it away again with `-1`.
    pub fn add(&mut self, placement: &Placement, count: isize) {
        let add = |loads: &mut BTreeMap<NodeId, usize>, node| {
            let load = loads.entry(node).or_default();
            *load = load.checked_add_signed(count).expect("only what was counted is taken away");
        };
        for &node in &placement.wanted {
            add(&mut self.replicas, node);
        }
        add(&mut self.leaders, placement.leader);
    }

    pub fn replicas_on(&self, node: NodeId) -> usize {
        self.replicas.get(&node).copied().unwrap_or(0)
    }

    pub fn leaders_on(&self, node: NodeId) -> usize {
        self.leaders.get(&node).copied().unwrap_or(0)
    }
}

/// Replicas a partition shall have when `nodes` can hold one: what was asked for, where that makes
/// it survive a loss, else one.
pub(super) fn replica_count(asked: u32, nodes: usize) -> usize {
    let asked = usize::try_from(asked).unwrap_or(usize::MAX);
    match (asked, nodes) {
        (..=1, _) | (_, ..REPLICAS_MIN_TO_SURVIVE) => 1,
        (_, _) => asked.max(REPLICAS_MIN_TO_SURVIVE).min(nodes),
    }
}

/// Where a new partition begins: on nodes that take more, as far from each other as they can be and
/// on those that hold least.
fn place_new(members: &BTreeMap<NodeId, Member>, loads: &Loads, asked: u32) -> Placement {
    let candidates = candidates(members);
    let mut nodes: Vec<&Member> = Vec::new();
    for _ in 0..replica_count(asked, candidates.len()) {
        nodes.extend(best(&candidates, &nodes, loads));
    }
    let nodes = ascending(nodes.into_iter().map(|member| member.node).collect());
    let leader = nodes.iter().copied().min_by_key(|&node| (loads.leaders_on(node), node));
    match leader {
        Some(leader) => Placement::new(nodes, leader),
        None => Placement::new(vec![FIRST_NODE], FIRST_NODE),
    }
}

/// Who of the candidates shall have the next replica of a group: who stands farthest from those
/// that have one, then who holds least, then who owns least.
pub(super) fn best<'a>(
    candidates: &[&'a Member],
    holders: &[&Member],
    loads: &Loads,
) -> Option<&'a Member> {
    let has_none = |member: &Member| holders.iter().all(|holder| holder.node != member.node);
    let free = candidates.iter().copied().filter(|member| has_none(member));
    free.min_by_key(|member| {
        let load = (loads.replicas_on(member.node), loads.leaders_on(member.node));
        (Closeness::to_others(member, holders), load, member.node)
    })
}

/// Who can be given a new partition: a stream must be somewhere, so where nobody takes more, the
/// next best do.
fn candidates(members: &BTreeMap<NodeId, Member>) -> Vec<&Member> {
    let is_draining = |member: &Member| member.state == MemberState::Draining && member.alive;
    let choices: [&dyn Fn(&Member) -> bool; 3] =
        [&Member::takes_more, &is_draining, &Member::stands];
    for choice in choices {
        let chosen: Vec<_> = members.values().filter(|member| choice(member)).collect();
        if !chosen.is_empty() {
            return chosen;
        }
    }
    Vec::new()
}

fn are_standing(nodes: &[NodeId], members: &Members) -> bool {
    let stands = |node| members.rows.get(node).is_some_and(Member::stands);
    !nodes.is_empty() && nodes.iter().all(stands)
}

pub(super) fn ascending(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
