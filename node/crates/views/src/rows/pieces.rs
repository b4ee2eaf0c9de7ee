//! Joining batches and picking rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

/// One batch with the rows of all, in order. A single batch is given back as it is.
#[must_use]
pub fn concat(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    match batches {
        [] => RecordBatch::new_empty(Arc::clone(schema)),
        [batch] => batch.clone(),
        batches => concat_batches(schema, batches)
            .expect("batches of one schema, far smaller than 2 GiB, have one concatenation"),
    }
}

/// The rows in these ranges, in order. All rows, or one range of them, are not copied.
#[must_use]
pub fn keep(batch: &RecordBatch, ranges: &[Range<u32>]) -> RecordBatch {
    let slice = |rows: &Range<u32>| batch.slice(rows.start as usize, rows.len());
    match ranges {
        [] => batch.slice(0, 0),
        [rows] if rows.len() == batch.num_rows() => batch.clone(),
        [rows] => slice(rows),
        ranges => {
            let slices: Vec<_> = ranges.iter().map(slice).collect();
            concat(batch.schema_ref(), &slices)
        }
    }
}
