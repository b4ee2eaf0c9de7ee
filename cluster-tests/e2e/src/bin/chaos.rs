//! `chaos node --rounds N`: kill -9 under load, restart, audit; `chaos views`: the same around
//! views made over history; `chaos cluster --rounds N`: several nodes and faults of all kinds.
//! Prints one line a round and a result.
#![allow(clippy::print_stdout, reason = "a program prints its result")]

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use cluster_e2e::chaos::{self, ChaosOptions};
use cluster_e2e::chaos_cluster::{self, ClusterChaosOptions, FAULTS, Fault};
use cluster_e2e::chaos_views::{self, ViewChaosOptions};
use cluster_e2e::measure;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One node, killed under load from eight producers.
    Node {
        /// How many kills.
        #[arg(long, default_value_t = 40)]
        rounds: u32,
        /// Decides the moments of the kills; the same seed gives a similar run.
        #[arg(long)]
        seed: Option<u64>,
        /// Tails are cut at this size: small, so that kills hit cuts and merges.
        #[arg(long, default_value_t = 128 << 10)]
        segment_bytes: u64,
        /// Longest load before a kill.
        #[arg(long, default_value_t = 1_200)]
        load_ms_max: u64,
    },
    /// Clusters under kills, pauses and network splits, audited after each.
    Cluster {
        /// How many rounds of each fault.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// How many nodes; of several numbers, one cluster after the other.
        #[arg(long, value_delimiter = ',', default_value = "3,5")]
        nodes: Vec<usize>,
        /// Only these faults.
        #[arg(long, value_delimiter = ',')]
        fault: Vec<Fault>,
        /// Decides victims and lengths; the same seed gives a similar run.
        #[arg(long)]
        seed: Option<u64>,
        /// Rows a second, of all producers together.
        #[arg(long, default_value_t = 5_000)]
        rate: usize,
        /// Tails are cut at this size.
        #[arg(long, default_value_t = 256 << 10)]
        segment_bytes: u64,
    },
    /// Views made over history while events come in, on a node that is killed.
    Views {
        /// Events in all.
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
        /// Events before the views are made.
        #[arg(long, default_value_t = 2_000_000)]
        history: u64,
        /// Events a second; 0: as fast as the node takes them.
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        /// How many kills.
        #[arg(long, default_value_t = 20)]
        kills: u32,
        /// Decides the moments of the kills; the same seed gives a similar run.
        #[arg(long)]
        seed: Option<u64>,
        /// Tails are cut at this size.
        #[arg(long, default_value_t = 8 << 20)]
        segment_bytes: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut say = |line: &str| println!("{line}");
    match Arguments::parse().what {
        What::Node { rounds, seed, segment_bytes, load_ms_max } => {
            let load_max = Duration::from_millis(load_ms_max);
            let options = ChaosOptions { rounds, seed: drawn(seed), segment_bytes, load_max };
            let report = chaos::run(&options, &mut say).await?;
            report.check()?;
            println!("\n{}", measure::machine());
            println!("{}", chaos::RESULT_HEAD);
            println!("{}", report.result_line(&options, begun.elapsed()));
        }
        What::Cluster { rounds, nodes, fault, seed, rate, segment_bytes } => {
            let faults = if fault.is_empty() { FAULTS.to_vec() } else { fault };
            let seed = drawn(seed);
            for nodes in nodes {
                let begun = Instant::now();
                let faults = faults.clone();
                let options =
                    ClusterChaosOptions { nodes, rounds, faults, seed, rate, segment_bytes };
                let mut report = chaos_cluster::run(&options, &mut say).await?;
                report.check()?;
                println!("\n{}", measure::machine());
                println!("{}", report.tables(seed, begun.elapsed()));
            }
        }
        What::Views { events, history, rate, kills, seed, segment_bytes } => {
            let (rate, seed) = ((0 < rate).then_some(rate), drawn(seed));
            let options = ViewChaosOptions { events, history, rate, kills, seed, segment_bytes };
            let report = chaos_views::run(&options, &mut say).await?;
            report.check()?;
            println!("\n{}", measure::machine());
            println!("{}", chaos_views::RESULT_HEAD);
            println!("{}", report.result_line(&options, begun.elapsed()));
        }
    }
    Ok(())
}

fn drawn(seed: Option<u64>) -> u64 {
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    seed
}
