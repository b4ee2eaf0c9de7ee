//! Answers other nodes.
//!
//! A message that is addressed to another cluster or node, or comes from a node that is no member,
//! is refused before anything else is looked at.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use alluvium_core::ids::{Epoch, GroupId, NodeId, ProducerId, SegmentId, Term};
use alluvium_core::meta::{MetaCommand, MetaOutcome};
use alluvium_core::replica::Envelope;
use alluvium_proto::peer::v1 as proto;
use alluvium_proto::peer::v1::peer_server::Peer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::snapshots::Snapshots;
use super::{convert, scan, views};
use crate::actors::inbox::Inbox;
use crate::actors::meta::{ChangeError, MetaHandle};
use crate::actors::partition::{Append, Origin};
use crate::clock;
use crate::cluster::Cluster;
use crate::grpc::transport::caller;
use crate::ingest::AppendError;
use crate::streams::Streams;
use crate::tls::identity::Caller;
use crate::views::Views;

/// Parts of one stream that may wait for their answer.
const PARTS_WAITING_MAX: usize = 64;

/// Bytes of forwarded parts that one stream may have under way.
const STREAM_BYTES_MAX: usize = 64 << 20;

/// What a node shows to others once it belongs to a cluster.
#[derive(Debug)]
pub struct PeerDoor {
    /// Who it is, and who the others are.
    pub cluster: Arc<Cluster>,
    /// Where Raft's messages go.
    pub inbox: Arc<Inbox>,
    /// The catalogue.
    pub meta: Arc<MetaHandle>,
    /// What it serves.
    pub streams: Arc<Streams>,
    /// The views it maintains.
    pub views: Arc<Views>,
    /// What it gives to replicas that are behind.
    pub snapshots: Arc<Snapshots>,
}

/// What a node is to others by now.
#[derive(Debug, Default)]
pub struct Standing {
    /// Drawn by this process.
    pub process: u64,
    /// Of the seeds it was given.
    pub seed_hash: u64,
    /// Open once the node belongs to a cluster.
    pub door: OnceLock<PeerDoor>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PeerService {
    standing: Arc<Standing>,
}

impl PeerService {
    /// Of one node.
    pub fn new(standing: Arc<Standing>) -> PeerService {
        PeerService { standing }
    }

    fn door(&self) -> Result<&PeerDoor, Status> {
        let door = self.standing.door.get();
        door.ok_or_else(|| Status::unavailable("this node does not belong to a cluster yet"))
    }

    fn addressed(
        &self,
        to: Option<&proto::Addressed>,
        caller: Option<&Caller>,
    ) -> Result<&PeerDoor, Status> {
        let door = self.door()?;
        let Some(to) = to else {
            return Err(Status::invalid_argument("the message is not addressed"));
        };
        if to.cluster_id != door.cluster.id() {
            return Err(Status::failed_precondition(format!(
                "this node belongs to cluster {}, the message to cluster {}",
                door.cluster.id(),
                to.cluster_id
            )));
        }
        if to.to != door.cluster.me().0 {
            return Err(Status::failed_precondition(format!(
                "this is node {}, the message is for n{}",
                door.cluster.me(),
                to.to
            )));
        }
        check_certificate(&door.cluster, NodeId(to.from), caller)?;
        Ok(door)
    }
}

/// A node that was removed must not speak any more; one that this node has not heard of yet may,
/// since its own word may be on the way.
fn check_sender(cluster: &Cluster, from: NodeId) -> Result<(), Status> {
    let removed = cluster.known().members.contains_key(&from) && !cluster.is_member(from);
    if removed || from == cluster.me() {
        return Err(Status::permission_denied(format!("node {from} is no member")));
    }
    Ok(())
}

/// Where nodes prove who they are, a message must come from the node that it says it comes from. Of
/// one that this node has not heard of yet, nothing is known but that it is a node.
fn check_certificate(
    cluster: &Cluster,
    from: NodeId,
    caller: Option<&Caller>,
) -> Result<(), Status> {
    let Some(caller) = caller.filter(|caller| caller.is_encrypted) else { return Ok(()) };
    let known = cluster.known();
    let name = known.members.get(&from).map(|member| member.name.as_str());
    if caller.is_revoked() || name.is_some_and(|name| !caller.is_node(name)) {
        let reason = format!("the certificate of the connection is not that of node {from}");
        return Err(Status::permission_denied(reason));
    }
    Ok(())
}

type Answers<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(
        &self,
        _request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloResponse>, Status> {
        let Standing { process, seed_hash, door } = &*self.standing;
        let cluster = door.get().map(|door| &door.cluster);
        Ok(Response::new(proto::HelloResponse {
            cluster_id: cluster.map(|cluster| cluster.id()).unwrap_or_default(),
            node_id: cluster.map_or(0, |cluster| cluster.me().0),
            seed_hash: *seed_hash,
            version: env!("CARGO_PKG_VERSION").into(),
            process: *process,
        }))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        use proto::join_response::Answer;
        let door = self.door()?;
        let caller = caller(&request).filter(|caller| caller.is_encrypted);
        let joining = convert::joining(request.into_inner())?;
        if caller.is_some_and(|caller| !caller.is_node(&joining.name)) {
            let reason = format!("the certificate is not that of a node named {}", joining.name);
            return Err(Status::failed_precondition(reason));
        }
        let command = MetaCommand::Join {
            token: joining.token,
            name: joining.name,
            addresses: joining.addresses,
            locality: joining.locality,
            versions: joining.versions,
            at: clock::now(),
        };
        let answer = match door.meta.change(command).await {
            Ok(MetaOutcome::Joined { node }) => {
                Answer::Joined(proto::Joined { cluster_id: door.cluster.id(), node_id: node.0 })
            }
            Ok(MetaOutcome::JoinRefused { reason }) => {
                return Err(Status::failed_precondition(reason));
            }
            Ok(other) => return Err(Status::internal(format!("joining led to {other:?}"))),
            Err(ChangeError::NotLeader { leader }) => {
                let addr = leader.and_then(|leader| door.cluster.peer_addr(leader));
                let peer_addr = addr.unwrap_or_default();
                Answer::NotLeader(proto::NotOwner { peer_addr, ..convert::elsewhere(leader) })
            }
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        Ok(Response::new(proto::JoinResponse { answer: Some(answer) }))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<proto::EnvelopeBatch>>,
    ) -> Result<Response<proto::Delivered>, Status> {
        let caller = caller(&request);
        let mut batches = request.into_inner();
        while let Some(batch) = batches.message().await? {
            let door = self.addressed(batch.to.as_ref(), caller.as_ref())?;
            let from = NodeId(batch.to.as_ref().map_or(0, |to| to.from));
            check_sender(&door.cluster, from)?;
            door.cluster.heard_from(from, &batch.from_addr);
            door.cluster.set_stopping(from, batch.stopping);
            for envelope in batch.envelopes {
                door.inbox.deliver(Envelope {
                    group: GroupId(envelope.group),
                    from,
                    to: door.cluster.me(),
                    bytes: envelope.message,
                });
            }
        }
        Ok(Response::new(proto::Delivered {}))
    }

    async fn change(
        &self,
        request: Request<proto::ChangeRequest>,
    ) -> Result<Response<proto::ChangeResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        check_sender(&door.cluster, NodeId(request.to.as_ref().map_or(0, |to| to.from)))?;
        let command = MetaCommand::decode(&request.command)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let result = door.meta.propose_here(command).await;
        Ok(Response::new(convert::change_response(result)?))
    }

    async fn catalogue_index(
        &self,
        request: Request<proto::CatalogueIndexRequest>,
    ) -> Result<Response<proto::CatalogueIndexResponse>, Status> {
        use proto::catalogue_index_response::Answer;
        let caller = caller(&request);
        let door = self.addressed(request.get_ref().to.as_ref(), caller.as_ref())?;
        let answer = match door.meta.index_here().await {
            Ok(index) => Answer::Index(index.0),
            Err(ChangeError::NotLeader { leader }) => Answer::NotLeader(convert::elsewhere(leader)),
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        Ok(Response::new(proto::CatalogueIndexResponse { answer: Some(answer) }))
    }

    type AppendStream = Answers<proto::PartResponse>;

    async fn append(
        &self,
        request: Request<Streaming<proto::PartRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.door()?;
        let (started, waiting) = mpsc::channel(PARTS_WAITING_MAX);
        let caller = caller(&request);
        tokio::spawn(take_parts(self.clone(), caller, request.into_inner(), started));
        let answers = futures::StreamExt::then(ReceiverStream::new(waiting), answer_part);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn frontier(
        &self,
        request: Request<proto::FrontierRequest>,
    ) -> Result<Response<proto::FrontierResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let frontiers = request.groups.into_iter().map(|group| async move {
            match door.streams.partition(GroupId(group)) {
                Some(partition) => partition.read_here().await.map(|view| view.end),
                None => Err(crate::actors::partition::ReadError::NoOwner {
                    partition: Default::default(),
                    owner: None,
                }),
            }
        });
        let frontiers = futures::future::join_all(frontiers).await;
        let groups = frontiers.into_iter().map(convert::group_frontier).collect();
        Ok(Response::new(proto::FrontierResponse { groups }))
    }

    type ScanStream = Answers<proto::ScanResponse>;

    async fn scan(
        &self,
        request: Request<proto::ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let Some(partition) = door.streams.partition(GroupId(request.group)) else {
            return Err(Status::unavailable("the partition is not known here"));
        };
        let Some(stream) = door.streams.get(&partition.stream) else {
            return Err(Status::unavailable("the stream is not known here"));
        };
        let parts = scan::send(&partition, stream.scan_schema.clone()).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    type ReadViewStream = Answers<proto::ReadViewResponse>;

    async fn read_view(
        &self,
        request: Request<proto::ReadViewRequest>,
    ) -> Result<Response<Self::ReadViewStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let parts = views::send(&door.streams, &door.views, request).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn fence(
        &self,
        request: Request<proto::FenceRequest>,
    ) -> Result<Response<proto::FenceResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let Some(partition) = door.streams.partition(GroupId(request.group)) else {
            let answer = proto::fence_response::Answer::NotOwner(convert::elsewhere(None));
            return Ok(Response::new(proto::FenceResponse { answer: Some(answer) }));
        };
        let (producer, epoch) = (ProducerId(request.producer), Epoch(request.epoch));
        let fenced = partition.fence_here(producer, epoch).await;
        Ok(Response::new(convert::fence_response(fenced)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let from = NodeId(request.to.as_ref().map_or(0, |to| to.from));
        check_sender(&door.cluster, from)?;
        let heard = door.meta.heard_of(from, convert::report(&request));
        Ok(Response::new(proto::HeartbeatResponse { heard }))
    }

    async fn let_go(
        &self,
        request: Request<proto::LetGoRequest>,
    ) -> Result<Response<proto::LetGoResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let asker = NodeId(request.to.as_ref().map_or(0, |to| to.from));
        check_sender(&door.cluster, asker)?;
        let may_go = match door.streams.partition(GroupId(request.group)) {
            Some(partition) => partition.let_go_here(asker, Term(request.term)).await,
            None => false,
        };
        Ok(Response::new(proto::LetGoResponse { may_go }))
    }

    async fn open_snapshot(
        &self,
        request: Request<proto::OpenSnapshotRequest>,
    ) -> Result<Response<proto::OpenSnapshotResponse>, Status> {
        use proto::open_snapshot_response::Answer;
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let answer = match door.snapshots.open(GroupId(request.group)).await {
            Ok(snapshot) => Answer::Snapshot(snapshot),
            Err(reason) => Answer::Refused(reason),
        };
        Ok(Response::new(proto::OpenSnapshotResponse { answer: Some(answer) }))
    }

    type ReadSnapshotStream = Answers<proto::SnapshotChunk>;

    async fn read_snapshot(
        &self,
        request: Request<proto::ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let door = self.addressed(request.to.as_ref(), caller.as_ref())?;
        let segment = SegmentId(request.segment);
        let chunks = door.snapshots.read(request.snapshot, segment, request.offset)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// A part that was handed to its partition, or refused.
type Started = oneshot::Receiver<Result<alluvium_core::partition::PartOutcome, AppendError>>;

async fn take_parts(
    service: PeerService,
    caller: Option<Caller>,
    mut requests: Streaming<proto::PartRequest>,
    started: mpsc::Sender<Started>,
) {
    let budget = Arc::new(Semaphore::new(STREAM_BYTES_MAX));
    loop {
        let Ok(place) = started.reserve().await else { return };
        let Ok(Some(request)) = requests.message().await else { return };
        let units = request.payload.len().clamp(1, STREAM_BYTES_MAX);
        let units = u32::try_from(units).expect("the budget fits");
        let Ok(permit) = budget.clone().acquire_many_owned(units).await else { return };
        let (reply, answer) = oneshot::channel();
        if let Err((reply, error)) = hand_over(&service, caller.as_ref(), request, permit, reply) {
            // Its reader waits on the other end of this very channel.
            let _ = reply.send(Err(error));
        }
        place.send(answer);
    }
}

type Reply = oneshot::Sender<Result<alluvium_core::partition::PartOutcome, AppendError>>;

fn hand_over(
    service: &PeerService,
    caller: Option<&Caller>,
    request: proto::PartRequest,
    permit: OwnedSemaphorePermit,
    reply: Reply,
) -> Result<(), (Reply, AppendError)> {
    let refused = |reason: String| AppendError::Refused { reason };
    let door = match service.addressed(request.to.as_ref(), caller) {
        Ok(door) => door,
        Err(status) => return Err((reply, refused(status.message().to_owned()))),
    };
    let Some(partition) = door.streams.partition(GroupId(request.group)) else {
        return Err((reply, AppendError::NotOwner { owner: None }));
    };
    let part = convert::part(&request);
    let rows = match partition.decode_part(&part, &request.payload) {
        Ok(rows) => rows,
        Err(reason) => return Err((reply, refused(reason))),
    };
    let append = Append::received(part, rows, request.payload, Arc::new(permit), reply);
    debug_assert_eq!(append.origin, Origin::Peer);
    partition.append_here(append)
}

async fn answer_part(started: Started) -> Result<proto::PartResponse, Status> {
    // A partition that stopped drops its callers: what became of the part is not known.
    let outcome = started.await.unwrap_or(Err(AppendError::Lost));
    Ok(convert::part_response(outcome))
}
