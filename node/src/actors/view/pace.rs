//! How much a view folds at a time.
//!
//! Views share threads. Each folds for about a millisecond and then lets the others have theirs, so
//! that a slow view delays the others by that much and no more. While it reads history and events
//! come in, it also rests between slices, so that ingest keeps the cores.

use std::time::Duration;

/// A slice is meant to take this long.
const SLICE: Duration = Duration::from_millis(1);

/// Rows of the first slice: little enough for a view a hundred times as slow as most.
const ROWS_FIRST: usize = 256;

/// Rows of the largest slice: beyond, nothing is gained.
const ROWS_MAX: usize = 65_536;

/// The share of its thread that a view takes for history while events come in: one part in this
/// many.
const HISTORY_SHARE: u32 = 4;

/// See the module.
#[derive(Debug)]
pub struct Pace {
    rows: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { rows: ROWS_FIRST }
    }
}

impl Pace {
    /// Rows of the next slice.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from a slice of so many rows; says how long to rest before the next when it must.
    pub fn took(&mut self, rows: usize, elapsed: Duration, rests: bool) -> Option<Duration> {
        let nanos = elapsed.as_nanos().max(1);
        let fitting = (rows as u128).saturating_mul(SLICE.as_nanos()) / nanos;
        let fitting = usize::try_from(fitting).unwrap_or(ROWS_MAX);
        // Down at once, up by doubling: one slice too long is felt by everyone.
        self.rows = fitting.min(self.rows * 2).clamp(1, ROWS_MAX);
        rests.then(|| elapsed * (HISTORY_SHARE - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_grow_to_a_millisecond_and_shrink_at_once() {
        let mut pace = Pace::default();
        assert_eq!(pace.took(256, Duration::from_micros(50), false), None);
        assert_eq!(pace.rows(), 512);
        for _ in 0..20 {
            let rows = pace.rows();
            pace.took(rows, Duration::from_nanos(100 * rows as u64), false);
        }
        assert_eq!(pace.rows(), 10_000);
        let rest = pace.took(10_000, Duration::from_millis(100), true);
        assert_eq!(rest, Some(Duration::from_millis(300)));
        assert_eq!(pace.rows(), 100);
        pace.took(1, Duration::from_secs(1), false);
        assert_eq!(pace.rows(), 1);
    }
}
