//! Which crate of ours may depend on which: the table in docs/ARCHITECTURE.md under [`HEADING`]
//! against the manifests.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::{Finding, markdown};
use crate::metadata::Package;

/// Where the table stands.
pub const HEADING: &str = "## Dependency directions";

/// For each crate of ours, those it may depend on.
pub type Directions = BTreeMap<String, Vec<String>>;

/// Reads the table.
pub fn table(architecture: &str) -> Result<Directions> {
    let rows = markdown::table(architecture, HEADING).context("the directions are missing")?;
    let mut directions = Directions::new();
    for row in rows {
        let [name, may_use, ..] = row.as_slice() else { bail!("a row with too few columns") };
        let name = markdown::quoted(name).into_iter().next().context("a row without a crate")?;
        directions.insert(name, markdown::quoted(may_use));
    }
    Ok(directions)
}

/// Crates missing from the table, and dependencies it does not have.
pub fn check(directions: &Directions, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.dir);
        let Some(allowed) = directions.get(&package.name) else {
            let what = format!("add `{}` to \"{HEADING}\" in docs/ARCHITECTURE.md", package.name);
            findings.push(Finding::new(&manifest, 0, what));
            continue;
        };
        for used in &package.dependencies {
            let ours = packages.iter().any(|other| other.name == *used);
            if ours && !allowed.contains(used) {
                let what = format!("`{}` may not depend on `{used}`", package.name);
                findings.push(Finding::new(&manifest, 0, what));
            }
        }
    }
    findings
}
