//! Speaks the public gRPC interface the way a client library would.
//!
//! Retries nothing: what a failed call means is the caller's business, and the tests look at it.

use std::future::Future;
use std::io::Cursor;
use std::net::IpAddr;
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_proto::v1::admin_client::AdminClient;
use alluvium_proto::v1::ingest_client::IngestClient;
use alluvium_proto::v1::query_client::QueryClient;
use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// No call of these tests may hang: longer than any honest answer takes on a busy machine.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(120);

/// Begins what is said of a call that was given up.
const SILENCE: &str = "no answer within";

/// Answers of audits and benchmarks stay far below this.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// HTTP/2 windows wide enough that a batch of 10,000 rows goes out without waiting for an update.
const WINDOW_BYTES: u32 = 8 << 20;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    call_wait_max: Duration,
}

/// How a client reaches a node.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// How long a connection may take to be made.
    pub connect_wait_max: Duration,
    /// How long a call may take, or one answer of a call with several. Whoever waits less than
    /// [`CALL_WAIT_MAX`] has other nodes to go to: what is not answered in time is lost to it.
    pub call_wait_max: Duration,
    /// The address to speak from, where this process has several.
    pub from: Option<IpAddr>,
}

impl Default for Reach {
    fn default() -> Reach {
        let connect_wait_max = Duration::from_secs(10);
        Reach { connect_wait_max, call_wait_max: CALL_WAIT_MAX, from: None }
    }
}

/// A stream of appends: requests go in, answers come out in the same order.
#[derive(Debug)]
pub struct AppendStream {
    /// Closing it ends the call.
    pub requests: mpsc::Sender<v1::AppendRequest>,
    /// In the order of the requests.
    pub answers: Streaming<v1::AppendStreamResponse>,
    wait_max: Duration,
}

impl AppendStream {
    /// The next answer; `None` when the node has ended the call.
    pub async fn answer(&mut self) -> Result<Option<v1::AppendStreamResponse>, Status> {
        bounded(self.wait_max, self.answers.message()).await
    }
}

/// A view that is followed.
#[derive(Debug)]
pub struct Subscription {
    parts: Streaming<v1::SubscribeResponse>,
    wait_max: Duration,
}

/// What a query answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The columns, where the statement has any.
    pub schema: Option<SchemaRef>,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// What the answer reflects.
    pub summary: v1::QuerySummary,
}

impl Client {
    /// Connects to `HOST:PORT`.
    pub async fn connect(address: &str) -> Result<Client> {
        Client::connect_with(address, &Reach::default()).await
    }

    /// Connects to `HOST:PORT` in this way.
    pub async fn connect_with(address: &str, reach: &Reach) -> Result<Client> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(reach.connect_wait_max)
            .local_address(reach.from)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let channel = endpoint.connect().await.with_context(|| format!("connect to {address}"))?;
        Ok(Client { channel, call_wait_max: reach.call_wait_max })
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        bounded(self.call_wait_max, call).await
    }

    fn ingest(&self) -> IngestClient<Channel> {
        IngestClient::new(self.channel.clone()).max_encoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Makes or takes over a producer.
    pub async fn open_producer(
        &self,
        name: &str,
        stream: &str,
    ) -> Result<v1::OpenProducerResponse, Status> {
        let request = v1::OpenProducerRequest { name: name.into(), stream: stream.into() };
        let mut ingest = self.ingest();
        Ok(self.bounded(ingest.open_producer(request)).await?.into_inner())
    }

    /// Appends one batch and waits for its ack.
    pub async fn append(&self, request: v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
        let mut ingest = self.ingest();
        Ok(self.bounded(ingest.append(request)).await?.into_inner())
    }

    /// Opens a stream of appends with room for `waiting_max` requests that were not sent yet.
    pub async fn append_stream(&self, waiting_max: usize) -> Result<AppendStream, Status> {
        let (requests, receiver) = mpsc::channel(waiting_max);
        let mut ingest = self.ingest();
        let answers = self.bounded(ingest.append_stream(ReceiverStream::new(receiver))).await?;
        let answers = answers.into_inner();
        Ok(AppendStream { requests, answers, wait_max: self.call_wait_max })
    }

    /// Runs one statement over everything acknowledged.
    pub async fn query(&self, sql: &str) -> Result<Answer, Status> {
        self.query_fresh(sql, None).await
    }

    /// Runs one statement over exactly the events before `frontier`.
    pub async fn query_as_of(&self, sql: &str, frontier: v1::Frontier) -> Result<Answer, Status> {
        let frontiers = v1::Frontiers { frontiers: vec![frontier] };
        self.query_fresh(sql, Some(v1::query_request::Freshness::AsOf(frontiers))).await
    }

    /// Runs one statement over the events before `frontier` and what came since.
    pub async fn query_at_least(
        &self,
        sql: &str,
        frontier: v1::Frontier,
    ) -> Result<Answer, Status> {
        let frontiers = v1::Frontiers { frontiers: vec![frontier] };
        self.query_fresh(sql, Some(v1::query_request::Freshness::AtLeast(frontiers))).await
    }

    /// Runs one statement.
    pub async fn query_fresh(
        &self,
        sql: &str,
        freshness: Option<v1::query_request::Freshness>,
    ) -> Result<Answer, Status> {
        let request = v1::QueryRequest { sql: sql.into(), freshness, timeout_ms: 0 };
        self.bounded(self.run(request)).await
    }

    async fn run(&self, request: v1::QueryRequest) -> Result<Answer, Status> {
        let mut client =
            QueryClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut parts = client.query(request).await?.into_inner();
        let mut answer =
            Answer { schema: None, batches: Vec::new(), summary: v1::QuerySummary::default() };
        while let Some(response) = parts.message().await? {
            match response.part {
                Some(v1::query_response::Part::Schema(bytes)) => {
                    answer.schema = Some(read_ipc(&bytes)?.0);
                }
                Some(v1::query_response::Part::Batch(bytes)) => {
                    let (schema, mut batches) = read_ipc(&bytes)?;
                    answer.schema.get_or_insert(schema);
                    answer.batches.append(&mut batches);
                }
                Some(v1::query_response::Part::Summary(summary)) => answer.summary = summary,
                None => {}
            }
        }
        Ok(answer)
    }

    /// Groups of a view by their keys, as JSON objects; what was found, and what it reflects.
    pub async fn lookup(
        &self,
        request: v1::LookupRequest,
    ) -> Result<(Vec<serde_json::Value>, v1::Frontier), Status> {
        let mut client = QueryClient::new(self.channel.clone());
        let request = v1::LookupRequest { json_rows: true, ..request };
        let found = self.bounded(client.lookup(request)).await?.into_inner();
        let broken = || Status::data_loss("a lookup without rows or frontier");
        let Some(v1::lookup_response::Rows::Json(rows)) = found.rows else {
            return Err(broken());
        };
        let rows = serde_json::Deserializer::from_slice(&rows).into_iter();
        let rows = rows.collect::<Result<_, _>>();
        let rows = rows.map_err(|error| Status::data_loss(format!("a lookup: {error}")))?;
        Ok((rows, found.frontier.ok_or_else(broken)?))
    }

    /// Groups of a view as they change.
    pub async fn subscribe(&self, request: v1::SubscribeRequest) -> Result<Subscription, Status> {
        let mut client =
            QueryClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let parts = self.bounded(client.subscribe(request)).await?.into_inner();
        Ok(Subscription { parts, wait_max: self.call_wait_max })
    }

    /// How the node is.
    pub async fn status(&self) -> Result<v1::StatusResponse, Status> {
        let mut admin = AdminClient::new(self.channel.clone());
        Ok(self.bounded(admin.status(v1::StatusRequest {})).await?.into_inner())
    }
}

impl Subscription {
    /// The next batch of changes, and where to go on once it is taken in.
    pub async fn next(&mut self) -> Result<(Vec<RecordBatch>, Option<v1::Frontier>), Status> {
        loop {
            let Some(response) = bounded(self.wait_max, self.parts.message()).await? else {
                return Err(Status::unavailable("the subscription ended"));
            };
            match response.part {
                Some(v1::subscribe_response::Part::Changes(changes)) => {
                    let batches = match changes.batch.is_empty() {
                        true => Vec::new(),
                        false => read_ipc(&changes.batch)?.1,
                    };
                    return Ok((batches, changes.frontier));
                }
                Some(v1::subscribe_response::Part::Schema(_)) | None => {}
            }
        }
    }
}

impl Answer {
    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A column of whole numbers; null reads as -1, which no audited column holds.
    pub fn integers(&self, column: usize) -> Result<Vec<i64>> {
        let mut values = Vec::with_capacity(self.row_count());
        for batch in &self.batches {
            let numbers = cast(batch.column(column), &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            values.extend(numbers.iter().map(|value| value.unwrap_or(-1)));
        }
        Ok(values)
    }

    /// The first columns as rows of whole numbers.
    pub fn integer_rows<const COLUMNS: usize>(&self) -> Result<Vec<[i64; COLUMNS]>> {
        let mut rows = vec![[0; COLUMNS]; self.row_count()];
        for column in 0..COLUMNS {
            for (row, value) in rows.iter_mut().zip(self.integers(column)?) {
                row[column] = value;
            }
        }
        Ok(rows)
    }

    /// A column as text; null reads as the empty text.
    pub fn texts(&self, column: usize) -> Result<Vec<String>> {
        let mut values = Vec::with_capacity(self.row_count());
        for batch in &self.batches {
            let texts = cast(batch.column(column), &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            values.extend(texts.iter().map(|value| value.unwrap_or_default().to_owned()));
        }
        Ok(values)
    }

    /// The place of a column by name.
    pub fn column(&self, name: &str) -> Result<usize> {
        let schema = self.schema.as_ref().context("the statement has no columns")?;
        schema.index_of(name).with_context(|| format!("columns are {schema:?}"))
    }

    /// The only value of a one-row answer.
    pub fn single(&self) -> Result<i64> {
        self.integers(0)?.first().copied().context("the answer has no row")
    }

    /// The rows as text, one line each: what two answers are compared by.
    pub fn lines(&self) -> Result<Vec<String>> {
        let width = self.schema.as_ref().map_or(0, |schema| schema.fields().len());
        let columns = (0..width).map(|place| self.texts(place)).collect::<Result<Vec<_>>>()?;
        let line = |row: usize| {
            let cells: Vec<&str> = columns.iter().map(|column| column[row].as_str()).collect();
            cells.join("|")
        };
        Ok((0..self.row_count()).map(line).collect())
    }

    /// What the answer reflects of a stream.
    pub fn as_of(&self, stream: &str) -> Result<&v1::Frontier> {
        let mut frontiers = self.summary.as_of.iter();
        frontiers
            .find(|frontier| frontier.stream == stream)
            .with_context(|| format!("the answer names no frontier of {stream}"))
    }
}

/// An append of Arrow rows.
pub fn arrow_request(
    stream: &str,
    producer: Option<v1::ProducerStamp>,
    rows: &RecordBatch,
) -> Result<v1::AppendRequest> {
    let rows = Some(v1::append_request::Rows::ArrowIpc(encode_ipc(rows)?));
    Ok(v1::AppendRequest { stream: stream.into(), producer, rows })
}

/// An append of JSON rows.
pub fn json_request(
    stream: &str,
    producer: Option<v1::ProducerStamp>,
    rows: impl Into<Bytes>,
) -> v1::AppendRequest {
    let rows = Some(v1::append_request::Rows::Json(rows.into()));
    v1::AppendRequest { stream: stream.into(), producer, rows }
}

/// One Arrow IPC stream: schema and this batch.
pub fn encode_ipc(rows: &RecordBatch) -> Result<Bytes> {
    let mut out = Vec::with_capacity(rows.get_array_memory_size() + 4_096);
    let mut writer = StreamWriter::try_new(&mut out, rows.schema_ref())?;
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    Ok(out.into())
}

/// Whether the connection broke: whether the call had its effect is then unknown.
pub fn is_lost(status: &Status) -> bool {
    use tonic::Code;
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Whether the call was given up because no answer came in time.
pub fn is_silence(status: &Status) -> bool {
    status.message().starts_with(SILENCE)
}

fn read_ipc(bytes: &Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), Status> {
    let broken = |error| Status::data_loss(format!("an answer is not Arrow: {error}"));
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(broken)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    Ok((schema, batches))
}

async fn bounded<T>(
    wait_max: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let waited = tokio::time::timeout(wait_max, call).await;
    waited.unwrap_or_else(|_| {
        if wait_max < CALL_WAIT_MAX {
            return Err(Status::unavailable(format!("{SILENCE} {wait_max:?}")));
        }
        Err(Status::deadline_exceeded("the call hangs"))
    })
}
