//! The cluster as SQL shows it.

use alluvium_core::ids::{GroupId, NodeId, PartitionNumber};
use alluvium_query::host::{MoveRow, NodeRow};

use crate::cluster::Cluster;
use crate::streams::Streams;

/// `system.nodes`
pub fn node_rows(cluster: &Cluster) -> Vec<NodeRow> {
    let known = cluster.known();
    let members = known.members.values().filter(|member| member.stands());
    let rows = members.map(|member| {
        let node = member.node;
        let partitions = known.placements.iter().filter(|(group, _)| **group != GroupId::META);
        let held = partitions.clone().filter(|(_, placement)| placement.replicas.contains(&node));
        let owned = partitions.filter(|(group, _)| cluster.owner(**group) == Some(node));
        let tiers: Vec<String> =
            member.locality.iter().map(|(key, value)| format!("{key}={value}")).collect();
        NodeRow {
            node: node.0,
            name: member.name.clone(),
            state: member.state.to_string(),
            alive: member.alive,
            client: member.addresses.client.clone(),
            peer: member.addresses.peer.clone(),
            http: member.addresses.http.clone(),
            pg: member.addresses.pg.clone(),
            locality: tiers.join(","),
            replicas: held.count() as u64,
            owned: owned.count() as u64,
            leads_meta: cluster.owner(GroupId::META) == Some(node),
        }
    });
    rows.collect()
}

/// `system.moves`
pub fn move_rows(cluster: &Cluster, streams: &Streams) -> Vec<MoveRow> {
    let known = cluster.known();
    let moving = known.placements.iter().filter(|(_, placement)| !placement.is_settled());
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let rows = moving.map(|(group, placement)| {
        let handle = streams.partition(*group);
        MoveRow {
            stream: handle.as_ref().map(|handle| handle.stream.clone()).unwrap_or_default(),
            partition: handle.map_or(PartitionNumber(0), |handle| handle.number),
            group: group.0,
            replicas: ids(&placement.replicas),
            wanted: ids(&placement.wanted),
            owner_wanted: placement.leader.0,
        }
    });
    rows.collect()
}
