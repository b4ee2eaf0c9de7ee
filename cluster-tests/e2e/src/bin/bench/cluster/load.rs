//! The most events a second that three nodes acknowledge, and how long an ack takes at half of
//! that. An ack means that two of three nodes have synced the batch to disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_proto::v1;
use anyhow::{Context, Result, ensure};
use cluster_e2e::client::Client;
use cluster_e2e::cluster::Cluster;
use cluster_e2e::events::{BLOCK_ROWS, Events};
use cluster_e2e::measure::{self, Latencies};
use tokio::task::JoinSet;

use super::etcd::{self, Etcd};
use super::{ClusterOptions, WAIT_MAX, cpu_seconds};
use crate::latency;
use crate::load::{self, Rows};
use crate::report::{Table, rate};

/// Connections are made and caches warm by then; it is not counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// Callers that each wait for one answer at a time, here and at etcd.
const CALLERS: usize = 256;
const CONNECTIONS: usize = 9;

/// The stream that `latency` sends to.
const STREAM: &str = "latency";

const HEAD: [&str; 6] =
    ["what", "events/s", "ack p50 ms", "ack p99 ms", "CPU s per M events", "of which client"];

/// What one measurement gave.
struct Measured {
    events: u64,
    seconds: f64,
    latencies: Latencies,
    servers_cpu: f64,
    client_cpu: f64,
}

impl Measured {
    fn cells(mut self, what: String) -> Vec<String> {
        let millions = self.events as f64 / 1e6;
        vec![
            what,
            rate(self.events, self.seconds),
            format!("{:.2}", self.latencies.quantile_ms(0.5)),
            format!("{:.2}", self.latencies.quantile_ms(0.99)),
            format!("{:.2}", (self.servers_cpu + self.client_cpu) / millions),
            format!("{:.2}", self.client_cpu / millions),
        ]
    }
}

pub async fn run(options: &ClusterOptions) -> Result<()> {
    let title = "Three nodes, three replicas, fsync on two of them before ack";
    let mut table = Table::new(title, &HEAD);
    for &batch_rows in &options.batch_rows {
        let batches = Arc::new(batches(batch_rows));
        let most = closed_loop(options, &batches).await?;
        let rate = most.events as f64 / most.seconds;
        let window = format!("{} producers of {} batches", options.producers, options.window);
        table.row(most.cells(format!("Arrow batches of {batch_rows}, {window} at once")));
        let half = open_loop(options, &batches, batch_rows, rate / 2.0).await?;
        table.row(half.cells(format!("Arrow batches of {batch_rows}, half of that, open loop")));
    }
    let single = single_events(options).await?;
    table.row(single.cells(format!("one JSON event an Append, {CALLERS} callers")));
    match Etcd::start(3).await {
        Ok(etcd) => table.row(puts(options, &etcd).await?),
        Err(error) => {
            let mut cells = vec![format!("skipped etcd: {error:#}")];
            cells.resize(HEAD.len(), String::new());
            table.row(cells);
        }
    }
    table.print();
    Ok(())
}

/// Three nodes and a stream whose partitions they share.
async fn started(options: &ClusterOptions, stream: &str) -> Result<Cluster> {
    let cluster = Cluster::start_on_loopback(3, &[]).await?;
    let client = cluster.client(0).await?;
    client.query(&load::create_stream(stream, options.partitions)).await?;
    cluster.wait_balanced(stream, options.partitions, &[0, 1, 2], WAIT_MAX).await?;
    Ok(cluster)
}

/// Batches that are sent over and over.
fn batches(batch_rows: usize) -> Vec<Rows> {
    let events = Events::new(8 * BLOCK_ROWS as u64);
    let blocks = (0..events.blocks()).map(|number| Rows::Arrow(events.block(number)));
    blocks.flat_map(|block| latency::slices(&block, batch_rows)).collect()
}

async fn connections(cluster: &Cluster, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(cluster.client(number % cluster.len()).await?);
    }
    Ok(clients)
}

async fn closed_loop(options: &ClusterOptions, batches: &Arc<Vec<Rows>>) -> Result<Measured> {
    let cluster = started(options, STREAM).await?;
    let begun = Instant::now() + WARM_UP;
    let end = begun + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for (number, client) in connections(&cluster, options.producers).await?.into_iter().enumerate()
    {
        let opened = client.open_producer(&format!("bench-{number}"), STREAM).await?;
        let sender = Sender { client, opened, batches: batches.clone(), window: options.window };
        tasks.spawn(sender.send(begun, end));
    }
    tokio::time::sleep_until(begun.into()).await;
    let this = std::process::id();
    let (servers_cpu, client_cpu) = (cpu_seconds(&cluster)?, measure::cpu_seconds(this)?);
    tokio::time::sleep_until(end.into()).await;
    let mut measured = Measured {
        events: 0,
        seconds: (end - begun).as_secs_f64(),
        latencies: Latencies::default(),
        servers_cpu: cpu_seconds(&cluster)? - servers_cpu,
        client_cpu: measure::cpu_seconds(this)? - client_cpu,
    };
    let mut acked = 0;
    while let Some(done) = tasks.join_next().await {
        let sent = done??;
        acked += sent.acked;
        measured.events += sent.counted;
        measured.latencies.append(sent.latencies);
    }
    let client = cluster.client(0).await?;
    let found = client.query(&format!("SELECT count(*) FROM {STREAM}")).await?.single()?;
    ensure!(u64::try_from(found)? == acked, "{acked} events acknowledged, {found} there");
    Ok(measured)
}

struct Sender {
    client: Client,
    opened: v1::OpenProducerResponse,
    batches: Arc<Vec<Rows>>,
    window: usize,
}

#[derive(Default)]
struct Sent {
    acked: u64,
    counted: u64,
    latencies: Latencies,
}

impl Sender {
    /// Sends until `end`; acks between `begun` and `end` count.
    async fn send(self, begun: Instant, end: Instant) -> Result<Sent> {
        let mut call = self.client.append_stream(self.window).await?;
        let mut waiting: VecDeque<Instant> = VecDeque::new();
        let mut sent = Sent::default();
        let mut sequence = self.opened.next_sequence;
        loop {
            let is_over = end <= Instant::now();
            if is_over && waiting.is_empty() {
                return Ok(sent);
            }
            if is_over || waiting.len() == self.window {
                let ack = load::read_ack(&mut call).await?;
                let sent_at = waiting.pop_front().context("an answer without a request")?;
                let now = Instant::now();
                sent.acked += ack.event_count;
                if begun <= now && now < end {
                    sent.counted += ack.event_count;
                    sent.latencies.add(now - sent_at);
                }
                continue;
            }
            let v1::OpenProducerResponse { producer_id, epoch, .. } = self.opened;
            let stamp = v1::ProducerStamp { producer_id, epoch, sequence, position: 0 };
            let rows = &self.batches[usize::try_from(sequence)? % self.batches.len()];
            let sent_at = Instant::now();
            let request = load::request(STREAM, Some(stamp), rows)?;
            if call.requests.send(request).await.is_err() {
                // The answers say why the node ended the call.
                load::read_ack(&mut call).await?;
            }
            waiting.push_back(sent_at);
            sequence += 1;
        }
    }
}

/// Latency is counted from when a batch was due, not from when it could be sent.
async fn open_loop(
    options: &ClusterOptions,
    batches: &Arc<Vec<Rows>>,
    batch_rows: usize,
    asked: f64,
) -> Result<Measured> {
    let cluster = started(options, STREAM).await?;
    let producers = options.producers as f64;
    let gap = Duration::from_secs_f64(batch_rows as f64 * producers / asked);
    let count = (options.seconds as f64 / gap.as_secs_f64()).ceil() as u64;
    let clients = connections(&cluster, options.producers).await?;
    let this = std::process::id();
    let (servers_cpu, client_cpu) = (cpu_seconds(&cluster)?, measure::cpu_seconds(this)?);
    let begun = Instant::now() + Duration::from_millis(50);
    let mut tasks = JoinSet::new();
    for (place, client) in clients.into_iter().enumerate() {
        // Producers are out of step with each other, as real ones are.
        let first = begun + gap.mul_f64(place as f64 / producers);
        tasks.spawn(latency::send_on_time(client, batches.clone(), first, gap, count));
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    Ok(Measured {
        events: (latencies.count() * batch_rows) as u64,
        seconds: begun.elapsed().as_secs_f64(),
        latencies,
        servers_cpu: cpu_seconds(&cluster)? - servers_cpu,
        client_cpu: measure::cpu_seconds(this)? - client_cpu,
    })
}

async fn single_events(options: &ClusterOptions) -> Result<Measured> {
    let cluster = started(options, "single").await?;
    let clients = connections(&cluster, CONNECTIONS).await?;
    let requests = Arc::new(latency::single_requests("JSON")?);
    let this = std::process::id();
    let (servers_cpu, client_cpu) = (cpu_seconds(&cluster)?, measure::cpu_seconds(this)?);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let client = clients[caller % clients.len()].clone();
        tasks.spawn(latency::call_until(client, requests.clone(), caller, end));
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    Ok(Measured {
        events: latencies.count() as u64,
        seconds: begun.elapsed().as_secs_f64(),
        latencies,
        servers_cpu: cpu_seconds(&cluster)? - servers_cpu,
        client_cpu: measure::cpu_seconds(this)? - client_cpu,
    })
}

async fn puts(options: &ClusterOptions, etcd: &Etcd) -> Result<Vec<String>> {
    let this = std::process::id();
    let (servers_cpu, client_cpu) = (etcd.cpu_seconds()?, measure::cpu_seconds(this)?);
    let begun = Instant::now();
    let length = Duration::from_secs(options.seconds);
    let latencies = etcd.puts(CALLERS, CONNECTIONS, length).await?;
    let measured = Measured {
        events: latencies.count() as u64,
        seconds: begun.elapsed().as_secs_f64(),
        latencies,
        servers_cpu: etcd.cpu_seconds()? - servers_cpu,
        client_cpu: measure::cpu_seconds(this)? - client_cpu,
    };
    let bytes = etcd::VALUE_BYTES;
    Ok(measured.cells(format!("etcd, three members, puts of {bytes} bytes, {CALLERS} callers")))
}
