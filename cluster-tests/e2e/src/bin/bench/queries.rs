//! 16 questions over sealed rows, beside DuckDB on Parquet and on its own tables. Each repetition
//! asks everybody each question in turn, so that noise falls on all alike.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster_e2e::client::{self, Client};
use cluster_e2e::events::{Events, hosts};
use cluster_e2e::measure;
use cluster_e2e::node::{Node, NodeOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::answers;
use crate::load;
use crate::peers::Worker;
use crate::questions::{Dialect, QUESTIONS, Question};
use crate::report::Table;

/// Questions over sealed rows.
#[derive(clap::Args)]
pub struct QueriesOptions {
    /// Rows.
    #[arg(long, default_value_t = 10_000_000)]
    pub rows: u64,
    /// Repetitions; the first warms up and is not counted.
    #[arg(long, default_value_t = 6)]
    pub reps: usize,
    /// Partitions of the stream.
    #[arg(long, default_value_t = 2)]
    pub partitions: u32,
    /// Tails are cut at this size. Without it: the node's default.
    #[arg(long)]
    pub segment_bytes: Option<u64>,
    /// How long to wait until the node has sealed and merged everything.
    #[arg(long, default_value_t = 300)]
    pub seal_seconds_max: u64,
    /// Restarts measured afterwards, half by SIGKILL, half by SIGTERM.
    #[arg(long, default_value_t = 4)]
    pub starts: u32,
}

impl QueriesOptions {
    /// Everything as by default, over so many rows.
    pub fn sealed(rows: u64) -> QueriesOptions {
        QueriesOptions {
            rows,
            reps: 0,
            partitions: 2,
            segment_bytes: None,
            seal_seconds_max: 300,
            starts: 0,
        }
    }
}

/// Everybody's times for one question, in seconds: us, DuckDB on Parquet, DuckDB's tables.
#[derive(Default)]
struct Times {
    wall: [Vec<f64>; 3],
    difference: Option<String>,
}

/// `bench queries`.
pub async fn run(options: &QueriesOptions) -> Result<()> {
    let mut node = sealed_node(options).await?;
    let client = node.client().await?;
    let mut peers = [peer("parquet", options.rows).await?, peer("tables", options.rows).await?];
    let mut all: Vec<Times> = QUESTIONS.iter().map(|_| Times::default()).collect();
    let cpu = measure::cpu_seconds(node.pid()?)?;
    for repetition in 0..options.reps {
        for (question, times) in QUESTIONS.iter().zip(&mut all) {
            ask_all(&client, &mut peers, question, repetition, times).await?;
        }
        eprintln!("  repetition {repetition} done, load average {}", measure::load_average());
    }
    let cpu = measure::cpu_seconds(node.pid()?)? - cpu;
    print(options, &all, cpu);
    if 0 < options.starts {
        crate::start::measure_starts(&mut node, options.starts, "events").await?.print();
    }
    Ok(())
}

/// A node that holds `events` in segments, and `hosts`.
pub async fn sealed_node(options: &QueriesOptions) -> Result<Node> {
    // What a tail still holds after the load is sealed by age: soon, where a live node would wait.
    let mut settings = NodeOptions::default().set("ALLUVIUM_SEGMENT_AGE", "5s");
    if let Some(bytes) = options.segment_bytes {
        settings = settings.set("ALLUVIUM_SEGMENT_BYTES", bytes);
    }
    let node = Node::start(settings).await?;
    let client = node.client().await?;
    client.query(&load::create_stream("events", options.partitions)).await?;
    client
        .query(
            "CREATE STREAM hosts (host TEXT, dc TEXT, team TEXT, cost_per_hour DOUBLE PRECISION) \
             WITH (partitions = 1)",
        )
        .await?;
    client.append(client::arrow_request("hosts", None, &hosts())?).await?;
    // One producer, in order of time, as a live stream comes in.
    let dealt = load::deal_arrow(options.rows, 1);
    let loaded = load::send(&node, "events", dealt, 8).await?;
    eprintln!("  {} rows loaded in {:.1} s", loaded.rows, loaded.wall.as_secs_f64());
    let wait_max = Duration::from_secs(options.seal_seconds_max);
    for stream in ["events", "hosts"] {
        let share = load::wait_sealed(&client, stream, wait_max).await?;
        eprintln!("  {:.2} % of {stream} is sealed", share * 100.0);
    }
    let segments =
        client.query("SELECT stream, count(*) FROM system.segments GROUP BY stream").await?;
    eprintln!("  segments: {}", segments.lines()?.join(", "));
    Ok(node)
}

pub async fn peer(mode: &str, rows: u64) -> Result<Worker> {
    let scratch = tempfile::tempdir()?;
    let events = scratch.path().join("events.parquet");
    let dimension = scratch.path().join("hosts.parquet");
    let table = Events::new(rows);
    let blocks = (0..table.blocks()).map(|number| table.block(number));
    write_parquet(&events, blocks)?;
    write_parquet(&dimension, [hosts()].into_iter())?;
    let state = scratch.path().join("state");
    let [events, dimension, state] =
        [events, dimension, state].map(|path| path.display().to_string());
    Worker::start("query_worker.py", &[mode, &events, &dimension, &state], scratch).await
}

/// Zstandard and row groups of 1 M rows: what the peers' own writers do by default or are advised
/// to.
fn write_parquet(
    path: &Path,
    mut batches: impl Iterator<Item = arrow::array::RecordBatch>,
) -> Result<()> {
    let first = batches.next().context("a table has a batch")?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(1_000_000))
        .build();
    let file = std::fs::File::create(path)?;
    let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties))?;
    writer.write(&first)?;
    for batch in batches {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(())
}

async fn ask_all(
    client: &Client,
    peers: &mut [Worker; 2],
    question: &Question,
    repetition: usize,
    times: &mut Times,
) -> Result<()> {
    let begun = Instant::now();
    let answer = client.query(&question.sql(Dialect::Alluvium)).await;
    let ours = begun.elapsed().as_secs_f64();
    let answer = answer.with_context(|| question.sql(Dialect::Alluvium))?;
    let ours_rows = answers::rows(&answer)?;
    let mut walls = [ours, 0.0, 0.0];
    for (peer, wall) in peers.iter_mut().zip(&mut walls[1..]) {
        let theirs = peer.ask(&json!({ "sql": question.sql(Dialect::DuckDb) })).await?;
        *wall = theirs["seconds"].as_f64().context("no seconds")?;
        let rows: Vec<Vec<Value>> = serde_json::from_value(theirs["rows"].clone())?;
        if let Err(difference) = answers::compare(&ours_rows, &rows, question.approximate) {
            times.difference.get_or_insert(difference);
        }
    }
    if repetition != 0 {
        for (all, wall) in times.wall.iter_mut().zip(walls) {
            all.push(wall);
        }
    }
    Ok(())
}

fn print(options: &QueriesOptions, all: &[Times], cpu: f64) {
    let title = format!("16 questions over {} sealed rows, medians", options.rows);
    let head = [
        "question",
        "Alluvium ms",
        "DuckDB on Parquet ms",
        "ratio",
        "DuckDB's tables ms",
        "ratio",
        "answers",
    ];
    let mut table = Table::new(title, &head);
    let mut totals = [0.0; 3];
    let mut products = [1.0; 3];
    let mut worst = [0.0_f64; 2];
    for (question, times) in QUESTIONS.iter().zip(all) {
        let medians = [0, 1, 2].map(|who| measure::median(&times.wall[who]));
        for who in 0..3 {
            totals[who] += medians[who];
            products[who] *= medians[who].powf(1.0 / QUESTIONS.len() as f64);
        }
        worst = [worst[0].max(medians[0] / medians[1]), worst[1].max(medians[0] / medians[2])];
        let equal = times.difference.clone().map_or("equal".to_owned(), |d| format!("differ: {d}"));
        table.row([cells(question.name, medians), vec![equal]].concat());
    }
    table.row([cells("**total**", totals), vec![String::new()]].concat());
    table.row([cells("geometric mean", products), vec![String::new()]].concat());
    let mut last = vec!["worst ratio".to_owned(), String::new(), String::new()];
    last.extend([format!("{:.2}", worst[0]), String::new(), format!("{:.2}", worst[1])]);
    last.push(format!("node used {cpu:.1} CPU s in {} repetitions", options.reps));
    table.row(last);
    table.print();
}

fn cells(name: &str, seconds: [f64; 3]) -> Vec<String> {
    let ms = |value: f64| format!("{:.1}", value * 1_000.0);
    vec![
        name.to_owned(),
        ms(seconds[0]),
        ms(seconds[1]),
        format!("{:.2}", seconds[0] / seconds[1]),
        ms(seconds[2]),
        format!("{:.2}", seconds[0] / seconds[2]),
    ]
}
