//! Running cargo, always into the one folder of build results.
//!
//! One folder, because every further one compiles RocksDB and DataFusion again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the repository: the folder above this package's.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the repository").to_path_buf()
}

/// Where cargo builds: `CARGO_TARGET_DIR` if set, else a folder in the user's cache, so that a
/// fresh clone finds what another has built.
pub fn target_dir() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable("CARGO_TARGET_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let cache = match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => {
            let home: OsString = variable("HOME").context("neither CARGO_TARGET_DIR nor HOME")?;
            PathBuf::from(home).join(".cache")
        }
    };
    Ok(cache.join("alluvium").join("target"))
}

/// A cargo that builds into [`target_dir`].
pub fn command(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    if let Ok(dir) = target_dir() {
        command.env("CARGO_TARGET_DIR", dir);
    }
    command
}

/// Runs cargo with its output going where ours goes; an error when it fails.
pub fn run(root: &Path, args: &[&str]) -> Result<()> {
    let status = command(root).args(args).status().context("start cargo")?;
    if !status.success() {
        bail!("cargo {} failed ({status})", args.join(" "));
    }
    Ok(())
}

/// Builds one program and says where it lies.
pub fn build(root: &Path, package: &str, program: &str) -> Result<PathBuf> {
    let started = Instant::now();
    println!("building {program} (the first time compiles RocksDB and DataFusion) …");
    run(root, &["build", "--package", package, "--bin", program])?;
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    let path = target_dir()?.join("debug").join(program);
    if !path.is_file() {
        bail!("cargo built {program} but it is not at {}", path.display());
    }
    Ok(path)
}
