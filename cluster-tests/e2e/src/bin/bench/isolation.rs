//! Views beside views that misbehave: one that fails, one with a group for every event, one that is
//! a hundred times slower than others. How fresh the rest of twenty stay is measured before they
//! come, while they are there, and after they have gone.

use std::time::Instant;

use anyhow::{Context, Result};
use cluster_e2e::client::{self, Client};
use cluster_e2e::events::{BLOCK_ROWS, Events};
use cluster_e2e::measure::Latencies;
use cluster_e2e::node::{Node, NodeOptions};

use crate::load;
use crate::report::Table;
use crate::views::{FRESHNESS_GAP, KEYS, ViewsOptions, background, create_view};

/// Views that are as most are: sixteen, and one more.
const PLAIN: usize = KEYS.len() + 1;

/// Fails on every event, and stops before the first.
const FAILING: &str = "CREATE MATERIALIZED VIEW failing WITH (on_error = 'park') AS \
    SELECT host, sum(bytes / (status - status)) AS n FROM events GROUP BY host";

/// Keeps a group for nearly every event.
const WIDE: &str = "CREATE MATERIALIZED VIEW wide AS \
    SELECT ts, host, url, user_id, latency_ms, count(*) AS n FROM events \
    GROUP BY ts, host, url, user_id, latency_ms";

/// Takes some ten microseconds for an event, where others take a tenth of one.
const SLOW: &str = "CREATE MATERIALIZED VIEW slow AS \
    SELECT host, max(md5(repeat(url, 800))) AS n FROM events GROUP BY host";

/// `bench views --isolation`.
pub async fn run(options: &ViewsOptions) -> Result<Table> {
    let head = ["views", "samples", "p50 ms", "p99 ms", "p99 of the one before"];
    let title = format!("Freshness of {PLAIN} views at {:.0} events a second", options.rate);
    let mut table = Table::new(title, &head);
    let node = Node::start(NodeOptions::default()).await?;
    let client = node.client().await?;
    client.query(&load::create_stream("events", 4)).await?;
    for place in 0..PLAIN {
        let keys = KEYS.get(place).copied().unwrap_or("service, method, status");
        client.query(&create_view(&format!("plain_{place}"), "events", keys)).await?;
    }
    let mut before = None;
    for beside in ["alone", "beside three that misbehave", "alone again"] {
        if beside.starts_with("beside") {
            for create in [FAILING, WIDE, SLOW] {
                client.query(create).await?;
            }
        }
        let mut latencies = measured(&node, &client, options).await?;
        let p99 = latencies.quantile_ms(0.99);
        table.row(vec![
            format!("{PLAIN} {beside}"),
            latencies.count().to_string(),
            format!("{:.2}", latencies.quantile_ms(0.5)),
            format!("{p99:.2}"),
            before.map_or(String::new(), |before: f64| format!("{:.2}", p99 / before)),
        ]);
        before = Some(p99);
        if beside.starts_with("beside") {
            check(&client).await?;
            for view in ["failing", "wide", "slow"] {
                client.query(&format!("DROP MATERIALIZED VIEW {view}")).await?;
            }
        }
    }
    Ok(table)
}

/// From an ack to an answer of one view after the other, while events come in beside.
async fn measured(node: &Node, client: &Client, options: &ViewsOptions) -> Result<Latencies> {
    let background = tokio::spawn(background(node.client().await?, options.rate, options.seconds));
    let block = Events::new(BLOCK_ROWS as u64).block(0);
    let end = Instant::now() + std::time::Duration::from_secs(options.seconds);
    let mut latencies = Latencies::default();
    let mut sample = 0;
    while Instant::now() < end {
        let one = block.slice(sample % block.num_rows(), 1);
        let ack = client.append(client::arrow_request("events", None, &one)?).await?;
        let acked_at = Instant::now();
        let frontier = ack.frontier.context("an ack has a frontier")?;
        let sql = format!("SELECT count(*) FROM plain_{}", sample % PLAIN);
        client.query_at_least(&sql, frontier).await?;
        latencies.add(acked_at.elapsed());
        sample += 1;
        tokio::time::sleep(FRESHNESS_GAP).await;
    }
    background.await??;
    Ok(latencies)
}

/// The three did what they are there for, and the others folded every event.
async fn check(client: &Client) -> Result<()> {
    let sql = "SELECT count(*) FROM system.views WHERE view = 'failing' AND state LIKE 'parked%'";
    let parked = client.query(sql).await?.single()?;
    anyhow::ensure!(0 < parked, "the failing view is not parked");
    let events = client.query("SELECT count(*) FROM events").await?.single()?;
    for place in 0..PLAIN {
        let sql = format!("SELECT CAST(sum(n) AS BIGINT) FROM plain_{place}");
        let counted = client.query(&sql).await?.single()?;
        anyhow::ensure!(events <= counted, "{events} events, {counted} in view plain_{place}");
    }
    Ok(())
}
