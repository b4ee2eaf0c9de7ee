//! What of a pinned stream one query reads: segments and tail rows inside the cut, and their
//! bounds.
//!
//! Invariant: the parts of a [`Cut`] hold exactly the events in `[start, end)` of every partition.

use std::collections::HashSet;
use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};

use crate::host::{ColumnStatistics, PartitionPin, SegmentPin};

/// One segment, and which of its rows are read.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPart {
    pub(crate) partition: PartitionNumber,
    pub(crate) segment: SegmentPin,
    /// Offsets `[first, end)`: inside the segment's own.
    pub(crate) first: Offset,
    pub(crate) end: Offset,
}

/// Rows of a tail.
#[derive(Clone, Debug)]
pub(crate) struct TailPart {
    pub(crate) partition: PartitionNumber,
    pub(crate) first: Offset,
    pub(crate) end: Offset,
    pub(crate) rows: RecordBatch,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) segments: Vec<SegmentPart>,
    pub(crate) tails: Vec<TailPart>,
}

impl Cut {
    /// Leaves out what lies before the start or behind the end of a partition.
    pub(crate) fn of(pins: &[PartitionPin]) -> Cut {
        let mut cut = Cut::default();
        for pin in pins {
            let mut sealed_end = pin.start;
            for segment in &pin.segments {
                sealed_end = sealed_end.max(segment.end);
                let first = segment.first.max(pin.start);
                let end = segment.end.min(pin.end);
                if first < end {
                    let segment = segment.clone();
                    cut.segments.push(SegmentPart {
                        partition: pin.partition,
                        segment,
                        first,
                        end,
                    });
                }
            }
            for tail in &pin.tail {
                let tail_end = tail.first.advance(rows_of(&tail.rows));
                // A tail may still hold rows that a segment has by now: they count once.
                let first = tail.first.max(sealed_end);
                let end = tail_end.min(pin.end);
                if first < end {
                    let skip = to_usize(first.since(tail.first));
                    let rows = tail.rows.slice(skip, to_usize(end.since(first)));
                    cut.tails.push(TailPart { partition: pin.partition, first, end, rows });
                }
            }
        }
        cut
    }
}

impl SegmentPart {
    /// Whether every row of the file is read: only then are the file's statistics exact for it.
    pub(crate) fn is_whole(&self) -> bool {
        self.first == self.segment.first && self.end == self.segment.end
    }

    pub(crate) fn row_count(&self) -> usize {
        to_usize(self.end.since(self.first))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&ColumnStatistics> {
        self.segment.columns.iter().find(|column| column.name == name)
    }
}

/// The bounds of segments, as the pruner asks for them: one container for each segment. They are
/// those of whole files, so they hold for any part of one.
pub(crate) struct SegmentBounds<'a> {
    pub(crate) parts: &'a [SegmentPart],
    pub(crate) schema: &'a SchemaRef,
}

impl SegmentBounds<'_> {
    fn collect(
        &self,
        name: &str,
        value: impl Fn(&ColumnStatistics) -> Option<&ArrayRef>,
    ) -> Option<ArrayRef> {
        let known: Vec<Option<ArrayRef>> = self
            .parts
            .iter()
            .map(|part| part.column(name).and_then(&value).map(Arc::clone))
            .collect();
        let data_type = known.iter().flatten().next()?.data_type().clone();
        let values = known.iter().map(|array| match array {
            Some(array) => ScalarValue::try_from_array(array, 0),
            None => ScalarValue::try_from(&data_type),
        });
        let values: Vec<ScalarValue> = values.collect::<Result<_, _>>().ok()?;
        ScalarValue::iter_to_array(values).ok()
    }

    fn partitions(&self) -> ArrayRef {
        let numbers = self.parts.iter().map(|part| to_i32(part.partition));
        Arc::new(Int32Array::from_iter_values(numbers))
    }
}

impl PruningStatistics for SegmentBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "_partition" => Some(self.partitions()),
            "_offset" => {
                let firsts = self.parts.iter().map(|part| to_i64(part.first));
                Some(Arc::new(Int64Array::from_iter_values(firsts)))
            }
            name => self.collect(name, |column| column.min.as_ref()),
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "_partition" => Some(self.partitions()),
            "_offset" => {
                let lasts = self.parts.iter().map(|part| to_i64(part.end) - 1);
                Some(Arc::new(Int64Array::from_iter_values(lasts)))
            }
            name => self.collect(name, |column| column.max.as_ref()),
        }
    }

    fn num_containers(&self) -> usize {
        self.parts.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let name = column.name();
        self.schema.column_with_name(name)?;
        let counts = self.parts.iter().map(|part| match name {
            "_partition" | "_offset" | "_appended_at" => Some(0),
            _ => part.column(name).map(|column| column.null_count),
        });
        Some(Arc::new(UInt64Array::from_iter(counts)))
    }

    // Rows of the whole files, because the counts of nulls are of whole files too.
    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.parts.iter().map(|part| part.segment.end.since(part.segment.first));
        Some(Arc::new(UInt64Array::from_iter_values(counts)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// The bounds of tails: their place only; their values are in memory and filtered there.
pub(crate) struct TailBounds<'a>(pub(crate) &'a [TailPart]);

impl PruningStatistics for TailBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "_partition" => {
                let numbers = self.0.iter().map(|part| to_i32(part.partition));
                Some(Arc::new(Int32Array::from_iter_values(numbers)))
            }
            "_offset" => {
                let firsts = self.0.iter().map(|part| to_i64(part.first));
                Some(Arc::new(Int64Array::from_iter_values(firsts)))
            }
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "_offset" => {
                let lasts = self.0.iter().map(|part| to_i64(part.end) - 1);
                Some(Arc::new(Int64Array::from_iter_values(lasts)))
            }
            _ => self.min_values(column),
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "_partition" | "_offset" => {
                Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|_| 0))))
            }
            _ => None,
        }
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.0.iter().map(|part| part.end.since(part.first));
        Some(Arc::new(UInt64Array::from_iter_values(counts)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn rows_of(rows: &RecordBatch) -> u64 {
    u64::try_from(rows.num_rows()).expect("a usize has at most 64 bits")
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).expect("rows of one file or batch are counted in a usize")
}

/// Offsets beyond 2^63 are never reached, and SQL shows them as BIGINT.
pub(crate) fn to_i64(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

pub(crate) fn to_i32(partition: PartitionNumber) -> i32 {
    i32::try_from(partition.0).expect("a stream has at most 1,024 partitions")
}
