//! Random commands of members and placements, and what must hold of every cluster.

use std::collections::BTreeSet;

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::meta::{
    Addresses, Locality, Member, MemberState, Meta, MetaCommand, check_member,
};
use alluvium_core::time::Time;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Few nodes, so that commands meet the same ones.
fn nodes() -> impl Strategy<Value = NodeId> {
    (0..7_u64).prop_map(NodeId)
}

fn groups() -> impl Strategy<Value = GroupId> {
    (0..9_u64).prop_map(GroupId)
}

fn localities() -> impl Strategy<Value = Locality> {
    vec("[a-b]", 0..4).prop_map(|values| {
        let keys = ["cloud", "region", "zone"].map(str::to_owned);
        keys.into_iter().zip(values).collect()
    })
}

/// What a node says about itself: name, addresses, locality, versions.
fn described() -> impl Strategy<Value = (String, Addresses, Locality, (u32, u32))> {
    let address = || "[a-c]{1,3}:[1-9][0-9]{0,3}";
    let addresses = (address(), address(), address(), address())
        .prop_map(|(client, peer, http, pg)| Addresses { client, peer, http, pg });
    let versions = (1..3_u32, 0..3_u32).prop_map(|(min, more)| (min, min + more));
    ("[!-~]{1,8}", addresses, localities(), versions)
}

fn states() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        Just(MemberState::Active),
        Just(MemberState::Draining),
        Just(MemberState::Leaving),
        Just(MemberState::Removed),
    ]
}

/// Members with few tokens and ids that come and go, and groups placed on them.
pub fn cluster_commands() -> impl Strategy<Value = MetaCommand> {
    let at = || any::<i64>().prop_map(Time);
    let token = || 0..8_u128;
    prop_oneof![
        6 => (token(), described(), at()).prop_map(
            |(token, (name, addresses, locality, versions), at)| {
                MetaCommand::Join { token, name, addresses, locality, versions, at }
            }
        ),
        4 => (nodes(), token(), described(), at()).prop_map(
            |(node, token, (name, addresses, locality, versions), at)| {
                MetaCommand::Announce { node, token, name, addresses, locality, versions, at }
            }
        ),
        4 => (nodes(), states(), at())
            .prop_map(|(node, state, at)| MetaCommand::SetMemberState { node, state, at }),
        3 => (nodes(), any::<bool>(), at())
            .prop_map(|(node, alive, at)| MetaCommand::SetAlive { node, alive, at }),
        6 => (groups(), vec(nodes(), 0..4), nodes())
            .prop_map(|(group, wanted, leader)| MetaCommand::Place { group, wanted, leader }),
        4 => (groups(), vec(nodes(), 0..4), 0..20_u64, 0..20_u64).prop_map(
            |(group, voters, as_of, by)| {
                let (as_of, by) = (Index(as_of), Index(by));
                MetaCommand::Moved { group, voters, as_of, by }
            }
        ),
        1 => (0..4_u32).prop_map(|version| MetaCommand::RaiseVersion { version }),
    ]
}

/// What must hold of the members and placements of every catalogue.
pub fn check_cluster_of(meta: &Meta) {
    let mut tokens = BTreeSet::new();
    for (&node, member) in meta.members() {
        let Member { name, addresses, locality, versions, token, .. } = member;
        assert_eq!(member.node, node);
        assert_eq!(check_member(name, addresses, locality, *versions), Ok(()));
        assert!(tokens.insert(token), "{node} has the token of another member");
        assert!(member.stands() || !member.alive, "{node} is removed and alive");
    }
    let streams = meta.streams().values();
    let groups = streams.flat_map(|stream| stream.groups.iter().copied()).chain([GroupId::META]);
    let groups: BTreeSet<_> = groups.collect();
    let placed: BTreeSet<_> = meta.placements().keys().copied().collect();
    assert_eq!(placed, groups, "what is there is placed, and nothing else");
    for (group, placement) in meta.placements() {
        for nodes in [&placement.initial, &placement.replicas, &placement.wanted] {
            assert!(!nodes.is_empty(), "{group} is nowhere");
            assert!(nodes.is_sorted_by(|a, b| a < b), "{group} is on {nodes:?}");
        }
        assert!(placement.wanted.contains(&placement.leader), "{group}: {placement:?}");
        assert!(placement.given_up.is_sorted_by(|a, b| a < b), "{group}: {placement:?}");
        let given_up = &placement.given_up;
        assert!(!given_up.iter().any(|it| placement.wanted.contains(it)), "{group}: {placement:?}");
        for node in placement.replicas.iter().chain(&placement.wanted).chain(given_up) {
            let is_removed = meta.member(*node).is_some_and(|member| !member.stands());
            assert!(!is_removed, "{group} is on {node}, which was removed");
        }
    }
}
