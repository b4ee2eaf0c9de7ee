//! Everything a developer runs. `cargo xtask` without more lists the commands.
//!
//! Small on purpose: it must be built before anything else can be, so it depends on next to nothing
//! and knows none of our crates. What a command does is in the module of its name.

// Its whole purpose is to print; there is no log here.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cargo;
mod cluster;
mod demo;
mod fuzz;
mod licences;
mod metadata;
mod peer;
mod setup;
mod test;
mod tidy;
mod toml;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask COMMAND

  demo [EXAMPLE] [--keep]         three nodes, real events, five questions, crashes, the same answers
  test [--light] [--from STEP] [--only STEP]
                                  everything CI checks, cheapest first
  tidy [--fix [FOLDER]]           the rules of this repository (part of test)
  licences                        licences and versions of what we use (part of test)
  fuzz [--minutes N] [--only TARGET] [--guided]
                                  changed inputs for all that reads bytes or text (a minute each in test)
  sim [--cluster] [--seed N | --seeds A..B]   one simulated group, or a whole cluster, from a seed
  chaos node [--rounds N]         kill -9 under load, then audit
  chaos views [--events N]        the same, with views made over history meanwhile
  chaos cluster [--rounds N]      several nodes: kills, pauses and network splits, N of each
  bench [ARGUMENTS]               the figures of docs/BENCHMARKS.md
";

/// The commands there are; documents may name no other.
const COMMANDS: [&str; 8] = ["demo", "test", "tidy", "licences", "fuzz", "sim", "chaos", "bench"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = if fuzz::is_compiler() {
        fuzz::compile(&args)
    } else {
        dispatch(&args).map(|()| ExitCode::SUCCESS)
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let root = cargo::root();
    let Some((command, rest)) = args.split_first() else {
        print!("{USAGE}");
        return Ok(());
    };
    match command.as_str() {
        "demo" => demo::run(&root, rest),
        "test" => test::run(&root, rest),
        "tidy" => tidy::run(&root, rest),
        "licences" => licences::run(&root),
        "fuzz" => fuzz::run(&root, rest),
        "sim" => cluster::sim(&root, rest),
        "chaos" => cluster::chaos(&root, rest),
        "bench" => cluster::bench(&root, rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no command {other:?}\n\n{USAGE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, USAGE};

    #[test]
    fn every_command_is_in_the_usage() {
        for command in COMMANDS {
            assert!(USAGE.contains(&format!("\n  {command} ")), "{command}");
        }
    }
}
