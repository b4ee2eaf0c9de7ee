//! Which nodes hold which replicas, and which of them shall own the partition.
//!
//! What shall be (`wanted`, `leader`) is written by the planner ([`plan`](mod@super::plan)) and,
//! for new streams, here; what is (`replicas`) by the owner once Raft has done it. Nobody here
//! talks to a replica.
//!
//! Invariants: every group of the catalogue has a placement, the meta group too, and no other; a
//! node is in a list once; who shall own a group is one of those who shall hold it.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! placement:  initial, replicas, wanted: nodes, as in `member_form` | leader u64 | as_of u64
//! placements: list of group u64 | placement
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
    /// Entry of the group's own log as of which it did.
    pub as_of: Index,
    /// Voters there shall be.
    pub wanted: Vec<NodeId>,
    /// Who shall own it.
    pub leader: NodeId,
}

/// Whether a stored placement says as of when its replicas are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dated {
    No,
    Yes,
}

/// The placement of every group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placements {
    rows: BTreeMap<GroupId, Placement>,
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
        Placement { initial, replicas, as_of: Index(0), wanted: nodes, leader }
    }

    /// Whether the node has a replica or shall have one.
    #[must_use]
    pub fn hosts(&self, node: NodeId) -> bool {
        self.replicas.contains(&node) || self.wanted.contains(&node)
    }

    /// Whether the replicas are where they shall be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.replicas == self.wanted
    }
}

impl Default for Placements {
    fn default() -> Placements {
        let first = Placement::new(vec![FIRST_NODE], FIRST_NODE);
        Placements { rows: BTreeMap::from([(GroupId::META, first)]) }
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
        }
    }

    pub fn place(
        &mut self,
        group: GroupId,
        wanted: Vec<NodeId>,
        leader: NodeId,
        members: &Members,
    ) -> MetaOutcome {
        let wanted = ascending(wanted);
        let are_members = are_standing(&wanted, members);
        match self.rows.get_mut(&group) {
            Some(placement) if are_members && wanted.contains(&leader) => {
                if placement.wanted == wanted && placement.leader == leader {
                    return MetaOutcome::NothingToDo;
                }
                placement.wanted = wanted;
                placement.leader = leader;
                MetaOutcome::Placed { group }
            }
            Some(_) | None => MetaOutcome::NothingToDo,
        }
    }

    pub fn moved(
        &mut self,
        group: GroupId,
        voters: Vec<NodeId>,
        as_of: Index,
        members: &Members,
    ) -> MetaOutcome {
        let voters = ascending(voters);
        // A report that was under way while its node was removed is about a time long past.
        let are_members = are_standing(&voters, members);
        match self.rows.get_mut(&group) {
            Some(placement) if are_members && placement.as_of < as_of => {
                placement.as_of = as_of;
                if placement.replicas == voters {
                    return MetaOutcome::NothingToDo;
                }
                placement.replicas = voters;
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
        for (group, Placement { initial, replicas, as_of, wanted, leader }) in &self.rows {
            writer.u64(group.0);
            for nodes in [initial, replicas, wanted] {
                encode_nodes(writer, nodes);
            }
            writer.u64(leader.0);
            writer.u64(as_of.0);
        }
    }

    pub fn decode(reader: &mut Reader<'_>, dated: Dated) -> Result<Placements, Malformed> {
        let mut rows = BTreeMap::new();
        for _ in 0..reader.count(PLACEMENT_BYTES_MIN)? {
            let group = GroupId(reader.u64()?);
            let placement = Placement {
                initial: decode_nodes(reader)?,
                replicas: decode_nodes(reader)?,
                wanted: decode_nodes(reader)?,
                leader: NodeId(reader.u64()?),
                as_of: match dated {
                    Dated::Yes => Index(reader.u64()?),
                    Dated::No => Index(0),
                },
            };
            if rows.insert(group, placement).is_some() {
                return Err(Malformed::inconsistent(format!("{group} is placed twice")));
            }
        }
        Ok(Placements { rows })
    }

    /// What stood in checkpoints of one node, which did not say where its groups are.
    pub fn on_first_node(groups: impl Iterator<Item = GroupId>) -> Placements {
        let placement = Placement::new(vec![FIRST_NODE], FIRST_NODE);
        let groups = groups.chain([GroupId::META]);
        Placements { rows: groups.map(|group| (group, placement.clone())).collect() }
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
        for (group, Placement { initial, replicas, wanted, leader, .. }) in &self.rows {
            for nodes in [initial, replicas, wanted] {
                let is_list = !nodes.is_empty() && nodes.is_sorted_by(|a, b| a < b);
                if !is_list || !nodes.iter().all(|&node| is_known(node)) {
                    let reason = format!("{group} is placed where nothing can be");
                    return Err(Malformed::inconsistent(reason));
                }
            }
            let is_removed = |node| members.rows.get(node).is_some_and(|row| !row.stands());
            if !wanted.contains(leader) || replicas.iter().chain(wanted).any(is_removed) {
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
