//! What cargo knows of our packages and of those we use.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// A package of this workspace.
#[derive(Debug)]
pub struct Package {
    /// As in its manifest.
    pub name: String,
    /// Its folder, from the root of the repository.
    pub dir: String,
    /// Names of what it depends on, for building and running (not for its tests).
    pub dependencies: Vec<String>,
}

/// A package of ours or of others, as resolved.
#[derive(Debug)]
pub struct Resolved {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression, where it gives one.
    pub licence: Option<String>,
}

/// The packages of this workspace.
pub fn workspace(root: &Path) -> Result<Vec<Package>> {
    let metadata = metadata(root, &["--no-deps"])?;
    let mut packages = Vec::new();
    for package in array(&metadata, "packages")? {
        let manifest = Path::new(text(package, "manifest_path")?);
        let dir = manifest.parent().context("a manifest lies in a folder")?;
        let dir = dir.strip_prefix(root).context("a package outside the repository")?;
        let mut dependencies = Vec::new();
        for dependency in array(package, "dependencies")? {
            if dependency["kind"].as_str() != Some("dev") {
                dependencies.push(text(dependency, "name")?.to_string());
            }
        }
        packages.push(Package {
            name: text(package, "name")?.to_string(),
            dir: dir.to_string_lossy().replace('\\', "/"),
            dependencies,
        });
    }
    Ok(packages)
}

/// All packages of the lock file.
pub fn resolved(root: &Path) -> Result<Vec<Resolved>> {
    let metadata = metadata(root, &["--locked"])?;
    let mut packages = Vec::new();
    for package in array(&metadata, "packages")? {
        packages.push(Resolved {
            name: text(package, "name")?.to_string(),
            version: text(package, "version")?.to_string(),
            licence: package["license"].as_str().map(str::to_string),
        });
    }
    Ok(packages)
}

fn metadata(root: &Path, more: &[&str]) -> Result<Value> {
    let output = cargo::command(root)
        .args(["metadata", "--format-version", "1"])
        .args(more)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read what cargo metadata printed")
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("cargo metadata has no {key}"))
}
