//! The client against a node that misbehaves on purpose.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alluvium_proto::v1::append_stream_response::Answer as WireAnswer;
use alluvium_proto::v1::ingest_server::{Ingest, IngestServer};
use alluvium_proto::v1::query_server::{Query, QueryServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::appender::{AppendFailed, WINDOW_BATCHES};
use super::*;

/// What the node does with the next batch it reads.
#[derive(Clone, Copy, Debug)]
enum React {
    /// Appends it and says so.
    Take,
    /// Appends it, and the connection ends before the answer.
    TakeAndBreak,
    /// Ends the call without looking at it.
    Break,
    /// Has no room.
    Busy,
    /// Is about to stop.
    Stopping,
    /// Will never take it.
    Refuse,
}

/// One stream of one partition and one producer. What the script does not say, it takes.
#[derive(Clone, Debug, Default)]
struct FakeNode {
    script: Arc<Mutex<VecDeque<React>>>,
    /// Positions of the batches it holds, by sequence.
    held: Arc<Mutex<Vec<u64>>>,
}

impl FakeNode {
    fn with(script: &[React]) -> FakeNode {
        let node = FakeNode::default();
        node.script.lock().unwrap().extend(script);
        node
    }

    async fn serve(&self) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = tonic::transport::Server::builder()
            .add_service(IngestServer::new(self.clone()))
            .add_service(QueryServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Client::connect(&addr).await.unwrap()
    }

    /// The answer to one batch; none where the call ends instead.
    fn react(&self, request: &v1::AppendRequest) -> Option<WireAnswer> {
        let stamp = request.producer.unwrap();
        let next = self.script.lock().unwrap().pop_front().unwrap_or(React::Take);
        match next {
            React::Take => Some(self.take(stamp)),
            React::TakeAndBreak => {
                self.take(stamp);
                None
            }
            React::Break => None,
            React::Busy => Some(failure(Code::ResourceExhausted, "no room", Some(1))),
            React::Stopping => Some(failure(Code::Unavailable, "stopping", Some(1))),
            React::Refuse => Some(failure(Code::InvalidArgument, "row 3: no", None)),
        }
    }

    fn take(&self, stamp: v1::ProducerStamp) -> WireAnswer {
        let mut held = self.held.lock().unwrap();
        let expected = held.len() as u64;
        if expected < stamp.sequence {
            return failure(Code::OutOfRange, "a batch is missing", None);
        }
        let duplicate = stamp.sequence < expected;
        if duplicate {
            assert_eq!(held[stamp.sequence as usize], stamp.position, "another batch was resent");
        } else {
            held.push(stamp.position);
        }
        let offsets = [(0, held.len() as u64)].into();
        let frontier = Some(v1::Frontier { stream: "s".into(), offsets });
        WireAnswer::Ack(v1::AppendResponse { frontier, duplicate, ..Default::default() })
    }
}

fn failure(code: Code, message: &str, retry_after_ms: Option<u32>) -> WireAnswer {
    let (code, message) = (code as u32, message.to_owned());
    WireAnswer::Failure(v1::AppendFailure { code, message, retry_after_ms })
}

#[tonic::async_trait]
impl Ingest for FakeNode {
    async fn open_producer(
        &self,
        _request: Request<v1::OpenProducerRequest>,
    ) -> Result<Response<v1::OpenProducerResponse>, Status> {
        Err(Status::not_found("stream \"s\" does not exist"))
    }

    async fn append(
        &self,
        _request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        Err(Status::unimplemented("the client streams"))
    }

    type AppendStreamStream = ReceiverStream<Result<v1::AppendStreamResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(WINDOW_BATCHES);
        let node = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Some(answer) = node.react(&request) else { return };
                let is_over = matches!(answer, WireAnswer::Failure(_));
                let response = v1::AppendStreamResponse { answer: Some(answer) };
                if answers.send(Ok(response)).await.is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl Query for FakeNode {
    type QueryStream = ReceiverStream<Result<v1::QueryResponse, Status>>;
    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse, Status>>;

    /// Answers its own request as text.
    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let asked = format!("{:?}", request.into_inner());
        let rows = v1::lookup_response::Rows::Json(asked.into());
        let offsets = [(0, 7)].into_iter().collect();
        let frontier = Some(v1::Frontier { stream: "s".into(), offsets });
        Ok(Response::new(v1::LookupResponse { rows: Some(rows), frontier }))
    }

    /// Says the schema, one piece of a change, and the rest of it; then breaks off.
    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        use v1::subscribe_response::Part as Wire;
        let stream = request.into_inner().view;
        let (parts, answer) = mpsc::channel(3);
        let send = async |part| parts.send(Ok(v1::SubscribeResponse { part: Some(part) })).await;
        let changes = |frontier| Wire::Changes(v1::Changes { batch: Bytes::new(), frontier });
        let frontier = v1::Frontier { stream, offsets: [(1, 9)].into_iter().collect() };
        send(Wire::Schema(Bytes::new())).await.unwrap();
        send(changes(None)).await.unwrap();
        send(changes(Some(frontier))).await.unwrap();
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    /// Answers `half` without its end, `full` with it, and refuses everything else.
    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        use v1::query_response::Part as Wire;
        let sql = request.into_inner().sql;
        if !["half", "full"].contains(&sql.as_str()) {
            return Err(Status::invalid_argument("no such statement"));
        }
        let (parts, stream) = mpsc::channel(2);
        let send = async |part| parts.send(Ok(v1::QueryResponse { part: Some(part) })).await;
        send(Wire::Schema(Bytes::new())).await.unwrap();
        if sql == "full" {
            let summary = v1::QuerySummary { row_count: 7, ..Default::default() };
            send(Wire::Summary(summary)).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

const PRODUCER: Producer = Producer {
    id: ProducerId(1),
    epoch: Epoch(1),
    next_sequence: Sequence(0),
    position: 0,
    next_position: None,
};

fn batch(sequence: u64) -> Batch {
    let position = 10 * (sequence + 1);
    Batch { sequence: Sequence(sequence), position, event_count: 10, rows: Bytes::from("rows") }
}

/// Sends so many batches; gives the acks, up to what failed.
async fn send(client: &Client, count: u64) -> (Vec<Ack>, Option<AppendFailed>) {
    let mut appender = Appender::new(client, "s", PRODUCER);
    let mut acks = Vec::new();
    for sequence in 0..count {
        match appender.append(batch(sequence)).await {
            Ok(ack) => acks.extend(ack),
            Err(failed) => return (acks, Some(failed)),
        }
    }
    loop {
        match appender.next_ack().await {
            Ok(Some(ack)) => acks.push(ack),
            Ok(None) => return (acks, None),
            Err(failed) => return (acks, Some(failed)),
        }
    }
}

#[tokio::test]
async fn every_batch_arrives_once_whatever_the_node_does() {
    use React::{Break, Busy, Stopping, Take, TakeAndBreak};
    let scripts: [&[React]; 8] = [
        &[],
        &[Busy],
        &[Break],
        &[TakeAndBreak],
        &[Take, Take, Busy, Busy, Take, Stopping],
        &[Take, TakeAndBreak, TakeAndBreak, Take, Break, Busy],
        &[Take, Take, Take, Take, Take, Take, Take, Take, Take, TakeAndBreak],
        &[Break, Stopping, TakeAndBreak, Busy],
    ];
    for script in scripts {
        let node = FakeNode::with(script);
        let client = node.serve().await;
        let (acks, failed) = send(&client, 25).await;
        assert!(failed.is_none(), "{script:?}: {failed:?}");
        let positions: Vec<u64> = (1..=25).map(|batch| 10 * batch).collect();
        assert_eq!(*node.held.lock().unwrap(), positions, "{script:?}");
        let acked: Vec<u64> = acks.iter().map(|ack| ack.batch.position).collect();
        assert_eq!(acked, positions, "{script:?}");
        let mut frontier = Frontier::default();
        acks.iter().for_each(|ack| frontier.merge(&ack.frontier));
        assert_eq!(frontier.0[&PartitionNumber(0)], Offset(25));
    }
}

#[tokio::test]
async fn a_batch_that_can_never_be_taken_ends_the_run_and_is_named() {
    let node = FakeNode::with(&[React::Take, React::Take, React::Refuse]);
    let client = node.serve().await;
    let (acks, failed) = send(&client, 25).await;
    let failed = failed.unwrap();
    assert_eq!(acks.len(), 2);
    assert_eq!(failed.batch.position, 30);
    assert_eq!(failed.to_string(), "row 3: no");
    assert_eq!(failed.reason.retry(), Retry::Never);
    assert_eq!(*node.held.lock().unwrap(), [10, 20]);
}

#[tokio::test]
async fn an_answer_without_its_end_is_an_error() {
    let client = FakeNode::default().serve().await;
    let mut half = client.query("half", &Freshness::Latest).await.unwrap();
    assert!(matches!(half.next().await, Ok(Some(Part::Schema(_)))));
    let error = half.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");

    let mut full = client.query("full", &Freshness::Latest).await.unwrap();
    assert!(matches!(full.next().await, Ok(Some(Part::Schema(_)))));
    let summary = full.next().await.unwrap();
    assert!(matches!(summary, Some(Part::Summary(Summary { row_count: 7, .. }))), "{summary:?}");
    assert!(full.next().await.unwrap().is_none());
}

#[tokio::test]
async fn refusals_are_in_the_words_of_the_node() {
    let client = FakeNode::default().serve().await;
    let error = client.query("nonsense", &Freshness::Latest).await.unwrap_err();
    assert_eq!(error.to_string(), "no such statement");
    let error = client.open_producer("p", "s").await.unwrap_err();
    assert_eq!(error.to_string(), "stream \"s\" does not exist");
}

#[tokio::test]
async fn nobody_there_is_told_from_no_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&addr).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no node answers at {addr}; start one with `alluvium start`, or name one with --addr"
        )
    );
    for addr in ["", "localhost", "localhost:x", "http://localhost:1"] {
        let error = Client::connect(addr).await.unwrap_err();
        assert!(matches!(error, ClientError::BadAddress { .. }), "{addr}: {error}");
    }
}

#[tokio::test]
async fn a_lookup_asks_what_was_said() {
    let client = FakeNode::default().serve().await;
    let frontier = Frontier([(PartitionNumber(2), Offset(5))].into_iter().collect());
    let lookup = Lookup {
        columns: vec!["n".into()],
        limit: 3,
        freshness: Freshness::AtLeast(vec![StreamFrontier { stream: "s".into(), frontier }]),
        ..Lookup::json("v", r#"{"k":1}"#)
    };
    let found = client.lookup(lookup).await.unwrap();
    let asked = String::from_utf8(found.rows.to_vec()).unwrap();
    for said in ["view: \"v\"", r#"Json(b"{\"k\":1}")"#, "limit: 3", "[\"n\"]", "{2: 5}"] {
        assert!(asked.contains(said), "{said} in {asked}");
    }
    assert_eq!(found.frontier.frontier.0[&PartitionNumber(0)], Offset(7));
}

#[tokio::test]
async fn a_lookup_cannot_ask_for_the_past() {
    let client = FakeNode::default().serve().await;
    let lookup = Lookup { freshness: Freshness::AsOf(Vec::new()), ..Lookup::json("v", "{}") };
    let error = client.lookup(lookup).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    assert!(error.to_string().contains("as of"), "{error}");
}

#[tokio::test]
async fn changes_say_where_to_go_on() {
    let client = FakeNode::default().serve().await;
    let mut changes = client.subscribe("v", "n > 1", &Begin::Snapshot).await.unwrap();
    assert!(matches!(changes.next().await.unwrap(), Change::Schema(_)));
    assert!(matches!(changes.next().await.unwrap(), Change::Rows { frontier: None, .. }));
    let Change::Rows { frontier: Some(at), .. } = changes.next().await.unwrap() else {
        panic!("the last piece says where it stands");
    };
    assert_eq!((at.stream.as_str(), at.frontier.0[&PartitionNumber(1)]), ("v", Offset(9)));
    // A subscription has no end of its own.
    let error = changes.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
}
