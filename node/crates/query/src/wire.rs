//! Rows as Arrow IPC streams, the form in which they cross the wire.
//!
//! Each piece stands for itself: a schema, or a schema with one record batch. A client can read any
//! of them with any Arrow library and need not keep state between them.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

/// Bytes that are no Arrow IPC stream.
#[derive(Debug, thiserror::Error)]
#[error("read an Arrow IPC stream: {reason}")]
pub struct CorruptBatches {
    /// What the Arrow library says.
    pub reason: String,
}

/// A schema without rows.
pub fn encode_schema(schema: &SchemaRef) -> Bytes {
    encode(schema, None)
}

/// One batch, its schema before it.
pub fn encode_batch(batch: &RecordBatch) -> Bytes {
    encode(&batch.schema(), Some(batch))
}

/// One batch in as many pieces as keep each at about `bytes_max`; a single row may be larger.
pub fn encode_batch_in_pieces(batch: &RecordBatch, bytes_max: usize) -> Vec<Bytes> {
    let rows = batch.num_rows();
    let encoded = encode_batch(batch);
    if encoded.len() <= bytes_max || rows <= 1 {
        return vec![encoded];
    }
    let piece_count = encoded.len().div_ceil(bytes_max.max(1));
    let piece_rows = rows.div_ceil(piece_count).min(rows - 1).max(1);
    let mut pieces = Vec::with_capacity(piece_count);
    for first in (0..rows).step_by(piece_rows) {
        let piece = batch.slice(first, piece_rows.min(rows - first));
        pieces.extend(encode_batch_in_pieces(&piece, bytes_max));
    }
    pieces
}

/// The schema and batches of one IPC stream.
pub fn decode_batches(bytes: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), CorruptBatches> {
    let corrupt = |error: arrow::error::ArrowError| CorruptBatches { reason: error.to_string() };
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(corrupt)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(corrupt)?;
    Ok((schema, batches))
}

fn encode(schema: &SchemaRef, batch: Option<&RecordBatch>) -> Bytes {
    let room = batch.map_or(0, RecordBatch::get_array_memory_size);
    let mut writer = StreamWriter::try_new(Vec::with_capacity(room + 1_024), schema)
        .expect("a vector takes every write");
    if let Some(batch) = batch {
        writer.write(batch).expect("a vector takes every write of a batch in its own schema");
    }
    Bytes::from(writer.into_inner().expect("a vector takes every write"))
}
