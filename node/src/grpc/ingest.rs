//! Appends over gRPC.

use std::pin::Pin;
use std::sync::Arc;

use alluvium_core::ids::{Epoch, ProducerId, Sequence};
use alluvium_core::meta::access::Privilege;
use alluvium_core::meta::{MetaCommand, MetaOutcome};
use alluvium_core::partition::Stamp;
use alluvium_proto::v1 as proto;
use alluvium_proto::v1::ingest_server::Ingest;
use alluvium_query::access::Caller;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, AppendCall};
use super::{caller, status};
use crate::bootstrap::Node;
use crate::clock::Stopwatch;
use crate::ingest::{AppendAck, AppendError, PendingAppend};
use crate::streams::ServedStream;

/// Batches of one `AppendStream` call that may wait for their answer. A partition remembers this
/// many batches of a producer, so a retry of any of them is answered with its offsets.
pub const WINDOW_BATCHES: usize = alluvium_core::partition::REMEMBERED_MAX;

/// See the module.
#[derive(Clone, Debug)]
pub struct IngestService {
    node: Arc<Node>,
}

impl IngestService {
    /// Over one node.
    pub fn new(node: Arc<Node>) -> IngestService {
        IngestService { node }
    }
}

type Answers =
    Pin<Box<dyn futures::Stream<Item = Result<proto::AppendStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Ingest for IngestService {
    async fn open_producer(
        &self,
        request: Request<proto::OpenProducerRequest>,
    ) -> Result<Response<proto::OpenProducerResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        check_append(&self.node, &caller, &request.stream).await?;
        alluvium_core::meta::check_producer_name(&request.name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let stream = self.node.stream(&request.stream).await;
        let stream = stream.map_err(|error| status::append_status(&error))?;
        let command = MetaCommand::OpenProducer { name: request.name };
        let outcome = self.node.meta.change(command).await;
        match outcome.map_err(|error| status::change_status(&error))? {
            MetaOutcome::ProducerOpened { id, epoch } => {
                Ok(Response::new(opened(&stream, id, epoch).await?))
            }
            other => Err(Status::internal(format!("opening a producer led to {other:?}"))),
        }
    }

    async fn append(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let watch = Stopwatch::start();
        let caller = caller(&request);
        let AppendCall { stream, stamp, rows, .. } = convert::append_call(request.into_inner())?;
        check_append(&self.node, &caller, &stream).await?;
        let answer = match self.node.stream(&stream).await {
            Ok(_) => self.node.ingest.append(&stream, stamp, rows).await,
            Err(error) => Err(error),
        };
        self.node.metrics.append_answered(answer.is_ok(), watch.elapsed());
        match answer {
            Ok(ack) => Ok(Response::new(convert::append_response(&stream, ack))),
            Err(error) => Err(status::append_status(&error)),
        }
    }

    type AppendStreamStream = Answers;

    async fn append_stream(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        // The channel is the window: when it is full of unanswered batches, no further one is read,
        // and HTTP/2 flow control holds the client back.
        let (started, pending) = mpsc::channel(WINDOW_BATCHES);
        let caller = caller(&request);
        tokio::spawn(read_batches(self.node.clone(), caller, request.into_inner(), started));
        let answers = Answering { node: self.node.clone(), pending, before: None };
        let answers = futures::stream::unfold(answers, async |mut answers| {
            let answer = answers.next().await?;
            Some((answer, answers))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Whether the caller may append to a stream: asked for each batch, so that what was revoked ends.
async fn check_append(node: &Node, caller: &Caller, stream: &str) -> Result<(), Status> {
    let allowed = node.allowed(caller, Privilege::Insert, stream).await;
    allowed.map_err(|refused| status::refused_status(&refused))
}

/// A batch that was handed to its partitions, or refused on the way.
struct Started {
    stream: String,
    watch: Stopwatch,
    append: Result<PendingAppend, StartError>,
}

enum StartError {
    Append(AppendError),
    Call(Status),
}

async fn read_batches(
    node: Arc<Node>,
    caller: Caller,
    mut requests: Streaming<proto::AppendRequest>,
    started: mpsc::Sender<Started>,
) {
    loop {
        // A place for the answer comes before the batch is read.
        let Ok(place) = started.reserve().await else {
            return;
        };
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                let append = Err(StartError::Call(error));
                place.send(Started { stream: String::new(), watch: Stopwatch::start(), append });
                return;
            }
        };
        let watch = Stopwatch::start();
        let (stream, append) = start(&node, &caller, request).await;
        place.send(Started { stream, watch, append });
    }
}

async fn start(
    node: &Node,
    caller: &Caller,
    request: proto::AppendRequest,
) -> (String, Result<PendingAppend, StartError>) {
    let call = match convert::append_call(request) {
        Ok(call) => call,
        Err(error) => return (String::new(), Err(StartError::Call(error))),
    };
    let AppendCall { stream, stamp, rows, byte_count } = call;
    if let Err(refused) = check_append(node, caller, &stream).await {
        return (stream, Err(StartError::Call(refused)));
    }
    if let Err(error) = node.stream(&stream).await {
        return (stream, Err(StartError::Append(error)));
    }
    let append = match node.ingest.admit_in_turn(byte_count).await {
        Ok(permit) => node.ingest.submit(&stream, stamp, rows, permit),
        Err(error) => Err(error),
    };
    (stream, append.map_err(StartError::Append))
}

/// The answers of one call, in the order of its batches.
struct Answering {
    node: Arc<Node>,
    pending: mpsc::Receiver<Started>,
    /// The last batch of this call that was acknowledged.
    before: Option<Stamp>,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<proto::AppendStreamResponse, Status>> {
        let Started { stream, watch, append } = self.pending.recv().await?;
        let acknowledged = match append {
            Ok(pending) => {
                let stamp = pending.stamp();
                let acknowledged = pending.acknowledged(self.before.as_ref()).await;
                self.before = stamp.filter(|_| acknowledged.is_ok());
                acknowledged
            }
            Err(StartError::Append(error)) => Err(error),
            Err(StartError::Call(status)) => return Some(Err(status)),
        };
        self.node.metrics.append_answered(acknowledged.is_ok(), watch.elapsed());
        Some(Ok(answer(&stream, acknowledged)))
    }
}

fn answer(
    stream: &str,
    acknowledged: Result<AppendAck, AppendError>,
) -> proto::AppendStreamResponse {
    let answer = match acknowledged {
        Ok(ack) => {
            proto::append_stream_response::Answer::Ack(convert::append_response(stream, ack))
        }
        Err(error) => {
            let (code, retry_after) = status::append_code(&error);
            proto::append_stream_response::Answer::Failure(proto::AppendFailure {
                code: code as u32,
                message: error.to_string(),
                retry_after_ms: retry_after
                    .map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
            })
        }
    };
    proto::AppendStreamResponse { answer: Some(answer) }
}

/// Fences the producer's former life in every partition, and says where the new one goes on: with
/// the first sequence that not every partition holds.
async fn opened(
    stream: &ServedStream,
    id: ProducerId,
    epoch: Epoch,
) -> Result<proto::OpenProducerResponse, Status> {
    let fences = stream.partitions.iter().map(|partition| partition.fence(id, epoch));
    let states = futures::future::try_join_all(fences).await;
    let states = states.map_err(|error| Status::unavailable(error.to_string()))?;
    let next = states.iter().map(|state| state.next).min().unwrap_or_default();
    let position_of = |sequence: Sequence| {
        let windows = states.iter().flat_map(|state| &state.window);
        windows.filter(|known| known.sequence == sequence).map(|known| known.position).next()
    };
    let before = next.0.checked_sub(1).map(Sequence);
    Ok(proto::OpenProducerResponse {
        producer_id: id.0,
        epoch: epoch.0,
        next_sequence: next.0,
        position: before.and_then(position_of).unwrap_or(0),
        next_position: position_of(next),
    })
}
