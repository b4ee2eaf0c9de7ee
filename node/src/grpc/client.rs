//! The other side of the wire: what the commands of this program say to a node, in our own words.
//!
//! Nothing here prints, reads files or knows SQL. Retries live in [`appender`] alone: an append can
//! be told from its retry, a statement cannot.

pub mod appender;
mod authorization;
pub mod cluster;
#[cfg(test)]
mod tests;
pub mod view;

use std::time::Duration;

use alluvium_core::ids::{Epoch, Offset, PartitionNumber, ProducerId, Sequence};
use alluvium_core::stream::Frontier;
use alluvium_proto::v1;
use alluvium_proto::v1::admin_client::AdminClient;
use alluvium_proto::v1::ingest_client::IngestClient;
use alluvium_proto::v1::query_client::QueryClient;
use bytes::Bytes;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::transport::Dialer;
use crate::tls::ClientTls;

pub use self::appender::{Ack, Appender, Batch};
pub use self::authorization::Authorization;
pub use self::cluster::{NodeChange, NodeInfo};
pub use self::view::{Begin, Change, Changes, Found, Keys, Lookup};

/// How long a node may take to accept a connection. One that is there answers within milliseconds;
/// one that is far away, within a second or two.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The largest part of an answer that is taken: a record batch of a few thousand wide rows.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Bytes the node may send before it is told to go on. The default of 64 KiB stalls long answers.
const WINDOW_BYTES: u32 = 4 << 20;

/// A connection to one node. Cheap to clone; reconnects by itself.
#[derive(Clone, Debug)]
pub struct Client {
    addr: String,
    channel: Calls,
    is_encrypted: bool,
}

/// Calls that say who makes them.
type Calls = InterceptedService<Channel, Authorization>;

/// Why a call was not answered as hoped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("\"{addr}\" is not HOST:PORT, such as 127.0.0.1:7400")]
    BadAddress {
        /// As given.
        addr: String,
    },
    /// Nobody listens there.
    #[error("no node answers at {addr}; start one with `alluvium start`, or name one with --addr")]
    NoNode {
        /// Where one was looked for.
        addr: String,
    },
    /// Somebody listens there, and is not who was looked for or does not encrypt.
    #[error("no encrypted connection to {addr}: {reason}")]
    NotTrusted {
        /// Where a node was looked for.
        addr: String,
        /// What was seen.
        reason: String,
    },
    /// The connection ended in the middle of a call.
    #[error("the connection to the node at {addr} broke: {reason}")]
    Broken {
        /// The node.
        addr: String,
        /// What was seen.
        reason: String,
    },
    /// The node said no.
    #[error("{message}")]
    Refused {
        /// In the node's words.
        message: String,
        /// Whether the same call may succeed later.
        retry: Retry,
    },
    /// The answer makes no sense: the other side is another version, or no node at all.
    #[error("the answer of the node at {addr} cannot be understood: {reason}")]
    Garbled {
        /// The node.
        addr: String,
        /// What is missing.
        reason: String,
    },
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not as it stands.
    Never,
    /// After this long, or longer.
    After(Duration),
}

/// How fresh an answer must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Everything acknowledged before.
    #[default]
    Latest,
    /// These events or more.
    AtLeast(Vec<StreamFrontier>),
    /// These events and no later ones.
    AsOf(Vec<StreamFrontier>),
}

/// A frontier and the stream it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFrontier {
    /// The stream's name.
    pub stream: String,
    /// One offset for each partition.
    pub frontier: Frontier,
}

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    /// The columns, as an Arrow IPC stream without rows.
    Schema(Bytes),
    /// Rows, as an Arrow IPC stream of one record batch.
    Rows(Bytes),
    /// The end.
    Summary(Summary),
}

/// What is known when all rows are out.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What the answer reflects, for each stream it read.
    pub as_of: Vec<StreamFrontier>,
    /// How many rows.
    pub row_count: u64,
    /// How long the node took.
    pub elapsed: Duration,
    /// What was done: `SELECT`, `CREATE STREAM`, ….
    pub tag: String,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    addr: String,
    parts: tonic::Streaming<v1::QueryResponse>,
    is_whole: bool,
}

/// A producer as the node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// This life of it.
    pub epoch: Epoch,
    /// The sequence of the first batch that some partition does not hold.
    pub next_sequence: Sequence,
    /// What it said of its source with the batch before that one.
    pub position: u64,
    /// What it said with `next_sequence`, where some partitions hold that batch: it must be sent
    /// again exactly.
    pub next_position: Option<u64>,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Of the program.
    pub version: String,
    /// The node's number in its cluster.
    pub node_id: u64,
    /// The cluster.
    pub cluster_id: String,
    /// The node's name.
    pub name: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where nodes reach it.
    pub peer_addr: String,
    /// Where it answers health and metrics.
    pub http_addr: String,
    /// Since it started.
    pub uptime: Duration,
    /// By name.
    pub streams: Vec<StreamStatus>,
    /// Resident memory.
    pub memory_bytes: u64,
    /// What the data directory takes.
    pub disk_bytes: u64,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Who is in the cluster.
    pub nodes: Vec<NodeInfo>,
    /// Partitions with fewer replicas than survive the loss of a node.
    pub partitions_at_risk: u64,
}

/// A stream as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// Events kept.
    pub event_count: u64,
    /// Files.
    pub segment_count: u64,
    /// What they take.
    pub segment_bytes: u64,
    /// Events not in files yet take this much memory.
    pub tail_bytes: u64,
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        // Long enough for a node that restarts to notice, short enough not to be felt.
        const RECONNECT_AFTER: Duration = Duration::from_millis(100);
        match self {
            ClientError::NoNode { .. } | ClientError::Broken { .. } => {
                Retry::After(RECONNECT_AFTER)
            }
            ClientError::Refused { retry, .. } => *retry,
            ClientError::BadAddress { .. }
            | ClientError::NotTrusted { .. }
            | ClientError::Garbled { .. } => Retry::Never,
        }
    }
}

impl Client {
    /// Connects, or says that nobody is there.
    pub async fn connect(addr: &str) -> Result<Client, ClientError> {
        Client::connect_with(addr, None, Authorization::default()).await
    }

    /// The same over an encrypted connection, where it says how, and as somebody.
    pub async fn connect_with(
        addr: &str,
        tls: Option<ClientTls>,
        authorization: Authorization,
    ) -> Result<Client, ClientError> {
        let bad = || ClientError::BadAddress { addr: addr.to_owned() };
        crate::config::split_addr(addr).map_err(|_| bad())?;
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| bad())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(20));
        let (addr, is_encrypted) = (addr.to_owned(), tls.is_some());
        let channel = match tls {
            None => {
                let channel = endpoint.connect().await;
                channel.map_err(|_| ClientError::NoNode { addr: addr.clone() })
            }
            Some(tls) => {
                let channel = endpoint.connect_with_connector(Dialer::Command(tls)).await;
                channel.map_err(|error| not_encrypted(addr.clone(), &error))
            }
        };
        let channel = InterceptedService::new(channel?, authorization);
        Ok(Client { addr, channel, is_encrypted })
    }

    /// The address as it was given.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Sends one statement.
    pub async fn query(&self, sql: &str, freshness: &Freshness) -> Result<Answer, ClientError> {
        let request = v1::QueryRequest {
            sql: sql.to_owned(),
            timeout_ms: 0,
            freshness: freshness_to_wire(freshness),
        };
        let mut client = QueryClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        let response = client.query(request).await.map_err(|status| self.error(&status))?;
        Ok(Answer { addr: self.addr.clone(), parts: response.into_inner(), is_whole: false })
    }

    /// Makes a producer of this name, or takes it over from its former life.
    pub async fn open_producer(&self, name: &str, stream: &str) -> Result<Producer, ClientError> {
        let request = v1::OpenProducerRequest { name: name.into(), stream: stream.into() };
        let mut client = IngestClient::new(self.channel.clone());
        let response = client.open_producer(request).await.map_err(|status| self.error(&status))?;
        let opened = response.into_inner();
        Ok(Producer {
            id: ProducerId(opened.producer_id),
            epoch: Epoch(opened.epoch),
            next_sequence: Sequence(opened.next_sequence),
            position: opened.position,
            next_position: opened.next_position,
        })
    }

    /// What the node says about itself.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        let mut client = AdminClient::new(self.channel.clone());
        let response = client.status(v1::StatusRequest {}).await;
        let said = response.map_err(|status| self.error(&status))?.into_inner();
        Ok(NodeStatus {
            version: said.version,
            node_id: said.node_id,
            cluster_id: said.cluster_id,
            name: said.name,
            client_addr: said.client_addr,
            peer_addr: said.peer_addr,
            http_addr: said.http_addr,
            uptime: Duration::from_millis(said.uptime_ms),
            streams: said.streams.into_iter().map(stream_status_from_wire).collect(),
            memory_bytes: said.memory_bytes,
            disk_bytes: said.disk_bytes,
            warnings: said.warnings,
            nodes: said.nodes.into_iter().map(cluster::node_info_from_wire).collect(),
            partitions_at_risk: said.partitions_at_risk,
        })
    }

    fn error(&self, status: &tonic::Status) -> ClientError {
        match error_from_wire(&self.addr, status) {
            // Nothing tells it from a node that went away: it ends what is not encrypted.
            ClientError::Broken { addr, reason } if !self.is_encrypted => {
                let hint = "where the node has certificates, say --tls or --certs-dir";
                ClientError::Broken { addr, reason: format!("{reason}; {hint}") }
            }
            error => error,
        }
    }
}

impl Answer {
    /// The next piece; none after the summary. An answer that ends without one is an error: rows of
    /// half an answer look like a whole one.
    pub async fn next(&mut self) -> Result<Option<Part>, ClientError> {
        use v1::query_response::Part as Wire;
        let message = self.parts.message().await;
        let Some(response) = message.map_err(|status| error_from_wire(&self.addr, &status))? else {
            if self.is_whole {
                return Ok(None);
            }
            let reason = "the answer ended in the middle".to_owned();
            return Err(ClientError::Broken { addr: self.addr.clone(), reason });
        };
        match response.part {
            Some(Wire::Schema(bytes)) => Ok(Some(Part::Schema(bytes))),
            Some(Wire::Batch(bytes)) => Ok(Some(Part::Rows(bytes))),
            Some(Wire::Summary(summary)) => {
                self.is_whole = true;
                Ok(Some(Part::Summary(Summary {
                    as_of: summary.as_of.into_iter().map(frontier_from_wire).collect(),
                    row_count: summary.row_count,
                    elapsed: Duration::from_micros(summary.elapsed_us),
                    tag: summary.tag,
                })))
            }
            None => Err(ClientError::Garbled {
                addr: self.addr.clone(),
                reason: "a part of an answer is empty".into(),
            }),
        }
    }
}

fn stream_status_from_wire(stream: v1::StreamStatus) -> StreamStatus {
    StreamStatus {
        name: stream.name,
        partitions: stream.partitions,
        event_count: stream.event_count,
        segment_count: stream.segment_count,
        segment_bytes: stream.segment_bytes,
        tail_bytes: stream.tail_bytes,
    }
}

fn freshness_to_wire(freshness: &Freshness) -> Option<v1::query_request::Freshness> {
    use v1::query_request::Freshness as Wire;
    let frontiers = |frontiers: &[StreamFrontier]| v1::Frontiers {
        frontiers: frontiers.iter().map(frontier_to_wire).collect(),
    };
    match freshness {
        Freshness::Latest => None,
        Freshness::AtLeast(least) => Some(Wire::AtLeast(frontiers(least))),
        Freshness::AsOf(exact) => Some(Wire::AsOf(frontiers(exact))),
    }
}

fn frontier_to_wire(from: &StreamFrontier) -> v1::Frontier {
    let offsets = from.frontier.0.iter().map(|(partition, offset)| (partition.0, offset.0));
    v1::Frontier { stream: from.stream.clone(), offsets: offsets.collect() }
}

fn frontier_from_wire(wire: v1::Frontier) -> StreamFrontier {
    let offsets = wire.offsets.into_iter();
    let offsets = offsets.map(|(partition, offset)| (PartitionNumber(partition), Offset(offset)));
    StreamFrontier { stream: wire.stream, frontier: Frontier(offsets.collect()) }
}

fn error_from_wire(addr: &str, status: &tonic::Status) -> ClientError {
    // A status made on this side carries what went wrong with the connection; one that a node sent
    // carries nothing.
    if let Some(source) = std::error::Error::source(status) {
        let mut root = source;
        while let Some(deeper) = root.source() {
            root = deeper;
        }
        return ClientError::Broken { addr: addr.to_owned(), reason: root.to_string() };
    }
    let after = status.metadata().get("retry-after-ms").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.parse().ok()).map(Duration::from_millis);
    refused(status.code(), status.message(), after)
}

/// Nobody there, or somebody else.
fn not_encrypted(addr: String, error: &tonic::transport::Error) -> ClientError {
    let mut root: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    match root.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => ClientError::NoNode { addr },
        Some(_) | None => ClientError::NotTrusted { addr, reason: root.to_string() },
    }
}

fn refused(code: Code, message: &str, after: Option<Duration>) -> ClientError {
    // A node that is stopping or starting may not say when to come back. One that is full says so
    // only where waiting helps: a full disk stays full.
    const RETRY_AFTER: Duration = Duration::from_millis(100);
    let retry = match (code, after) {
        (_, Some(after)) => Retry::After(after),
        (Code::Unavailable, None) => Retry::After(RETRY_AFTER),
        (_, None) => Retry::Never,
    };
    let message = if message.is_empty() { code.description() } else { message };
    ClientError::Refused { message: message.to_owned(), retry }
}
