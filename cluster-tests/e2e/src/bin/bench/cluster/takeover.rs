//! How long partitions cannot be written when their owner is killed, with little state of a view
//! and with much: every replica folds views, so the successor has nothing to fetch.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster_e2e::client::{Client, Reach, json_request};
use cluster_e2e::cluster::Cluster;
use cluster_e2e::measure::Latencies;
use cluster_e2e::views::ViewCase;

use super::{ClusterOptions, NOISE_BYTES, WAIT_MAX, create_noise_stream, send_noise};
use crate::report::Table;

const STREAM: &str = "state";
const PARTITIONS: u32 = 3;

/// A view of several GB is folded by three nodes on the same cores.
const FOLD_WAIT_MAX: Duration = Duration::from_secs(900);

/// How often a write is tried again, and how long a try may take.
const TRY: Duration = Duration::from_millis(10);
const TRY_WAIT_MAX: Duration = Duration::from_millis(500);

pub async fn run(options: &ClusterOptions) -> Result<()> {
    let head = [
        "state on each node, MB",
        "kills",
        "writable again, p50 ms",
        "p99",
        "most",
        "view answers again, p50 ms",
        "most",
        "restart until ready, most ms",
    ];
    let mut table = Table::new("Owners killed, three nodes, three replicas", &head);
    for &mib in &options.state_mib {
        let cells = with_state(options, mib).await?;
        table.row(cells);
    }
    table.print();
    Ok(())
}

async fn with_state(options: &ClusterOptions, mib: u64) -> Result<Vec<String>> {
    let mut cluster = Cluster::start_on_loopback(3, &[]).await?;
    let client = cluster.client(0).await?;
    client.query(&create_noise_stream(STREAM, PARTITIONS)).await?;
    let query = format!("SELECT key, count(*) AS n, min(note) AS note FROM {STREAM} GROUP BY key");
    let view = ViewCase::new("by_key", query);
    client.query(&view.create()).await?;
    send_noise(&cluster, STREAM, (mib << 20) / u64::try_from(NOISE_BYTES)?).await?;
    wait_folded(&cluster, &view).await?;
    let bytes = "SELECT CAST(sum(state_bytes) AS BIGINT) FROM system.views WHERE view = 'by_key'";
    let bytes = client.query(bytes).await?.single()?;
    let keys = keys(&client).await?;
    let (mut writable, mut answers) = (Latencies::default(), Latencies::default());
    let mut restarts = Latencies::default();
    for kill in 0..options.kills {
        let owners = cluster.wait_owned(STREAM, PARTITIONS, WAIT_MAX).await?;
        let victim = owners[&(u32::try_from(kill)? % PARTITIONS)];
        let lost = owners.iter().filter(|(_, owner)| **owner == victim);
        let lost: Vec<i64> = lost.map(|(partition, _)| keys[partition]).collect();
        cluster.kill(victim).await?;
        let since = Instant::now();
        for key in &lost {
            write(&cluster, *key).await?;
        }
        writable.add(since.elapsed());
        for key in &lost {
            read(&cluster, *key).await?;
        }
        answers.add(since.elapsed());
        cluster.restart_dead().await?;
        restarts.add(cluster.node(victim).started_in);
        cluster.wait_ready().await?;
        wait_folded(&cluster, &view).await?;
    }
    let at = |latencies: &mut Latencies, share| format!("{:.0}", latencies.quantile_ms(share));
    Ok(vec![
        format!("{:.0}", bytes as f64 / 1e6),
        options.kills.to_string(),
        at(&mut writable, 0.5),
        at(&mut writable, 0.99),
        at(&mut writable, 1.0),
        at(&mut answers, 0.5),
        at(&mut answers, 1.0),
        at(&mut restarts, 1.0),
    ])
}

async fn wait_folded(cluster: &Cluster, view: &ViewCase) -> Result<()> {
    for node in cluster.running() {
        let folded = view.wait(&cluster.client(node).await?, FOLD_WAIT_MAX).await;
        folded.with_context(|| cluster.name(node))?;
    }
    Ok(())
}

/// A key of each partition.
async fn keys(client: &Client) -> Result<BTreeMap<u32, i64>> {
    let mut keys = BTreeMap::new();
    for key in 0..1_000 {
        let answer = client.append(row(key)).await?;
        let taken = answer.partitions.iter().filter(|part| part.first < part.end);
        keys.extend(taken.map(|part| (part.partition, key)));
        if keys.len() == usize::try_from(PARTITIONS)? {
            return Ok(keys);
        }
    }
    anyhow::bail!("1,000 keys do not reach {PARTITIONS} partitions: {keys:?}")
}

fn row(key: i64) -> alluvium_proto::v1::AppendRequest {
    json_request(STREAM, None, format!("{{\"key\":{key},\"note\":\"probe\"}}\n"))
}

/// Writes until it is acknowledged, through every node that lives in turn.
async fn write(cluster: &Cluster, key: i64) -> Result<()> {
    again(cluster, async |client| client.append(row(key)).await.is_ok()).await
}

/// Asks the view until there is an answer.
async fn read(cluster: &Cluster, key: i64) -> Result<()> {
    let sql = format!("SELECT n FROM by_key WHERE key = {key}");
    again(cluster, async |client| client.query(&sql).await.is_ok()).await
}

async fn again(cluster: &Cluster, done: impl AsyncFn(Client) -> bool) -> Result<()> {
    let reach = Reach { connect_wait_max: TRY_WAIT_MAX, call_wait_max: TRY_WAIT_MAX, from: None };
    let deadline = Instant::now() + WAIT_MAX;
    let mut ticks = tokio::time::interval(TRY);
    while Instant::now() < deadline {
        for node in cluster.running() {
            ticks.tick().await;
            let address = &cluster.addresses(node).client;
            let Ok(client) = Client::connect_with(address, &reach).await else { continue };
            if done(client).await {
                return Ok(());
            }
        }
    }
    anyhow::bail!("not within {WAIT_MAX:?}")
}
