//! Parquet and Arrow IPC.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, Length};

use super::{FileError, Input};

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, FileError>> + Send>;

/// How an Arrow IPC file, not a stream, begins.
const ARROW_MAGIC: &[u8] = b"ARROW1";

fn read_all(input: &mut Input) -> Result<Bytes, FileError> {
    let mut bytes = Vec::new();
    input
        .reader
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Io { path: input.path.clone(), source })?;
    Ok(Bytes::from(bytes))
}

fn named(
    path: String,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
) -> Batches {
    Box::new(batches.map(move |batch| {
        batch.map_err(|error| FileError::Invalid { path: path.clone(), reason: error.to_string() })
    }))
}

/// By place where that is possible, else from memory.
pub(super) fn parquet(mut input: Input, chunk_rows: usize) -> Result<Batches, FileError> {
    let path = input.path.clone();
    match &input.seekable {
        Some(seekable) => {
            let file = File::open(seekable)
                .map_err(|source| FileError::Io { path: path.clone(), source })?;
            let read_bytes = Arc::clone(&input.progress.read_bytes);
            let file = CountedFile { file, read_bytes };
            named_parquet(&input, path, file, chunk_rows)
        }
        None => {
            let bytes = read_all(&mut input)?;
            named_parquet(&input, path, bytes, chunk_rows)
        }
    }
}

fn named_parquet<R: ChunkReader + 'static>(
    input: &Input,
    path: String,
    file: R,
    chunk_rows: usize,
) -> Result<Batches, FileError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(chunk_rows).build())
        .map_err(|error| input.invalid(error))?;
    Ok(named(path, reader))
}

/// A Parquet file that counts what is read of it. Pages are read through streams from a place; what
/// a stream reads is counted there.
struct CountedFile {
    file: File,
    read_bytes: Arc<AtomicU64>,
}

impl Length for CountedFile {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for CountedFile {
    type T = super::Counted<BufReader<File>>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let inner = self.file.get_read(start)?;
        Ok(super::Counted { inner, read_bytes: Arc::clone(&self.read_bytes) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.file.get_bytes(start, length)?;
        let count = u64::try_from(length).expect("a usize has at most 64 bits");
        self.read_bytes.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        Ok(bytes)
    }
}

/// A stream is read as it comes; a file by place, or from memory where it has none.
pub(super) fn arrow(mut input: Input) -> Result<Batches, FileError> {
    let path = input.path.clone();
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        let count = input
            .reader
            .read(&mut start[filled..])
            .map_err(|source| FileError::Io { path: path.clone(), source })?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    let start = start[..filled].to_vec();
    if start != ARROW_MAGIC {
        let whole = Cursor::new(start)
            .chain(std::mem::replace(&mut input.reader, Box::new(std::io::empty())));
        let reader = StreamReader::try_new(BufReader::new(whole), None)
            .map_err(|error| input.invalid(error))?;
        return Ok(named(path, reader));
    }
    if let Some(seekable) = &input.seekable {
        let file =
            File::open(seekable).map_err(|source| FileError::Io { path: path.clone(), source })?;
        let read_bytes = Arc::clone(&input.progress.read_bytes);
        let counted = Seekable(super::Counted { inner: file, read_bytes });
        let reader = FileReader::try_new(BufReader::new(counted), None)
            .map_err(|error| input.invalid(error))?;
        return Ok(named(path, reader));
    }
    let mut bytes = start;
    bytes.extend_from_slice(&read_all(&mut input)?);
    let reader =
        FileReader::try_new(Cursor::new(bytes), None).map_err(|error| input.invalid(error))?;
    Ok(named(path, reader))
}

/// A counted file that can also be read by place.
struct Seekable(super::Counted<File>);

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Seek for Seekable {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.inner.seek(position)
    }
}
