//! `sim`: runs seeds.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program that talks to a person.

use std::ops::Range;
use std::process::ExitCode;

use cluster_sim::{Keep, Mutant, Report, Scene, Twist, run, run_many};

const USAGE: &str = "\
sim [--cluster] --seed N [--mutant NAME] [--trace]   one seed; --trace prints every line
sim [--cluster] --seeds A..B [--mutant NAME]         many; prints one line, and what failed

One group that moves, or with --cluster a whole cluster.

mutants: ack-before-sync vote-not-synced duplicate-not-recognised truncate-too-early
         learner-counted read-context-reused position-apart checkpoint-without-members
         leave-joint-skipped removed-log-forgotten
of a cluster: catalogue-alone-removes no-learners former-owner-believed owner-not-asked
         token-drawn-again nobody-plans moved-overlooked ack-before-sync
         duplicate-not-recognised identity-reused";

/// From so many seeds on, everything that can happen must have happened.
const COVERAGE_SEEDS_MIN: u64 = 100;

struct Options {
    seeds: Range<u64>,
    scene: Scene,
    trace: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&args) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.seeds.end - options.seeds.start == 1 { one(&options) } else { many(&options) }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut seeds = None;
    let mut mutant = None;
    let mut cluster = false;
    let mut trace = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => {
                let seed = number(value()?)?;
                seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let text = value()?;
                let (start, end) = text.split_once("..").ok_or("--seeds A..B")?;
                seeds = Some(number(start)?..number(end)?);
            }
            "--mutant" => mutant = Some(value()?.clone()),
            "--cluster" => cluster = true,
            "--trace" => trace = true,
            _ => return Err(format!("unknown: {arg}")),
        }
    }
    let seeds = seeds.filter(|seeds| !seeds.is_empty()).ok_or("which seed?")?;
    Ok(Options { seeds, scene: scene(cluster, mutant.as_deref())?, trace })
}

fn scene(cluster: bool, mutant: Option<&str>) -> Result<Scene, String> {
    let Some(name) = mutant else {
        return Ok(if cluster { Scene::Cluster(None) } else { Scene::Group(None) });
    };
    let scene = if cluster {
        Twist::from_name(name).map(|twist| Scene::Cluster(Some(twist)))
    } else {
        Mutant::from_name(name).map(|mutant| Scene::Group(Some(mutant)))
    };
    scene.ok_or_else(|| format!("no mutant {name}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn one(options: &Options) -> ExitCode {
    let keep = if options.trace { Keep::All } else { Keep::Last };
    let report = run(options.seeds.start, options.scene, keep);
    if options.trace || report.violation.is_some() {
        report.lines.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", report.coverage);
    let (hash, lines) = report.digest;
    println!("trace: {lines} lines, hash {hash:016x}, {} events", report.event_count);
    match &report.violation {
        None => ExitCode::SUCCESS,
        Some(_) => {
            println!("{}", failure(&report, options.scene));
            ExitCode::FAILURE
        }
    }
}

fn many(options: &Options) -> ExitCode {
    let summary = run_many(options.seeds.clone(), options.scene, |report| {
        println!("{}", failure(report, options.scene));
    });
    println!("{summary}");
    let missing = summary.coverage.missing();
    if COVERAGE_SEEDS_MIN <= summary.seeds && !missing.is_empty() {
        println!("never happened: {missing:?}");
        return ExitCode::FAILURE;
    }
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failure(report: &Report, scene: Scene) -> String {
    let what = report.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let options = scene.options();
    let at = report.simulated as f64 / 1e6;
    let seed = report.seed;
    format!(
        "seed {seed} failed at {at:.3} s: {what}\n  replay: cargo xtask sim{options} --seed {seed}"
    )
}
