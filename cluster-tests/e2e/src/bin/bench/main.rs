//! Benchmarks of one node and of three, beside peers in the same run. Prints Markdown for
//! docs/BENCHMARKS.md.
//!
//! The load client runs on the same cores as the node and its CPU time is named. Every load is
//! bounded by a number of rows or seconds. Nothing here is a test: figures are for people.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints its result")]

mod answers;
mod cluster;
mod ingest;
mod isolation;
mod latency;
mod load;
mod lookups;
mod peers;
mod postgres;
mod queries;
mod questions;
mod report;
mod start;
mod views;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Durable ingest of Arrow batches over gRPC, beside peers.
    Ingest(ingest::IngestOptions),
    /// Durable ingest of JSON rows over gRPC.
    Json(ingest::JsonOptions),
    /// Appends of one event each, from many callers at once.
    Single(latency::SingleOptions),
    /// Ack latency at half load, open loop.
    Latency(latency::LatencyOptions),
    /// 16 questions over sealed rows, beside DuckDB.
    Queries(queries::QueriesOptions),
    /// Groups of a view by their keys, one at a time.
    Lookups(lookups::LookupsOptions),
    /// Start until ready, over sealed rows.
    Start(start::StartOptions),
    /// Ingest with views, freshness, history, and questions that views answer.
    Views(views::ViewsOptions),
    /// Three nodes: ingest beside etcd, idle partitions, nodes that join, owners that are killed.
    Cluster(cluster::ClusterOptions),
    /// Memory and CPU of a fresh node that does nothing.
    Idle(start::IdleOptions),
}

// The load comes from the node's own cores: it should cost no more than it must.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let what = Arguments::parse().what;
    // Single events need no more than one thread to send, and several would spend their time on
    // waking each other.
    let mut runtime = if matches!(what, What::Single(_)) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    runtime.enable_all().build()?.block_on(run(what))
}

async fn run(what: What) -> anyhow::Result<()> {
    match what {
        What::Ingest(options) => ingest::arrow(&options).await,
        What::Json(options) => ingest::json(&options).await,
        What::Single(options) => latency::single(&options).await,
        What::Latency(options) => latency::at_half_load(&options).await,
        What::Queries(options) => queries::run(&options).await,
        What::Lookups(options) => lookups::run(&options).await,
        What::Start(options) => start::run(&options).await,
        What::Views(options) => views::run(&options).await,
        What::Cluster(options) => cluster::run(&options).await,
        What::Idle(options) => start::idle(&options).await,
    }
}
