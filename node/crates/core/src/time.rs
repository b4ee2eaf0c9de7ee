//! Time as the core sees it: a number handed in.

use std::fmt;

/// Microseconds since 1970-01-01T00:00:00Z. Read by the shell, carried by commands; the core only
/// compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// Microseconds in one millisecond.
    pub const MICROS_PER_MILLI: i64 = 1_000;

    /// This time less a duration.
    #[must_use]
    pub fn before(self, duration: std::time::Duration) -> Time {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Time(self.0.saturating_sub(micros))
    }

    /// From `earlier` to this time; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> std::time::Duration {
        let micros = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        std::time::Duration::from_micros(micros)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}
