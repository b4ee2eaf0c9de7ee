//! From spawn to ready, and what a node takes that does nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_e2e::measure;
use cluster_e2e::node::{Node, NodeOptions};

use crate::queries::{self, QueriesOptions};
use crate::report::Table;

/// Start until ready.
#[derive(clap::Args)]
pub struct StartOptions {
    /// Rows and segments; its repetitions of questions are not used.
    #[command(flatten)]
    data: QueriesOptions,
}

/// A fresh node at rest.
#[derive(clap::Args)]
pub struct IdleOptions {
    /// How long its CPU is watched.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// `bench start`.
pub async fn run(options: &StartOptions) -> Result<()> {
    let mut node = queries::sealed_node(&options.data).await?;
    measure_starts(&mut node, options.data.starts.max(2), "events").await?.print();
    Ok(())
}

/// Restarts after SIGKILL and after SIGTERM in turn, each time with the page cache dropped where
/// that is allowed, and checks that no row is missing.
pub async fn measure_starts(node: &mut Node, starts: u32, stream: &str) -> Result<Table> {
    let head = ["ended by", "page cache", "rows", "ready after ms", "first count(*) after ms"];
    let mut table = Table::new("Start until ready", &head);
    let count = format!("SELECT count(*) FROM {stream}");
    let rows = node.client().await?.query(&count).await?.single()?;
    for start in 0..starts {
        let ended_by = if start % 2 == 0 {
            node.kill().await?;
            "SIGKILL"
        } else {
            let status = node.terminate(Duration::from_secs(10)).await?;
            ensure!(status.success(), "SIGTERM ends with {status}");
            "SIGTERM"
        };
        nix::unistd::sync();
        let dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
        let begun = std::time::Instant::now();
        node.restart().await?;
        let counted = node.client().await?.query(&count).await?.single()?;
        ensure!(counted == rows, "{rows} rows before, {counted} after");
        table.row(vec![
            ended_by.to_owned(),
            if dropped { "cold" } else { "warm" }.to_owned(),
            rows.to_string(),
            node.started_in.as_millis().to_string(),
            begun.elapsed().as_millis().to_string(),
        ]);
    }
    Ok(table)
}

/// `bench idle`.
pub async fn idle(options: &IdleOptions) -> Result<()> {
    let head = ["what", "ready after ms", "resident MiB", "CPU of one core"];
    let mut table = Table::new("A fresh node at rest", &head);
    let node = Node::start(NodeOptions::default()).await?;
    let pid = node.pid()?;
    let used = measure::cpu_seconds(pid)?;
    let seconds = Duration::from_secs(options.seconds);
    tokio::time::sleep(seconds).await;
    let share = (measure::cpu_seconds(pid)? - used) / seconds.as_secs_f64();
    table.row(vec![
        "one node, no streams".to_owned(),
        node.started_in.as_millis().to_string(),
        format!("{:.0}", measure::resident_bytes(pid)? as f64 / f64::from(1 << 20)),
        format!("{:.1} %", share * 100.0),
    ]);
    table.print();
    Ok(())
}
