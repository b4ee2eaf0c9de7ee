//! Whether the disk has room for more.
//!
//! The reserve keeps what must go on when writes are refused: sealing, which ends in less space
//! used because the log is truncated after it, and the databases' own files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::StoreError;
use crate::options::Clock;

/// Reserve of a disk that is not small: half of it holds the largest memtable of the log.
const RESERVE_BYTES: u64 = 512 << 20;

/// A smaller disk reserves this part of itself.
const RESERVE_PART: u64 = 20;

/// How long an answer of the system is good for, at most.
const CHECK_MICROS_MAX: u64 = 100_000;

/// What is written in a microsecond by a fast disk: an answer is good for as long as half of the
/// reserve lasts.
const BYTES_A_MICRO: u64 = 1_000;

/// Free space of the file system below a directory.
pub(crate) struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
    clock: Arc<dyn Clock>,
    checked_at_micros: AtomicU64,
    enough: AtomicBool,
}

impl Room {
    pub(crate) fn new(
        dir: &Path,
        reserve_bytes: Option<u64>,
        clock: Arc<dyn Clock>,
    ) -> Result<Room, StoreError> {
        let space = space(dir)?;
        let reserve_bytes =
            reserve_bytes.unwrap_or_else(|| RESERVE_BYTES.min(space.total_bytes / RESERVE_PART));
        let checked_at_micros = AtomicU64::new(micros(&*clock));
        let enough = AtomicBool::new(reserve_bytes <= space.free_bytes);
        Ok(Room { dir: dir.to_path_buf(), reserve_bytes, clock, checked_at_micros, enough })
    }

    /// What is kept free.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Whether more than the reserve is free, as of a moment ago.
    pub(crate) fn is_enough(&self) -> bool {
        let now = micros(&*self.clock);
        let checked_at = self.checked_at_micros.load(Ordering::Relaxed);
        let good_for = (self.reserve_bytes / 2 / BYTES_A_MICRO).min(CHECK_MICROS_MAX);
        if checked_at.saturating_add(good_for) <= now {
            self.checked_at_micros.store(now, Ordering::Relaxed);
            self.check();
        }
        self.enough.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more would leave the reserve untouched, asked now.
    pub(crate) fn is_enough_for(&self, bytes: u64) -> bool {
        self.check();
        match space(&self.dir) {
            Ok(space) => self.reserve_bytes.saturating_add(bytes) <= space.free_bytes,
            Err(_) => false,
        }
    }

    /// Whether a segment of `bytes` may be cut, asked now: cuts go on when writes are refused, but
    /// leave what a flush of the log takes, which would be the end of all writes if it failed.
    pub(crate) fn is_enough_to_cut(&self, bytes: u64, flush_bytes: u64) -> bool {
        let left = flush_bytes.min(self.reserve_bytes / 2);
        space(&self.dir).is_ok_and(|space| left.saturating_add(bytes) <= space.free_bytes)
    }

    /// Free bytes, and bytes free or used; zeroes when the system does not say. What the file
    /// system keeps for others is neither.
    pub(crate) fn space(&self) -> (u64, u64) {
        space(&self.dir)
            .map_or((0, 0), |space| (space.free_bytes, space.free_bytes + space.used_bytes))
    }

    fn check(&self) {
        let enough = match space(&self.dir) {
            Ok(space) => self.reserve_bytes <= space.free_bytes,
            Err(error) => {
                tracing::error!(%error, "cannot ask for free space; writes are refused");
                false
            }
        };
        if self.enough.swap(enough, Ordering::Relaxed) != enough {
            if enough {
                tracing::info!(reserve_bytes = self.reserve_bytes, "the disk has room again");
            } else {
                tracing::error!(
                    reserve_bytes = self.reserve_bytes,
                    "disk full; writes are refused"
                );
            }
        }
    }
}

struct Space {
    free_bytes: u64,
    used_bytes: u64,
    total_bytes: u64,
}

fn space(dir: &Path) -> Result<Space, StoreError> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|error| StoreError::io("ask for free space of", dir)(error.into()))?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

fn micros(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX)
}
