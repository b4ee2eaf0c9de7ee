//! Views: what they cost ingest, how fast they follow history, how fresh they are, and what they
//! save a question.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster_e2e::client::{self, Client};
use cluster_e2e::events::{BLOCK_ROWS, Events};
use cluster_e2e::measure::{self, Latencies};
use cluster_e2e::node::{Node, NodeOptions};
use serde_json::json;

use crate::isolation;
use crate::load::{self, Loaded};
use crate::queries::{self, QueriesOptions};
use crate::questions::{Dialect, QUESTIONS};
use crate::report::{Table, rate};

/// Views on a stream.
#[derive(clap::Args)]
pub struct ViewsOptions {
    /// Rows a run of ingest.
    #[arg(long, default_value_t = 3_000_000)]
    rows: u64,
    /// Rows of history that a view is built over.
    #[arg(long, default_value_t = 10_000_000)]
    history: u64,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// Seconds of the freshness run.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Only how fresh 17 views stay beside three that misbehave.
    #[arg(long)]
    isolation: bool,
    /// Events a second that come in beside that.
    #[arg(long, default_value_t = 20_000.0)]
    pub rate: f64,
}

/// Group columns of the views beside each other, as different dashboards would ask.
pub const KEYS: [&str; 16] = [
    "host",
    "service",
    "region",
    "status",
    "method",
    "host, service",
    "service, status",
    "region, status",
    "service, region",
    "host, status",
    "method, status",
    "host, method",
    "service, method",
    "region, method",
    "host, region",
    "url",
];

/// What a view may be built beside, and how long that is waited for.
const BUILD_WAIT_MAX: Duration = Duration::from_secs(300);

/// How often a view is asked whether it is there yet.
const BUILD_POLL: Duration = Duration::from_millis(5);

/// Between two appends whose way into a view is measured.
pub const FRESHNESS_GAP: Duration = Duration::from_millis(20);

/// `bench views`.
pub async fn run(options: &ViewsOptions) -> Result<()> {
    if options.isolation {
        isolation::run(options).await?.print();
        return Ok(());
    }
    ingest(options).await?.print();
    freshness(options).await?.print();
    let sealed = QueriesOptions::sealed(options.history);
    let node = queries::sealed_node(&sealed).await?;
    replay(options, &node).await?.print();
    questions(options, &node).await?.print();
    Ok(())
}

/// A view as most of them are.
pub fn create_view(name: &str, stream: &str, keys: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW {name} AS SELECT {keys}, count(*) AS n, sum(bytes) AS b, \
         min(latency_ms) AS least, max(latency_ms) AS most FROM {stream} GROUP BY {keys}"
    )
}

/// Ingest with more and more views on the stream.
async fn ingest(options: &ViewsOptions) -> Result<Table> {
    let head =
        ["views", "rows/s", "of ingest without", "ack p99 ms", "all folded after s", "CPU s"];
    let mut table = Table::new("Ingest with views: Arrow batches, 8 producers", &head);
    let node = Node::start(NodeOptions::default()).await?;
    let client = node.client().await?;
    for repetition in 1..=options.repeat {
        let mut without = 0.0;
        for views in [0, 1, 2, 4, 16] {
            let stream = format!("events_{repetition}_{views}");
            client.query(&load::create_stream(&stream, 4)).await?;
            for (place, keys) in KEYS[..views].iter().enumerate() {
                client.query(&create_view(&format!("{stream}_v{place}"), &stream, keys)).await?;
            }
            let dealt = load::deal_arrow(options.rows, 8);
            let begun = Instant::now();
            let loaded = load::send(&node, &stream, dealt, 4).await?;
            let speed = loaded.rows as f64 / loaded.wall.as_secs_f64();
            if views == 0 {
                without = speed;
            }
            for place in 0..views {
                check_view(&client, &stream, place, &loaded).await?;
            }
            let folded = begun.elapsed();
            table.row(ingest_row(views, loaded, speed / without, folded));
            for place in 0..views {
                client.query(&format!("DROP MATERIALIZED VIEW {stream}_v{place}")).await?;
            }
            client.query(&format!("DROP STREAM {stream}")).await?;
        }
    }
    Ok(table)
}

/// A linearizable read waits until the view has folded everything.
async fn check_view(client: &Client, stream: &str, place: usize, loaded: &Loaded) -> Result<()> {
    let sql = format!("SELECT CAST(sum(n) AS BIGINT) FROM {stream}_v{place}");
    let counted = client.query(&sql).await?.single()?;
    anyhow::ensure!(counted == loaded.rows as i64, "{} rows, {counted} in the view", loaded.rows);
    Ok(())
}

fn ingest_row(views: usize, mut loaded: Loaded, share: f64, folded: Duration) -> Vec<String> {
    vec![
        views.to_string(),
        rate(loaded.rows, loaded.wall.as_secs_f64()),
        format!("{share:.2}"),
        format!("{:.1}", loaded.latencies.quantile_ms(0.99)),
        format!("{:.2}", folded.as_secs_f64()),
        format!("{:.2}", loaded.client_cpu + loaded.server_cpu),
    ]
}

/// From an ack to the answer of a view that holds the batch, while half of what the node takes
/// comes in beside.
async fn freshness(options: &ViewsOptions) -> Result<Table> {
    let head = ["load rows/s", "samples", "p50 ms", "p99 ms"];
    let title = "From an ack to an answer of the view that holds it, over gRPC and SQL";
    let mut table = Table::new(title, &head);
    let node = Node::start(NodeOptions::default()).await?;
    let client = node.client().await?;
    client.query(&load::create_stream("events", 4)).await?;
    client.query(&create_view("by_host", "events", "host")).await?;
    let most = load::send(&node, "events", load::deal_arrow(options.rows, 8), 4).await?;
    let most = most.rows as f64 / most.wall.as_secs_f64();
    let background = tokio::spawn(background(node.client().await?, most / 2.0, options.seconds));
    let block = Events::new(BLOCK_ROWS as u64).block(0);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut latencies = Latencies::default();
    let mut row = 0;
    while Instant::now() < end {
        let one = block.slice(row % block.num_rows(), 1);
        row += 1;
        let ack = client.append(client::arrow_request("events", None, &one)?).await?;
        let acked_at = Instant::now();
        let frontier = ack.frontier.context("an ack has a frontier")?;
        let sql = "SELECT n FROM by_host WHERE host = 'host-0001'";
        client.query_at_least(sql, frontier).await?;
        latencies.add(acked_at.elapsed());
        tokio::time::sleep(FRESHNESS_GAP).await;
    }
    let sent = background.await??;
    table.row(vec![
        rate(sent, options.seconds as f64),
        latencies.count().to_string(),
        format!("{:.2}", latencies.quantile_ms(0.5)),
        format!("{:.2}", latencies.quantile_ms(0.99)),
    ]);
    Ok(table)
}

/// Sends batches at a rate for some seconds, one at a time.
pub async fn background(client: Client, rate: f64, seconds: u64) -> Result<u64> {
    let block = Events::new(BLOCK_ROWS as u64).block(0).slice(0, 1_000);
    let request = client::arrow_request("events", None, &block)?;
    let gap = Duration::from_secs_f64(block.num_rows() as f64 / rate);
    let mut clock = tokio::time::interval(gap);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut waiting = tokio::task::JoinSet::new();
    let mut sent = 0;
    while Instant::now() < end {
        clock.tick().await;
        let (client, request) = (client.clone(), request.clone());
        waiting.spawn(async move { client.append(request).await });
        sent += block.num_rows() as u64;
        while 64 < waiting.len() {
            waiting.join_next().await.context("some are waiting")???;
        }
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(sent)
}

/// A view built over sealed history, beside a one-shot aggregate of DuckDB's over the same rows.
async fn replay(options: &ViewsOptions, node: &Node) -> Result<Table> {
    let head = ["what", "seconds", "events/s"];
    let mut table = Table::new(format!("A view over {} sealed rows", options.history), &head);
    let client = node.client().await?;
    let mut peer = queries::peer("parquet", options.history).await?;
    for repetition in 1..=options.repeat {
        for keys in ["host", "user_id"] {
            let begun = Instant::now();
            client.query(&create_view("built", "events", keys)).await?;
            wait_built(&client, options.history).await?;
            let seconds = begun.elapsed().as_secs_f64();
            client.query("DROP MATERIALIZED VIEW built").await?;
            let what = format!("Alluvium, by {keys}, run {repetition}");
            table.row(vec![what, format!("{seconds:.2}"), rate(options.history, seconds)]);
            let sql = format!(
                "SELECT {keys}, count(*) AS n, sum(bytes) AS b, min(latency_ms) AS least, \
                 max(latency_ms) AS most FROM events GROUP BY {keys} ORDER BY n LIMIT 1"
            );
            let answer = peer.ask(&json!({ "sql": sql })).await?;
            let seconds = answer["seconds"].as_f64().context("no seconds")?;
            let what = format!("DuckDB on Parquet, one shot, by {keys}, run {repetition}");
            table.row(vec![what, format!("{seconds:.2}"), rate(options.history, seconds)]);
        }
    }
    Ok(table)
}

async fn wait_built(client: &Client, events: u64) -> Result<()> {
    let sql = "SELECT CAST(sum(folded) AS BIGINT) FROM system.views WHERE view = 'built'";
    let end = Instant::now() + BUILD_WAIT_MAX;
    while Instant::now() < end {
        if client.query(sql).await?.single()? == events as i64 {
            return Ok(());
        }
        tokio::time::sleep(BUILD_POLL).await;
    }
    anyhow::bail!("the view was not built within {BUILD_WAIT_MAX:?}")
}

/// Views that cover the questions which can be covered: name of the question, view, question over
/// the view.
const COVERED: [(&str, &str, &str); 12] = [
    (
        "scan and sum",
        "SELECT count(*) AS n, sum(bytes) AS b, max(latency_ms) AS m FROM events",
        "SELECT n, b, m FROM covered",
    ),
    (
        "by minute",
        "SELECT date_bin(INTERVAL '1 minute', ts) AS t, count(*) AS n, sum(bytes) AS b, \
         avg(latency_ms) AS l FROM events GROUP BY date_bin(INTERVAL '1 minute', ts)",
        "SELECT t, n, b, l FROM covered ORDER BY t",
    ),
    (
        "5 minutes by service",
        "SELECT date_bin(INTERVAL '5 minute', ts) AS t, service, count(*) AS n, sum(bytes) AS b \
         FROM events GROUP BY date_bin(INTERVAL '5 minute', ts), service",
        "SELECT t, service, n, b FROM covered ORDER BY t, service",
    ),
    (
        "top 10 addresses",
        "SELECT url, count(*) AS n, sum(bytes) AS b FROM events GROUP BY url",
        "SELECT url, n, b FROM covered ORDER BY n DESC, url LIMIT 10",
    ),
    (
        "approximate distinct users",
        "SELECT service, approx_distinct(user_id) AS u FROM events GROUP BY service",
        "SELECT service, u FROM covered ORDER BY service",
    ),
    (
        "latency quantiles",
        "SELECT service, approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50, \
         approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) AS p95, \
         approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99 FROM events \
         GROUP BY service",
        "SELECT service, p50, p95, p99 FROM covered ORDER BY service",
    ),
    (
        "errors of one hour by host",
        "SELECT host, date_bin(INTERVAL '1 hour', ts) AS t, count(*) AS n, avg(latency_ms) AS l \
         FROM events WHERE status >= 500 GROUP BY host, date_bin(INTERVAL '1 hour', ts)",
        "SELECT host, n, l FROM covered WHERE t = TIMESTAMP '2026-11-01 06:00:00' \
         ORDER BY n DESC, host LIMIT 20",
    ),
    (
        "error rate by hour",
        "SELECT date_bin(INTERVAL '1 hour', ts) AS t, service, \
         sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END) AS e, count(*) AS n FROM events \
         GROUP BY date_bin(INTERVAL '1 hour', ts), service",
        "SELECT t, service, e * 1.0 / n AS r FROM covered ORDER BY t, service",
    ),
    (
        "1 M groups",
        "SELECT user_id, count(*) AS n, sum(bytes) AS b FROM events GROUP BY user_id",
        "SELECT user_id, n, b FROM covered ORDER BY n DESC, user_id LIMIT 10",
    ),
    (
        "join with 2,000 hosts",
        "SELECT host, count(*) AS n, sum(bytes) AS b FROM events GROUP BY host",
        "SELECT h.team, h.dc, sum(e.n) AS n, sum(e.b) AS b FROM covered e \
         JOIN hosts h ON e.host = h.host GROUP BY h.team, h.dc ORDER BY h.team, h.dc",
    ),
    (
        "one host, one hour",
        "SELECT host, date_bin(INTERVAL '1 minute', ts) AS t, count(*) AS n, max(latency_ms) AS m \
         FROM events GROUP BY host, date_bin(INTERVAL '1 minute', ts)",
        "SELECT t, n, m FROM covered WHERE host = 'host-0042' \
         AND t >= TIMESTAMP '2026-11-01 12:00:00' AND t < TIMESTAMP '2026-11-01 13:00:00' \
         ORDER BY t",
    ),
    (
        "last seen by host",
        "SELECT host, max(ts) AS last, count(*) AS n FROM events GROUP BY host",
        "SELECT host, last, n FROM covered ORDER BY n DESC, host LIMIT 10",
    ),
];

/// The questions that a view can cover, beside DuckDB's tables with the raw rows.
async fn questions(options: &ViewsOptions, node: &Node) -> Result<Table> {
    let head = ["question", "view ms", "raw rows ms", "DuckDB's tables ms", "view of DuckDB"];
    let title = format!("12 questions over {} rows, answered by views; medians", options.history);
    let mut table = Table::new(title, &head);
    let client = node.client().await?;
    let mut peer = queries::peer("tables", options.history).await?;
    let (mut total, mut theirs_total) = (0.0, 0.0);
    for (name, view, asked) in COVERED {
        let question = QUESTIONS.iter().find(|question| question.name == name);
        let question = question.with_context(|| format!("there is no question {name:?}"))?;
        client.query(&format!("CREATE MATERIALIZED VIEW covered AS {view}")).await?;
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for repetition in 0..=options.repeat {
            let view_seconds = timed(&client, asked).await?;
            let raw_seconds = timed(&client, &question.sql(Dialect::Alluvium)).await?;
            let answer = peer.ask(&json!({ "sql": question.sql(Dialect::DuckDb) })).await?;
            let peer_seconds = answer["seconds"].as_f64().context("no seconds")?;
            // The first warms up, and waits until the view is built.
            if repetition != 0 {
                let seconds = [view_seconds, raw_seconds, peer_seconds];
                times.iter_mut().zip(seconds).for_each(|(all, one)| all.push(one));
            }
        }
        client.query("DROP MATERIALIZED VIEW covered").await?;
        let [ours, raw, theirs] = [0, 1, 2].map(|who: usize| measure::median(&times[who]) * 1e3);
        total += ours;
        theirs_total += theirs;
        table.row(question_row(name, ours, raw, theirs));
    }
    table.row(question_row("**total**", total, f64::NAN, theirs_total));
    Ok(table)
}

async fn timed(client: &Client, sql: &str) -> Result<f64> {
    let begun = Instant::now();
    client.query(sql).await.with_context(|| sql.to_owned())?;
    Ok(begun.elapsed().as_secs_f64())
}

fn question_row(name: &str, ours: f64, raw: f64, theirs: f64) -> Vec<String> {
    let raw = if raw.is_nan() { String::new() } else { format!("{raw:.1}") };
    vec![
        name.to_owned(),
        format!("{ours:.2}"),
        raw,
        format!("{theirs:.1}"),
        format!("{:.3}", ours / theirs),
    ]
}
