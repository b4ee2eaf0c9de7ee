//! Makes a segment of the tail, a checkpoint of the machine, and truncates the log up to both.
//!
//! The order is the promise: file (temporary, synced, named, directory synced), checkpoint
//! (flushed), then one synced batch that adds the segment, points to the checkpoint and deletes the
//! entries. A crash before the batch leaves a file and a checkpoint that nothing names; after it,
//! nothing is left to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use alluvium_core::ids::{GroupId, Index, Offset, SegmentId};
use alluvium_core::replica::Checkpoint;
use alluvium_core::schema::HIDDEN_COLUMNS;
use alluvium_core::time::Time;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use rocksdb::WriteBatch;

use super::bites::Bites;
use super::encode::{Content, Encoder};
use super::{ColumnStatistics, Segment, file_name, manifest};
use crate::checkpoints;
use crate::error::StoreError;
use crate::files;
use crate::keys;
use crate::keys::replica::{CheckpointStamp, ReplicaRow};
use crate::options::SealStep;
use crate::partition_log::PartitionLog;
use crate::shared::Shared;

/// Called with the index the log is truncated through, or with why it is not: then everything is as
/// it was, and the owner may cut again later.
pub type CutDone = Box<dyn FnOnce(Result<Index, StoreError>) + Send>;

/// What to seal.
pub struct CutTask {
    /// The partition.
    pub log: Arc<PartitionLog>,
    /// Its machine, after applying everything that makes up the events before `end`.
    pub checkpoint: Checkpoint,
    /// The offset after the last event to seal: where the machine stands.
    pub end: Offset,
    /// Runs on the segment thread.
    pub done: CutDone,
}

/// Seals the events of the tail before `end` and truncates the log through the checkpoint.
pub(crate) fn cut(
    log: &PartitionLog,
    checkpoint: &Checkpoint,
    end: Offset,
) -> Result<Index, StoreError> {
    let shared = log.shared();
    log.check_open()?;
    if let Some(index) = truncated_already(shared, log.group(), checkpoint)? {
        return Ok(index);
    }
    let segment = write_tail(log, end)?;
    let truncated = truncate(shared, log.group(), checkpoint, segment.as_ref(), Some(log));
    let sealed = truncated.inspect_err(|_| {
        segment.iter().for_each(|segment| segment.condemn());
    })?;
    if let Some(segment) = &segment {
        shared.metrics.segments_cut.increment();
        shared.metrics.events_sealed.add(segment.event_count());
    }
    shared.reach(SealStep::Published);
    checkpoints::clear_former(shared, log.group())?;
    Ok(sealed)
}

/// Truncates the log of a group without events.
pub(crate) fn checkpoint_only(
    shared: &Shared,
    group: GroupId,
    checkpoint: &Checkpoint,
) -> Result<Index, StoreError> {
    if let Some(index) = truncated_already(shared, group, checkpoint)? {
        return Ok(index);
    }
    let index = truncate(shared, group, checkpoint, None, None)?;
    checkpoints::clear_former(shared, group)?;
    Ok(index)
}

/// Where the log is truncated, when a checkpoint asks for no more than that: it was taken before
/// the last one was sealed, and its events are in segments.
fn truncated_already(
    shared: &Shared,
    group: GroupId,
    checkpoint: &Checkpoint,
) -> Result<Option<Index>, StoreError> {
    let truncated = shared.replica_row(group)?.truncated.index;
    Ok((checkpoint.position.index <= truncated).then_some(truncated))
}

fn truncate(
    shared: &Shared,
    group: GroupId,
    checkpoint: &Checkpoint,
    segment: Option<&Arc<Segment>>,
    log: Option<&PartitionLog>,
) -> Result<Index, StoreError> {
    let stamp = checkpoints::write(shared, group, checkpoint)?;
    shared.reach(SealStep::CheckpointWritten);
    let _manifest = shared.manifest.lock();
    log.map_or(Ok(()), PartitionLog::check_open)?;
    let row = shared.replica_row(group)?;
    if checkpoint.position.index <= row.truncated.index {
        return Err(StoreError::Replaced { group });
    }
    let batch = truncation(shared, group, row, checkpoint, stamp, segment.map(AsRef::as_ref))?;
    shared.write_manifest(batch)?;
    shared.reach(SealStep::ManifestWritten);
    // Still under the lock: whoever holds it finds views and manifest alike.
    if let Some(log) = log {
        log.publish_cut(segment.cloned());
    }
    Ok(checkpoint.position.index)
}

/// The one batch: before it the events are in the log, after it in the segment.
fn truncation(
    shared: &Shared,
    group: GroupId,
    mut row: ReplicaRow,
    checkpoint: &Checkpoint,
    stamp: CheckpointStamp,
    segment: Option<&Segment>,
) -> Result<WriteBatch, StoreError> {
    let (log, meta) = (shared.databases.log(), shared.databases.meta());
    let mut batch = WriteBatch::default();
    let mut gone = row.truncated.index;
    while gone < checkpoint.position.index {
        gone = gone.next();
        batch.delete_cf(log, keys::log::encode(group, gone));
    }
    if let Some(segment) = segment {
        if segment.first != row.sealed_end {
            let reason = format!("it starts at {}, not at {}", segment.first, row.sealed_end);
            return Err(StoreError::Rows { group, action: "add a segment", reason });
        }
        row.sealed_end = segment.end;
        let key = keys::segment::encode(group, segment.id);
        batch.put_cf(meta, key, manifest::encode(segment));
    }
    row.members.clone_from(&checkpoint.members);
    row.truncated = checkpoint.position;
    row.checkpoint = Some(stamp);
    batch.put_cf(meta, keys::replica::key(group), keys::replica::encode(&row));
    Ok(batch)
}

fn write_tail(log: &PartitionLog, end: Offset) -> Result<Option<Arc<Segment>>, StoreError> {
    let view = log.view();
    let (first, shared) = (view.sealed_end, log.shared());
    if view.end < end {
        return Err(log.wrong_rows(format!("cut at {end}, but the log ends at {}", view.end)));
    }
    let batches = view.tail_rows(first, end);
    if batches.is_empty() {
        return Ok(None);
    }
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    if rows as u64 != end.since(first) {
        return Err(log.wrong_rows(format!("{rows} rows in {first}..{end}")));
    }
    let flush_bytes = shared.options.log_memtable_bytes as u64;
    if !shared.room.is_enough_to_cut(view.tail_bytes, flush_bytes) {
        return Err(StoreError::NoRoom);
    }
    let before = shared.options.clock.elapsed();
    let id = shared.take_segment_id();
    let mut bites = Bites::of_cut(shared, view.tail_bytes);
    let content = write_file(shared, log.group(), id, |temporary| {
        let mut encoder = Encoder::create(log.group(), temporary, log.schema())?;
        batches.iter().try_for_each(|batch| bites.encode(&mut encoder, batch))?;
        encoder.finish()
    })?;
    shared.reach(SealStep::FileNamed);
    let took = shared.options.clock.elapsed().saturating_sub(before);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    shared.metrics.seal_micros.add(micros);
    Ok(Some(Arc::new(segment(log, id, first, end, 0, content))))
}

/// Writes a segment's file: after a crash it has its name only if it is whole.
pub(crate) fn write_file(
    shared: &Shared,
    group: GroupId,
    id: SegmentId,
    write: impl FnOnce(&PathBuf) -> Result<Content, StoreError>,
) -> Result<Content, StoreError> {
    let dir = shared.segment_dir(group);
    if !dir.exists() {
        std::fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        files::sync_dir(&shared.dir.join("segments"))?;
    }
    let path = dir.join(file_name(id));
    let temporary = path.with_extension("parquet.tmp");
    let named = write(&temporary).and_then(|content| {
        shared.reach(SealStep::FileWritten);
        std::fs::rename(&temporary, &path).map_err(StoreError::io("rename", &temporary))?;
        files::sync_dir(&dir)?;
        Ok(content)
    });
    if named.is_err() {
        // Whatever cannot be removed now is removed at the next start.
        let _ = std::fs::remove_file(&temporary);
        let _ = std::fs::remove_file(&path);
    }
    named
}

/// Describes a file that was just written.
pub(crate) fn segment(
    log: &PartitionLog,
    id: SegmentId,
    first: Offset,
    end: Offset,
    level: u32,
    content: Content,
) -> Segment {
    let shared = log.shared();
    let Content { file_bytes, checksums, columns } = content;
    let appended = times_of(columns.iter().find(|column| column.name == HIDDEN_COLUMNS[2]));
    let created_at = shared.options.clock.now();
    let (oldest_appended_at, newest_appended_at) = appended.unwrap_or((created_at, created_at));
    let definition = &log.stream().definition;
    let event_time = definition.event_time.and_then(|place| columns.get(place));
    Segment {
        group: log.group(),
        id,
        first,
        end,
        file_bytes,
        level,
        created_at,
        oldest_appended_at,
        newest_appended_at,
        event_times: times_of(event_time),
        columns: Arc::new(columns),
        path: shared.segment_dir(log.group()).join(file_name(id)),
        checksums,
        condemned: AtomicBool::new(false),
        verified: AtomicBool::new(true),
    }
}

fn times_of(column: Option<&ColumnStatistics>) -> Option<(Time, Time)> {
    let column = column?;
    Some((time_of(column.min.as_ref()?)?, time_of(column.max.as_ref()?)?))
}

/// A bound as a time, if its type is one.
fn time_of(bound: &ArrayRef) -> Option<Time> {
    const DAY_MICROS: i64 = 86_400_000_000;
    match bound.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(Time(bound.as_primitive::<TimestampMicrosecondType>().value(0)))
        }
        DataType::Date32 => {
            let days = i64::from(bound.as_primitive::<Date32Type>().value(0));
            Some(Time(days.saturating_mul(DAY_MICROS)))
        }
        _ => None,
    }
}

impl std::fmt::Debug for CutTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CutTask")
            .field("group", &self.log.group())
            .field("position", &self.checkpoint.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
