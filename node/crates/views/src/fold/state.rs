//! The state of one view in one partition, and the fold that brings events into it.
//!
//! Events come in offset order, in batches cut anywhere. Some rows of a batch are first evaluated
//! together; where that fails they are halved until the events that fail stand alone, which are set
//! aside. The same happens when a state has no room for what an event brings: the groups that the
//! rows touched are put back as they were before.
//!
//! Invariants: what is stored after a checkpoint depends on the events before it alone; every event
//! from the start on is counted once in [`Counts`]; nothing that is dirty leaves memory.

use std::sync::Arc;

use alluvium_core::ids::Offset;
use alluvium_core::view::OnError;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{max, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;

use super::definition::Definition;
use super::error::{CorruptState, FoldError};
use super::layout::Layout;
use super::piece::Piece;
use super::resident::{Mark, Resident};
use super::row::{Counts, Row};
use super::session::Sessions;
use super::stored::{Quarantined, StoredGroups};

/// Events set aside that are kept, with their values, until the next checkpoint. More are counted
/// only: a view that fails on everything must not fill the memory.
pub const QUARANTINED_MAX: usize = 10_000;

/// What one view may use in one partition.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Groups in memory. It can be exceeded by what changes between two checkpoints, which is why
    /// [`Folded::checkpoint_due`] should be heeded.
    pub resident_bytes_max: usize,
}

/// What became of some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Where each of them went.
    pub counts: Counts,
    /// Memory is above its limit and cannot shrink before a checkpoint.
    pub checkpoint_due: bool,
}

/// How far a view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The first event that is its.
    pub start: Offset,
    /// Everything before it is folded.
    pub next: Offset,
    /// No earlier event is expected, in microseconds. Of the events before `next`.
    pub watermark: Option<i64>,
    /// The latest event time met, in microseconds.
    pub newest: Option<i64>,
    /// Where the events went; together `next - start`.
    pub counts: Counts,
    /// Groups, in memory or stored. Those past retention count until the next checkpoint.
    pub groups: u64,
    /// Groups in memory.
    pub resident_groups: usize,
    /// Memory they take, roughly.
    pub resident_bytes: usize,
    /// Groups that the next checkpoint will store.
    pub dirty_groups: usize,
    /// Of all groups, as of the last checkpoint.
    pub digest: u128,
}

/// The state of one view in one partition.
#[derive(Debug)]
pub struct ViewState {
    pub(super) layout: Arc<Layout>,
    pub(super) limits: Limits,
    /// As it will be stored, but for the digest, which is that of the last checkpoint.
    pub(super) row: Row,
    pub(super) resident: Resident,
    /// Groups that are stored and not in memory.
    pub(super) elsewhere: u64,
    /// No group that is not in memory was changed at this offset or later.
    pub(super) elsewhere_changed: u64,
    pub(super) dirty: Vec<u32>,
    /// A checkpoint was given out and is not known to be stored.
    pub(super) in_flight: bool,
    pub(super) quarantined: Vec<Quarantined>,
    pub(super) sessions: Sessions,
    /// Counts the calls of `fold`.
    pub(super) clock: u32,
    /// An error left it in pieces.
    pub(super) broken: bool,
    #[cfg(test)]
    pub(super) fault: Option<super::tests::Fault>,
}

impl ViewState {
    /// The state that a checkpoint left, or an empty one that begins with the event at `start`.
    ///
    /// # Errors
    /// When `row` is not what a checkpoint of this definition stored.
    pub fn open(
        definition: Arc<Definition>,
        start: Offset,
        row: Option<&[u8]>,
        limits: Limits,
    ) -> Result<ViewState, CorruptState> {
        let fingerprint = definition.fingerprint;
        let layout = Layout::new(definition)?;
        let row = match row {
            Some(row) => Row::decode(row, fingerprint)?,
            None => Row::new(fingerprint, start),
        };
        let resident = Resident::new(&layout, layout.states()?);
        let first = row.next.0;
        Ok(ViewState {
            layout: Arc::new(layout),
            limits,
            elsewhere: row.groups,
            elsewhere_changed: row.next.0,
            row,
            resident,
            dirty: Vec::new(),
            in_flight: false,
            quarantined: Vec::new(),
            sessions: Sessions::new(first),
            clock: 0,
            broken: false,
            #[cfg(test)]
            fault: None,
        })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let lateness = self.layout.definition.options.lateness.as_micros();
        let lateness = i64::try_from(lateness).unwrap_or(i64::MAX);
        Progress {
            start: self.row.start,
            next: self.row.next,
            watermark: self.row.newest.map(|newest| newest.saturating_sub(lateness)),
            newest: self.row.newest,
            counts: self.row.counts,
            groups: self.row.groups,
            resident_groups: self.resident.table.live(),
            resident_bytes: self.bytes(),
            dirty_groups: self.dirty.len(),
            digest: self.row.digest,
        }
    }

    /// The definition.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.layout.definition
    }

    /// Folds the events from `first` on, which must be the next ones: columns as in
    /// [`Definition::input`].
    ///
    /// # Errors
    /// [`FoldError::Poisoned`] when the view is not to go on without an event that cannot be
    /// folded: those before it are. After other errors see [`FoldError`].
    pub fn fold(
        &mut self,
        first: Offset,
        rows: &RecordBatch,
        stored: &dyn StoredGroups,
    ) -> Result<Folded, FoldError> {
        self.check()?;
        if first != self.row.next {
            return Err(FoldError::OutOfOrder { expected: self.row.next, found: first });
        }
        self.clock = self.clock.saturating_add(1);
        self.evict();
        let before = self.row.counts;
        let result = self.fold_rows(rows, stored, false);
        self.guard(result)?;
        Ok(Folded {
            counts: self.row.counts.since(before),
            checkpoint_due: self.limits.resident_bytes_max < self.bytes(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.resident.bytes() + self.sessions.bytes()
    }

    pub(super) fn check(&self) -> Result<(), FoldError> {
        if self.broken { Err(FoldError::Broken) } else { Ok(()) }
    }

    /// Remembers an error that leaves the state in pieces.
    pub(super) fn guard<T>(&mut self, result: Result<T, FoldError>) -> Result<T, FoldError> {
        let harmless = matches!(
            &result,
            Ok(_) | Err(FoldError::Poisoned { .. } | FoldError::OutOfOrder { .. })
        );
        self.broken |= !harmless;
        result
    }

    /// Folds rows that begin at the next offset. `careful`: a state had no room among these rows.
    fn fold_rows(
        &mut self,
        rows: &RecordBatch,
        stored: &dyn StoredGroups,
        careful: bool,
    ) -> Result<(), FoldError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (reason, careful) = match Piece::evaluate(&self.layout, rows) {
            Ok(piece) => match self.apply(rows, piece, stored, careful)? {
                None => return Ok(()),
                Some(error) => (error.to_string(), true),
            },
            Err(error) => (error.0, careful),
        };
        if rows.num_rows() == 1 {
            return self.set_aside(rows, reason);
        }
        let half = rows.num_rows() / 2;
        self.fold_rows(&rows.slice(0, half), stored, careful)?;
        self.fold_rows(&rows.slice(half, rows.num_rows() - half), stored, careful)
    }

    fn set_aside(&mut self, row: &RecordBatch, reason: String) -> Result<(), FoldError> {
        let offset = self.row.next;
        match self.layout.definition.options.on_error {
            OnError::Park => return Err(FoldError::Poisoned { offset, reason }),
            OnError::Quarantine => {}
        }
        if self.quarantined.len() < QUARANTINED_MAX {
            // A slice would keep the whole batch in memory.
            let event = take_record_batch(row, &UInt32Array::from(vec![0]))
                .expect("the row is there to be copied");
            self.quarantined.push(Quarantined { offset, reason, event });
        }
        self.row.counts.quarantined += 1;
        self.row.newest = self.newest_with(row);
        self.row.next = offset.advance(1);
        Ok(())
    }

    /// The event times of rows.
    fn event_times<'a>(&self, rows: &'a RecordBatch) -> Option<&'a ArrayRef> {
        self.layout.definition.event_time.map(|column| rows.column(column))
    }

    /// The latest event time, these rows included.
    pub(super) fn newest_with(&self, rows: &RecordBatch) -> Option<i64> {
        let times = self.event_times(rows)?;
        self.row.newest.max(max(times.as_primitive::<TimestampMicrosecondType>()))
    }

    /// For each of the rows, the latest event time before it.
    pub(super) fn newest_before(&self, rows: &RecordBatch) -> Vec<Option<i64>> {
        let Some(times) = self.event_times(rows) else {
            return vec![self.row.newest; rows.num_rows()];
        };
        let mut newest = self.row.newest;
        let times = times.as_primitive::<TimestampMicrosecondType>().iter();
        times
            .map(|time| {
                let latest = newest.max(time);
                std::mem::replace(&mut newest, latest)
            })
            .collect()
    }

    /// The piece without the rows whose window was past retention when they came.
    pub(super) fn without_expired(
        &self,
        rows: &RecordBatch,
        piece: Piece,
    ) -> Result<Piece, FoldError> {
        let Some(window) = &self.layout.window else { return Ok(piece) };
        let Some(expired_to) = window.expired_to(self.newest_with(rows)) else { return Ok(piece) };
        let times = window.micros(&piece.groups[self.layout.window_place()])?;
        let is_after = |time: &Option<i64>, expired_to: i64| {
            time.is_none_or(|time| expired_to < window.end(time))
        };
        // Most often none can be, whichever of the rows came first.
        if times.iter().all(|time| is_after(time, expired_to)) {
            return Ok(piece);
        }
        let before = self.newest_before(rows);
        let keep = times.iter().enumerate().map(|(row, time)| {
            let expired_to = window.expired_to(before[piece.place(row)]);
            Some(expired_to.is_none_or(|expired_to| is_after(time, expired_to)))
        });
        Ok(piece.keep(&keep.collect::<BooleanArray>()))
    }

    /// Notes that an event at `offset` changed a group.
    #[inline]
    pub(super) fn touch(&mut self, number: u32, offset: u64) {
        let slot = &mut self.resident.slots[number as usize];
        if slot.changed_at == 0 {
            self.row.groups += 1;
        }
        slot.changed_at = offset + 1;
        slot.used = self.clock;
        if slot.mark == Mark::Clean {
            slot.mark = Mark::Dirty;
            self.dirty.push(number);
        }
    }
}
