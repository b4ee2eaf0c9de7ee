//! How long an ack takes: one event each from many callers, and batches at half load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_proto::v1;
use anyhow::{Context, Result};
use cluster_e2e::client::Client;
use cluster_e2e::events::{BLOCK_ROWS, Events, TextForm, lines};
use cluster_e2e::measure::{self, Latencies};
use cluster_e2e::node::{Node, NodeOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::load::{self, Rows};
use crate::report::{Table, rate};

/// Appends of one event each.
#[derive(clap::Args)]
pub struct SingleOptions {
    /// Callers, each waiting for its ack before the next append.
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Connections that they share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Length of one run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Repetitions of each form.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
}

/// Ack latency, open loop.
#[derive(clap::Args)]
pub struct LatencyOptions {
    /// Rows a second. Without it: half of what a probe of the same batches reaches.
    #[arg(long)]
    rate: Option<f64>,
    /// Length of one run.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Producers, each with its own connection.
    #[arg(long, default_value_t = 8)]
    producers: usize,
    /// Rows of a batch; several may be named.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000, 100])]
    batch_rows: Vec<usize>,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
}

/// `bench single`.
pub async fn single(options: &SingleOptions) -> Result<()> {
    let title = format!("{} callers, one event each at a time", options.callers);
    let head =
        ["what", "events/s", "ack p50 ms", "ack p99 ms", "ack p99.9 ms", "CPU s per M events"];
    let mut table = Table::new(title, &head);
    let node = Node::start(NodeOptions::default()).await?;
    for form in ["JSON", "Arrow"] {
        let requests = Arc::new(single_requests(form)?);
        for repetition in 1..=options.repeat {
            let client = node.client().await?;
            client.query(&load::create_stream("single", options.partitions)).await?;
            let cells = single_run(&node, options, requests.clone()).await?;
            let what = format!("Alluvium, one {form} row an Append, run {repetition}");
            table.row([vec![what], cells].concat());
            client.query("DROP STREAM single").await?;
        }
    }
    table.print();
    Ok(())
}

/// Requests to be sent over and over: rows differ, encoding is done before the clock starts,
/// because an application that sends single events sends them as they are.
pub fn single_requests(form: &str) -> Result<Vec<v1::AppendRequest>> {
    let block = Events::new(BLOCK_ROWS as u64).block(0);
    let rows: Vec<Rows> = match form {
        "JSON" => lines(&block, TextForm::Json).into_iter().map(|l| Rows::Json(vec![l])).collect(),
        _ => (0..block.num_rows()).map(|row| Rows::Arrow(block.slice(row, 1))).collect(),
    };
    rows.iter().map(|rows| load::request("single", None, rows)).collect()
}

async fn single_run(
    node: &Node,
    options: &SingleOptions,
    requests: Arc<Vec<v1::AppendRequest>>,
) -> Result<Vec<String>> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(node.client().await?);
    }
    let (pid, this) = (node.pid()?, std::process::id());
    let cpu = measure::cpu_seconds(pid)? + measure::cpu_seconds(this)?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..options.callers {
        let client = clients[caller % clients.len()].clone();
        tasks.spawn(call_until(client, requests.clone(), caller, end));
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = measure::cpu_seconds(pid)? + measure::cpu_seconds(this)? - cpu;
    let events = latencies.count() as u64;
    let counted = node.client().await?.query("SELECT count(*) FROM single").await?.single()?;
    anyhow::ensure!(counted == events as i64, "{events} events acked, {counted} there");
    let [p50, p99, p999] = quantiles(&mut latencies);
    Ok(vec![rate(events, seconds), p50, p99, p999, format!("{:.1}", cpu / (events as f64 / 1e6))])
}

/// Calls, one at a time, until then.
pub async fn call_until(
    client: Client,
    requests: Arc<Vec<v1::AppendRequest>>,
    caller: usize,
    end: Instant,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut place = caller * 37;
    while Instant::now() < end {
        let request = requests[place % requests.len()].clone();
        let sent_at = Instant::now();
        client.append(request).await?;
        latencies.add(sent_at.elapsed());
        place += 1;
    }
    Ok(latencies)
}

/// `bench latency`.
pub async fn at_half_load(options: &LatencyOptions) -> Result<()> {
    let title = "Ack latency, open loop: counted from when a batch was due, fsync before ack";
    let head = [
        "batches of",
        "most rows/s",
        "rows/s asked",
        "rows/s done",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
    ];
    let mut table = Table::new(title, &head);
    for &batch_rows in &options.batch_rows {
        let most = probe(&fresh_node(options).await?, options, batch_rows).await?;
        // Another node: this one still seals and merges what the probe left.
        let node = fresh_node(options).await?;
        let asked = options.rate.unwrap_or(most / 2.0);
        let (mut latencies, done) = open_loop(&node, options, batch_rows, asked).await?;
        let [p50, p99, p999] = quantiles(&mut latencies);
        let rate = |rows: f64| rate(rows as u64, 1.0);
        table.row(vec![
            batch_rows.to_string(),
            rate(most),
            rate(asked),
            rate(done),
            p50,
            p99,
            p999,
        ]);
    }
    table.print();
    Ok(())
}

/// A node with an empty stream.
async fn fresh_node(options: &LatencyOptions) -> Result<Node> {
    let node = Node::start(NodeOptions::default()).await?;
    node.client().await?.query(&load::create_stream("latency", options.partitions)).await?;
    Ok(node)
}

/// The rate that a closed loop of the same producers and batches reaches.
async fn probe(node: &Node, options: &LatencyOptions, batch_rows: usize) -> Result<f64> {
    let rows = if batch_rows < 1_000 { 500_000 } else { 3_000_000 };
    let mut dealt = load::deal_arrow(rows, options.producers);
    for batches in &mut dealt {
        *batches = batches.iter().flat_map(|batch| slices(batch, batch_rows)).collect();
    }
    let loaded = load::send(node, "latency", dealt, 4).await?;
    Ok(loaded.rows as f64 / loaded.wall.as_secs_f64())
}

/// A batch in pieces of so many rows.
pub fn slices(rows: &Rows, batch_rows: usize) -> Vec<Rows> {
    let Rows::Arrow(batch) = rows else { return Vec::new() };
    let part = |first: usize| batch.slice(first, batch_rows.min(batch.num_rows() - first));
    (0..batch.num_rows()).step_by(batch_rows).map(|first| Rows::Arrow(part(first))).collect()
}

async fn open_loop(
    node: &Node,
    options: &LatencyOptions,
    batch_rows: usize,
    asked: f64,
) -> Result<(Latencies, f64)> {
    let gap = Duration::from_secs_f64(batch_rows as f64 * options.producers as f64 / asked);
    let count = (options.seconds as f64 / gap.as_secs_f64()).ceil() as u64;
    let block = Rows::Arrow(Events::new(BLOCK_ROWS as u64).block(0));
    let batches = Arc::new(slices(&block, batch_rows));
    let mut clients = Vec::new();
    for _ in 0..options.producers {
        clients.push(node.client().await?);
    }
    let begun = Instant::now() + Duration::from_millis(50);
    let mut tasks = JoinSet::new();
    for (place, client) in clients.into_iter().enumerate() {
        // Producers are out of step with each other, as real ones are.
        let first = begun + gap.mul_f64(place as f64 / options.producers as f64);
        tasks.spawn(send_on_time(client, batches.clone(), first, gap, count));
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    let rows = latencies.count() as f64 * batch_rows as f64;
    Ok((latencies, rows / begun.elapsed().as_secs_f64()))
}

/// Sends batches when they are due, from then on, and waits for every ack.
pub async fn send_on_time(
    client: Client,
    batches: Arc<Vec<Rows>>,
    first: Instant,
    gap: Duration,
    count: u64,
) -> Result<Latencies> {
    let call = client.append_stream(64).await?;
    let (requests, mut call_answers) = (call.requests, call.answers);
    let (due_sender, mut due) = mpsc::unbounded_channel::<Instant>();
    let sender = tokio::spawn(async move {
        let mut clock = tokio::time::interval_at(first.into(), gap);
        // Late batches go out at once: an open loop does not slow down for the node.
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for place in 0..count {
            let due = clock.tick().await;
            let rows = &batches[place as usize % batches.len()];
            let request = load::request("latency", None, rows)?;
            due_sender.send(due.into()).ok().context("nobody reads answers")?;
            requests.send(request).await.ok().context("the node ended the call")?;
        }
        anyhow::Ok(())
    });
    let mut latencies = Latencies::default();
    for _ in 0..count {
        let response = call_answers.message().await?.context("the node ended the call")?;
        match response.answer {
            Some(v1::append_stream_response::Answer::Ack(_)) => {}
            other => anyhow::bail!("not an ack: {other:?}"),
        }
        let due = due.recv().await.context("an answer without a request")?;
        latencies.add(due.elapsed());
    }
    sender.await??;
    Ok(latencies)
}

fn quantiles(latencies: &mut Latencies) -> [String; 3] {
    [0.5, 0.99, 0.999].map(|share| format!("{:.2}", latencies.quantile_ms(share)))
}
