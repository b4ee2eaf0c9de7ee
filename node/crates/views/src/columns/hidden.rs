//! From one form of rows to the next: the columns that every stream has beside its own.

use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::time::Time;
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BinaryViewArray, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, SchemaRef};

use super::{UTC, segment_schema};

/// Adds `_offset`, from `first` upwards, and `_appended_at` to rows of the log.
#[must_use]
pub fn with_hidden(log_batch: &RecordBatch, first: Offset, appended_at: Time) -> RecordBatch {
    let row_count = log_batch.num_rows();
    let start = i64::try_from(first.0).expect("no partition holds 2^63 events");
    let offsets = Int64Array::from_iter_values((start..).take(row_count));
    let appended_at = TimestampMicrosecondArray::from_value(appended_at.0, row_count);
    let mut columns = log_batch.columns().to_vec();
    columns.push(Arc::new(offsets));
    columns.push(Arc::new(appended_at.with_timezone(UTC)));
    RecordBatch::try_new(segment_schema(log_batch.schema_ref()), columns)
        .expect("the columns of a segment are those of the log and two of this length")
}

/// Turns rows of a segment into rows of a scan. Long texts are shared with the batch given, not
/// copied.
#[must_use]
pub fn to_scan(
    segment_batch: &RecordBatch,
    partition: PartitionNumber,
    scan_schema: &SchemaRef,
) -> RecordBatch {
    let row_count = segment_batch.num_rows();
    let own_count = segment_batch.num_columns() - 2;
    let (own, hidden) = segment_batch.columns().split_at(own_count);
    let number = i32::try_from(partition.0).expect("a stream has at most PARTITIONS_MAX");
    let mut columns: Vec<ArrayRef> = own.iter().map(to_view).collect();
    columns.push(Arc::new(Int32Array::from_value(number, row_count)));
    columns.extend_from_slice(hidden);
    RecordBatch::try_new(Arc::clone(scan_schema), columns)
        .expect("the scan schema is made from the same columns")
}

fn to_view(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8 => Arc::new(StringViewArray::from(column.as_string::<i32>())),
        DataType::Binary => Arc::new(BinaryViewArray::from(column.as_binary::<i32>())),
        _other => Arc::clone(column),
    }
}
