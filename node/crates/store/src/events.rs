//! Reads the events of a partition in order, from some offset on: what a view folds.
//!
//! History and live events come through the same call: from segments while the reader is behind,
//! from the tail once it has caught up. Segments may be cut and merged meanwhile; a file that is
//! open is read to its end, and what comes after it is looked up anew.
//!
//! Invariants: batches follow each other without a gap, whatever is cut or merged between two
//! calls; nothing is read from a file that this process has not compared with its checksum.

use std::fmt;
use std::sync::Arc;

use alluvium_core::ids::Offset;
use alluvium_core::schema::HIDDEN_COLUMNS;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use crate::error::StoreError;
use crate::partition_log::{PartitionLog, PartitionView};
use crate::segment::Segment;
use crate::segment::encode::{OFFSET, file_schema};
use crate::tail::{TailBatch, scan_type};

const PARTITION: &str = HIDDEN_COLUMNS[0];

/// Rows read from a file at a time: what the fold's intermediate columns may take of the caches.
const BATCH_ROWS: usize = 8_192;

/// Batches of the tail are put together until they have so many rows. A fold pays for each batch
/// about what it pays for a few hundred events.
const GATHERED_ROWS: usize = 1_024;

/// Some events of a partition.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The offset of the first one; the others follow without gaps.
    pub first: Offset,
    /// The columns that were asked for.
    pub rows: RecordBatch,
}

/// See the module.
pub struct EventReader {
    log: Arc<PartitionLog>,
    columns: SchemaRef,
    sources: Vec<Source>,
    /// Places in the segment schema of the columns that are stored, in that order.
    stored: Vec<usize>,
    next: Offset,
    open: Option<OpenSegment>,
}

/// Where a column comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The number of the partition.
    Partition,
    /// The place of the event: counted, not read.
    Offset,
    /// The column at this place of `stored`.
    Stored(usize),
}

struct OpenSegment {
    segment: Arc<Segment>,
    reader: ParquetRecordBatchReader,
    /// What was read and not yet asked for; its first row is the reader's next.
    rest: Option<RecordBatch>,
}

impl EventReader {
    /// Reads from `next` on. `columns` are some columns of the scan schema, in any order.
    ///
    /// # Errors
    /// [`StoreError::Rows`] when the partition has no such column.
    pub fn new(
        log: Arc<PartitionLog>,
        columns: SchemaRef,
        next: Offset,
    ) -> Result<EventReader, StoreError> {
        let schema = log.schema();
        let mut stored = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let counted = field.name() == OFFSET;
            if !counted && columns.column_with_name(field.name()).is_some() {
                stored.push(place);
            }
        }
        let mut sources = Vec::with_capacity(columns.fields().len());
        for field in columns.fields() {
            let name = field.name();
            let place = stored.iter().position(|&place| schema.field(place).name() == name);
            sources.push(match place {
                _ if name == PARTITION => Source::Partition,
                _ if name == OFFSET => Source::Offset,
                Some(place) => Source::Stored(place),
                None => {
                    let reason = format!("there is no column \"{name}\"");
                    let group = log.group();
                    return Err(StoreError::Rows { group, action: "read the events", reason });
                }
            });
        }
        Ok(EventReader { log, columns, sources, stored, next, open: None })
    }

    /// The offset of the event that comes next.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.next
    }

    /// The next events, at least one and at most `rows_max`; `None` when there are no more yet.
    /// Blocks while a file is read.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when retention has taken the next event, [`StoreError::Corrupt`] when a
    /// file is not what was written. The same call can be made again.
    pub fn next(&mut self, rows_max: usize) -> Result<Option<EventBatch>, StoreError> {
        let view = self.log.view();
        if self.next < view.start {
            return Err(StoreError::Gone { group: self.log.group(), start: view.start });
        }
        if view.end <= self.next {
            return Ok(None);
        }
        let rows_max = rows_max.max(1);
        let in_open = self.open.as_ref().is_some_and(|open| self.next < open.segment.end);
        let rows = if in_open || self.next < view.sealed_end {
            self.sealed_rows(&view, rows_max)?
        } else {
            self.open = None;
            self.tail_rows(&view, rows_max)?
        };
        let first = self.next;
        self.next = first.advance(rows.num_rows() as u64);
        Ok(Some(EventBatch { first, rows }))
    }

    fn sealed_rows(
        &mut self,
        view: &PartitionView,
        rows_max: usize,
    ) -> Result<RecordBatch, StoreError> {
        // Taken out, so that a reader that failed is not used again.
        let mut open = match self.open.take() {
            Some(open) if self.next < open.segment.end => open,
            Some(_) | None => self.open_segment(view)?,
        };
        let rows = match open.rest.take() {
            Some(rest) => rest,
            None => open.read()?,
        };
        let left = usize::try_from(open.segment.end.since(self.next)).unwrap_or(usize::MAX);
        if left < rows.num_rows() {
            return Err(open.segment.corrupt("it has more rows than events"));
        }
        let taken = rows.num_rows().min(rows_max);
        if taken < rows.num_rows() {
            open.rest = Some(rows.slice(taken, rows.num_rows() - taken));
        }
        let shaped = self
            .shape(rows.slice(0, taken).columns(), self.next, taken)
            .map_err(|error| open.segment.corrupt(&error.to_string()))?;
        self.open = Some(open);
        Ok(shaped)
    }

    fn open_segment(&self, view: &PartitionView) -> Result<OpenSegment, StoreError> {
        let place = view.segments.partition_point(|segment| segment.end <= self.next);
        let found = view.segments.get(place).filter(|segment| segment.first <= self.next);
        let segment = Arc::clone(found.ok_or_else(|| {
            let reason = format!("no segment holds offset {}", self.next);
            StoreError::Rows { group: self.log.group(), action: "read the events", reason }
        })?);
        self.log.verify_segment(&segment)?;
        let file = segment.open()?;
        let skipped = usize::try_from(self.next.since(segment.first)).unwrap_or(usize::MAX);
        let options = ArrowReaderOptions::new().with_schema(read_schema(self.log.schema()));
        let reader = ArrowReaderMetadata::load(&file, options)
            .map_err(|error| error.to_string())
            .and_then(|metadata| {
                let parquet = metadata.metadata();
                check_offsets(parquet, &segment)?;
                let (groups, skipped) = row_groups(parquet, skipped);
                let roots = self.stored.iter().copied();
                let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                    .with_projection(mask)
                    .with_row_groups(groups)
                    .with_offset(skipped)
                    .with_batch_size(BATCH_ROWS)
                    .build()
                    .map_err(|error: ParquetError| error.to_string())
            })
            .map_err(|reason| segment.corrupt(&reason))?;
        Ok(OpenSegment { segment, reader, rest: None })
    }

    fn tail_rows(&self, view: &PartitionView, rows_max: usize) -> Result<RecordBatch, StoreError> {
        // A reader that has caught up is near the end.
        let behind = view.tail.iter().rev().take_while(|batch| self.next < batch.end()).count();
        let batches = view.tail.iter().skip(view.tail.len() - behind);
        let mut gathered = Vec::new();
        let mut row_count = 0;
        for batch in batches {
            if GATHERED_ROWS.min(rows_max) <= row_count {
                break;
            }
            let start = self.next.advance(row_count as u64);
            let rows = self
                .tail_batch(batch, start, rows_max - row_count)
                .map_err(|error| self.log.wrong_rows(error.to_string()))?;
            row_count += rows.num_rows();
            gathered.push(rows);
        }
        if gathered.len() == 1 {
            return Ok(gathered.remove(0));
        }
        concat_batches(&self.columns, &gathered)
            .map_err(|error| self.log.wrong_rows(error.to_string()))
    }

    fn tail_batch(
        &self,
        batch: &TailBatch,
        start: Offset,
        rows_max: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let skipped = usize::try_from(start.since(batch.first)).expect("it is inside the batch");
        let row_count = (batch.rows.num_rows() - skipped).min(rows_max);
        let columns: Vec<ArrayRef> =
            self.stored.iter().map(|&place| batch.scan_column(place, skipped, row_count)).collect();
        self.shape(&columns, start, row_count)
    }

    /// The columns that were asked for, out of those that are stored.
    fn shape(
        &self,
        stored: &[ArrayRef],
        first: Offset,
        row_count: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(self.sources.len());
        for (source, field) in self.sources.iter().zip(self.columns.fields()) {
            let column: ArrayRef = match *source {
                Source::Partition => {
                    let number = i32::try_from(self.log.number().0);
                    let number = number.expect("a stream has few partitions");
                    Arc::new(Int32Array::from_value(number, row_count))
                }
                Source::Offset => {
                    let first = i64::try_from(first.0).expect("no partition holds 2^63 events");
                    Arc::new(Int64Array::from_iter_values((first..).take(row_count)))
                }
                Source::Stored(place) if stored[place].data_type() == field.data_type() => {
                    Arc::clone(&stored[place])
                }
                // Only intervals are stored as something else.
                Source::Stored(place) => cast(&stored[place], field.data_type())?,
            };
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)
    }
}

impl OpenSegment {
    fn read(&mut self) -> Result<RecordBatch, StoreError> {
        match self.reader.next() {
            Some(Ok(rows)) if 0 < rows.num_rows() => Ok(rows),
            Some(Err(error)) => Err(self.segment.corrupt(&error.to_string())),
            Some(Ok(_)) | None => Err(self.segment.corrupt("it has fewer rows than events")),
        }
    }
}

/// The schema of a file with text and bytes in the types of scans: read in them, values of a
/// dictionary are pointed to instead of being copied.
fn read_schema(segment_schema: &SchemaRef) -> SchemaRef {
    let file_schema = file_schema(segment_schema);
    let fields = file_schema.fields().iter().zip(segment_schema.fields()).map(|(stored, field)| {
        if stored.data_type() == field.data_type() {
            let data_type = scan_type(stored.data_type());
            Arc::new(stored.as_ref().clone().with_data_type(data_type))
        } else {
            Arc::clone(stored)
        }
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), file_schema.metadata().clone()))
}

/// Compares what the footer says of the offsets with the manifest: as many rows as events, and in
/// each row group the offsets that belong there at its ends. That they are dense between was
/// checked when the file was written, and the file is the one that was written.
fn check_offsets(parquet: &ParquetMetaData, segment: &Segment) -> Result<(), String> {
    let leaves = parquet.file_metadata().schema_descr().columns();
    let leaf = leaves.iter().position(|leaf| leaf.path().parts() == [OFFSET]);
    let leaf = leaf.ok_or("it has no offsets")?;
    let mut next = segment.first;
    for group in parquet.row_groups() {
        let row_count = u64::try_from(group.num_rows()).map_err(|error| error.to_string())?;
        let end = next.advance(row_count);
        if let Some(Statistics::Int64(found)) = group.column(leaf).statistics()
            && let (Some(&min), Some(&max)) = (found.min_opt(), found.max_opt())
        {
            let expected = (u64::try_from(min), u64::try_from(max).map(|max| max + 1));
            if expected != (Ok(next.0), Ok(end.0)) {
                return Err(format!("offsets {min} to {max} are where {next}..{end} should be"));
            }
        }
        next = end;
    }
    if next != segment.end {
        return Err(format!("it ends at {next}, not at {}", segment.end));
    }
    Ok(())
}

/// The row groups from the one that the row after `skipped` others is in, and how many rows to skip
/// in that one.
fn row_groups(parquet: &ParquetMetaData, mut skipped: usize) -> (Vec<usize>, usize) {
    let mut first = 0;
    for group in parquet.row_groups() {
        let row_count = usize::try_from(group.num_rows()).unwrap_or(0);
        if skipped < row_count {
            break;
        }
        skipped -= row_count;
        first += 1;
    }
    ((first..parquet.num_row_groups()).collect(), skipped)
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("group", &self.log.group())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
