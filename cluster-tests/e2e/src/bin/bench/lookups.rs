//! Lookups: one group of a view by its key, from callers that each wait for their answer.

use std::time::{Duration, Instant};

use alluvium_proto::v1;
use alluvium_proto::v1::lookup_request::{Freshness, Keys};
use anyhow::Result;
use cluster_e2e::client::Client;
use cluster_e2e::measure::{self, Latencies};
use cluster_e2e::node::{Node, NodeOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use crate::report::{Table, rate};

/// Lookups of single groups.
#[derive(clap::Args)]
pub struct LookupsOptions {
    /// Groups of the view.
    #[arg(long, default_value_t = 100_000)]
    groups: u64,
    /// Callers, each waiting for its answer; several numbers may be given.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    callers: Vec<usize>,
    /// Connections that they share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Length of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
}

const SEED: u64 = 8;

/// Rows of one append.
const BATCH_ROWS: u64 = 10_000;

/// `bench lookups`.
pub async fn run(options: &LookupsOptions) -> Result<()> {
    let title = format!("Lookups of one group out of {}, as JSON", options.groups);
    let head = ["what", "lookups/s", "p50 ms", "p99 ms", "p99.9 ms", "node CPU us each"];
    let mut table = Table::new(title, &head);
    let node = Node::start(NodeOptions::default()).await?;
    fill(&node.client().await?, options.groups).await?;
    for repetition in 1..=options.repeat {
        for &callers in &options.callers {
            for (fresh, freshness) in
                [("everything acknowledged", None), ("as it is", Some(Freshness::AsItIs(true)))]
            {
                let cells = timed(&node, options, callers, freshness).await?;
                let what = format!("{callers} callers, {fresh}, run {repetition}");
                table.row([vec![what], cells].concat());
            }
        }
    }
    table.print();
    Ok(())
}

async fn fill(client: &Client, groups: u64) -> Result<()> {
    client
        .query(
            "CREATE STREAM counted (id BIGINT NOT NULL, n BIGINT) PARTITION BY (id) \
                WITH (partitions = 4)",
        )
        .await?;
    client
        .query(
            "CREATE MATERIALIZED VIEW by_id AS SELECT id, count(*) AS events, sum(n) AS total, \
                max(n) AS most FROM counted GROUP BY id",
        )
        .await?;
    for first in (0..groups).step_by(BATCH_ROWS as usize) {
        let ids = first..groups.min(first + BATCH_ROWS);
        let rows: String = ids.map(|id| format!("{{\"id\":{id},\"n\":{}}}\n", id % 97)).collect();
        client.append(cluster_e2e::client::json_request("counted", None, rows)).await?;
    }
    let answer = client.query("SELECT CAST(count(*) AS BIGINT) FROM by_id").await?;
    anyhow::ensure!(answer.single()? == groups as i64, "the view does not hold what was sent");
    Ok(())
}

async fn timed(
    node: &Node,
    options: &LookupsOptions,
    callers: usize,
    freshness: Option<Freshness>,
) -> Result<Vec<String>> {
    let mut clients = Vec::new();
    for _ in 0..options.connections.min(callers) {
        clients.push(node.client().await?);
    }
    let pid = node.pid()?;
    let cpu = measure::cpu_seconds(pid)?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let client = clients[caller % clients.len()].clone();
        let (groups, freshness) = (options.groups, freshness.clone());
        let rng = ChaCha8Rng::seed_from_u64(SEED + caller as u64);
        tasks.spawn(async move { call(&client, rng, groups, freshness, end).await });
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    let wall = begun.elapsed().as_secs_f64();
    let cpu = measure::cpu_seconds(pid)? - cpu;
    let count = latencies.count() as u64;
    Ok(vec![
        rate(count, wall),
        format!("{:.3}", latencies.quantile_ms(0.5)),
        format!("{:.3}", latencies.quantile_ms(0.99)),
        format!("{:.3}", latencies.quantile_ms(0.999)),
        format!("{:.1}", cpu * 1e6 / count as f64),
    ])
}

async fn call(
    client: &Client,
    mut rng: ChaCha8Rng,
    groups: u64,
    freshness: Option<Freshness>,
    end: Instant,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let id = rng.random_range(0..groups);
        let request = v1::LookupRequest {
            view: "by_id".into(),
            keys: Some(Keys::Json(format!("{{\"id\":{id}}}").into())),
            freshness: freshness.clone(),
            ..v1::LookupRequest::default()
        };
        let begun = Instant::now();
        let (rows, _) = client.lookup(request).await?;
        latencies.add(begun.elapsed());
        let total = rows.first().and_then(|row| row["total"].as_u64());
        anyhow::ensure!(total == Some(id % 97), "group {id} is {rows:?}");
    }
    Ok(latencies)
}
