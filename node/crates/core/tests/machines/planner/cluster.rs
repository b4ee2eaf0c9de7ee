//! A cluster in which moves take a round or two, and nothing else happens but what a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::meta::plan::MOVES_MAX;
use alluvium_core::meta::{
    Addresses, Locality, Member, MemberState, Meta, MetaCommand, MetaOutcome, NodeReport,
    Placement, plan,
};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;
use alluvium_core::time::Time;

/// How long a member may be not alive before its replicas are made elsewhere.
pub const DEAD_AFTER: Duration = Duration::from_secs(100);

const ROUND: Duration = Duration::from_secs(1);

/// The meta group, and what owners would do.
pub struct Cluster {
    pub meta: Meta,
    pub now: Time,
    /// Members whose disks are nearly full.
    pub full: BTreeSet<NodeId>,
    /// Moves under way, with the rounds they still take.
    moving: BTreeMap<GroupId, u32>,
    applied: u64,
    /// Moves started since the beginning.
    pub moves: usize,
}

impl Cluster {
    pub fn new() -> Cluster {
        let mut cluster = Cluster {
            meta: Meta::default(),
            now: Time(0),
            full: BTreeSet::new(),
            moving: BTreeMap::new(),
            applied: 0,
            moves: 0,
        };
        let (addresses, at) = (addresses(), cluster.now);
        let announce = MetaCommand::Announce {
            node: NodeId(1),
            token: 1,
            name: "n1".into(),
            addresses,
            locality: Locality::new(),
            versions: (1, 1),
            at,
        };
        assert_eq!(cluster.apply(&announce), MetaOutcome::Announced);
        cluster
    }

    /// A cluster whose nodes stand so, the first being the one that began it.
    pub fn of(localities: &[Locality]) -> Cluster {
        let mut cluster = Cluster::new();
        for (place, locality) in localities.iter().enumerate() {
            if place == 0 {
                cluster.stand(locality.clone());
            } else {
                cluster.join(locality.clone());
            }
        }
        cluster
    }

    fn stand(&mut self, locality: Locality) {
        let announce = MetaCommand::Announce {
            node: NodeId(1),
            token: 1,
            name: "n1".into(),
            addresses: addresses(),
            locality,
            versions: (1, 1),
            at: self.now,
        };
        assert_eq!(self.apply(&announce), MetaOutcome::Announced);
    }

    pub fn join(&mut self, locality: Locality) {
        let token = 1 + self.meta.members().len() as u128;
        let join = MetaCommand::Join {
            token,
            name: format!("n{token}"),
            addresses: addresses(),
            locality,
            versions: (1, 1),
            at: self.now,
        };
        let joined = self.apply(&join);
        assert_eq!(joined, MetaOutcome::Joined { node: NodeId(token as u64) });
    }

    pub fn create(&mut self, partitions: u32, replicas: u32) {
        let id = Column { name: "id".into(), column_type: ColumnType::BigInt, nullable: false };
        let definition = StreamDefinition {
            name: format!("s{}", self.applied),
            schema: StreamSchema::new(vec![id]).unwrap(),
            partition_by: vec![0],
            event_time: None,
            partitions,
            retention: None,
            replicas,
        };
        let created_at = self.now;
        let create = MetaCommand::CreateStream { definition, if_not_exists: false, created_at };
        assert!(matches!(self.apply(&create), MetaOutcome::StreamCreated(_)));
    }

    pub fn set_state(&mut self, node: u64, state: MemberState) -> MetaOutcome {
        self.apply(&MetaCommand::SetMemberState { node: NodeId(node), state, at: self.now })
    }

    pub fn set_alive(&mut self, node: u64, alive: bool) -> MetaOutcome {
        self.apply(&MetaCommand::SetAlive { node: NodeId(node), alive, at: self.now })
    }

    /// Every command takes the way through its bytes; now and then the state does too.
    pub fn apply(&mut self, command: &MetaCommand) -> MetaOutcome {
        self.applied += 1;
        let outcome = self.meta.apply(Index(self.applied), &command.encode()).unwrap();
        if self.applied.is_multiple_of(16) {
            let restored = Meta::restore(&self.meta.checkpoint()).unwrap();
            assert_eq!(restored, self.meta);
        }
        outcome
    }

    pub fn plan(&self) -> Vec<MetaCommand> {
        let report = |full| NodeReport {
            disk_used_bytes: if full { 86 } else { 84 },
            disk_total_bytes: 100,
            groups_led: 0,
        };
        let nodes = self.meta.members().keys();
        // Some nodes have not reported yet.
        let reporting = nodes.filter(|node| self.full.contains(node) || node.0 % 3 != 0);
        let reports = reporting.map(|&node| (node, report(self.full.contains(&node)))).collect();
        plan(&self.meta, DEAD_AFTER, self.now, &reports)
    }

    /// One round: owners report moves that are done, then the planner says what is next. `rounds`
    /// is how long moves take that begin now. Answers whether anything happened.
    pub fn round(&mut self, rounds: u32) -> bool {
        self.now = Time(self.now.0 + ROUND.as_micros() as i64);
        self.forget_dropped();
        let mut happened = self.finish_moves();
        happened |= self.give_up_moves();
        let before = self.meta.clone();
        let commands = self.plan();
        for command in &commands {
            happened = true;
            let outcome = self.apply(command);
            let is_done =
                matches!(outcome, MetaOutcome::Placed { .. } | MetaOutcome::MemberChanged { .. });
            assert!(is_done, "{command:?} gave {outcome:?}");
        }
        self.check_commands(&before, &commands);
        for (&group, placement) in self.meta.placements() {
            match placement.is_settled() {
                true => {
                    self.moving.remove(&group);
                }
                false => {
                    let _left = self.moving.entry(group).or_insert(rounds);
                }
            }
        }
        happened
    }

    /// Rounds until nothing happens any more.
    pub fn settle(&mut self) -> usize {
        let groups = self.meta.placements().len();
        let bound = 50 + 40 * groups;
        for round in 0..bound {
            self.forget_dropped();
            let mut moving = self.moving.keys();
            let waits = moving.any(|group| self.can_move(&self.meta.placements()[group]));
            if !self.round(1 + round as u32 % 2) && !waits {
                return round;
            }
        }
        panic!("{groups} groups keep moving: {:#?}", self.plan());
    }

    fn forget_dropped(&mut self) {
        self.moving.retain(|&group, _| self.meta.placement(group).is_some());
    }

    /// Owners of groups that did not move after all say so: who was to get a replica has none.
    fn give_up_moves(&mut self) -> bool {
        let mut stayed = Vec::new();
        for (&group, placement) in self.meta.placements() {
            let Placement { replicas, placed_at, .. } = placement;
            if placement.is_settled() && placement.lacks(replicas) && self.is_live(replicas) {
                stayed.push((group, replicas.clone(), *placed_at));
            }
        }
        for (group, voters, by) in &stayed {
            let (group, as_of, by) = (*group, Index(self.applied), *by);
            self.apply(&MetaCommand::Moved { group, voters: voters.clone(), as_of, by });
            let placement = self.meta.placement(group).expect("it was just there");
            assert!(!placement.lacks(voters), "{group}: {placement:?}");
        }
        !stayed.is_empty()
    }

    fn finish_moves(&mut self) -> bool {
        let mut done = Vec::new();
        for (&group, left) in &mut self.moving {
            *left = left.saturating_sub(1);
            if *left == 0 {
                done.push(group);
            }
        }
        let mut happened = false;
        for group in done {
            let placement = self.meta.placement(group).cloned();
            let Some(placement) = placement.filter(|placement| self.can_move(placement)) else {
                continue;
            };
            self.moving.remove(&group);
            let (by, as_of) = (placement.placed_at, Index(self.applied));
            let voters = placement.wanted;
            let moved = self.apply(&MetaCommand::Moved { group, voters, as_of, by });
            assert_eq!(moved, MetaOutcome::Placed { group });
            happened = true;
        }
        happened
    }

    /// Whether Raft could do it: both majorities agree, and who is new gets a copy.
    fn can_move(&self, placement: &Placement) -> bool {
        let mut gaining = gaining(placement);
        self.is_live(&placement.replicas)
            && self.is_live(&placement.wanted)
            && gaining.all(|node| self.member(node).alive)
    }

    pub fn member(&self, node: NodeId) -> &Member {
        self.meta.member(node).expect("a member")
    }

    pub fn is_live(&self, nodes: &[NodeId]) -> bool {
        let alive = nodes.iter().filter(|&&node| self.member(node).alive).count();
        nodes.len() < 2 * alive
    }

    /// Whether a node may be given replicas.
    pub fn takes(&self, member: &Member) -> bool {
        member.takes_more() && !self.full.contains(&member.node)
    }

    /// Whether what is on it is to be made elsewhere.
    pub fn is_going(&self, member: &Member) -> bool {
        let is_lost = !member.alive && DEAD_AFTER <= self.now.since(member.changed_at);
        match member.state {
            MemberState::Active | MemberState::Draining => is_lost,
            MemberState::Leaving | MemberState::Removed => true,
        }
    }

    /// Members that are meant to stay.
    pub fn staying(&self) -> impl Iterator<Item = &Member> {
        self.meta.members().values().filter(|member| match member.state {
            MemberState::Active | MemberState::Draining => true,
            MemberState::Leaving | MemberState::Removed => false,
        })
    }

    fn moves_under_way<'m>(
        &self,
        meta: &'m Meta,
    ) -> impl Iterator<Item = (GroupId, &'m Placement)> {
        let placements = meta.placements().iter().map(|(&group, placement)| (group, placement));
        placements.filter(|(_, row)| !row.is_settled() && self.is_live(&row.replicas))
    }

    /// What must hold of everything the planner says.
    fn check_commands(&mut self, before: &Meta, commands: &[MetaCommand]) {
        for command in commands {
            match command {
                MetaCommand::Place { group, wanted, leader } => {
                    self.check_place(before, *group, wanted, *leader);
                }
                MetaCommand::SetMemberState { node, state, .. } => {
                    assert_eq!(*state, MemberState::Removed);
                    assert_eq!(before.member(*node).unwrap().state, MemberState::Leaving);
                }
                other => panic!("the planner said {other:?}"),
            }
        }
        let was: BTreeSet<GroupId> = self.moves_under_way(before).map(|(group, _)| group).collect();
        let is: BTreeMap<_, _> = self.moves_under_way(&self.meta).collect();
        let started: Vec<_> = is.iter().filter(|(group, _)| !was.contains(group)).collect();
        self.moves += started.len();
        if started.is_empty() {
            return;
        }
        assert!(is.len() <= MOVES_MAX, "{} moves at once: {is:?}", is.len());
        let receiving: Vec<NodeId> = is.values().flat_map(|placement| gaining(placement)).collect();
        let nodes: BTreeSet<_> = receiving.iter().collect();
        assert_eq!(nodes.len(), receiving.len(), "two moves to one node: {is:?}");
    }

    fn check_place(&self, before: &Meta, group: GroupId, wanted: &[NodeId], leader: NodeId) {
        let count = wanted.len();
        assert!(count == 1 || 3 <= count, "{group} on {wanted:?}");
        assert!(group != GroupId::META || count % 2 == 1, "meta on {wanted:?}");
        assert!(wanted.is_sorted_by(|a, b| a < b), "{group} on {wanted:?}");
        assert!(wanted.contains(&leader));
        let before = before.placement(group).unwrap();
        if before.wanted == wanted {
            return;
        }
        assert!(self.is_live(wanted), "{group} would not be live on {wanted:?}");
        assert!(self.is_live(&before.replicas), "{group} is not live and cannot move");
        let is_kept = |node: &NodeId| before.replicas.contains(node);
        for &node in wanted.iter().filter(|node| !is_kept(node)) {
            let member = self.member(node);
            assert!(self.takes(member), "{group} is given to {member:?}");
        }
        for &node in before.replicas.iter().filter(|node| !wanted.contains(node)) {
            let member = self.member(node);
            let may_come_back = !member.alive && !self.is_going(member);
            assert!(!may_come_back, "{group} leaves {node} too early");
        }
        if count < before.replicas.len() {
            assert!(self.staying().all(|member| member.alive), "{group} loses a copy");
        }
    }
}

pub fn gaining(placement: &Placement) -> impl Iterator<Item = NodeId> + '_ {
    placement.wanted.iter().copied().filter(|node| !placement.replicas.contains(node))
}

fn addresses() -> Addresses {
    let address = || "n:1".to_owned();
    Addresses { client: address(), peer: address(), http: address(), pg: address() }
}
