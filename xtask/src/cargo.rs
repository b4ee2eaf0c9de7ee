//! Running cargo, always into the one folder of build results.
//!
//! One folder, because every further one compiles RocksDB and DataFusion again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the repository: the folder above this package's.
///
/// What `cargo run` says counts before what was true when this was built: clones that share a
/// folder of build results share this program too.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
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

/// Builds programs of the workspace and says where they lie.
///
/// Not `--package`: cargo unifies features over the packages selected, so each selection of its own
/// would compile DataFusion once more. `--examples` makes those of our tests count
/// too. What `cargo xtask test` builds and what this builds is then the same.
pub fn build(root: &Path, programs: &[&str]) -> Result<PathBuf> {
    let started = Instant::now();
    println!("building (the first time compiles RocksDB and DataFusion: half an hour or so) …");
    let mut args = vec!["build", "--locked", "--workspace", "--examples"];
    for program in programs {
        args.extend(["--bin", program]);
    }
    run(root, &args)?;
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    let dir = target_dir()?.join("debug");
    for program in programs {
        let path = dir.join(program);
        if !path.is_file() {
            bail!("cargo built {program} but it is not at {}", path.display());
        }
    }
    Ok(dir)
}
