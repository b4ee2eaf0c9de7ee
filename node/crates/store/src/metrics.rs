//! What the store counts. The node reads it for `/metrics`; nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

/// Durations or sizes, by powers of two.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BUCKETS],
    sum: AtomicU64,
}

/// See the module. Sizes in bytes, durations in microseconds.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Batches of the log writer that were synced, by duration in microseconds.
    pub sync_micros: Histogram,
    /// Write tasks in one batch of the log writer.
    pub batch_tasks: Histogram,
    /// Batches that did not have to be synced.
    pub unsynced_batches: Counter,
    /// Entries written.
    pub entries: Counter,
    /// Bytes of the batches written.
    pub written_bytes: Counter,
    /// Write tasks waiting for the log writer.
    pub queued_tasks: Level,
    /// Bytes waiting for the log writer.
    pub queued_bytes: Level,
    /// Write tasks refused because too much was waiting.
    pub refused_tasks: Counter,
    /// Segments cut from tails.
    pub segments_cut: Counter,
    /// Events in them.
    pub events_sealed: Counter,
    /// Time spent writing them.
    pub seal_micros: Counter,
    /// Cuts that failed; the tail was kept.
    pub cuts_failed: Counter,
    /// Merges done.
    pub merges: Counter,
    /// Segments that merging replaced.
    pub segments_merged: Counter,
    /// Merges that failed; the inputs were kept.
    pub merges_failed: Counter,
    /// Segments dropped by retention.
    pub segments_expired: Counter,
    /// Segments found damaged.
    pub segments_damaged: Counter,
    /// Bytes of snapshots that were fetched.
    pub snapshot_bytes: Counter,
    /// Snapshots that took the place of what was stored.
    pub snapshots_installed: Counter,
    /// Bytes of all tails.
    pub tail_bytes: Level,
    /// Bytes of all segment files that a manifest names.
    pub segment_bytes: Level,
    /// Segment files that a manifest names.
    pub segments: Level,
}

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Level {
    /// `amount` more.
    pub fn raise(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// `amount` less.
    pub fn lower(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// At this moment.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Buckets up to 2^31 and one for everything above.
    pub const BUCKETS: usize = 33;

    /// Counts `value` in.
    pub fn observe(&self, value: u64) {
        self.buckets[Self::bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration in, as microseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Inclusive upper bounds with how many values lie in the bucket that ends there; the last
    /// bound is `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(place, bucket)| {
            let last = place + 1 == Self::BUCKETS;
            let bound = if last { u64::MAX } else { 1 << place };
            (bound, bucket.load(Ordering::Relaxed))
        })
    }

    /// How many values were counted in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    fn bucket_of(value: u64) -> usize {
        // The bucket of 2^n holds what is above 2^(n-1): the number of digits of value - 1.
        let digits = u64::BITS - value.saturating_sub(1).leading_zeros();
        (digits as usize).min(Self::BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_ends_at_or_above_them() {
        for (value, bound) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (u64::MAX, u64::MAX)]
        {
            let histogram = Histogram::default();
            histogram.observe(value);
            let found = histogram.buckets().find(|&(_, count)| count == 1);
            assert_eq!(found, Some((bound, 1)), "value {value}");
        }
    }
}
