//! Asking other nodes.
//!
//! Every call has a deadline. An answer "ask another node" is an answer, not an error: it says
//! whom.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Epoch, GroupId, Index, NodeId, Offset, ProducerId, SegmentId, Term};
use alluvium_core::meta::{MetaCommand, NodeReport};
use alluvium_core::partition::{Part, PartOutcome, ProducerState};
use alluvium_core::replica::Checkpoint;
use alluvium_proto::peer::v1 as proto;
use alluvium_proto::peer::v1::peer_client::PeerClient;
use alluvium_store::SnapshotOffer;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::convert::{self, Fetched, Greeting, Joining, Welcome};
use super::scan::{self, RemoteRows};
use crate::cluster::Cluster;
use crate::grpc::transport::Dialer;
use crate::ingest::AppendError;
use crate::tls::Tls;

/// The largest message between nodes: a batch of the largest size, its entry and its frame.
pub const PEER_MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A connection that is not there by then will not come.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Silence after which the other side is asked whether it lives, and how long it may think: a node
/// that was stopped is given up after their sum.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Parts on their way on one stream before the sender waits for the network.
const PARTS_IN_FLIGHT: usize = 16;

/// Raft's messages have a connection of their own: what clients sent must not hold up an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Link,
    Calls,
}

/// An address, the name of the node that must be there, and what for.
type Way = (String, Option<String>, Route);

/// Why a node gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The node is not a member, or not known here yet.
    #[error("node {node} is not known")]
    Unknown {
        /// Which.
        node: NodeId,
    },
    /// It could not be reached, or did not answer in time.
    #[error("{peer} does not answer: {reason}")]
    Unreachable {
        /// Its name or address.
        peer: String,
        /// Why.
        reason: String,
    },
    /// It refused the call.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// Its name or address.
        peer: String,
        /// Why.
        reason: String,
    },
}

/// An answer, or whom to ask instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered<T> {
    /// The answer.
    Here(T),
    /// Another node owns the group.
    Elsewhere(Option<NodeId>),
    /// Not now, for this reason.
    NotServed(String),
}

impl<T> Answered<T> {
    /// The same with another answer.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answered<U> {
        match self {
            Answered::Here(answer) => Answered::Here(change(answer)),
            Answered::Elsewhere(owner) => Answered::Elsewhere(owner),
            Answered::NotServed(reason) => Answered::NotServed(reason),
        }
    }
}

/// The way of parts to the owner of a partition.
#[derive(Debug)]
pub struct PartSender {
    peers: Arc<Peers>,
    owner: NodeId,
    group: GroupId,
    parts: mpsc::Sender<proto::PartRequest>,
}

/// The answers of the owner, in the order of the parts.
#[derive(Debug)]
pub struct PartAnswers(Streaming<proto::PartResponse>);

/// The other nodes, as they can be called.
#[derive(Debug)]
pub struct Peers {
    cluster: Arc<Cluster>,
    io: Handle,
    tls: Arc<Tls>,
    channels: Mutex<BTreeMap<Way, Channel>>,
}

impl Peers {
    /// Over what the cluster knows; connections live on the runtime given.
    pub fn new(cluster: Arc<Cluster>, io: Handle, tls: Arc<Tls>) -> Peers {
        Peers { cluster, io, tls, channels: Mutex::default() }
    }

    /// Where calls run.
    pub fn io(&self) -> &Handle {
        &self.io
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    fn channel(
        &self,
        addr: String,
        name: Option<String>,
        route: Route,
    ) -> Result<Channel, PeerError> {
        let mut channels = self.channels.lock();
        let key = (addr, name, route);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = connect(&self.tls, &key.0, key.1.clone(), &self.io)?;
        channels.insert(key, channel.clone());
        Ok(channel)
    }

    pub(super) fn client(
        &self,
        node: NodeId,
        route: Route,
    ) -> Result<PeerClient<Channel>, PeerError> {
        let addr = self.cluster.peer_addr(node).ok_or(PeerError::Unknown { node })?;
        // A node that this one has not heard of yet proves no more than that it is one.
        let name = self.cluster.known().members.get(&node).map(|member| member.name.clone());
        Ok(client(self.channel(addr, name, route)?))
    }

    pub(super) fn addressed(&self, to: NodeId) -> proto::Addressed {
        let (cluster_id, from) = (self.cluster.id(), self.cluster.me().0);
        proto::Addressed { cluster_id, from, to: to.0 }
    }

    /// Whether a node answers.
    pub(super) async fn greets(&self, node: NodeId) -> bool {
        let Ok(mut client) = self.client(node, Route::Link) else { return false };
        let hello = client.hello(proto::HelloRequest::default());
        tokio::time::timeout(CONNECT_MAX, hello).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Proposes a change of the catalogue at the leader of the meta group.
    pub async fn change(
        &self,
        leader: NodeId,
        command: &MetaCommand,
    ) -> Result<Fetched, PeerError> {
        let mut client = self.client(leader, Route::Calls)?;
        let to = Some(self.addressed(leader));
        let request = proto::ChangeRequest { to, command: command.encode() };
        let answer = in_time(leader, client.change(request)).await?;
        Ok(convert::change_answer(answer))
    }

    /// The index up to which the leader of the meta group has applied everything acknowledged.
    pub async fn catalogue_index(&self, leader: NodeId) -> Result<Answered<Index>, PeerError> {
        let mut client = self.client(leader, Route::Calls)?;
        let request = proto::CatalogueIndexRequest { to: Some(self.addressed(leader)) };
        let answer = in_time(leader, client.catalogue_index(request)).await?;
        Ok(convert::catalogue_index_answer(answer))
    }

    /// The offset after the last acknowledged event of each of these partitions.
    pub async fn frontier(
        &self,
        owner: NodeId,
        group: GroupId,
    ) -> Result<Answered<Offset>, PeerError> {
        let mut client = self.client(owner, Route::Calls)?;
        let request =
            proto::FrontierRequest { to: Some(self.addressed(owner)), groups: vec![group.0] };
        let answer = in_time(owner, client.frontier(request)).await?;
        Ok(convert::frontier_answer(answer))
    }

    /// Every event of a partition, from its owner.
    pub async fn scan(
        &self,
        owner: NodeId,
        group: GroupId,
    ) -> Result<Answered<RemoteRows>, PeerError> {
        let mut client = self.client(owner, Route::Calls)?;
        let request = proto::ScanRequest { to: Some(self.addressed(owner)), group: group.0 };
        let parts = in_time(owner, client.scan(request)).await?;
        scan::receive(owner, parts).await
    }

    /// Begins a producer's new life in a partition.
    pub async fn fence(
        &self,
        owner: NodeId,
        group: GroupId,
        producer: ProducerId,
        epoch: Epoch,
    ) -> Result<Answered<ProducerState>, PeerError> {
        let mut client = self.client(owner, Route::Calls)?;
        let (to, producer, epoch) = (Some(self.addressed(owner)), producer.0, epoch.0);
        let request = proto::FenceRequest { to, group: group.0, producer, epoch };
        let answer = in_time(owner, client.fence(request)).await?;
        Ok(convert::fence_answer(answer))
    }

    /// Asks the leader of a group whether this node may throw its replica away.
    pub async fn let_go(
        &self,
        leader: NodeId,
        group: GroupId,
        term: Term,
    ) -> Result<bool, PeerError> {
        let mut client = self.client(leader, Route::Calls)?;
        let to = Some(self.addressed(leader));
        let request = proto::LetGoRequest { to, group: group.0, term: term.0 };
        Ok(in_time(leader, client.let_go(request)).await?.may_go)
    }

    /// Tells the leader of the meta group that this node lives.
    pub async fn heartbeat(&self, leader: NodeId, report: NodeReport) -> Result<bool, PeerError> {
        let mut client = self.client(leader, Route::Calls)?;
        let request = convert::heartbeat(self.addressed(leader), report);
        Ok(in_time(leader, client.heartbeat(request)).await?.heard)
    }

    /// Opens what a node has for a replica that is behind its log.
    pub async fn open_snapshot(
        &self,
        node: NodeId,
        group: GroupId,
    ) -> Result<(u64, Checkpoint, SnapshotOffer), PeerError> {
        let mut client = self.client(node, Route::Calls)?;
        let to = Some(self.addressed(node));
        let request = proto::OpenSnapshotRequest { to, group: group.0 };
        let answer = in_time(node, client.open_snapshot(request)).await?;
        convert::opened_snapshot(node, answer)
    }

    /// Reads one file of it from a place on.
    pub async fn read_snapshot(
        &self,
        node: NodeId,
        snapshot: u64,
        segment: SegmentId,
        offset: u64,
    ) -> Result<ChunkAnswers, PeerError> {
        let mut client = self.client(node, Route::Calls)?;
        let to = Some(self.addressed(node));
        let request = proto::ReadSnapshotRequest { to, snapshot, segment: segment.0, offset };
        let chunks = in_time(node, client.read_snapshot(request)).await?;
        Ok(ChunkAnswers { node, chunks })
    }

    /// Opens a stream of parts to the owner of a partition.
    pub async fn append(
        self: &Arc<Peers>,
        owner: NodeId,
        group: GroupId,
    ) -> Result<(PartSender, PartAnswers), PeerError> {
        let mut client = self.client(owner, Route::Calls)?;
        let (parts, received) = mpsc::channel(PARTS_IN_FLIGHT);
        let answers = in_time(owner, client.append(ReceiverStream::new(received))).await?;
        let sender = PartSender { peers: self.clone(), owner, group, parts };
        Ok((sender, PartAnswers(answers)))
    }
}

/// Pieces of one file of a snapshot, in order.
#[derive(Debug)]
pub struct ChunkAnswers {
    node: NodeId,
    chunks: Streaming<proto::SnapshotChunk>,
}

impl ChunkAnswers {
    /// The next piece with its place; `None` at the end of the file.
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, PeerError> {
        let next = tokio::time::timeout(CALL_MAX, self.chunks.message()).await;
        let peer = self.node.to_string();
        let unreachable =
            |reason: &str| PeerError::Unreachable { peer: peer.clone(), reason: reason.into() };
        let chunk = match next {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(status)) => return Err(convert::peer_error(peer, &status)),
            Err(_) => return Err(unreachable("it sends no more")),
        };
        if crc32fast::hash(&chunk.data) != chunk.crc {
            return Err(unreachable("what it sent was damaged on the way"));
        }
        Ok(Some((chunk.offset, chunk.data)))
    }
}

/// Room for one part on a stream.
#[derive(Debug)]
pub struct PartPlace<'a> {
    sender: &'a PartSender,
    place: mpsc::Permit<'a, proto::PartRequest>,
}

impl PartPlace<'_> {
    /// Sends a part.
    pub fn send(self, part: &Part, payload: Bytes) {
        let PartSender { peers, owner, group, .. } = self.sender;
        let to = Some(peers.addressed(*owner));
        self.place.send(convert::part_request(to, *group, part, payload));
    }
}

impl PartSender {
    /// Waits for room for another part; `None` when the stream is broken.
    pub async fn ready(&self) -> Option<PartPlace<'_>> {
        let place = self.parts.reserve().await.ok()?;
        Some(PartPlace { sender: self, place })
    }
}

impl PartAnswers {
    /// The next answer; `None` when the stream is broken.
    pub async fn next(&mut self) -> Option<Result<PartOutcome, AppendError>> {
        let answer = self.0.message().await.ok()??;
        Some(convert::part_answer(answer))
    }
}

/// Asks whoever listens at an address who it is.
pub(crate) async fn hello(
    tls: &Arc<Tls>,
    io: &Handle,
    addr: &str,
    seed_hash: u64,
) -> Result<Greeting, PeerError> {
    let mut client = client(connect(tls, addr, None, io)?);
    let answer = in_time(addr, client.hello(proto::HelloRequest { seed_hash })).await?;
    Ok(convert::greeting(answer))
}

/// Asks whoever listens at an address for an identity.
pub(crate) async fn join(
    tls: &Arc<Tls>,
    io: &Handle,
    addr: &str,
    joining: &Joining,
) -> Result<Welcome, PeerError> {
    let mut client = client(connect(tls, addr, None, io)?);
    let answer = in_time(addr, client.join(convert::join_request(joining))).await?;
    convert::welcome(addr, answer)
}

fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

fn connect(
    tls: &Arc<Tls>,
    addr: &str,
    name: Option<String>,
    io: &Handle,
) -> Result<Channel, PeerError> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"));
    let endpoint = endpoint.map_err(|error| PeerError::Unreachable {
        peer: addr.to_owned(),
        reason: format!("not an address: {error}"),
    })?;
    let (silence, patience) = KEEPALIVE;
    let endpoint = endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(silence)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    // The connection's own task runs where it was made.
    let _on_io = io.enter();
    Ok(endpoint.connect_with_connector_lazy(Dialer::Peer(tls.clone(), name)))
}

pub(super) async fn in_time<T>(
    peer: impl ToString,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, PeerError> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(convert::peer_error(peer.to_string(), &status)),
        Err(_) => {
            let reason = format!("no answer within {CALL_MAX:?}");
            Err(PeerError::Unreachable { peer: peer.to_string(), reason })
        }
    }
}
