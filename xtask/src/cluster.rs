//! `sim`, `chaos` and `bench`: programs of cluster-tests, run with the arguments given here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// Simulated clusters: needs no RocksDB, so it answers within a minute of a fresh clone.
pub fn sim(root: &Path, args: &[String]) -> Result<()> {
    let mut command = cargo::command(root);
    command.args(["run", "--locked", "--quiet", "--package", "cluster-sim", "--bin", "sim", "--"]);
    run(command.args(args), "sim")
}

/// Kills nodes, and cuts links between them, under load, and audits what they kept.
pub fn chaos(root: &Path, args: &[String]) -> Result<()> {
    if args.first().is_some_and(|what| what == "cluster") {
        setup::try_network();
    }
    with_node(root, "chaos", args)
}

/// Measures a node, and its peers where they are installed.
pub fn bench(root: &Path, args: &[String]) -> Result<()> {
    with_node(root, "bench", args)
}

/// Builds the node and a program of cluster-e2e that starts it, and runs the program.
fn with_node(root: &Path, name: &str, args: &[String]) -> Result<()> {
    setup::ensure_build()?;
    let dir = cargo::build(root, &["alluvium", name])?;
    let mut command = Command::new(dir.join(name));
    command.current_dir(root).env("ALLUVIUM_BIN", dir.join("alluvium"));
    command.env("CARGO_MANIFEST_DIR", root.join("cluster-tests/e2e"));
    run(command.args(args), name)
}

fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
