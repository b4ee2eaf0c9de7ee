//! Who shall own a group: a replica that can, and each node as many as the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{MemberState, Planner};
use crate::ids::{GroupId, NodeId};

/// Owners changed in one go for balance alone: each change stops appends to one partition for a
/// moment, and not all partitions shall stop in the same moment.
const HANDOVERS_MAX: usize = 16;

/// How well a node can own a group; the first is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Active,
    Draining,
    Leaving,
    NotAlive,
}

impl Planner<'_> {
    /// Moves ownership away from nodes that shall not have it.
    pub(super) fn hand_over(&mut self) {
        let groups: Vec<GroupId> = self.placements.keys().copied().collect();
        for group in groups {
            self.hand_over_group(group);
        }
    }

    pub(super) fn hand_over_group(&mut self, group: GroupId) {
        let placement = &self.placements[&group];
        let pool = self.owners_possible(group);
        let best = pool.iter().map(|&node| self.rank(node)).min();
        let leader = placement.leader;
        if pool.contains(&leader) && Some(self.rank(leader)) == best {
            return;
        }
        let equals = pool.into_iter().filter(|&node| Some(self.rank(node)) == best);
        if let Some(next) = equals.min_by_key(|&node| (self.loads.leaders_on(node), node)) {
            self.own(group, next);
        }
    }

    /// Evens out how many partitions each node owns. From a node that owns two more than another,
    /// ownership is passed on along the shortest chain of groups between them: the nodes between
    /// give one and get one. When there is no such chain, no other choice of owners is more even.
    pub(super) fn balance_owners(&mut self) {
        let mut handovers = 0;
        while let Some(chain) = self.chain() {
            handovers += chain.len();
            // The first chain is passed on however long it is: the next plan would find it again.
            if HANDOVERS_MAX < handovers && chain.len() < handovers {
                return;
            }
            for (group, next) in chain {
                self.own(group, next);
            }
        }
    }

    /// Groups with the owners they get, the first from a node that owns most.
    fn chain(&self) -> Option<Vec<(GroupId, NodeId)>> {
        let owned = self.owned();
        let mut givers: Vec<NodeId> = owned.keys().copied().collect();
        givers.sort_by_key(|&node| (std::cmp::Reverse(self.loads.leaders_on(node)), node));
        givers.into_iter().find_map(|giver| self.chain_from(giver, &owned))
    }

    fn chain_from(
        &self,
        giver: NodeId,
        owned: &BTreeMap<NodeId, Vec<GroupId>>,
    ) -> Option<Vec<(GroupId, NodeId)>> {
        let load = self.loads.leaders_on(giver);
        // Of each node reached, the group that leads to it and who owns that.
        let mut reached: BTreeMap<NodeId, (GroupId, NodeId)> = BTreeMap::new();
        let mut seen = BTreeSet::from([giver]);
        let mut queue = VecDeque::from([giver]);
        while let Some(owner) = queue.pop_front() {
            for &group in owned.get(&owner).into_iter().flatten() {
                for node in self.owners_possible(group) {
                    if !self.is_active(node) || !seen.insert(node) {
                        continue;
                    }
                    reached.insert(node, (group, owner));
                    if self.loads.leaders_on(node) + 2 <= load {
                        return Some(walk_back(node, giver, &reached));
                    }
                    queue.push_back(node);
                }
            }
        }
        None
    }

    /// The partitions whose owner may change for balance, by owner. While replicas move, ownership
    /// stays.
    fn owned(&self) -> BTreeMap<NodeId, Vec<GroupId>> {
        let mut owned: BTreeMap<NodeId, Vec<GroupId>> = BTreeMap::new();
        for (&group, placement) in &self.placements {
            if group != GroupId::META && placement.is_settled() && self.is_active(placement.leader)
            {
                owned.entry(placement.leader).or_default().push(group);
            }
        }
        owned
    }

    /// Who can own the group: replicas that stay, or who comes when none stays.
    fn owners_possible(&self, group: GroupId) -> Vec<NodeId> {
        let placement = &self.placements[&group];
        let stays = |node: &NodeId| placement.replicas.contains(node);
        let staying: Vec<NodeId> = placement.wanted.iter().copied().filter(stays).collect();
        if staying.is_empty() { placement.wanted.clone() } else { staying }
    }

    fn rank(&self, node: NodeId) -> Rank {
        let Some(member) = self.nodes.get(&node).map(|node| node.member) else {
            return Rank::NotAlive;
        };
        match (member.alive, member.state) {
            (true, MemberState::Active) => Rank::Active,
            (true, MemberState::Draining) => Rank::Draining,
            (true, MemberState::Leaving) => Rank::Leaving,
            (true, MemberState::Removed) | (false, _) => Rank::NotAlive,
        }
    }

    fn own(&mut self, group: GroupId, leader: NodeId) {
        let mut placement = self.placements[&group].clone();
        placement.leader = leader;
        self.set(group, placement);
    }
}

/// The way from `giver` to `node`, as groups with their next owners.
fn walk_back(
    node: NodeId,
    giver: NodeId,
    reached: &BTreeMap<NodeId, (GroupId, NodeId)>,
) -> Vec<(GroupId, NodeId)> {
    let mut chain = Vec::new();
    let mut at = node;
    while at != giver {
        let (group, owner) = reached[&at];
        chain.push((group, at));
        at = owner;
    }
    chain
}
