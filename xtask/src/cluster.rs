//! `sim`, `chaos` and `bench`: programs of cluster-tests, run with the arguments given here.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// Simulated clusters: needs no RocksDB, so it answers within a minute of a fresh clone.
pub fn sim(root: &Path, args: &[String]) -> Result<()> {
    program(root, "cluster-sim", "sim", args)
}

/// Kills a node under load and audits what it kept.
pub fn chaos(root: &Path, args: &[String]) -> Result<()> {
    with_node(root, "chaos", args)
}

/// Measures a node, and its peers where they are installed.
pub fn bench(root: &Path, args: &[String]) -> Result<()> {
    with_node(root, "bench", args)
}

/// Builds the node, then runs a program of cluster-e2e that starts it.
fn with_node(root: &Path, name: &str, args: &[String]) -> Result<()> {
    setup::ensure_build()?;
    cargo::build(root, "alluvium", "alluvium")?;
    program(root, "cluster-e2e", name, args)
}

fn program(root: &Path, package: &str, name: &str, args: &[String]) -> Result<()> {
    let mut command = cargo::command(root);
    command.args(["run", "--quiet", "--package", package, "--bin", name, "--"]).args(args);
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
