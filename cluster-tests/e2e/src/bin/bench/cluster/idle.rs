//! What partitions cost that nobody uses: three nodes, each with a replica of every one.

use std::time::Duration;

use anyhow::Result;
use cluster_e2e::cluster::Cluster;
use cluster_e2e::measure;

use super::{ClusterOptions, WAIT_MAX};
use crate::report::Table;

/// Elections, first checkpoints and flushes are over by then.
const SETTLED_AFTER: Duration = Duration::from_secs(15);

pub async fn run(options: &ClusterOptions) -> Result<()> {
    let head = ["what", "node", "CPU of one core", "resident MiB"];
    let mut table =
        Table::new("Partitions that nobody uses, a replica on each of three nodes", &head);
    let cluster = Cluster::start_on_loopback(3, &[]).await?;
    watch(options, &cluster, "no streams", &mut table).await?;
    let partitions = options.idle_partitions;
    let client = cluster.client(0).await?;
    let create = format!("CREATE STREAM idle (n BIGINT) WITH (partitions = {partitions})");
    client.query(&create).await?;
    cluster.wait_owned("idle", partitions, WAIT_MAX).await?;
    watch(options, &cluster, &format!("{partitions} partitions"), &mut table).await?;
    table.print();
    Ok(())
}

async fn watch(
    options: &ClusterOptions,
    cluster: &Cluster,
    what: &str,
    table: &mut Table,
) -> Result<()> {
    tokio::time::sleep(SETTLED_AFTER).await;
    let used = || cluster.running().map(|node| measure::cpu_seconds(cluster.node(node).pid()?));
    let before = used().collect::<Result<Vec<f64>>>()?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let after = used().collect::<Result<Vec<f64>>>()?;
    for (node, (before, after)) in before.into_iter().zip(after).enumerate() {
        let share = (after - before) / options.seconds as f64;
        let resident = measure::resident_bytes(cluster.node(node).pid()?)? as f64;
        table.row(vec![
            what.to_owned(),
            cluster.name(node),
            format!("{:.1} %", share * 100.0),
            format!("{:.0}", resident / f64::from(1 << 20)),
        ]);
    }
    Ok(())
}
