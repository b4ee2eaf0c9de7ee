//! A file system of a few MiB, to fill up: a directory on it is a node's whole disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::is_root;

/// What is written at once to fill it.
const FILL_BYTES: usize = 64 << 10;

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
    _scratch: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of this size; where that is not possible, says why.
    pub fn mount(mib: u64) -> Result<SmallDisk, String> {
        if !is_root() {
            return Err("mounting needs root".to_owned());
        }
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let dir = scratch.path().join("disk");
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir);
        let output = mount.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(SmallDisk { dir, _scratch: scratch })
    }

    /// Takes all the room that is left, until this file is removed.
    pub fn fill(&self) -> std::io::Result<PathBuf> {
        let path = self.dir.join("ballast");
        let mut file = std::fs::File::create(&path)?;
        let block = vec![7; FILL_BYTES];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(path),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for SmallDisk {
    #[allow(clippy::print_stderr, reason = "a drop has nobody to return an error to")]
    fn drop(&mut self) {
        // Lazily: a node that is being killed may still hold files.
        let unmounted = Command::new("umount").arg("-l").arg(&self.dir).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.display());
        }
    }
}
