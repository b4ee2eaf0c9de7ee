//! Long work in small bites.
//!
//! A cut takes a tenth of a second of one processor, a merge seconds. Even a thread that gives way
//! to all others holds its processor for milliseconds at a time, and an append passes through half
//! a dozen threads: slow acks were found to come together with cuts. So these threads rest twice as
//! long as they have worked, unless more comes in than they take away.

use std::time::Duration;

use arrow::array::RecordBatch;

use super::encode::Encoder;
use crate::error::StoreError;
use crate::shared::Shared;

/// Work between two rests.
const BITE: Duration = Duration::from_millis(1);

/// Rows encoded at once: about a millisecond of work.
const BITE_ROWS: usize = 2_048;

/// A rest is so many times as long as the work before it.
const REST: u32 = 2;

/// A rest is no longer than this: a bite may have been long because others had the processor.
const REST_MAX: Duration = Duration::from_millis(10);

/// Unsealed bytes, in multiples of what one cut takes away, above which there is no time to rest:
/// others wait to be cut, or memory is short.
const TAILS_MAX: u64 = 8;

/// See the module.
pub(crate) struct Bites<'a> {
    shared: &'a Shared,
    /// Unsealed bytes up to which there is time.
    tail_bytes_max: u64,
    since: Duration,
}

impl<'a> Bites<'a> {
    /// Of a cut that takes away so many unsealed bytes.
    pub(crate) fn of_cut(shared: &'a Shared, bytes: u64) -> Bites<'a> {
        let before = shared.metrics.tail_bytes.get();
        let tail_bytes_max = before.saturating_add(bytes).min(bytes.saturating_mul(TAILS_MAX));
        Bites { shared, tail_bytes_max, since: shared.options.clock.elapsed() }
    }

    /// Of work that nobody waits for.
    pub(crate) fn of_care(shared: &'a Shared) -> Bites<'a> {
        Bites { shared, tail_bytes_max: u64::MAX, since: shared.options.clock.elapsed() }
    }

    /// Writes rows, resting in between.
    pub(crate) fn encode(
        &mut self,
        encoder: &mut Encoder,
        rows: &RecordBatch,
    ) -> Result<(), StoreError> {
        for first in (0..rows.num_rows()).step_by(BITE_ROWS) {
            encoder.write(&rows.slice(first, BITE_ROWS.min(rows.num_rows() - first)))?;
            self.rest();
        }
        Ok(())
    }

    fn rest(&mut self) {
        let clock = &self.shared.options.clock;
        let worked = clock.elapsed().saturating_sub(self.since);
        if worked < BITE {
            return;
        }
        if self.shared.metrics.tail_bytes.get() <= self.tail_bytes_max {
            std::thread::sleep((worked * REST).min(REST_MAX));
        }
        self.since = clock.elapsed();
    }
}
