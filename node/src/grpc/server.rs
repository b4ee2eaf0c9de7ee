//! Serving gRPC: which services, with which limits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use alluvium_proto::peer::v1::peer_server::PeerServer;
use alluvium_proto::v1::admin_server::AdminServer;
use alluvium_proto::v1::ingest_server::IngestServer;
use alluvium_proto::v1::query_server::QueryServer;
use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::service::Routes;
use tonic::transport::Server;

use super::admin::AdminService;
use super::flight::FlightSql;
use super::front::Front;
use super::ingest::IngestService;
use super::peer::{PEER_MESSAGE_BYTES_MAX, PeerService, Standing};
use super::query::QueryService;
use super::transport::incoming;
use crate::bootstrap::Node;
use crate::tls::Gate;

/// The largest message a client may send: a batch of the largest size and its frame.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Calls one connection may have open: the callers of a busy application server.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// HTTP/2 windows: large enough that a stream of 1 MiB batches never waits for a window update.
const WINDOW_BYTES: u32 = 8 << 20;

/// Serves clients that come in at `gate` until `stop` is done.
pub async fn serve_clients(
    node: Arc<Node>,
    gate: Gate,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<IngestServer<IngestService>>().await;
    health.set_serving::<QueryServer<QueryService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(alluvium_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError { reason: error.to_string() })?;
    let guard = node.guard.clone();
    let ingest = IngestServer::new(IngestService::new(node.clone()))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX);
    let query = QueryServer::new(QueryService::new(node.clone(), node.door.clone()));
    let flight = FlightServiceServer::new(FlightSql::new(node.clone()))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX);
    let others = Routes::new(health_service)
        .add_service(reflection)
        .add_service(flight)
        .add_service(AdminServer::new(AdminService::new(node)));
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .serve_with_incoming_shutdown(
            Front::new(guard, ingest, query, others),
            incoming(gate),
            stop,
        )
        .await
        .map_err(|error| ServeError { reason: error.to_string() })
}

/// Serves other nodes that come in at `gate` until `stop` is done.
pub async fn serve_peers(
    standing: Arc<Standing>,
    gate: Gate,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (_health, health_service) = tonic_health::server::health_reporter();
    let peer = PeerServer::new(PeerService::new(standing))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .add_service(health_service)
        .add_service(peer)
        .serve_with_incoming_shutdown(incoming(gate), stop)
        .await
        .map_err(|error| ServeError { reason: error.to_string() })
}

/// Why serving ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("serve gRPC: {reason}")]
pub struct ServeError {
    /// As the transport says.
    pub reason: String,
}
