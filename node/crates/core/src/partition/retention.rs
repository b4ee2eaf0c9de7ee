//! Which events retention takes.
//!
//! Whole segments go, from the front, when their newest event is older than the stream keeps
//! events. A segment whose newest event is young enough stays, and so does everything behind it:
//! offsets stay dense, also where a late event keeps an old segment alive.

use std::time::Duration;

use crate::ids::Offset;
use crate::time::Time;

/// A sealed segment, as far as retention looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The offset after its last event.
    pub end: Offset,
    /// The newest event time in it, or append time where the stream has no event time.
    pub newest: Time,
}

/// The offset that [`super::Command::Retain`] should name. `segments` in offset order; the answer
/// is never before `start`.
#[must_use]
pub fn start_after(
    start: Offset,
    segments: impl IntoIterator<Item = Sealed>,
    retention: Option<Duration>,
    now: Time,
) -> Offset {
    let Some(retention) = retention else {
        return start;
    };
    let oldest_kept = now.before(retention);
    let mut kept_from = start;
    for segment in segments {
        if oldest_kept <= segment.newest {
            break;
        }
        kept_from = kept_from.max(segment.end);
    }
    kept_from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_go_from_the_front() {
        let segments = [(10, 100), (20, 90), (30, 300), (40, 120)]
            .map(|(end, newest): (u64, i64)| Sealed { end: Offset(end), newest: Time(newest) });
        let cases = [
            // Nothing is older than 50 at time 100.
            (0, Some(50), 100, 0),
            (0, None, 1_000_000, 0),
            // The first two are; the third is not and keeps the fourth.
            (0, Some(50), 151, 20),
            (0, Some(50), 250, 20),
            // Exactly as old as allowed stays.
            (0, Some(50), 150, 0),
            (0, Some(50), 1_000, 40),
            // Retention never gives events back.
            (25, Some(50), 151, 25),
        ];
        for (start, retention, now, expected) in cases {
            let retention = retention.map(Duration::from_micros);
            let kept = start_after(Offset(start), segments, retention, Time(now));
            assert_eq!(kept, Offset(expected), "start {start}, {retention:?}, now {now}");
        }
    }
}
