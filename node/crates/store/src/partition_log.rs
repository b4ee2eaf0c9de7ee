//! The events of one partition as readers see them: segments, then the tail.
//!
//! One appender; any number of readers, who take a [`PartitionView`] that never changes. The
//! segment threads replace what is sealed or merged, a snapshot of the leader everything.
//!
//! Invariants: offsets in `[first segment's first, end)` are dense; every offset is in exactly one
//! place of a view; `sealed_end` never goes back; an event that a view holds is not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use alluvium_core::ids::{GroupId, Offset, PartitionNumber, ViewId};
use alluvium_core::replica::LogPosition;
use alluvium_core::stream::Stream;
use alluvium_core::time::Time;
use arc_swap::{ArcSwap, ArcSwapOption};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::{Mutex, MutexGuard};

use crate::error::StoreError;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::snapshot::Staged;
use crate::store::Store;
use crate::tail::{Tail, TailBatch, TailBuilder};

/// One partition's events at one moment.
#[derive(Clone, Debug)]
pub struct PartitionView {
    /// The first offset that retention has not taken. Segments may still hold events before it.
    pub start: Offset,
    /// The offset after the last event.
    pub end: Offset,
    /// The offset after the last event that is in a segment.
    pub sealed_end: Offset,
    /// In offset order, up to `sealed_end`.
    pub segments: Arc<[Arc<Segment>]>,
    /// In offset order, from `sealed_end` to `end`.
    pub tail: Tail,
    /// Memory of the tail.
    pub tail_bytes: u64,
    /// When the oldest event of the tail was appended.
    pub tail_oldest: Option<Time>,
}

/// See the module.
pub struct PartitionLog {
    shared: Arc<Shared>,
    group: GroupId,
    stream: Arc<Stream>,
    number: PartitionNumber,
    schema: SchemaRef,
    view: ArcSwap<PartitionView>,
    state: Mutex<State>,
    damage: ArcSwapOption<String>,
}

/// What the next view is made of. Never locked across a write to the disk.
struct State {
    start: Offset,
    end: Offset,
    sealed_end: Offset,
    segments: Arc<[Arc<Segment>]>,
    tail: TailBuilder,
    life: Life,
    /// Where retention may begin, were there no holds.
    retained: Offset,
    /// Views, and the first event that each may still need.
    holds: BTreeMap<ViewId, Offset>,
}

/// Whether the manifest names what readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It does.
    Open,
    /// It names the segments of a snapshot, of the checkpoint at this position, which readers do
    /// not see yet.
    Replaced(LogPosition),
    /// There is no manifest any more.
    Removed,
}

impl PartitionLog {
    /// The log of a partition with these segments (see [`Store::load`]) and an empty tail: the
    /// events after the segments come from replaying the entries.
    ///
    /// # Errors
    /// When the store does not hold the group.
    pub fn open(
        store: &Store,
        group: GroupId,
        stream: Arc<Stream>,
        number: PartitionNumber,
        segment_schema: SchemaRef,
        segments: Vec<Arc<Segment>>,
    ) -> Result<Arc<PartitionLog>, StoreError> {
        let shared = Arc::clone(store.shared());
        let sealed_end = shared.replica_row(group)?.sealed_end;
        let start = segments.first().map_or(sealed_end, |segment| segment.first);
        shared.metrics.segments.raise(segments.len() as u64);
        let bytes = segments.iter().map(|segment| segment.file_bytes).sum();
        shared.metrics.segment_bytes.raise(bytes);
        let state = State {
            start,
            end: sealed_end,
            sealed_end,
            segments: segments.into(),
            tail: TailBuilder::default(),
            life: Life::Open,
            retained: start,
            holds: BTreeMap::new(),
        };
        let log = Arc::new(PartitionLog {
            group,
            stream,
            number,
            schema: segment_schema,
            view: ArcSwap::from_pointee(state.view()),
            state: Mutex::new(state),
            damage: ArcSwapOption::empty(),
            shared: Arc::clone(&shared),
        });
        shared.logs.lock().insert(group, Arc::downgrade(&log));
        store.segment_writer().look_after(&log);
        Ok(log)
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Its stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Its number in the stream.
    #[must_use]
    pub fn number(&self) -> PartitionNumber {
        self.number
    }

    /// The schema of its rows: the log's columns, then the offset and the append time.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The events at this moment.
    #[must_use]
    pub fn view(&self) -> Arc<PartitionView> {
        self.view.load_full()
    }

    /// What was found damaged since opening. Such a partition must not be served any more.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<String>> {
        self.damage.load_full()
    }

    /// Compares the segments of a view that this process has not read yet with their checksums, so
    /// that no answer rests on a damaged file. Reads each file once in the life of the process;
    /// blocks.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the first damaged file; the partition is damaged from then
    /// on.
    pub fn verify(&self, view: &PartitionView) -> Result<(), StoreError> {
        view.segments.iter().try_for_each(|segment| self.verify_segment(segment))
    }

    /// As [`PartitionLog::verify`], of one segment.
    pub(crate) fn verify_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        if segment.is_verified() {
            return Ok(());
        }
        segment.verify().inspect_err(|error| self.set_damage(error))
    }

    /// Adds committed events; readers see them when this returns. Events that are sealed already,
    /// as happens when entries are replayed, are left out.
    ///
    /// # Errors [`StoreError::Rows`] when they do not follow the last event or have another schema:
    /// the caller contradicts itself.
    pub fn append(
        &self,
        first: Offset,
        appended_at: Time,
        rows: RecordBatch,
    ) -> Result<(), StoreError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let same = Arc::ptr_eq(rows.schema_ref(), &self.schema)
            || rows.schema_ref().fields() == self.schema.fields();
        if !same {
            return Err(self.wrong_rows(format!("their schema is {:?}", rows.schema())));
        }
        let mut batch = TailBatch::new(first, appended_at, rows);
        let mut state = self.state.lock();
        if batch.end() <= state.sealed_end {
            return Ok(());
        }
        if first < state.sealed_end && state.end == state.sealed_end {
            let rows = batch.slice(state.end, batch.end()).expect("it ends after the tail");
            batch = TailBatch::new(state.end, appended_at, rows);
        }
        if batch.first != state.end {
            let reason = format!("they start at {}, the log ends at {}", batch.first, state.end);
            return Err(self.wrong_rows(reason));
        }
        state.end = batch.end();
        self.change(state, |state| state.tail.push(batch));
        Ok(())
    }

    /// Events before `start` are gone for readers from now on, but for what a view holds. Their
    /// segments go when [`crate::SegmentWriter::retain`] gets to it.
    pub fn retain(&self, start: Offset) {
        let mut state = self.state.lock();
        state.retained = state.retained.max(start.min(state.end));
        self.change(state, State::advance_start);
    }

    /// Keeps the events from `next` on until the view holds later ones or is released: retention
    /// does not take what a view has not durably folded.
    pub fn hold(&self, view: ViewId, next: Offset) {
        let mut state = self.state.lock();
        state.holds.insert(view, next);
        self.change(state, State::advance_start);
    }

    /// Ends the hold of a view that is no more.
    pub fn release(&self, view: ViewId) {
        let mut state = self.state.lock();
        state.holds.remove(&view);
        self.change(state, State::advance_start);
    }

    /// The first event that a view still needs: retention must not be decided beyond it.
    #[must_use]
    pub fn held(&self) -> Option<Offset> {
        self.state.lock().held()
    }

    /// Readers see the events of a snapshot from now on, whose checkpoint was installed: its
    /// segments and no tail. Views that are held stay as they are; files that are in none of them
    /// and not in the snapshot go.
    ///
    /// # Errors
    /// [`StoreError::Rows`] when the checkpoint it belongs to was not installed, or the log goes on
    /// behind it: the caller contradicts itself.
    pub fn install(&self, staged: &Staged) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let latest = match state.life {
            Life::Replaced(latest) => latest,
            Life::Open => return Err(self.wrong_install("no checkpoint was installed".into())),
            Life::Removed => return Err(StoreError::Removed { group: self.group }),
        };
        if staged.group() != self.group || !staged.is_installed() {
            return Err(self.wrong_install(format!("{staged:?} was not installed")));
        }
        if staged.sealed_end() < state.end {
            let (end, log_end) = (staged.sealed_end(), state.end);
            return Err(self.wrong_install(format!("it ends at {end}, the log at {log_end}")));
        }
        // Another one may have been installed since: until readers see that one, the manifest is
        // ahead of them, and may name again what this one leaves out.
        let is_latest = staged.position() == latest;
        if is_latest {
            state.life = Life::Open;
        }
        let ids = |of: &[Arc<Segment>]| of.iter().map(|segment| segment.id).collect();
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (ids(&state.segments), ids(staged.segments()));
        let metrics = &self.shared.metrics;
        for segment in staged.segments().iter().filter(|new| !before.contains(&new.id)) {
            metrics.segments.raise(1);
            metrics.segment_bytes.raise(segment.file_bytes);
        }
        // Still under the lock that the next installation has to take.
        for segment in state.segments.iter().filter(|old| !after.contains(&old.id)) {
            metrics.segments.lower(1);
            metrics.segment_bytes.lower(segment.file_bytes);
            if is_latest {
                segment.condemn();
            }
        }
        // Every file of the snapshot was compared with its checksum.
        self.damage.store(None);
        self.change(state, |state| {
            state.segments = Arc::clone(staged.segments());
            state.sealed_end = staged.sealed_end();
            state.end = staged.sealed_end();
            state.start = state.start.max(staged.start());
            state.retained = state.retained.max(state.start);
            state.tail = TailBuilder::default();
        });
        Ok(())
    }

    /// The manifest is about to name the segments of a snapshot: what readers see is a former state
    /// until [`PartitionLog::install`]. Under the manifest lock.
    pub(crate) fn begin_install(&self, position: LogPosition) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        match state.life {
            Life::Open | Life::Replaced(_) => {
                state.life = Life::Replaced(position);
                Ok(())
            }
            Life::Removed => Err(StoreError::Removed { group: self.group }),
        }
    }

    /// Nothing is taken in any more; the files go with their last readers.
    pub(crate) fn condemn(&self) {
        let mut state = self.state.lock();
        state.life = Life::Removed;
        for segment in state.segments.iter() {
            self.forget(segment);
        }
        self.change(state, |state| {
            state.segments = Arc::new([]);
            state.tail = TailBuilder::default();
            state.start = state.end;
            state.sealed_end = state.end;
        });
    }

    /// Replaces `[sealed_end, segment.end)` of the tail by a segment; without one, moves nothing.
    pub(crate) fn publish_cut(&self, segment: Option<Arc<Segment>>) {
        let Some(segment) = segment else { return };
        self.shared.metrics.segments.raise(1);
        self.shared.metrics.segment_bytes.raise(segment.file_bytes);
        let state = self.state.lock();
        self.change(state, |state| {
            state.tail = state.tail.after(segment.end);
            state.sealed_end = segment.end;
            state.segments =
                state.segments.iter().cloned().chain(std::iter::once(segment)).collect();
        });
    }

    /// Replaces adjacent segments by the one made of them.
    pub(crate) fn publish_merge(&self, inputs: &[Arc<Segment>], output: Arc<Segment>) {
        self.shared.metrics.segments.raise(1);
        self.shared.metrics.segment_bytes.raise(output.file_bytes);
        let state = self.state.lock();
        self.change(state, |state| {
            let mut segments = Vec::with_capacity(state.segments.len());
            for segment in state.segments.iter() {
                if segment.id == inputs[0].id {
                    segments.push(Arc::clone(&output));
                }
                if !inputs.iter().any(|input| input.id == segment.id) {
                    segments.push(Arc::clone(segment));
                }
            }
            state.segments = segments.into();
        });
        inputs.iter().for_each(|input| self.forget(input));
    }

    /// Takes away segments that no event at or after the start is in.
    pub(crate) fn publish_expired(&self, expired: &[Arc<Segment>]) {
        let state = self.state.lock();
        self.change(state, |state| {
            let kept = state.segments.iter().skip(expired.len());
            state.segments = kept.cloned().collect();
        });
        expired.iter().for_each(|segment| self.forget(segment));
    }

    /// Remembers damage and tells a person.
    pub(crate) fn set_damage(&self, error: &StoreError) {
        let place = error.to_string();
        tracing::error!(
            stream = self.stream.definition.name, partition = %self.number, place,
            "damage found; the partition must not be served"
        );
        self.damage.store(Some(Arc::new(place)));
    }

    /// Whether segments may be cut, merged or dropped: readers see what the manifest says.
    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        match self.state.lock().life {
            Life::Open => Ok(()),
            Life::Replaced(_) => Err(StoreError::Replaced { group: self.group }),
            Life::Removed => Err(StoreError::Removed { group: self.group }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn wrong_rows(&self, reason: String) -> StoreError {
        StoreError::Rows { group: self.group, action: "take the events", reason }
    }

    fn wrong_install(&self, reason: String) -> StoreError {
        StoreError::Rows { group: self.group, action: "show an installed snapshot", reason }
    }

    fn change(&self, mut state: MutexGuard<'_, State>, change: impl FnOnce(&mut State)) {
        let before = state.tail.bytes();
        change(&mut state);
        let after = state.tail.bytes();
        self.shared.metrics.tail_bytes.raise(after.saturating_sub(before));
        self.shared.metrics.tail_bytes.lower(before.saturating_sub(after));
        let former = self.view.swap(Arc::new(state.view()));
        // What only the former view held is much memory to free, and a segment thread that does it
        // may be put aside for long: the appender must not wait for that.
        drop(state);
        drop(former);
    }

    /// No manifest names the segment any more.
    fn forget(&self, segment: &Arc<Segment>) {
        self.shared.metrics.segments.lower(1);
        self.shared.metrics.segment_bytes.lower(segment.file_bytes);
        segment.condemn();
    }
}

impl Drop for PartitionLog {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let metrics = &self.shared.metrics;
        metrics.tail_bytes.lower(state.tail.bytes());
        metrics.segments.lower(state.segments.len() as u64);
        metrics.segment_bytes.lower(state.segments.iter().map(|segment| segment.file_bytes).sum());
    }
}

impl State {
    fn held(&self) -> Option<Offset> {
        self.holds.values().min().copied()
    }

    fn advance_start(&mut self) {
        let held = self.held().unwrap_or(self.end);
        self.start = self.start.max(self.retained.min(held));
    }

    fn view(&self) -> PartitionView {
        let tail = self.tail.tail();
        let tail_oldest = tail.iter().next().map(|batch| batch.appended_at);
        PartitionView {
            start: self.start,
            end: self.end,
            sealed_end: self.sealed_end,
            segments: Arc::clone(&self.segments),
            tail_bytes: self.tail.bytes(),
            tail_oldest,
            tail,
        }
    }
}

impl PartitionView {
    /// Since when the event at this offset has been there, about: of a sealed event, when its
    /// segment was written. `None` where there is none.
    #[must_use]
    pub fn appended_at(&self, offset: Offset) -> Option<Time> {
        let holds = |first: Offset, end: Offset| first <= offset && offset < end;
        let mut tail = self.tail.iter();
        if let Some(batch) = tail.find(|batch| holds(batch.first, batch.end())) {
            return Some(batch.appended_at);
        }
        let segment = self.segments.iter().find(|segment| holds(segment.first, segment.end));
        segment.map(|segment| segment.created_at)
    }

    /// The rows of the tail in `[start, end)`, without copying.
    #[must_use]
    pub fn tail_rows(&self, start: Offset, end: Offset) -> Vec<RecordBatch> {
        self.tail.iter().filter_map(|batch| batch.slice(start, end)).collect()
    }
}

impl fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionLog")
            .field("group", &self.group)
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}
