//! `chaos node --rounds N`: kill -9 under load, restart, audit; prints one line a round and a
//! result.
#![allow(clippy::print_stdout, reason = "a program prints its result")]

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use cluster_e2e::chaos::{self, ChaosOptions};
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let What::Node { rounds, seed, segment_bytes, load_ms_max } = Arguments::parse().what;
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let load_max = Duration::from_millis(load_ms_max);
    let options = ChaosOptions { rounds, seed, segment_bytes, load_max };
    let begun = Instant::now();
    let report = chaos::run(&options, &mut |line| println!("{line}")).await?;
    report.check()?;
    println!("\n{}", measure::machine());
    println!("{}", chaos::RESULT_HEAD);
    println!("{}", report.result_line(&options, begun.elapsed()));
    Ok(())
}
