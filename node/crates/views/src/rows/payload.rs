//! The form of rows in the log: an Arrow IPC stream of one batch, not compressed.
//!
//! It says its own schema, so that an entry can be read whatever became of its stream since. Its
//! buffers are aligned within the payload, and the payload is aligned within its entry, so that
//! decoding uses the bytes of the entry in place.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;

/// What the schema, the headers and the ends of a payload take beside its columns, roughly.
const OVERHEAD_BYTES: usize = 1_024;
const OVERHEAD_BYTES_PER_COLUMN: usize = 256;

/// Buffers start at multiples of this: what the largest values (numerics, intervals) need to be
/// used in place. More would make the payloads of single events mostly padding.
const ALIGNMENT: usize = 16;

/// The bytes of a payload are not rows of the stream. The log is damaged, or this is a bug.
#[derive(Debug, thiserror::Error)]
#[error("corrupt payload: {reason}")]
pub struct CorruptPayload {
    /// What was found, in words.
    pub reason: String,
}

/// The payload with these rows; empty for no rows.
#[must_use]
pub fn encode_payload(batch: &RecordBatch) -> Bytes {
    if batch.num_rows() == 0 {
        return Bytes::new();
    }
    let overhead = OVERHEAD_BYTES + OVERHEAD_BYTES_PER_COLUMN * batch.num_columns();
    let mut bytes = Vec::with_capacity(own_bytes(batch) + overhead);
    write(batch, &mut bytes).expect("rows of the log can be written to memory");
    Bytes::from(bytes)
}

/// The rows of a payload, sharing its bytes where they are aligned.
pub fn decode_payload(payload: Bytes, schema: &SchemaRef) -> Result<RecordBatch, CorruptPayload> {
    if payload.is_empty() {
        return Ok(RecordBatch::new_empty(SchemaRef::clone(schema)));
    }
    let corrupt = |reason: String| CorruptPayload { reason };
    let mut buffer = Buffer::from(payload);
    let mut decoder = StreamDecoder::new();
    let batch = decoder
        .decode(&mut buffer)
        .map_err(|error| corrupt(error.to_string()))?
        .ok_or_else(|| corrupt("no rows where rows were expected".into()))?;
    if batch.schema_ref().fields() != schema.fields() {
        return Err(corrupt("rows of another schema".into()));
    }
    let (_, columns, _) = batch.into_parts();
    RecordBatch::try_new(SchemaRef::clone(schema), columns)
        .map_err(|error| corrupt(error.to_string()))
}

fn write(batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(bytes, batch.schema_ref(), options)?;
    writer.write(batch)?;
    writer.finish()
}

/// About how many bytes these rows take, not those of the arrays they are slices of.
#[must_use]
pub fn own_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}
