//! How fast data goes to a node that joins: from its start until it holds every event.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster_e2e::client::Client;
use cluster_e2e::cluster::{Cluster, status};

use super::{ClusterOptions, NOISE_BYTES, WAIT_MAX, create_noise_stream, send_noise};
use crate::load;
use crate::report::Table;

const STREAM: &str = "moved";
const PARTITIONS: u32 = 8;

/// Longer than the slowest disk takes.
const MOVED_WAIT_MAX: Duration = Duration::from_secs(600);

pub async fn run(options: &ClusterOptions) -> Result<()> {
    let head = ["who joins", "MB", "seconds", "MB/s"];
    let title = "Nodes join, until they hold a replica of everything";
    let mut table = Table::new(title, &head);
    let mut cluster = Cluster::start_on_loopback(1, &[]).await?;
    let client = cluster.client(0).await?;
    client.query(&create_noise_stream(STREAM, PARTITIONS)).await?;
    let rows = (options.moved_mib << 20) / u64::try_from(NOISE_BYTES)?;
    send_noise(&cluster, STREAM, rows).await?;
    let sealed = load::wait_sealed(&client, STREAM, WAIT_MAX).await?;
    eprintln!("  {rows} rows, {:.0} % of them in segments", sealed * 100.0);
    let all = held(&client).await?.0;
    ensure!(u64::try_from(all)? == rows, "{rows} rows sent, {all} there");
    for who in ["the second node", "the third node"] {
        let begun = Instant::now();
        let node = cluster.add(None).await?;
        let joined = cluster.client(node).await?;
        let bytes = status::poll(MOVED_WAIT_MAX, async || {
            let (events, bytes) = held(&joined).await?;
            Ok((events == all).then_some(bytes))
        });
        let (bytes, seconds) = (bytes.await? as f64 / 1e6, begun.elapsed().as_secs_f64());
        table.row(vec![
            who.to_owned(),
            format!("{bytes:.0}"),
            format!("{seconds:.1}"),
            format!("{:.0}", bytes / seconds),
        ]);
    }
    table.print();
    Ok(())
}

/// Events that this node itself holds, and the bytes of their segments.
async fn held(client: &Client) -> Result<(i64, i64)> {
    let answer = client
        .query(&format!(
            "SELECT CAST(sum(events) AS BIGINT), CAST(sum(segment_bytes) AS BIGINT) \
             FROM system.partitions WHERE stream = '{STREAM}'"
        ))
        .await?;
    Ok((answer.integers(0)?[0], answer.integers(1)?[0]))
}
