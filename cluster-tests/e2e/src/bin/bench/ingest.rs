//! Ingest of whole batches: Arrow and JSON, and the peers' own ways in.

use anyhow::Result;
use cluster_e2e::events::BLOCK_ROWS;
use cluster_e2e::node::{Node, NodeOptions};

use crate::load::{self, Loaded, Rows};
use crate::peers::{self, Peer};
use crate::postgres::Postgres;
use crate::report::{Table, rate};

/// Durable ingest of Arrow batches.
#[derive(clap::Args)]
pub struct IngestOptions {
    /// Rows a repetition.
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Producers, each with its own connection.
    #[arg(long, default_value_t = 8)]
    producers: usize,
    /// Batches a producer may have unanswered.
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Repetitions, each into a fresh stream; peers take turns with the node.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// Rows given to each peer a repetition (they are slower).
    #[arg(long, default_value_t = 1_000_000)]
    peer_rows: u64,
    /// Only the node.
    #[arg(long)]
    no_peers: bool,
}

/// Durable ingest of JSON rows.
#[derive(clap::Args)]
pub struct JsonOptions {
    /// Rows a repetition.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Producers, each with its own connection.
    #[arg(long, default_value_t = 8)]
    producers: usize,
    /// Rows of one batch.
    #[arg(long, default_value_t = 2_000)]
    batch_rows: usize,
    /// Batches a producer may have unanswered.
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
}

const HEAD: [&str; 7] = [
    "what",
    "rows/s",
    "MB/s sent",
    "ack p50 ms",
    "ack p99 ms",
    "CPU s per M rows",
    "of which client",
];

/// `bench ingest`.
pub async fn arrow(options: &IngestOptions) -> Result<()> {
    let mut table = Table::new("Durable ingest: batches of 10,000 rows, fsync before ack", &HEAD);
    let node = Node::start(NodeOptions::default()).await?;
    let mut peers = if options.no_peers { Vec::new() } else { start_peers(options).await? };
    for repetition in 1..=options.repeat {
        let dealt = load::deal_arrow(options.rows, options.producers);
        let loaded =
            into_fresh_stream(&node, repetition, options.partitions, dealt, options.window);
        let loaded = loaded.await?;
        let ours = loaded.rows as f64 / loaded.wall.as_secs_f64();
        let what = format!(
            "Alluvium, Arrow over gRPC, {} producers, {} partitions, run {repetition}",
            options.producers, options.partitions
        );
        table.row(row(what, loaded));
        for peer in &mut peers {
            match peer.run().await {
                Ok(figures) => table.row(peer_row(&figures, repetition, ours)),
                Err(error) => table.row(skipped(&format!("{error:#}"))),
            }
        }
    }
    for peer in peers {
        peer.stop().await;
    }
    table.print();
    Ok(())
}

/// `bench json`.
pub async fn json(options: &JsonOptions) -> Result<()> {
    let title = format!("Durable ingest: JSON rows, batches of {}", options.batch_rows);
    let mut table = Table::new(title, &HEAD);
    let node = Node::start(NodeOptions::default()).await?;
    for repetition in 1..=options.repeat {
        let dealt = load::deal_json(options.rows, options.producers, options.batch_rows);
        let loaded =
            into_fresh_stream(&node, repetition, options.partitions, dealt, options.window);
        let what =
            format!("Alluvium, JSON over gRPC, {} producers, run {repetition}", options.producers);
        table.row(row(what, loaded.await?));
    }
    table.print();
    Ok(())
}

async fn into_fresh_stream(
    node: &Node,
    repetition: u32,
    partitions: u32,
    dealt: Vec<Vec<Rows>>,
    window: usize,
) -> Result<Loaded> {
    let client = node.client().await?;
    let stream = format!("events_{repetition}");
    client.query(&load::create_stream(&stream, partitions)).await?;
    let loaded = load::send(node, &stream, dealt, window).await?;
    let counted = client.query(&format!("SELECT count(*) FROM {stream}")).await?.single()?;
    anyhow::ensure!(counted == loaded.rows as i64, "{} rows sent, {counted} there", loaded.rows);
    client.query(&format!("DROP STREAM {stream}")).await?;
    Ok(loaded)
}

fn row(what: String, mut loaded: Loaded) -> Vec<String> {
    let seconds = loaded.wall.as_secs_f64();
    let millions = loaded.rows as f64 / 1e6;
    vec![
        what,
        rate(loaded.rows, seconds),
        format!("{:.0}", loaded.wire_bytes as f64 / 1e6 / seconds),
        format!("{:.1}", loaded.latencies.quantile_ms(0.5)),
        format!("{:.1}", loaded.latencies.quantile_ms(0.99)),
        format!("{:.2}", (loaded.client_cpu + loaded.server_cpu) / millions),
        format!("{:.2}", loaded.client_cpu / millions),
    ]
}

fn peer_row(figures: &peers::Figures, repetition: u32, ours: f64) -> Vec<String> {
    let theirs = figures.rows as f64 / figures.seconds;
    vec![
        format!(
            "{}, run {repetition} (Alluvium is {:.1} times as fast)",
            figures.what,
            ours / theirs
        ),
        rate(figures.rows, figures.seconds),
        String::new(),
        milliseconds(figures.p50_ms),
        milliseconds(figures.p99_ms),
        format!("{:.2}", figures.cpu_seconds / (figures.rows as f64 / 1e6)),
        String::new(),
    ]
}

/// Nothing where a peer does not tell.
fn milliseconds(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.1}") }
}

fn skipped(reason: &str) -> Vec<String> {
    let mut cells = vec![format!("skipped: {reason}")];
    cells.resize(HEAD.len(), String::new());
    cells
}

async fn start_peers(options: &IngestOptions) -> Result<Vec<Peer>> {
    let rows = options.peer_rows - options.peer_rows % BLOCK_ROWS as u64;
    let mut peers: Vec<Peer> = Vec::new();
    match peers::python_ingest(rows).await {
        Ok(mut found) => peers.append(&mut found),
        Err(error) => eprintln!("  skipped Python peers: {error:#}"),
    }
    match Postgres::start(rows, options.producers).await {
        Ok(postgres) => peers.push(Peer::Postgres(postgres)),
        Err(error) => eprintln!("  skipped PostgreSQL: {error:#}"),
    }
    Ok(peers)
}
