//! DuckDB beside the SQL tests: are the stored answers still those it gives?
//!
//! The corpus stands with its answers in the repository, so the engine's own tests need no Python.
//! This asks again, in a virtual environment of its own in the user's cache.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The script that asks, and what it needs.
const SCRIPT: &str = "node/crates/query/slt/duckdb.py";
const REQUIREMENTS: &str = "node/crates/query/slt/requirements.txt";

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Every stored answer is DuckDB's.
    Same,
    /// Nobody could be asked here.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Asks DuckDB the statements of the corpus and compares its answers with the stored ones.
pub fn check(root: &Path) -> Result<Asked> {
    let cache = cargo::target_dir()?;
    let cache = cache.parent().context("the build results lie in a folder")?;
    let environment = cache.join("slt-venv");
    let python = environment.join("bin/python");
    if !python.is_file() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status();
        if !made.is_ok_and(|status| status.success()) {
            // What is half made would look whole the next time.
            let _ = std::fs::remove_dir_all(&environment);
            let reason = "python3 with its venv module is not installed (python3-venv)".into();
            return Ok(Asked::Skipped { reason });
        }
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    let installed = install.arg(root.join(REQUIREMENTS)).status();
    if !installed.is_ok_and(|status| status.success()) {
        return Ok(Asked::Skipped { reason: "pip could not install DuckDB".into() });
    }
    let status = Command::new(&python)
        .arg(root.join(SCRIPT))
        .arg("--check")
        .status()
        .with_context(|| format!("start {SCRIPT}"))?;
    if !status.success() {
        bail!("stored answers differ from DuckDB's: python {SCRIPT} --check");
    }
    Ok(Asked::Same)
}
