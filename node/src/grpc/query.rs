//! SQL over gRPC, and views without SQL.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alluvium_proto::v1 as proto;
use alluvium_proto::v1::query_response::Part;
use alluvium_proto::v1::query_server::Query;
use alluvium_query::access::Caller;
use alluvium_query::{Answer, wire};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::Known;
use super::view::{self, ViewDoor};
use super::{asker, caller, convert, status};
use crate::access::audit;
use crate::bootstrap::Node;
use crate::clock::Stopwatch;
use crate::sql::run::{Door, Place, RunError, TIMEOUT_MAX};

/// A lookup may wait this long for its view unless its caller asks for less: one that takes longer
/// waits for a view that has far to go.
const LOOKUP_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Batches between the engine and the wire: enough to keep both busy.
const BATCHES_BUFFERED: usize = 4;

/// Bytes of one part of an answer: below the 4 MiB that gRPC libraries take unless told otherwise.
const PIECE_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct QueryService {
    node: Arc<Node>,
    door: Arc<dyn ViewDoor>,
}

impl QueryService {
    /// Over one node.
    pub fn new(node: Arc<Node>, door: Arc<dyn ViewDoor>) -> QueryService {
        QueryService { node, door }
    }
}

type Stream<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;
type Parts = Stream<proto::QueryResponse>;

#[tonic::async_trait]
impl Query for QueryService {
    type QueryStream = Parts;
    type SubscribeStream = Stream<proto::SubscribeResponse>;

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<Parts>, Status> {
        let asker = asker(&request);
        let request = request.into_inner();
        let rights = self.node.guard.rights(&asker.caller);
        let known = Known { streams: &self.node.streams, rights: &rights };
        let freshness = convert::freshness(request.freshness, &known)?;
        let timeout = timeout(request.timeout_ms, TIMEOUT_MAX);
        let place = self.node.statements.admit(&request.sql, Door::Grpc, &asker);
        let place = place.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        let (parts, answer) = mpsc::channel(BATCHES_BUFFERED);
        let node = self.node.clone();
        // Queries have their own threads: a long one must not hold up appends.
        let run = async move {
            let watch = Stopwatch::start();
            let (caller, sql) = (&asker.caller, &request.sql);
            let running = run(&node, caller, sql, freshness, &parts, (&watch, &place));
            let ended = tokio::select! {
                biased;
                // The caller left: what is still running is dropped.
                () = parts.closed() => Err(Status::cancelled("the caller left")),
                () = place.stopped() => Err(Status::cancelled(RunError::Cancelled.to_string())),
                ended = tokio::time::timeout(timeout, running) => ended.unwrap_or_else(|_| {
                    let waited = format!("the statement took longer than {timeout:?}");
                    Err(Status::deadline_exceeded(waited))
                }),
            };
            drop(place);
            node.metrics.query_answered(ended.is_ok(), watch.elapsed());
            if let Err(status) = ended {
                // A caller that left needs no answer.
                let _ = parts.send(Err(status)).await;
            }
        };
        self.node.query_runtime.spawn(run);
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }

    async fn lookup(
        &self,
        request: Request<proto::LookupRequest>,
    ) -> Result<Response<proto::LookupResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        check_view(&self.node, &caller, &request.view).await?;
        let (json_rows, timeout_ms) = (request.json_rows, request.timeout_ms);
        self.learn_view(&request.view).await?;
        let rights = self.node.guard.rights(&caller);
        let known = Known { streams: &self.node.streams, rights: &rights };
        let asked = convert::lookup(request, &known)?;
        let timeout = timeout(timeout_ms, LOOKUP_TIMEOUT_MAX);
        let found = tokio::time::timeout(timeout, view::lookup(self.door.as_ref(), &asked)).await;
        match found {
            Ok(Ok(found)) => Ok(Response::new(convert::lookup_response(found, json_rows))),
            Ok(Err(error)) => Err(status::door_status(error)),
            Err(_) => {
                let waited = format!("view \"{}\" was not there in {timeout:?}", asked.view);
                Err(Status::deadline_exceeded(waited))
            }
        }
    }

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        check_view(&self.node, &caller, &request.view).await?;
        let asked = convert::subscribe(request);
        self.learn_view(&asked.view).await?;
        let (parts, answer) = mpsc::channel(BATCHES_BUFFERED);
        let door = self.door.clone();
        let (node, view) = (self.node.clone(), asked.view.clone());
        self.node.query_runtime.spawn(async move {
            view::subscribe(door.as_ref(), &asked, parts).await;
        });
        let answer = ReceiverStream::new(answer)
            .map(|part| part.map(convert::subscribe_response).map_err(status::door_status));
        let answer = answer.take_until(async move { node.revoked(&caller, &view).await });
        Ok(Response::new(Box::pin(answer)))
    }
}

impl QueryService {
    /// A view that is not known here may have been made a moment ago elsewhere.
    async fn learn_view(&self, name: &str) -> Result<(), Status> {
        if self.node.views.get(name).is_some() {
            return Ok(());
        }
        self.node.meta.catch_up().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

async fn check_view(node: &Node, caller: &Caller, view: &str) -> Result<(), Status> {
    node.allowed_whole(caller, view).await.map_err(Status::permission_denied)
}

/// How long a call may take, given what its caller asked for.
fn timeout(asked_ms: u32, max: Duration) -> Duration {
    let asked = Duration::from_millis(u64::from(asked_ms));
    if asked.is_zero() { max } else { asked.min(max) }
}

async fn run(
    node: &Node,
    caller: &Caller,
    sql: &str,
    freshness: alluvium_query::host::Freshness,
    parts: &mpsc::Sender<Result<proto::QueryResponse, Status>>,
    (watch, place): (&Stopwatch, &Place),
) -> Result<(), Status> {
    let answer = node.engine(caller).run(sql, freshness).await;
    let tag = answer.as_ref().map(|answer| answer.tag.as_str());
    audit::statement(caller, Door::Grpc.name(), sql, tag);
    let answer = answer.map_err(|error| status::sql_status(&error))?;
    let Answer { schema, mut batches, as_of, tag } = answer;
    place.answers();
    send(parts, Part::Schema(wire::encode_schema(&schema))).await?;
    let mut row_count = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| status::sql_status(&error))?;
        row_count += batch.num_rows() as u64;
        place.gave(batch.num_rows());
        for piece in wire::encode_batch_in_pieces(&batch, PIECE_BYTES) {
            send(parts, Part::Batch(piece)).await?;
        }
    }
    let as_of = as_of.iter().map(|(stream, frontier)| convert::frontier(stream, frontier));
    let elapsed_us = u64::try_from(watch.elapsed().as_micros()).unwrap_or(u64::MAX);
    let summary = proto::QuerySummary { as_of: as_of.collect(), row_count, elapsed_us, tag };
    send(parts, Part::Summary(summary)).await
}

async fn send(
    parts: &mpsc::Sender<Result<proto::QueryResponse, Status>>,
    part: Part,
) -> Result<(), Status> {
    let response = proto::QueryResponse { part: Some(part) };
    parts.send(Ok(response)).await.map_err(|_| Status::cancelled("the caller left"))
}
