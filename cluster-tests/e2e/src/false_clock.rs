//! A wall clock of one process that can be set while it runs, by a library that stands between the
//! process and the system (Debian's `libfaketime`).
//!
//! Only the wall clock: the monotonic one goes on as it does, as when somebody sets the time of a
//! machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the process may go on with what it read last.
pub const SEEN_AFTER: Duration = Duration::from_secs(1);

/// The clock of whoever is started with its settings.
#[derive(Debug)]
pub struct FalseClock {
    library: PathBuf,
    file: PathBuf,
    _scratch: tempfile::TempDir,
}

impl FalseClock {
    /// One that is right; where there can be none, says why.
    pub fn new() -> Result<FalseClock, String> {
        let library = library().ok_or("libfaketime is not installed")?;
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let clock = FalseClock { library, file: scratch.path().join("clock"), _scratch: scratch };
        clock.set(0).map_err(|error| error.to_string())?;
        Ok(clock)
    }

    /// Variables to start a process with.
    pub fn settings(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let settings = [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_CACHE_DURATION", SEEN_AFTER.as_secs().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Sets it so many seconds before or behind the right time.
    pub fn set(&self, ahead_seconds: i64) -> std::io::Result<()> {
        // Renamed into place: the process may read at any moment.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{ahead_seconds:+}\n"))?;
        std::fs::rename(new, &self.file)
    }
}

/// The form of the library for programs with threads.
fn library() -> Option<PathBuf> {
    let mut dirs = vec![PathBuf::from("/usr/lib")];
    dirs.extend(std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()));
    let found = dirs.into_iter().map(|dir| dir.join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.exists())
}
