//! What must hold of a cluster in which the planner has nothing more to say. Written without the
//! planner's own means: by trying all choices where it searches.

use std::collections::BTreeMap;

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::{Locality, MemberState, Placement};

use super::cluster::Cluster;

/// Replicas a group shall have when so many members stay.
fn desired(cluster: &Cluster, group: GroupId, nodes: usize) -> usize {
    let mut streams = cluster.meta.streams().values();
    let asked = streams
        .find(|stream| stream.groups.contains(&group))
        .map(|stream| usize::try_from(stream.definition.replicas).unwrap());
    match asked {
        None if nodes < 3 => 1,
        None if nodes < 5 => 3,
        None => 5,
        Some(1) => 1,
        Some(_) if nodes < 3 => 1,
        Some(2) => 3,
        Some(asked) => asked.min(nodes),
    }
}

/// In whatever state the members are.
pub fn check_quiet(cluster: &Cluster) {
    assert_eq!(cluster.plan(), []);
    let staying = cluster.staying().count();
    for (&group, placement) in cluster.meta.placements() {
        check_owner(cluster, group, placement);
        if !cluster.is_live(&placement.replicas) {
            continue;
        }
        assert!(placement.is_settled(), "{group} could move: {placement:?}");
        let replicas = &placement.replicas;
        let desired = desired(cluster, group, staying);
        let free = cluster.meta.members().values().filter(|m| !replicas.contains(&m.node));
        let free = free.filter(|member| cluster.takes(member)).count();
        let is_legal =
            |count: &usize| *count == 1 || 3 <= *count && (group.0 != 0 || count % 2 == 1);
        let possible = (1..=desired.min(replicas.len() + free)).filter(is_legal).max();
        assert!(possible <= Some(replicas.len()), "{group} could have {possible:?}: {placement:?}");
        let going = replicas.iter().filter(|&&node| cluster.is_going(cluster.member(node))).count();
        let kept = replicas.len() - going;
        let all_well = replicas
            .iter()
            .all(|&node| cluster.member(node).alive || cluster.is_going(cluster.member(node)));
        if going != 0 && kept < desired && all_well {
            assert_eq!(free, 0, "{group} could leave who goes: {placement:?}");
        }
        let all_alive = cluster.staying().all(|member| member.alive);
        if desired <= kept && all_alive {
            assert_eq!(replicas.len(), desired, "{group} has too many: {placement:?}");
        }
    }
}

/// Nobody owns a group where another replica would be better.
fn check_owner(cluster: &Cluster, group: GroupId, placement: &Placement) {
    let rank = |node: NodeId| {
        let member = cluster.member(node);
        match member.state {
            _ if !member.alive => 3,
            MemberState::Active => 0,
            MemberState::Draining => 1,
            MemberState::Leaving => 2,
            MemberState::Removed => 3,
        }
    };
    let both = |node: &&NodeId| placement.wanted.contains(node);
    let best = placement.replicas.iter().filter(both).map(|&node| rank(node)).min();
    if let Some(best) = best {
        assert!(placement.replicas.contains(&placement.leader), "{group}: {placement:?}");
        assert_eq!(rank(placement.leader), best, "{group}: {placement:?}");
    }
}

/// When every member is alive and none is draining or full.
pub fn check_well(cluster: &Cluster) {
    check_quiet(cluster);
    let nodes: Vec<NodeId> = cluster.staying().map(|member| member.node).collect();
    for member in cluster.meta.members().values() {
        let is_expected = match member.state {
            MemberState::Active => member.alive,
            MemberState::Removed => true,
            MemberState::Draining | MemberState::Leaving => false,
        };
        assert!(is_expected, "{member:?}");
    }
    for (&group, placement) in cluster.meta.placements() {
        let replicas = &placement.replicas;
        assert!(placement.is_settled());
        assert_eq!(replicas.len(), desired(cluster, group, nodes.len()), "{group}: {placement:?}");
        let found = closeness(cluster, replicas);
        let best = subsets(&nodes, replicas.len()).map(|nodes| closeness(cluster, &nodes)).min();
        assert_eq!(Some(found), best, "{group} could be spread wider: {placement:?}");
    }
    check_replicas(cluster, &nodes);
    check_owners(cluster, &nodes);
}

fn partitions(cluster: &Cluster) -> impl Iterator<Item = &Placement> {
    cluster.meta.placements().iter().filter(|(group, _)| group.0 != 0).map(|(_, row)| row)
}

/// Replicas on each of the nodes, partitions only.
pub fn held(cluster: &Cluster, nodes: &[NodeId]) -> BTreeMap<NodeId, usize> {
    let count = |node| partitions(cluster).filter(|row| row.replicas.contains(&node)).count();
    nodes.iter().map(|&node| (node, count(node))).collect()
}

/// Partitions each of the nodes owns.
pub fn owned(cluster: &Cluster, nodes: &[NodeId]) -> BTreeMap<NodeId, usize> {
    let count = |node| partitions(cluster).filter(|row| row.leader == node).count();
    nodes.iter().map(|&node| (node, count(node))).collect()
}

fn check_replicas(cluster: &Cluster, nodes: &[NodeId]) {
    let held = held(cluster, nodes);
    let locality = |node: NodeId| &cluster.member(node).locality;
    let (most, least) = (held.values().max().unwrap(), held.values().min().unwrap());
    if nodes.iter().all(|&node| locality(node) == locality(nodes[0])) {
        assert!(most - least <= 1, "{held:?}");
    }
    for placement in partitions(cluster) {
        for &from in &placement.replicas {
            for &to in nodes.iter().filter(|node| !placement.replicas.contains(node)) {
                let mut other = placement.replicas.clone();
                other.retain(|&node| node != from);
                other.push(to);
                let is_wider =
                    closeness(cluster, &other) <= closeness(cluster, &placement.replicas);
                assert!(!is_wider || held[&from] <= held[&to] + 1, "{from} to {to}: {held:?}");
            }
        }
    }
}

/// No choice of owners among the replicas has a smaller largest or a larger smallest share.
fn check_owners(cluster: &Cluster, nodes: &[NodeId]) {
    let owned = owned(cluster, nodes);
    let (most, least) = (*owned.values().max().unwrap(), *owned.values().min().unwrap());
    let groups: Vec<&[NodeId]> = partitions(cluster).map(|row| row.replicas.as_slice()).collect();
    if most != 0 {
        let matched = match_owners(&groups, nodes, most - 1);
        assert!(matched < groups.len(), "nobody needs to own {most}: {owned:?}");
    }
    let matched = match_owners(&groups, nodes, least + 1);
    assert!(matched < nodes.len() * (least + 1), "all could own more than {least}: {owned:?}");
}

/// How many groups can have an owner among their replicas when no node owns more than `share`.
fn match_owners(groups: &[&[NodeId]], nodes: &[NodeId], share: usize) -> usize {
    let mut owners: BTreeMap<NodeId, Vec<usize>> = nodes.iter().map(|&n| (n, vec![])).collect();
    let groups_owned = |group| {
        let mut tried = Vec::new();
        augment(group, groups, share, &mut owners, &mut tried)
    };
    (0..groups.len()).map(groups_owned).filter(|&is_owned| is_owned).count()
}

fn augment(
    group: usize,
    groups: &[&[NodeId]],
    share: usize,
    owners: &mut BTreeMap<NodeId, Vec<usize>>,
    tried: &mut Vec<NodeId>,
) -> bool {
    for &node in groups[group] {
        if tried.contains(&node) {
            continue;
        }
        tried.push(node);
        if owners[&node].len() < share {
            owners.get_mut(&node).unwrap().push(group);
            return true;
        }
        for other in owners[&node].clone() {
            if augment(other, groups, share, owners, tried) {
                let owned = owners.get_mut(&node).unwrap();
                owned.retain(|&owned| owned != other);
                owned.push(group);
                return true;
            }
        }
    }
    false
}

/// Of each tier, from the widest, how many pairs of nodes agree on it and on all wider ones.
fn closeness(cluster: &Cluster, nodes: &[NodeId]) -> Vec<usize> {
    let agree = |one: &Locality, other: &Locality, tiers: usize| {
        tiers <= one.len() && tiers <= other.len() && one[..tiers] == other[..tiers]
    };
    let mut pairs = vec![0; 8];
    for (place, &one) in nodes.iter().enumerate() {
        for &other in &nodes[..place] {
            let (one, other) = (&cluster.member(one).locality, &cluster.member(other).locality);
            for (tier, pairs) in pairs.iter_mut().enumerate() {
                *pairs += usize::from(agree(one, other, tier + 1));
            }
        }
    }
    pairs
}

fn subsets(nodes: &[NodeId], count: usize) -> impl Iterator<Item = Vec<NodeId>> {
    let choose = move |bits: u32| -> Vec<NodeId> {
        let chosen = nodes.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
        chosen.map(|(_, &node)| node).collect()
    };
    let all = (0..1_u32 << nodes.len()).filter(move |bits| bits.count_ones() as usize == count);
    all.map(choose)
}
