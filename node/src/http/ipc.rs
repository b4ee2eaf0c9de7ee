//! An Arrow IPC stream in pieces, as its batches come.

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use axum::body::Bytes;

/// See the module.
pub struct StreamEncoder {
    writer: StreamWriter<Vec<u8>>,
}

impl std::fmt::Debug for StreamEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamEncoder").finish_non_exhaustive()
    }
}

impl StreamEncoder {
    /// Begins a stream; what it begins with comes with the first piece.
    pub fn new(schema: &SchemaRef) -> StreamEncoder {
        let writer = StreamWriter::try_new(Vec::new(), schema).expect("a vector takes every write");
        StreamEncoder { writer }
    }

    /// The next piece.
    pub fn batch(&mut self, batch: &RecordBatch) -> Bytes {
        self.writer.write(batch).expect("a vector takes every write of a batch in its own schema");
        self.piece()
    }

    /// The last piece.
    pub fn finish(&mut self) -> Bytes {
        self.writer.finish().expect("a vector takes every write");
        self.piece()
    }

    fn piece(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.writer.get_mut()))
    }
}
