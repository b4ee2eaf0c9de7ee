//! Where the replicas of a group shall be: as many as they shall be, on nodes that stay, far from
//! each other, and no node with more than others for no reason.

use std::cmp::Reverse;

use super::{Fitness, MOVES_MAX, Planner, Waiting, gaining};
use crate::ids::{GroupId, NodeId};
use crate::meta::locality::Closeness;
use crate::meta::members::Member;
use crate::meta::placement::{REPLICAS_MIN_TO_SURVIVE, ascending, best};

/// Why a group needs a move, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// A replica is on a node that is not coming back.
    Lost,
    /// It has fewer replicas than it shall have.
    Few,
    /// A replica is on a node that leaves.
    Leaves,
    /// It has more replicas than it shall have.
    Many,
}

/// One replica of a group on another node.
#[derive(Clone, Copy, Debug)]
struct Swap {
    group: GroupId,
    from: NodeId,
    to: NodeId,
}

impl Planner<'_> {
    /// Starts the moves that groups need, the most urgent first, as far as there is room for more.
    pub(super) fn repair(&mut self) -> Waiting {
        self.abandon();
        let mut needs = Vec::new();
        for (&group, placement) in &self.placements {
            if placement.is_settled()
                && let Some(need) = self.need(&placement.replicas, &self.target(group))
            {
                // All else waits for what the meta group decides.
                needs.push((group != GroupId::META, need, group));
            }
        }
        needs.sort_unstable();
        let mut waiting = Waiting::Nothing;
        for (_, _, group) in needs {
            // What was started before has changed who holds least.
            let target = self.target(group);
            if !self.start(group, target) {
                waiting = Waiting::Something;
            }
        }
        waiting
    }

    /// Starts moves that make what is good better, as far as there is room for more. Groups with a
    /// node that is away are left alone: they have trouble enough.
    pub(super) fn improve(&mut self) {
        let groups: Vec<GroupId> = self.placements.keys().copied().collect();
        let mut waiting = Waiting::Nothing;
        for group in groups {
            let Some(swap) = self.spread(group) else { continue };
            if !self.start_swap(swap) {
                waiting = Waiting::Something;
            }
        }
        if waiting == Waiting::Something {
            return;
        }
        while let Some(swap) = self.balance() {
            if !self.start_swap(swap) {
                return;
            }
        }
    }

    /// Gives up moves to nodes that can no longer receive, or to placements that could agree on
    /// nothing. What is planned instead is another move. A group that cannot agree on anything
    /// keeps its move: when it can again, it may have done it already, without having been able to
    /// say so.
    fn abandon(&mut self) {
        let mut vain = Vec::new();
        for (&group, placement) in &self.placements {
            let can_receive =
                |node| self.is_alive(node) && self.fitness(node) != Some(Fitness::Leaves);
            let is_vain = !gaining(placement).all(can_receive) || !self.is_live(&placement.wanted);
            if !placement.is_settled() && is_vain && self.is_live(&placement.replicas) {
                vain.push(group);
            }
        }
        for group in vain {
            let replicas = self.placements[&group].replicas.clone();
            self.want(group, replicas);
        }
        self.count_moves();
    }

    /// Makes it the wanted placement, if there is room for another move.
    fn start(&mut self, group: GroupId, target: Vec<NodeId>) -> bool {
        let replicas = &self.placements[&group].replicas;
        let receiving: Vec<NodeId> =
            target.iter().copied().filter(|node| !replicas.contains(node)).collect();
        let is_busy = receiving.iter().any(|node| self.receiving.contains(node));
        if self.moves == MOVES_MAX || is_busy {
            return false;
        }
        self.moves += 1;
        self.receiving.extend(receiving);
        self.want(group, target);
        true
    }

    fn start_swap(&mut self, Swap { group, from, to }: Swap) -> bool {
        let target = swapped(&self.placements[&group].replicas, from, to);
        self.start(group, target)
    }

    fn need(&self, voters: &[NodeId], target: &[NodeId]) -> Option<Need> {
        if voters == target {
            return None;
        }
        let drops = |fitness| {
            let mut dropped = voters.iter().filter(|node| !target.contains(node));
            dropped.any(|&node| self.fitness(node) == Some(fitness))
        };
        Some(if drops(Fitness::Lost) {
            Need::Lost
        } else if voters.len() < target.len() {
            Need::Few
        } else if drops(Fitness::Leaves) {
            Need::Leaves
        } else {
            Need::Many
        })
    }

    /// The replicas that a group shall have next: as they are, where nothing is needed or nothing
    /// can be done.
    fn target(&self, group: GroupId) -> Vec<NodeId> {
        let voters = &self.placements[&group].replicas;
        if !self.is_live(voters) {
            return voters.clone();
        }
        // Nobody gives up a copy while it may turn out to be the last good one.
        let may_shrink = self.staying().all(|member| member.alive);
        let desired = match (self.desired(group), voters.len()) {
            (desired, now) if now <= desired || may_shrink => desired,
            (_, now) => now,
        };
        let stays =
            |node: &NodeId| matches!(self.fitness(*node), Some(Fitness::Takes | Fitness::Keeps));
        let (staying, going): (Vec<NodeId>, Vec<NodeId>) = voters.iter().partition(|n| stays(n));
        let target = if desired <= staying.len() {
            self.fewer(group, &staying, desired)
        } else {
            self.more(group, &staying, &going, desired)
        };
        if self.is_live(&target) { target } else { voters.clone() }
    }

    /// Those of the replicas to keep: not on nodes that are away or draining, where there is a
    /// choice, then those that stand farthest from each other, then on nodes that hold least.
    fn fewer(&self, group: GroupId, staying: &[NodeId], desired: usize) -> Vec<NodeId> {
        let leader = self.placements[&group].leader;
        let mut kept: Vec<&Member> = self.members(staying).collect();
        while desired < kept.len() {
            let worst = kept.iter().copied().max_by_key(|member| {
                let node = member.node;
                let others: Vec<&Member> =
                    kept.iter().copied().filter(|other| other.node != node).collect();
                let closeness = Closeness::to_others(member, &others);
                let load = self.loads.replicas_on(node);
                (!member.alive, !self.is_active(node), closeness, load, node != leader, node)
            });
            kept.retain(|member| Some(member.node) != worst.map(|worst| worst.node));
        }
        ascending(kept.into_iter().map(|member| member.node).collect())
    }

    /// The replicas that stay, with others for those that go or were missing. Where too few nodes
    /// can take one, those that go stay as long: first those that are alive.
    fn more(
        &self,
        group: GroupId,
        staying: &[NodeId],
        going: &[NodeId],
        desired: usize,
    ) -> Vec<NodeId> {
        let candidates = self.takers();
        let mut chosen: Vec<&Member> = self.members(staying).collect();
        // Those that come last are the first to be left out again.
        chosen.sort_by_key(|member| (!member.alive, member.node));
        while chosen.len() < desired {
            match best(&candidates, &chosen, &self.loads) {
                Some(next) => chosen.push(next),
                None => break,
            }
        }
        let mut going: Vec<&Member> = self.members(going).collect();
        going.sort_by_key(|member| (!member.alive, member.node));
        let room = desired.saturating_sub(chosen.len());
        chosen.extend(going.into_iter().take(room));
        while !is_count(group, chosen.len()) {
            chosen.pop();
        }
        ascending(chosen.into_iter().map(|member| member.node).collect())
    }

    /// One replica of the group on another node, so that all stand farther from each other.
    fn spread(&self, group: GroupId) -> Option<Swap> {
        let voters = &self.placements[&group].replicas;
        if !self.can_improve(group) || voters.len() == 1 {
            return None;
        }
        let candidates = self.takers();
        let now = self.closeness(voters);
        let mut swaps = Vec::new();
        for &from in voters {
            for to in candidates.iter().map(|member| member.node) {
                if voters.contains(&to) {
                    continue;
                }
                let closeness = self.closeness(&swapped(voters, from, to));
                if closeness < now {
                    let loads = (self.loads.replicas_on(to), Reverse(self.loads.replicas_on(from)));
                    let is_leader = from == self.placements[&group].leader;
                    swaps.push((closeness, loads, is_leader, from, to));
                }
            }
        }
        let (.., from, to) = swaps.into_iter().min()?;
        Some(Swap { group, from, to })
    }

    /// One replica from a node that holds two more than another, which gets it, at no loss of
    /// distance. The largest difference first; a node that is receiving already comes last.
    fn balance(&self) -> Option<Swap> {
        let candidates = self.takers();
        let mut best = None;
        for (&group, placement) in &self.placements {
            if group == GroupId::META || !self.can_improve(group) {
                continue;
            }
            let voters = &placement.replicas;
            for &from in voters {
                for to in candidates.iter().map(|member| member.node) {
                    let (more, less) = (self.loads.replicas_on(from), self.loads.replicas_on(to));
                    if more < less + 2 || voters.contains(&to) {
                        continue;
                    }
                    let is_busy = self.receiving.contains(&to);
                    let is_leader = placement.leader == from;
                    let key = (Reverse(more - less), is_busy, is_leader, group, from, to);
                    if best.is_some_and(|best| best < key) {
                        continue;
                    }
                    let closeness = self.closeness(&swapped(voters, from, to));
                    if closeness <= self.closeness(voters) {
                        best = Some(key);
                    }
                }
            }
        }
        best.map(|(.., group, from, to)| Swap { group, from, to })
    }

    /// Whether the group is at rest and all its nodes are well.
    fn can_improve(&self, group: GroupId) -> bool {
        let placement = &self.placements[&group];
        placement.is_settled() && placement.replicas.iter().all(|&node| self.is_active(node))
    }

    fn takers(&self) -> Vec<&Member> {
        let takers = self.nodes.values().filter(|node| node.fitness == Fitness::Takes);
        takers.map(|node| node.member).collect()
    }

    fn closeness(&self, nodes: &[NodeId]) -> Closeness {
        let members: Vec<&Member> = self.members(nodes).collect();
        Closeness::among(&members)
    }
}

fn swapped(nodes: &[NodeId], from: NodeId, to: NodeId) -> Vec<NodeId> {
    let kept = nodes.iter().copied().filter(|&node| node != from);
    ascending(kept.chain([to]).collect())
}

/// Whether a group can have so many replicas.
fn is_count(group: GroupId, count: usize) -> bool {
    let survives = REPLICAS_MIN_TO_SURVIVE <= count;
    count <= 1 || survives && (group != GroupId::META || count % 2 == 1)
}
