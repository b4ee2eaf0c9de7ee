//! Looking at a node over gRPC.

use std::sync::Arc;

use alluvium_core::ids::NodeId;
use alluvium_core::meta::{MemberState, MetaCommand, MetaOutcome};
use alluvium_proto::v1 as proto;
use alluvium_proto::v1::admin_server::Admin;
use alluvium_query::host::NodeRow;
use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::access::audit;
use crate::bootstrap::Node;
use crate::clock;
use crate::host::cluster;
use crate::streams::ServedStream;

/// See the module.
#[derive(Clone, Debug)]
pub struct AdminService {
    node: Arc<Node>,
}

impl AdminService {
    /// Over one node.
    pub fn new(node: Arc<Node>) -> AdminService {
        AdminService { node }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let node = &self.node;
        let addresses = &node.addresses;
        let uptime_ms = u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(proto::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_string(),
            node_id: node.identity.node_id.0,
            cluster_id: node.identity.cluster_id.clone(),
            name: node.name.clone(),
            client_addr: addresses.client.to_string(),
            peer_addr: addresses.peer.to_string(),
            http_addr: addresses.http.to_string(),
            uptime_ms,
            streams: node.streams.all().values().map(|stream| stream_status(stream)).collect(),
            memory_bytes: node.memory_bytes(),
            disk_bytes: node.store.disk_bytes(),
            warnings: node.warnings(),
            nodes: cluster::node_rows(&node.cluster).into_iter().map(node_info).collect(),
            partitions_at_risk: node.cluster.partitions_at_risk(),
            insecure: node.insecure.iter().map(|key| (*key).to_owned()).collect(),
        }))
    }

    async fn list_nodes(
        &self,
        _request: Request<proto::ListNodesRequest>,
    ) -> Result<Response<proto::ListNodesResponse>, Status> {
        let nodes = cluster::node_rows(&self.node.cluster).into_iter().map(node_info).collect();
        Ok(Response::new(proto::ListNodesResponse { nodes }))
    }

    async fn change_node(
        &self,
        request: Request<proto::ChangeNodeRequest>,
    ) -> Result<Response<proto::ChangeNodeResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let node = member_named(&self.node, &request.node)?;
        let state = match request.change() {
            proto::NodeChange::Drain => MemberState::Draining,
            proto::NodeChange::Decommission => MemberState::Leaving,
            proto::NodeChange::Activate => MemberState::Active,
            proto::NodeChange::Unspecified => {
                return Err(Status::invalid_argument("what shall change is missing"));
            }
        };
        let command = MetaCommand::SetMemberState { node, state, at: clock::now() };
        let outcome = self.node.meta.change(command).await;
        match outcome.map_err(|error| status::change_status(&error))? {
            MetaOutcome::MemberChanged { .. } | MetaOutcome::NothingToDo => {
                audit::member_changed(&caller, node, &state.to_string());
            }
            MetaOutcome::MemberRefused { reason, .. } => {
                return Err(Status::failed_precondition(reason));
            }
            other => return Err(Status::failed_precondition(format!("{other:?}"))),
        }
        let rows = cluster::node_rows(&self.node.cluster);
        let row = rows.into_iter().find(|row| row.node == node.0);
        Ok(Response::new(proto::ChangeNodeResponse { node: row.map(node_info) }))
    }
}

fn node_info(row: NodeRow) -> proto::NodeInfo {
    proto::NodeInfo {
        node_id: row.node,
        name: row.name,
        state: row.state,
        alive: row.alive,
        client_addr: row.client,
        peer_addr: row.peer,
        http_addr: row.http,
        pg_addr: row.pg,
        locality: row.locality,
        replicas: row.replicas,
        owned: row.owned,
        leads_meta: row.leads_meta,
    }
}

/// The member that a person means, by its id or its name.
fn member_named(node: &Node, asked: &str) -> Result<NodeId, Status> {
    let known = node.cluster.known();
    let standing = || known.members.values().filter(|member| member.stands());
    let by_id = standing().find(|member| member.node.to_string() == asked);
    let mut named = standing().filter(|member| member.name == asked);
    match (named.next().or(by_id), named.next()) {
        (Some(member), None) => Ok(member.node),
        (None, _) => {
            Err(Status::not_found(format!("no node \"{asked}\"; alluvium node list shows them")))
        }
        (Some(_), Some(_)) => Err(Status::failed_precondition(format!(
            "several nodes are named \"{asked}\"; say which by its id, as alluvium node list shows \
             it"
        ))),
    }
}

fn stream_status(stream: &ServedStream) -> proto::StreamStatus {
    let mut status = proto::StreamStatus {
        name: stream.stream.definition.name.clone(),
        partitions: u32::try_from(stream.partitions.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    for partition in &stream.partitions {
        let Some(log) = partition.log() else {
            continue;
        };
        let view = log.view();
        status.event_count += view.end.since(view.start);
        status.segment_count += view.segments.len() as u64;
        status.segment_bytes += view.segments.iter().map(|segment| segment.file_bytes).sum::<u64>();
        status.tail_bytes += view.tail_bytes;
    }
    status
}
