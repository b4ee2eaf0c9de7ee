//! What views keep: how far each has folded a partition, its groups there, and the events it could
//! not fold.
//!
//! Reading order: [`ViewStates`], then [`transfer`] (state from node to node).
//!
//! Knows keys, checksums and what is written as one; what a row or a group's value says is the
//! fold's. All of it lies in the database without log, in one column family: it becomes durable by
//! flushes, in the order it was written.
//!
//! Invariants: a checkpoint is there whole or not at all, after a crash as well; what a crash
//! leaves of several checkpoints is the first ones; a value is served only under the key and with
//! the bytes it was written with.

mod transfer;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber, ViewId};
use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::error::StoreError;
use crate::keys::{self, view_group, view_quarantine, view_row};
use crate::shared::Shared;

pub(crate) use transfer::clear_imports;
pub use transfer::{ViewChunk, ViewImport};

/// Quarantined events kept of a view in a partition: enough to see what is wrong with them, and a
/// few megabytes where every event of a stream is.
const QUARANTINED_MAX: u64 = 10_000;

/// Checkpoints become durable so soon even while few bytes are written: with the size of a memtable
/// it bounds how much is folded again after a crash.
const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

const ROW: &str = "the row";
const GROUP: &str = "a group";
const QUARANTINE: &str = "a quarantined event";

/// A view in a partition: what is folded, checkpointed and found damaged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewPlace {
    /// Which view, in which of its lives.
    pub view: ViewId,
    /// Which partition of the stream it folds.
    pub partition: PartitionNumber,
}

/// What changes from one checkpoint of a view in a partition to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct ViewCheckpoint<'a> {
    /// How far it has folded, and what belongs to that.
    pub row: &'a [u8],
    /// Ranges of groups that are no more, as start and end; without an end, all from the start on.
    /// They go before `puts` come.
    pub delete_ranges: &'a [(Vec<u8>, Option<Vec<u8>>)],
    /// Groups that are no more. They go before `puts` come.
    pub deletes: &'a [Vec<u8>],
    /// Keys and values of groups that changed.
    pub puts: &'a [(Vec<u8>, Vec<u8>)],
    /// Events since the last checkpoint that it could not fold, in offset order.
    pub quarantined: &'a [QuarantinedEvent],
}

/// An event that a view could not fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// Where it is in its partition.
    pub offset: Offset,
    /// Why it could not be folded.
    pub reason: String,
    /// The event, in the form that the fold writes.
    pub event: Vec<u8>,
}

/// A [`QuarantinedEvent`] and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineRow {
    /// The view that could not fold it, and the partition it is in.
    pub place: ViewPlace,
    /// The event.
    pub event: QuarantinedEvent,
}

/// Is shown a group's key and value, and says whether to go on.
pub type VisitGroup<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Reads and writes what views keep. Cheap to clone.
#[derive(Clone)]
pub struct ViewStates {
    shared: Arc<Shared>,
}

/// What is remembered between two checkpoints.
#[derive(Default)]
pub(crate) struct ViewWrites {
    /// Quarantined events stored, where that was counted since the start.
    quarantined: Mutex<BTreeMap<ViewPlace, u64>>,
    /// When the last flush was begun, by [`crate::Clock::elapsed`].
    flushed_at_micros: AtomicU64,
}

impl ViewStates {
    pub(crate) fn new(shared: Arc<Shared>) -> ViewStates {
        ViewStates { shared }
    }

    /// The row of the last checkpoint. There is none while the state of another node is taken in.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] when it is not what was written.
    pub fn row(&self, place: ViewPlace) -> Result<Option<Vec<u8>>, StoreError> {
        checked_row(place, self.shared.databases.get_state(&view_row::key(place)))
    }

    /// The row of the last checkpoint that is durable: the one [`ViewStates::row`] would find after
    /// a crash at this moment.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] when it is not what was written.
    pub fn durable_row(&self, place: ViewPlace) -> Result<Option<Vec<u8>>, StoreError> {
        checked_row(place, self.shared.databases.get_durable_state(&view_row::key(place)))
    }

    /// Writes a checkpoint, as one. A view has one writer in a partition at a time.
    ///
    /// # Errors
    /// When the database cannot be written; the last checkpoint is still there then.
    pub fn write(
        &self,
        place: ViewPlace,
        checkpoint: ViewCheckpoint<'_>,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (start, end) in checkpoint.delete_ranges {
            let (first, after) = group_range(place, start, end.as_deref());
            if first < after {
                batch.delete_range(first, after);
            }
        }
        for group in checkpoint.deletes {
            batch.delete(view_group::key(place, group));
        }
        let mut value = Vec::new();
        for (group, state) in checkpoint.puts {
            let key = view_group::key(place, group);
            view_group::encode(&key, state, &mut value);
            batch.put(key, &value);
        }
        let kept = self.add_quarantined(place, checkpoint.quarantined, &mut batch)?;
        batch.put(view_row::key(place), view_row::encode(checkpoint.row));
        self.shared.databases.write_state(batch)?;
        if let Some(kept) = kept {
            self.shared.views.quarantined.lock().insert(place, kept);
        }
        self.flush_if_due()
    }

    /// The values of groups, by place of the key.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] naming the first key whose value is not what was written.
    pub fn get(
        &self,
        place: ViewPlace,
        groups: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let keys: Vec<_> = groups.iter().map(|group| view_group::key(place, group)).collect();
        let mut values = Vec::with_capacity(keys.len());
        for (key, found) in keys.iter().zip(self.shared.databases.get_states(&keys)) {
            let group = &key[keys::VIEW_KEY_BYTES..];
            let found = found
                .map_err(StoreError::database("read the state database"))
                .map_err(|error| error.of_view(place, GROUP, group))?;
            let value = match &found {
                Some(value) => Some(checked_group(place, key, value)?.to_vec()),
                None => None,
            };
            values.push(value);
        }
        Ok(values)
    }

    /// Shows the groups in `[start, end)`, or all from `start` on, in order of their keys, until
    /// told to break off.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] naming the first key whose value is not what was written.
    pub fn scan(
        &self,
        place: ViewPlace,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitGroup<'_>,
    ) -> Result<(), StoreError> {
        let (first, after) = group_range(place, start, end);
        if after <= first {
            return Ok(());
        }
        let mut rows = self.shared.databases.state_rows(&first, &after);
        let mut last = start.to_vec();
        loop {
            // Damage found by the database lies somewhere behind the last group that was read.
            let row = rows.next().map_err(|error| error.of_view(place, GROUP, &last))?;
            let Some((key, value)) = row else { return Ok(()) };
            let state = checked_group(place, key, value)?;
            let group = &key[keys::VIEW_KEY_BYTES..];
            if visit(group, state).is_break() {
                return Ok(());
            }
            last.clear();
            last.extend_from_slice(group);
        }
    }

    /// Quarantined events of a view, by partition and offset; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] when one is not what was written.
    pub fn quarantine(&self, view: ViewId, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        let prefix = keys::view_prefix(view_quarantine::TAG, view);
        let mut rows = self.shared.databases.state_rows(&prefix, &keys::after_prefix(&prefix));
        let mut found = Vec::new();
        while found.len() < limit {
            let Some((key, value)) = rows.next()? else { break };
            let Some((place, offset)) = view_quarantine::decode_key(key) else { continue };
            let event = view_quarantine::decode(offset, value)
                .map_err(StoreError::malformed_view(place, QUARANTINE, &[]))?;
            found.push(QuarantineRow { place, event });
        }
        Ok(found)
    }

    /// Every view and partition that anything is stored of, for removing what the catalogue does
    /// not name any more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn places(&self) -> Result<Vec<ViewPlace>, StoreError> {
        // Whatever is written or removed of a place goes with its row.
        let mut rows = self.shared.databases.state_rows(&view_row::FIRST, &view_row::AFTER);
        let mut places = Vec::new();
        while let Some((key, _)) = rows.next()? {
            places.extend(view_row::decode_key(key));
        }
        Ok(places)
    }

    /// Removes everything stored of a view, durably. Nobody may write to it any more.
    ///
    /// # Errors
    /// When the database cannot be written; the call can be made again.
    pub fn remove(&self, view: ViewId) -> Result<(), StoreError> {
        self.remove_below(|tag| keys::view_prefix(tag, view).to_vec(), |place| place.view == view)
    }

    /// Removes what is stored of one part of a view: its partition has left this node.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove_place(&self, place: ViewPlace) -> Result<(), StoreError> {
        self.remove_below(|tag| keys::view_key(tag, place).to_vec(), |found| found == place)
    }

    fn remove_below(
        &self,
        prefix: impl Fn(u8) -> Vec<u8>,
        is_gone: impl Fn(ViewPlace) -> bool,
    ) -> Result<(), StoreError> {
        let databases = &self.shared.databases;
        let mut batch = WriteBatch::default();
        for tag in [view_row::TAG, view_group::TAG, view_quarantine::TAG] {
            let prefix = prefix(tag);
            batch.delete_range(&prefix[..], &keys::after_prefix(&prefix)[..]);
        }
        databases.write_state(batch)?;
        self.shared.views.quarantined.lock().retain(|place, _| !is_gone(*place));
        // Dropped files are gone at once. Were the deletions not durable before them, a crash could
        // leave the row of a view of which some groups are missing.
        databases.flush_state()?;
        let prefix = prefix(view_group::TAG);
        databases.drop_state_files(&prefix, &keys::after_prefix(&prefix))
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.note_flush();
        self.shared.databases.flush_state()
    }

    /// Adds rows for quarantined events and takes the oldest beyond the most that are kept; says
    /// how many that leaves.
    fn add_quarantined(
        &self,
        place: ViewPlace,
        events: &[QuarantinedEvent],
        batch: &mut WriteBatch,
    ) -> Result<Option<u64>, StoreError> {
        if events.is_empty() {
            return Ok(None);
        }
        let stored = self.count_quarantined(place)?;
        let added = events.len() as u64;
        let excess = (stored + added).saturating_sub(QUARANTINED_MAX);
        if 0 < excess {
            let first = view_quarantine::key(place, Offset::ZERO);
            batch.delete_range(&first[..], &self.quarantine_start(place, excess)?[..]);
        }
        let newest = usize::try_from(added.min(QUARANTINED_MAX)).expect("a few thousand");
        for event in &events[events.len() - newest..] {
            let key = view_quarantine::key(place, event.offset);
            batch.put(key, view_quarantine::encode(event));
        }
        Ok(Some((stored + added).min(QUARANTINED_MAX)))
    }

    fn count_quarantined(&self, place: ViewPlace) -> Result<u64, StoreError> {
        if let Some(&count) = self.shared.views.quarantined.lock().get(&place) {
            return Ok(count);
        }
        let prefix = keys::view_key(view_quarantine::TAG, place);
        let mut rows = self.shared.databases.state_rows(&prefix, &keys::after_prefix(&prefix));
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// The key of the quarantined event before which `excess` others are stored.
    fn quarantine_start(&self, place: ViewPlace, excess: u64) -> Result<Vec<u8>, StoreError> {
        let prefix = keys::view_key(view_quarantine::TAG, place);
        let after = keys::after_prefix(&prefix);
        let mut rows = self.shared.databases.state_rows(&prefix, &after);
        let mut passed = 0;
        while let Some((key, _)) = rows.next()? {
            if passed == excess {
                return Ok(key.to_vec());
            }
            passed += 1;
        }
        Ok(after)
    }

    fn flush_if_due(&self) -> Result<(), StoreError> {
        let last =
            Duration::from_micros(self.shared.views.flushed_at_micros.load(Ordering::Relaxed));
        if self.shared.options.clock.elapsed().saturating_sub(last) < FLUSH_INTERVAL {
            return Ok(());
        }
        self.note_flush();
        self.shared.databases.begin_flush_state()
    }

    fn note_flush(&self) {
        let now = self.shared.options.clock.elapsed().as_micros();
        let now = u64::try_from(now).expect("a process does not run for millennia");
        self.shared.views.flushed_at_micros.store(now, Ordering::Relaxed);
    }
}

fn group_range(place: ViewPlace, start: &[u8], end: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let after = match end {
        Some(end) => view_group::key(place, end),
        None => keys::after_prefix(&keys::view_key(view_group::TAG, place)),
    };
    (view_group::key(place, start), after)
}

fn checked_row(
    place: ViewPlace,
    found: Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(row) = found.map_err(|error| error.of_view(place, ROW, &[]))? else {
        return Ok(None);
    };
    let row = view_row::decode(&row).map_err(StoreError::malformed_view(place, ROW, &[]))?;
    Ok(row.map(<[u8]>::to_vec))
}

fn checked_group<'a>(
    place: ViewPlace,
    key: &[u8],
    value: &'a [u8],
) -> Result<&'a [u8], StoreError> {
    let group = &key[keys::VIEW_KEY_BYTES..];
    view_group::decode(key, value).map_err(StoreError::malformed_view(place, GROUP, group))
}

impl fmt::Debug for ViewStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewStates").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
