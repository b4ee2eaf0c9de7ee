//! Sends prepared batches from several producers and waits for every ack.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use alluvium_proto::v1;
use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use cluster_e2e::client::{self, AppendStream, Client};
use cluster_e2e::events::{self, Events};
use cluster_e2e::measure::{self, Latencies};
use cluster_e2e::node::Node;
use tokio::task::JoinSet;

/// Rows as the producer holds them before the clock starts; encoding is part of the load.
#[derive(Clone)]
pub enum Rows {
    /// Encoded as an Arrow IPC stream when sent.
    Arrow(RecordBatch),
    /// Lines of JSON, joined when sent.
    Json(Vec<String>),
}

/// What a load cost.
pub struct Loaded {
    pub rows: u64,
    pub wire_bytes: u64,
    pub wall: Duration,
    pub latencies: Latencies,
    pub client_cpu: f64,
    pub server_cpu: f64,
}

/// `CREATE STREAM` of the benchmark's events.
pub fn create_stream(name: &str, partitions: u32) -> String {
    format!(
        "CREATE STREAM {name} ({}) PARTITION BY (host) \
         WITH (event_time = 'ts', partitions = {partitions})",
        events::COLUMNS
    )
}

/// The blocks of the table, dealt to producers in turn.
pub fn deal_arrow(total: u64, producers: usize) -> Vec<Vec<Rows>> {
    let events = Events::new(total);
    let mut dealt = vec![Vec::new(); producers];
    for number in 0..events.blocks() {
        dealt[number as usize % producers].push(Rows::Arrow(events.block(number)));
    }
    dealt
}

/// The same as JSON lines in batches of `batch_rows`.
pub fn deal_json(total: u64, producers: usize, batch_rows: usize) -> Vec<Vec<Rows>> {
    let events = Events::new(total);
    let mut dealt = vec![Vec::new(); producers];
    let mut place = 0;
    for number in 0..events.blocks() {
        let lines = events::lines(&events.block(number), events::TextForm::Json);
        for batch in lines.chunks(batch_rows) {
            dealt[place % producers].push(Rows::Json(batch.to_vec()));
            place += 1;
        }
    }
    dealt
}

/// Sends everything, each producer over its own connection with `window` batches unanswered.
pub async fn send(
    node: &Node,
    stream: &str,
    dealt: Vec<Vec<Rows>>,
    window: usize,
) -> Result<Loaded> {
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..dealt.len() {
        let client = node.client().await?;
        let opened = client.open_producer(&format!("bench-{number}"), stream).await?;
        clients.push((client, opened));
    }
    let (pid, this) = (node.pid()?, std::process::id());
    let (server_cpu, client_cpu) = (measure::cpu_seconds(pid)?, measure::cpu_seconds(this)?);
    let begun = Instant::now();
    for ((client, opened), batches) in clients.into_iter().zip(dealt) {
        tasks.spawn(send_one(client, opened, stream.to_owned(), batches, window));
    }
    let mut loaded = Loaded {
        rows: 0,
        wire_bytes: 0,
        wall: Duration::ZERO,
        latencies: Latencies::default(),
        client_cpu: 0.0,
        server_cpu: 0.0,
    };
    while let Some(done) = tasks.join_next().await {
        let (rows, wire_bytes, latencies) = done??;
        loaded.rows += rows;
        loaded.wire_bytes += wire_bytes;
        loaded.latencies.append(latencies);
    }
    loaded.wall = begun.elapsed();
    loaded.server_cpu = measure::cpu_seconds(pid)? - server_cpu;
    loaded.client_cpu = measure::cpu_seconds(this)? - client_cpu;
    Ok(loaded)
}

async fn send_one(
    client: Client,
    opened: v1::OpenProducerResponse,
    stream: String,
    batches: Vec<Rows>,
    window: usize,
) -> Result<(u64, u64, Latencies)> {
    let mut call = client.append_stream(window).await?;
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut latencies = Latencies::default();
    let (mut rows, mut wire_bytes) = (0, 0);
    for (sequence, batch) in (opened.next_sequence..).zip(&batches) {
        if waiting.len() == window {
            rows += answer(&mut call, &mut waiting, &mut latencies).await?;
        }
        let sent_at = Instant::now();
        let stamp = v1::ProducerStamp {
            producer_id: opened.producer_id,
            epoch: opened.epoch,
            sequence,
            position: 0,
        };
        let request = request(&stream, Some(stamp), batch)?;
        wire_bytes += row_bytes(&request);
        if call.requests.send(request).await.is_err() {
            // The answers say why the node ended the call.
            break;
        }
        waiting.push_back(sent_at);
    }
    while !waiting.is_empty() {
        rows += answer(&mut call, &mut waiting, &mut latencies).await?;
    }
    Ok((rows, wire_bytes, latencies))
}

/// A batch as it goes out.
pub fn request(
    stream: &str,
    stamp: Option<v1::ProducerStamp>,
    rows: &Rows,
) -> Result<v1::AppendRequest> {
    match rows {
        Rows::Arrow(batch) => client::arrow_request(stream, stamp, batch),
        Rows::Json(lines) => Ok(client::json_request(stream, stamp, lines.concat())),
    }
}

fn row_bytes(request: &v1::AppendRequest) -> u64 {
    match &request.rows {
        Some(v1::append_request::Rows::ArrowIpc(bytes) | v1::append_request::Rows::Json(bytes)) => {
            bytes.len() as u64
        }
        None => 0,
    }
}

async fn answer(
    call: &mut AppendStream,
    waiting: &mut VecDeque<Instant>,
    latencies: &mut Latencies,
) -> Result<u64> {
    let ack = read_ack(call).await?;
    let sent_at = waiting.pop_front().context("an answer without a request")?;
    latencies.add(sent_at.elapsed());
    Ok(ack.event_count)
}

/// The next ack of a call.
pub async fn read_ack(call: &mut AppendStream) -> Result<v1::AppendResponse> {
    let response = call.answers.message().await?.context("the node ended the call")?;
    match response.answer {
        Some(v1::append_stream_response::Answer::Ack(ack)) => Ok(ack),
        Some(v1::append_stream_response::Answer::Failure(failure)) => {
            bail!("code {}: {}", failure.code, failure.message)
        }
        None => bail!("an empty answer"),
    }
}

/// Waits until every event of a stream lies in a segment; at most `wait_max`. Returns the share of
/// rows that do.
pub async fn wait_sealed(client: &Client, stream: &str, wait_max: Duration) -> Result<f64> {
    let sql = format!("SELECT * FROM system.partitions WHERE stream = '{stream}'");
    let deadline = Instant::now() + wait_max;
    let mut poll = tokio::time::interval(Duration::from_millis(250));
    loop {
        poll.tick().await;
        let answer = client.query(&sql).await?;
        let ends: i64 = answer.integers(answer.column("end_offset")?)?.iter().sum();
        let sealed: i64 = answer.integers(answer.column("sealed_end")?)?.iter().sum();
        if sealed == ends || deadline < Instant::now() {
            return Ok(sealed as f64 / ends.max(1) as f64);
        }
    }
}
