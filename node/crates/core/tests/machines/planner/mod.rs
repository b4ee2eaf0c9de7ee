//! What must hold of the planner, on random clusters: nodes join, die, come back, drain, leave and
//! fill up, streams come and go, and moves take a while. A failure prints the smallest input found.

mod checks;
mod cluster;

use alluvium_core::ids::NodeId;
use alluvium_core::meta::{Locality, MemberState, MetaCommand};
use alluvium_core::time::Time;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use checks::{check_quiet, check_well, held, owned};
use cluster::{Cluster, DEAD_AFTER};

use super::random::config;

/// Nodes there ever are in one cluster: all choices of replicas among them can be tried.
const NODES_MAX: usize = 9;

#[derive(Clone, Debug)]
enum Event {
    Join(Locality),
    Create {
        partitions: u32,
        replicas: u32,
    },
    Drop(usize),
    State(u64, MemberState),
    Alive(u64, bool),
    Full(u64),
    /// Time enough for who is not alive to be lost.
    Wait,
}

fn localities() -> impl Strategy<Value = Locality> {
    let tiers = vec((0..4_u8).prop_map(|value| format!("v{value}")), 0..3);
    tiers.prop_map(|values| ["region", "zone"].map(str::to_owned).into_iter().zip(values).collect())
}

fn events() -> impl Strategy<Value = Event> {
    let node = || 1..=NODES_MAX as u64;
    prop_oneof![
        6 => localities().prop_map(Event::Join),
        3 => (1..7_u32, 1..6_u32)
            .prop_map(|(partitions, replicas)| Event::Create { partitions, replicas }),
        1 => any::<usize>().prop_map(Event::Drop),
        2 => node().prop_map(|node| Event::State(node, MemberState::Draining)),
        2 => node().prop_map(|node| Event::State(node, MemberState::Leaving)),
        2 => node().prop_map(|node| Event::State(node, MemberState::Active)),
        4 => node().prop_map(|node| Event::Alive(node, false)),
        3 => node().prop_map(|node| Event::Alive(node, true)),
        1 => node().prop_map(Event::Full),
        1 => proptest::prelude::Just(Event::Wait),
    ]
}

fn happen(cluster: &mut Cluster, event: &Event) {
    let is_there = |node: &u64| cluster.meta.member(NodeId(*node)).is_some();
    match event {
        Event::Join(locality) => {
            if cluster.meta.members().len() < NODES_MAX {
                cluster.join(locality.clone());
            }
        }
        Event::Create { partitions, replicas } => cluster.create(*partitions, *replicas),
        Event::Drop(place) => {
            let count = cluster.meta.streams().len().max(1);
            let name = cluster.meta.streams().keys().nth(place % count).cloned();
            if let Some(name) = name {
                cluster.apply(&MetaCommand::DropStream { name, if_exists: false });
            }
        }
        Event::State(node, state) => {
            cluster.set_state(*node, *state);
        }
        Event::Alive(node, alive) => {
            cluster.set_alive(*node, *alive);
        }
        Event::Full(node) => {
            if is_there(node) && !cluster.full.remove(&NodeId(*node)) {
                cluster.full.insert(NodeId(*node));
            }
        }
        Event::Wait => cluster.now = Time(cluster.now.0 + DEAD_AFTER.as_micros() as i64),
    }
}

/// All members that are not leaving are well again.
fn heal(cluster: &mut Cluster) {
    cluster.full.clear();
    let nodes: Vec<u64> = cluster.meta.members().keys().map(|node| node.0).collect();
    for node in nodes {
        cluster.set_alive(node, true);
        if cluster.member(NodeId(node)).state == MemberState::Draining {
            cluster.set_state(node, MemberState::Active);
        }
    }
}

/// Nothing is moved when nothing has changed, however late it is.
fn check_silence(cluster: &mut Cluster) {
    for hours in [0, 1, 10_000] {
        cluster.now = Time(cluster.now.0 + hours * 3_600_000_000);
        assert_eq!(cluster.plan(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..config() })]

    #[test]
    fn a_cluster_comes_to_rest_whatever_happened(
        history in vec((events(), 0..6_usize, 1..3_u32), 0..40),
    ) {
        let mut cluster = Cluster::new();
        for (event, rounds, length) in history {
            happen(&mut cluster, &event);
            for _ in 0..rounds {
                cluster.round(length);
            }
        }
        cluster.settle();
        check_quiet(&cluster);
        // Who is away for good is lost at last, and what can be made elsewhere is.
        happen(&mut cluster, &Event::Wait);
        cluster.settle();
        check_quiet(&cluster);
        check_silence(&mut cluster);
        heal(&mut cluster);
        cluster.settle();
        check_well(&cluster);
        check_silence(&mut cluster);
    }

    #[test]
    fn every_change_of_a_well_cluster_is_settled(
        places in vec(localities(), 1..6),
        streams in vec((1..9_u32, 1..6_u32), 0..4),
        changes in vec((0..5_u8, 1..=8_u64, localities()), 0..6),
    ) {
        let mut cluster = Cluster::of(&places);
        for (partitions, replicas) in streams {
            cluster.create(partitions, replicas);
        }
        cluster.settle();
        check_well(&cluster);
        for (change, node, locality) in changes {
            match change {
                0 | 1 => happen(&mut cluster, &Event::Join(locality)),
                2 => happen(&mut cluster, &Event::State(node, MemberState::Leaving)),
                3 => {
                    happen(&mut cluster, &Event::State(node, MemberState::Draining));
                    cluster.settle();
                    check_quiet(&cluster);
                    happen(&mut cluster, &Event::State(node, MemberState::Active));
                }
                _ => {
                    happen(&mut cluster, &Event::Alive(node, false));
                    happen(&mut cluster, &Event::Wait);
                    cluster.settle();
                    check_quiet(&cluster);
                    heal(&mut cluster);
                }
            }
            cluster.settle();
            check_well(&cluster);
            check_silence(&mut cluster);
        }
    }
}

fn nodes(ids: std::ops::RangeInclusive<u64>) -> Vec<NodeId> {
    ids.map(NodeId).collect()
}

/// One node with data; two more join; then one is drained and removed.
#[test]
fn two_nodes_join_one_and_one_leaves_again() {
    for partitions in 1..=20_u32 {
        let mut cluster = Cluster::new();
        cluster.create(partitions, 3);
        cluster.join(Locality::new());
        cluster.round(1);
        cluster.join(Locality::new());
        let rounds = cluster.settle();
        check_well(&cluster);
        let third = partitions as usize / 3;
        for (node, count) in owned(&cluster, &nodes(1..=3)) {
            assert!((third..=third + 1).contains(&count), "{node} owns {count} of {partitions}");
        }
        assert!(held(&cluster, &nodes(1..=3)).values().all(|&held| held == partitions as usize));
        // Each group once, one after the other, since each gives both nodes a replica; and what
        // went to the second node before the third was there.
        let groups = partitions as usize + 1;
        assert!(cluster.moves <= groups + 2, "{} moves for {groups} groups", cluster.moves);
        assert!(rounds <= 2 * groups + 2, "{rounds} rounds for {groups} groups");

        cluster.set_state(3, MemberState::Draining);
        cluster.round(1);
        cluster.settle();
        assert_eq!(owned(&cluster, &nodes(3..=3)), [(NodeId(3), 0)].into());
        assert_eq!(held(&cluster, &nodes(3..=3)), [(NodeId(3), partitions as usize)].into());
        cluster.set_state(3, MemberState::Leaving);
        cluster.settle();
        assert_eq!(cluster.member(NodeId(3)).state, MemberState::Removed);
        check_well(&cluster);
    }
}

/// A fourth node gets its share by as few moves as that takes.
#[test]
fn a_node_that_joins_gets_its_share_and_no_more_is_moved() {
    for partitions in 1..=20_u32 {
        let mut cluster = Cluster::of(&vec![Locality::new(); 3]);
        cluster.create(partitions, 3);
        cluster.settle();
        let before = cluster.moves;
        cluster.join(Locality::new());
        cluster.settle();
        check_well(&cluster);
        let share = partitions as usize * 3 / 4;
        let held = held(&cluster, &nodes(4..=4))[&NodeId(4)];
        assert!((share..=share + 1).contains(&held), "{held} of {partitions}");
        assert_eq!(cluster.moves - before, held, "of {partitions}");
    }
}

#[test]
fn a_dead_node_is_replaced_late_and_only_where_there_is_another() {
    for (count, is_replaced) in [(3, false), (4, true)] {
        let mut cluster = Cluster::of(&vec![Locality::new(); count]);
        cluster.create(6, 3);
        cluster.settle();
        cluster.set_alive(2, false);
        let before = cluster.moves;
        for _ in 1..DEAD_AFTER.as_secs() {
            cluster.round(1);
            assert_eq!(cluster.moves, before, "it may come back");
            assert_eq!(owned(&cluster, &nodes(2..=2)), [(NodeId(2), 0)].into());
        }
        happen(&mut cluster, &Event::Wait);
        cluster.settle();
        let held = held(&cluster, &nodes(2..=2))[&NodeId(2)];
        assert_eq!(held == 0, is_replaced, "with {count} nodes it holds {held}");
        cluster.set_alive(2, true);
        cluster.settle();
        check_well(&cluster);
    }
}
