//! The events of a partition that are not in a segment yet, as Arrow batches in memory.
//!
//! A [`Tail`] never changes; the [`TailBuilder`] makes the next one. Adding a batch costs about the
//! same however long the tail is: settled batches lie in chunks that all later tails share. Small
//! batches are put together sixteen at a time, so a row is copied about three times before it lies
//! in a batch of the size scans like, and single events at 20,000 a second cost a few percent of a
//! core.

use std::fmt;
use std::sync::{Arc, OnceLock};

use alluvium_core::ids::Offset;
use alluvium_core::time::Time;
use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringViewArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;

/// Rows from which a batch is left as it is: what a scan takes at a time.
const SETTLED_ROWS: usize = 4_096;

/// Bytes from which a batch is left as it is, however few rows it has.
const SETTLED_BYTES: u64 = 1 << 20;

/// So many batches of one size become one of the next size.
const FAN_IN: usize = 16;

/// Batches in one shared chunk: the next view copies fewer pointers than this, and one for each
/// chunk when a chunk becomes full.
const CHUNK_BATCHES: usize = 16;

/// Events with dense offsets, in the segment schema.
pub struct TailBatch {
    /// Offset of the first row.
    pub first: Offset,
    /// When the oldest of them was appended.
    pub appended_at: Time,
    /// The rows.
    pub rows: RecordBatch,
    /// The same rows in the scan schema, made by the first reader who needs them.
    pub scan: OnceLock<RecordBatch>,
    /// Memory of the rows.
    pub bytes: u64,
    /// Columns of it in the types of scans, by place, as far as a reader wanted them.
    scan_columns: OnceLock<Box<[OnceLock<ArrayRef>]>>,
}

/// Batches in offset order, without gaps.
#[derive(Clone, Default)]
pub struct Tail {
    chunks: Arc<Vec<Chunk>>,
    open: Arc<[Arc<TailBatch>]>,
}

type Chunk = Arc<[Arc<TailBatch>]>;

/// Makes tails; owned by the one who appends.
#[derive(Default)]
pub(crate) struct TailBuilder {
    chunks: Arc<Vec<Chunk>>,
    /// The first `settled` of these stay as they are.
    open: Vec<Arc<TailBatch>>,
    settled: usize,
    bytes: u64,
}

impl TailBatch {
    /// Rows of a batch in the segment schema.
    #[must_use]
    pub fn new(first: Offset, appended_at: Time, rows: RecordBatch) -> TailBatch {
        let bytes = rows_bytes(&rows);
        let (scan, scan_columns) = (OnceLock::new(), OnceLock::new());
        TailBatch { first, appended_at, rows, scan, bytes, scan_columns }
    }

    /// The offset after the last row.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.advance(self.rows.num_rows() as u64)
    }

    /// The rows in `[start, end)`, without copying.
    pub(crate) fn slice(&self, start: Offset, end: Offset) -> Option<RecordBatch> {
        let (start, end) = (self.first.max(start), self.end().min(end));
        if end <= start {
            return None;
        }
        let skipped = usize::try_from(start.since(self.first)).expect("inside the batch");
        let kept = usize::try_from(end.since(start)).expect("inside the batch");
        Some(self.rows.slice(skipped, kept))
    }

    /// Rows of the column at `place`, in the type that scans have it in. Most are made only once
    /// for all readers.
    pub(crate) fn scan_column(&self, place: usize, skipped: usize, row_count: usize) -> ArrayRef {
        let column = self.rows.column(place);
        if scan_type(column.data_type()) == *column.data_type() {
            return column.slice(skipped, row_count);
        }
        // A reader that comes by often finds its few new rows at the end of a batch that they were
        // put together with older ones in.
        if row_count < self.rows.num_rows() / 2 {
            return to_view(&column.slice(skipped, row_count));
        }
        let columns = self
            .scan_columns
            .get_or_init(|| (0..self.rows.num_columns()).map(|_| OnceLock::new()).collect());
        columns[place].get_or_init(|| to_view(column)).slice(skipped, row_count)
    }

    fn is_settled(&self) -> bool {
        SETTLED_ROWS <= self.rows.num_rows() || SETTLED_BYTES <= self.bytes
    }

    /// Batches of one size class are put together.
    fn class(&self) -> u32 {
        if self.is_settled() {
            return u32::MAX;
        }
        self.rows.num_rows().max(1).ilog(FAN_IN)
    }
}

impl Tail {
    /// The batches in offset order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<TailBatch>> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).chain(self.open.iter())
    }

    /// How many batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len() * CHUNK_BATCHES + self.open.len()
    }

    /// Whether there is no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.open.is_empty()
    }
}

impl TailBuilder {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, batch: TailBatch) {
        self.bytes += batch.bytes;
        let class = batch.class();
        // Smaller batches that a larger one would bury are put together first: they would never be
        // many enough again.
        let buried = self.run(|before| before.class() < class);
        self.unite(buried);
        self.open.push(Arc::new(batch));
        self.compact();
        self.settle();
    }

    pub(crate) fn tail(&self) -> Tail {
        Tail { chunks: Arc::clone(&self.chunks), open: self.open.as_slice().into() }
    }

    /// The same without the events before `start`.
    pub(crate) fn after(&self, start: Offset) -> TailBuilder {
        let mut kept = TailBuilder::default();
        for batch in self.tail().iter() {
            if batch.end() <= start {
                continue;
            }
            let batch = if batch.first < start {
                let rows = batch.slice(start, batch.end()).expect("it ends after the start");
                Arc::new(TailBatch::new(start, batch.appended_at, rows))
            } else {
                Arc::clone(batch)
            };
            kept.bytes += batch.bytes;
            kept.open.push(batch);
            kept.settle();
        }
        kept
    }

    /// How many batches at the end, but not settled ones, are so.
    fn run(&self, so: impl Fn(&TailBatch) -> bool) -> usize {
        self.open[self.settled..].iter().rev().take_while(|batch| so(batch)).count()
    }

    fn compact(&mut self) {
        while let Some(last) = self.open.last() {
            let class = last.class();
            if class == u32::MAX || self.run(|before| before.class() == class) < FAN_IN {
                return;
            }
            self.unite(FAN_IN);
        }
    }

    /// Makes one batch of the last `count`.
    fn unite(&mut self, count: usize) {
        if count < 2 {
            return;
        }
        let at = self.open.len() - count;
        let parts = &self.open[at..];
        let schema = parts[0].rows.schema();
        // Only columns of more than 2 GiB could not be put together, and batches that large are
        // settled; if it happens all the same, they simply stay apart.
        let Ok(rows) = concat_batches(&schema, parts.iter().map(|part| &part.rows)) else { return };
        let appended_at = parts.iter().map(|part| part.appended_at).min().unwrap_or_default();
        let united = TailBatch::new(parts[0].first, appended_at, rows);
        self.bytes = self.bytes - parts.iter().map(|part| part.bytes).sum::<u64>() + united.bytes;
        self.open.truncate(at);
        self.open.push(Arc::new(united));
    }

    /// Everything up to a settled batch is settled; full chunks of that are set aside.
    fn settle(&mut self) {
        if self.open.last().is_some_and(|last| last.is_settled()) {
            self.settled = self.open.len();
        }
        while CHUNK_BATCHES <= self.settled {
            let chunk: Chunk = self.open.drain(..CHUNK_BATCHES).collect();
            Arc::make_mut(&mut self.chunks).push(chunk);
            self.settled -= CHUNK_BATCHES;
        }
    }
}

/// The type in which scans have a column of a segment: text and bytes as views.
pub(crate) fn scan_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other.clone(),
    }
}

fn to_view(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8 => Arc::new(StringViewArray::from(column.as_string::<i32>())),
        DataType::Binary => Arc::new(BinaryViewArray::from(column.as_binary::<i32>())),
        _other => Arc::clone(column),
    }
}

/// Memory of the rows themselves: a batch that is a view into a larger buffer counts its own part.
fn rows_bytes(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(column_bytes).sum()
}

fn column_bytes(column: &ArrayRef) -> u64 {
    let rows = column.len();
    let nulls = if column.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    // The usual types without a detour: this runs for every append.
    let values = match column.data_type() {
        DataType::Utf8 => text_bytes(column.as_string::<i32>().value_offsets()),
        DataType::Binary => text_bytes(column.as_binary::<i32>().value_offsets()),
        other => match other.primitive_width() {
            Some(width) => width * rows,
            None => match column.to_data().get_slice_memory_size() {
                Ok(bytes) => return bytes as u64,
                Err(_) => column.get_array_memory_size(),
            },
        },
    };
    (values + nulls) as u64
}

fn text_bytes(offsets: &[i32]) -> usize {
    let text = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| last - first);
    size_of_val(offsets) + usize::try_from(text).unwrap_or(0)
}

impl fmt::Debug for TailBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TailBatch[{}..{})", self.first, self.end())
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn batch(first: u64, rows: u64) -> TailBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let column = Int64Array::from_iter_values((first..first + rows).map(|n| n as i64));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
        TailBatch::new(Offset(first), Time(first as i64), rows)
    }

    fn numbers(tail: &Tail) -> Vec<i64> {
        let column = |batch: &Arc<TailBatch>| {
            batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
        };
        tail.iter().flat_map(column).collect()
    }

    #[test]
    fn single_events_end_in_large_batches() {
        let mut builder = TailBuilder::default();
        let mut most_open = 0;
        for n in 0..300_000 {
            builder.push(batch(n, 1));
            most_open = most_open.max(builder.open.len());
        }
        let tail = builder.tail();
        // Fewer than a chunk of settled batches, and fewer than sixteen of each smaller size.
        assert!(most_open < CHUNK_BATCHES + 3 * FAN_IN, "{most_open} open batches");
        // In base sixteen, the digits of the rows that are not settled: 992 is 3, 14, 0.
        assert_eq!(tail.len(), 300_000 / 4_096 + 3 + 14);
        assert!(numbers(&tail).into_iter().eq(0..300_000));
    }

    proptest! {
        #[test]
        fn rows_stay_dense_and_bytes_add_up(
            sizes in prop::collection::vec(
                prop_oneof![1_u64..4, 1_u64..40, 1_u64..600, 4_000_u64..6_000], 1..200),
            cut: prop::sample::Index,
        ) {
            let mut builder = TailBuilder::default();
            let mut end = 0;
            for size in sizes {
                builder.push(batch(end, size));
                end += size;
            }
            prop_assert!(numbers(&builder.tail()).into_iter().eq(0..end as i64));
            let cut = cut.index(end as usize + 1) as u64;
            let kept = builder.after(Offset(cut));
            prop_assert!(numbers(&kept.tail()).into_iter().eq(cut as i64..end as i64));
            for (builder, name) in [(&builder, "all"), (&kept, "kept")] {
                let bytes: u64 = builder.tail().iter().map(|batch| batch.bytes).sum();
                prop_assert_eq!(bytes, builder.bytes(), "{}", name);
                prop_assert_eq!(builder.tail().iter().count(), builder.tail().len());
            }
        }
    }
}
