//! Reads the events of a segment.
//!
//! Invariant: whoever reads to the end without an error has seen every event of the segment once,
//! in order.

use alluvium_core::ids::Offset;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Segment;
use super::encode::{OFFSET, to_file};
use crate::error::StoreError;

/// Rows in one batch.
const BATCH_ROWS: usize = 8_192;

/// The events of a segment, in batches.
pub struct SegmentRows<'a> {
    segment: &'a Segment,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    next: Offset,
    ended: bool,
}

pub(crate) fn rows<'a>(
    segment: &'a Segment,
    schema: &SchemaRef,
) -> Result<SegmentRows<'a>, StoreError> {
    let file = segment.open()?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| segment.corrupt(&error.to_string()))?;
    Ok(SegmentRows {
        segment,
        schema: SchemaRef::clone(schema),
        reader,
        next: segment.first,
        ended: false,
    })
}

impl SegmentRows<'_> {
    fn checked(&mut self, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
        let batch = to_file(batch, &self.schema)
            .map_err(|error| self.segment.corrupt(&error.to_string()))?;
        let Some(offsets) = batch.column_by_name(OFFSET) else {
            return Err(self.segment.corrupt("it has no offsets"));
        };
        for &offset in offsets.as_primitive::<Int64Type>().values() {
            if u64::try_from(offset) != Ok(self.next.0) {
                let reason = format!("offset {offset} is where {} should be", self.next);
                return Err(self.segment.corrupt(&reason));
            }
            self.next = self.next.advance(1);
        }
        Ok(batch)
    }
}

impl Iterator for SegmentRows<'_> {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.reader.next() {
            Some(Ok(batch)) => self.checked(&batch),
            Some(Err(error)) => Err(self.segment.corrupt(&error.to_string())),
            None if self.next == self.segment.end => {
                self.ended = true;
                return None;
            }
            None => {
                let reason = format!("it ends at {}, not at {}", self.next, self.segment.end);
                Err(self.segment.corrupt(&reason))
            }
        };
        self.ended = item.is_err();
        Some(item)
    }
}

impl std::fmt::Debug for SegmentRows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentRows").field("next", &self.next).finish_non_exhaustive()
    }
}
