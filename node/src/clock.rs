//! The only reader of time and randomness.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alluvium_core::time::Time;
use rand::Rng;

/// What the wall clock says.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A stopwatch, for latencies and deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A number nobody else draws, for names and seeds.
pub fn random_id() -> u64 {
    rand::rng().random()
}

/// The same, of 128 bits: nobody else anywhere draws it.
pub fn random_wide() -> u128 {
    rand::rng().random()
}
