//! Gives the space of removed files back little by little.
//!
//! A file system frees a large file in one go, and the syncs of other files wait for its journal
//! meanwhile: each file of 64 to 128 MB that the log database removed held up everyone who waited
//! for an ack by 30 to 60 ms (ext4). Here files shrink from their end before they go.
//!
//! Segments are moved into a folder of their own, `removed`. RocksDB removes its files by itself,
//! whenever it likes: each is given a second name in that folder as soon as it is made, so that
//! what RocksDB removes is a name. A file whose only name is the one in `removed` is nobody's.
//!
//! Without this thread everything still works: files go at once, and syncs wait.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::StoreError;

/// Where files are on their way out, below the data directory.
const REMOVED: &str = "removed";

/// The folders of the databases.
const DATABASES: [&str; 2] = ["raft", "state"];

/// What a file loses at once.
const STEP_BYTES: u64 = 1 << 20;

/// Where less than this is free, files go at once: whoever waits for room waits for that.
const ROOM_BYTES: u64 = 1 << 30;

/// Time between two steps: what others write then goes first. 500 MB/s at most.
const PAUSE_MILLIS: u8 = 2;

/// The thread; ends when dropped. What is left over is taken up at the next start.
pub(crate) struct Remover {
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

struct Loop {
    dir: PathBuf,
    changes: Inotify,
    stop: UnixStream,
    leaving: VecDeque<PathBuf>,
    shrinking: Option<Shrinking>,
}

struct Shrinking {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Remover {
    /// Makes the folders of the databases and looks after what happens in them. To be called before
    /// they are opened.
    ///
    /// # Errors
    /// When a folder cannot be made or the thread not be started.
    pub(crate) fn start(dir: &Path) -> Result<Remover, StoreError> {
        for name in DATABASES.into_iter().chain([REMOVED]) {
            let path = dir.join(name);
            std::fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        let (stop, stopped) = UnixStream::pair().map_err(StoreError::io("watch", dir))?;
        let changes = match watch(dir) {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(%error, "cannot watch the data directory; large files go at once");
                forget_all(dir);
                return Ok(Remover { stop: None, thread: None });
            }
        };
        let looking = Loop {
            dir: dir.to_path_buf(),
            changes,
            stop: stopped,
            leaving: VecDeque::new(),
            shrinking: None,
        };
        let thread = std::thread::Builder::new()
            .name("removal".into())
            .spawn(move || looking.run())
            .map_err(StoreError::io("start the removal thread for", dir))?;
        Ok(Remover { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the removal thread panicked");
        }
    }
}

/// Removes a segment, `segments/<group>/<name>` below the data directory. Nobody may read it.
pub(crate) fn remove_segment(path: &Path) -> io::Result<()> {
    let parts =
        (path.ancestors().nth(3), path.parent().and_then(Path::file_name), path.file_name());
    let (Some(dir), Some(group), Some(name)) = parts else {
        return std::fs::remove_file(path);
    };
    let name = format!("segment-{}-{}", group.display(), name.display());
    let moved = std::fs::rename(path, dir.join(REMOVED).join(name));
    // The folder may be gone, or the file system full.
    moved.or_else(|_| std::fs::remove_file(path))
}

fn watch(dir: &Path) -> nix::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    for name in DATABASES {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
        changes.add_watch(&dir.join(name), flags)?;
    }
    changes.add_watch(&dir.join(REMOVED), AddWatchFlags::IN_MOVED_TO)?;
    Ok(changes)
}

impl Loop {
    fn run(mut self) {
        self.look();
        loop {
            let is_busy = self.shrinking.is_some() || !self.leaving.is_empty();
            let wait = if is_busy { PollTimeout::from(PAUSE_MILLIS) } else { PollTimeout::NONE };
            let mut ends = [
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ends, wait) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot wait for changes; large files go at once");
                    return forget_all(&self.dir);
                }
            }
            let [stopped, changed] = ends.map(|end| end.any().unwrap_or(false));
            if stopped {
                return;
            }
            if changed {
                // What happened shows in the folders; a queue that overflowed does not matter.
                while self.changes.read_events().is_ok_and(|events| !events.is_empty()) {}
                self.look();
            } else {
                self.step();
            }
        }
    }

    /// Gives new files of the databases their second name, and finds those that are left by all.
    fn look(&mut self) {
        let removed = self.dir.join(REMOVED);
        for database in DATABASES {
            for path in files(&self.dir.join(database)) {
                let is_large = path.extension().is_some_and(|extension| {
                    ["log", "sst", "blob"].iter().any(|known| extension == *known)
                });
                let Some(name) = path.file_name().filter(|_| is_large) else { continue };
                let second = removed.join(format!("{database}-{}", name.display()));
                // It has one already, or is gone, or the file system has no second names.
                let _ = std::fs::hard_link(&path, second);
            }
        }
        let shrinking = self.shrinking.as_ref().map(|shrinking| shrinking.path.clone());
        self.leaving = files(&removed)
            .filter(|path| shrinking.as_ref() != Some(path))
            .filter(|path| std::fs::symlink_metadata(path).is_ok_and(|found| found.nlink() == 1))
            .collect();
    }

    fn step(&mut self) {
        let Some(mut shrinking) = self.shrinking.take() else {
            self.shrinking = self.leaving.pop_front().and_then(Shrinking::begin);
            return;
        };
        let step = if has_room(&shrinking.path) { STEP_BYTES } else { shrinking.bytes };
        shrinking.bytes = shrinking.bytes.saturating_sub(step);
        let shrunk = shrinking.file.set_len(shrinking.bytes);
        if 0 < shrinking.bytes && shrunk.is_ok() {
            self.shrinking = Some(shrinking);
        } else {
            remove(&shrinking.path);
        }
    }
}

impl Shrinking {
    /// `None` when there is nothing to shrink: a small file is removed at once.
    fn begin(path: PathBuf) -> Option<Shrinking> {
        let opened = OpenOptions::new().write(true).open(&path);
        let Ok(file) = opened else {
            remove(&path);
            return None;
        };
        match file.metadata() {
            Ok(found) if found.nlink() == 1 && STEP_BYTES < found.len() && has_room(&path) => {
                Some(Shrinking { bytes: found.len(), file, path })
            }
            Ok(_) | Err(_) => {
                remove(&path);
                None
            }
        }
    }
}

/// Removes all second names, which nobody would look after any more.
fn forget_all(dir: &Path) {
    files(&dir.join(REMOVED)).for_each(|path| remove(&path));
}

/// Whether there is room enough to take time.
fn has_room(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|found| ROOM_BYTES <= found.f_bavail.saturating_mul(found.f_frsize))
}

/// Only the name in `removed`: whatever else has another one is not touched.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove a file"),
    }
}

/// The files in a folder; one that cannot be read has none.
fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not happen");
            std::thread::yield_now();
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().display().to_string();
        let mut names: Vec<_> = files(&dir.join(REMOVED)).map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_shrinks_before_it_goes_and_others_are_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let remover = Remover::start(dir).unwrap();
        let (first, second) = (dir.join("raft/1.log"), dir.join("state/2.sst"));
        std::fs::write(&first, vec![7; 5 << 20]).unwrap();
        std::fs::write(&second, vec![8; 3 << 20]).unwrap();
        std::fs::write(dir.join("raft/CURRENT"), "1").unwrap();
        wait_until("a second name", || names(dir) == ["raft-1.log", "state-2.sst"]);
        let shrinking = File::open(dir.join(REMOVED).join("raft-1.log")).unwrap();
        std::fs::remove_file(&first).unwrap();
        wait_until("the end of the first file", || names(dir) == ["state-2.sst"]);
        // Its last step takes what no other had taken: without steps it would still be 5 MiB long.
        assert_eq!(shrinking.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read(&second).unwrap(), vec![8; 3 << 20]);
        drop(remover);
    }

    #[test]
    fn what_a_former_life_left_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        drop(Remover::start(dir).unwrap());
        std::fs::create_dir_all(dir.join("segments/7")).unwrap();
        let segment = dir.join("segments/7/12.parquet");
        std::fs::write(&segment, vec![7; 2 << 20]).unwrap();
        remove_segment(&segment).unwrap();
        assert!(!segment.exists());
        assert_eq!(names(dir), ["segment-7-12.parquet"]);
        let remover = Remover::start(dir).unwrap();
        wait_until("the end of the segment", || names(dir).is_empty());
        drop(remover);
    }

    #[test]
    fn without_the_folder_a_segment_goes_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let segment = scratch.path().join("12.parquet");
        std::fs::write(&segment, "x").unwrap();
        remove_segment(&segment).unwrap();
        assert!(!segment.exists());
    }
}
