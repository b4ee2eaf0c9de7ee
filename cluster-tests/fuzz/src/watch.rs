//! What a panic does not say: an input that takes for ever, or ends the process.
//!
//! The input under way lies in a file, so it is there when a stack was not deep enough; and a
//! thread ends the process when one input takes too long.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::corpus;

/// How long one input may take, in a process that shares its processor with others.
const LONGEST: Duration = Duration::from_secs(30);

/// Watches one target.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    file: File,
    /// The number of the input under way.
    number: Arc<AtomicU64>,
    /// Dropped with this, which ends the thread.
    _end: Sender<()>,
}

impl Watch {
    /// Begins to watch.
    pub fn begin(name: &'static str) -> Watch {
        let path = std::env::temp_dir().join(format!("alluvium-fuzz-{name}.last"));
        let file = File::create(&path).expect("a file for the input under way");
        let number = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&number);
        let (end, ended) = mpsc::channel();
        let last = path.clone();
        std::thread::spawn(move || {
            let mut before = 0;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LONGEST) {
                let now = seen.load(Ordering::Relaxed);
                if now == before {
                    let input = std::fs::read(&last).unwrap_or_default();
                    let line = corpus::line_of(&input);
                    crate::report(&format!("fuzz {name}: takes too long with\n{line}"));
                    std::process::abort();
                }
                before = now;
            }
        });
        Watch { path, file, number, _end: end }
    }

    /// The next input is under way.
    pub fn next(&mut self, input: &[u8]) {
        self.number.fetch_add(1, Ordering::Relaxed);
        // Where it cannot be written, only a crash of the process would miss it.
        let _ = self.file.set_len(input.len() as u64);
        let _ = self.file.write_all_at(input, 0);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
