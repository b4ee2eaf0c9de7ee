//! Looking at a node over gRPC.

use std::sync::Arc;

use alluvium_proto::v1 as proto;
use alluvium_proto::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use crate::bootstrap::Node;
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
        }))
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
