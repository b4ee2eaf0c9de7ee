//! When the tail of a partition is sealed into a segment.
//!
//! Decides only; the shell measures the tail and does the cutting. Memory pressure is the shell's
//! own reason to cut earlier.

use std::time::Duration;

use crate::time::Time;

/// How large and how old a tail may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPolicy {
    /// A tail of this many bytes is due.
    pub bytes_max: u64,
    /// A tail whose oldest event was appended this long ago is due.
    pub age_max: Duration,
}

impl CutPolicy {
    /// Whether the tail should be sealed now. `oldest_appended_at` is `None` for an empty tail,
    /// which is never due.
    #[must_use]
    pub fn due(&self, tail_bytes: u64, oldest_appended_at: Option<Time>, now: Time) -> bool {
        let Some(oldest) = oldest_appended_at else {
            return false;
        };
        let is_large = self.bytes_max <= tail_bytes;
        let is_old = self.age_max <= now.since(oldest);
        is_large || is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_due_by_size_or_by_age() {
        let policy = CutPolicy { bytes_max: 100, age_max: Duration::from_micros(50) };
        let cases = [
            (0, None, 1_000, false),
            (500, None, 1_000, false),
            (1, Some(1_000), 1_000, false),
            (99, Some(1_000), 1_049, false),
            (100, Some(1_000), 1_000, true),
            (1, Some(1_000), 1_050, true),
            // A clock that went back makes nothing old.
            (1, Some(1_000), 0, false),
        ];
        for (tail_bytes, oldest, now, expected) in cases {
            let due = policy.due(tail_bytes, oldest.map(Time), Time(now));
            assert_eq!(due, expected, "{tail_bytes} bytes, oldest {oldest:?}, now {now}");
        }
    }
}
