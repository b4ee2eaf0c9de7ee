//! Clusters of three nodes on this machine, with three replicas of everything.
//!
//! In reading order: [`load`] is ingest and its latency, beside [`etcd`]; [`idle`] is what
//! partitions cost that nobody uses; [`moves`] is how fast data goes to a node that joins;
//! [`takeover`] is how long a partition cannot be written when its owner dies.
//!
//! Nodes stand on loopback, as etcd's members do: what the network costs is what the kernel takes.

mod etcd;
mod idle;
mod load;
mod moves;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use clap::ValueEnum;
use cluster_e2e::client::{Client, arrow_request};
use cluster_e2e::cluster::Cluster;
use cluster_e2e::measure;
use tokio::task::JoinSet;

/// What is not there by then is not coming.
const WAIT_MAX: Duration = Duration::from_secs(180);

/// Three nodes, three replicas.
#[derive(clap::Args)]
pub struct ClusterOptions {
    /// Which parts; all where none is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Length of each measurement.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Producers, spread over the nodes, each with its own connection.
    #[arg(long, default_value_t = 9)]
    producers: usize,
    /// Batches a producer may have unanswered.
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 6)]
    partitions: u32,
    /// Rows of a batch; several may be named.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000])]
    batch_rows: Vec<usize>,
    /// Partitions that nobody uses.
    #[arg(long, default_value_t = 1_024)]
    idle_partitions: u32,
    /// Data there when nodes join.
    #[arg(long, default_value_t = 2_048)]
    moved_mib: u64,
    /// State of a view when owners are killed; several may be named.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 4_096])]
    state_mib: Vec<u64>,
    /// How many owners are killed with each.
    #[arg(long, default_value_t = 20)]
    kills: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Ingest, and ack latency at half of it, beside etcd.
    Load,
    /// Partitions that nobody uses.
    Idle,
    /// A node joins.
    Moves,
    /// Owners are killed.
    Takeover,
}

/// `bench cluster`.
pub async fn run(options: &ClusterOptions) -> Result<()> {
    let all = Part::value_variants();
    let parts = if options.parts.is_empty() { all } else { &options.parts };
    for part in parts {
        match part {
            Part::Load => load::run(options).await?,
            Part::Idle => idle::run(options).await?,
            Part::Moves => moves::run(options).await?,
            Part::Takeover => takeover::run(options).await?,
        }
    }
    Ok(())
}

/// CPU seconds of all nodes.
fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    let pids = cluster.running().map(|node| cluster.node(node).pid());
    pids.map(|pid| measure::cpu_seconds(pid?)).sum()
}

/// Rows of one batch whose text does not compress.
const NOISE_ROWS: u64 = 2_000;
const NOISE_BYTES: usize = 1_000;

/// Sends rows with the keys `[0, rows)` and a text that does not compress, from some producers at
/// once.
async fn send_noise(cluster: &Cluster, stream: &'static str, rows: u64) -> Result<()> {
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let producers = 4;
    let nodes: Vec<usize> = cluster.running().collect();
    for producer in 0..producers {
        let place = usize::try_from(producer)? % nodes.len();
        let client = cluster.client(nodes[place]).await?;
        tasks.spawn(async move {
            let starts = (0..rows).step_by(usize::try_from(NOISE_ROWS)?);
            for start in starts.skip(usize::try_from(producer)?).step_by(4) {
                let batch = noise(start..rows.min(start + NOISE_ROWS))?;
                append(&client, stream, &batch).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn append(client: &Client, stream: &str, batch: &RecordBatch) -> Result<()> {
    client.append(arrow_request(stream, None, batch)?).await?;
    Ok(())
}

/// Rows of 1,000 characters, of which a byte holds six bits.
fn noise(keys: std::ops::Range<u64>) -> Result<RecordBatch> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = keys.start | 1;
    let mut text = || {
        let mut text = String::with_capacity(NOISE_BYTES + 10);
        while text.len() < NOISE_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let letters = (0..10).map(|place| LETTERS[(state >> (6 * place)) as usize % 64]);
            text.extend(letters.map(char::from));
        }
        text
    };
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(keys.clone().map(|_| text())));
    let keys = keys.map(|key| i64::try_from(key).expect("keys are few"));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    Ok(RecordBatch::try_from_iter([("key", keys), ("note", texts)])?)
}

/// A stream of such rows.
fn create_noise_stream(name: &str, partitions: u32) -> String {
    format!(
        "CREATE STREAM {name} (key BIGINT NOT NULL, note TEXT NOT NULL) PARTITION BY (key) \
         WITH (partitions = {partitions})"
    )
}
