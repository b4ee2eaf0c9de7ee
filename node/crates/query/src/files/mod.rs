//! Rows from files: NDJSON, JSON, CSV, Parquet and Arrow IPC, plain or compressed with gzip or
//! zstd.
//!
//! Columns are matched to those of a stream by name. Rows come out in chunks of a given size, the
//! last one smaller: the same file in the same chunk size gives the same chunks, which is what
//! makes an interrupted ingest resumable by counting chunks.
//!
//! Only local files and standard input; nothing here knows the network.

mod binary;
mod infer;
mod text;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_core::schema::StreamSchema;
use alluvium_views::{columns, rows};
use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};

pub use infer::infer;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object on each line.
    NdJson,
    /// JSON objects one after the other, or one array of them.
    Json,
    /// Comma-separated values with a line of names.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC: a file or a stream.
    Arrow,
}

/// How a file is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Why a file gave no rows.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name does not say what the file holds.
    #[error(
        "{path}: what this file holds is not known by its name; known endings are .ndjson, .jsonl, \
         .json, .csv, .parquet, .arrow, .feather and .ipc, each with .gz or .zst after it"
    )]
    UnknownFormat {
        /// As given.
        path: String,
    },
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be, or its rows do not fit the stream.
    #[error("{path}: {reason}")]
    Invalid {
        /// As given.
        path: String,
        /// What is wrong, and in which row and column where that is known.
        reason: String,
    },
}

/// Rows of the stream's log schema, chunk by chunk.
pub struct Chunks {
    path: String,
    log: SchemaRef,
    schema: StreamSchema,
    chunk_rows: usize,
    source: Box<dyn Iterator<Item = Result<RecordBatch, FileError>> + Send>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    /// Rows handed out, for errors.
    done_rows: u64,
    progress: Progress,
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How far a file is read. Counts bytes as they lie in the file, compressed.
#[derive(Clone, Debug)]
pub struct Progress {
    read_bytes: Arc<AtomicU64>,
    total_bytes: Option<u64>,
}

impl Progress {
    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes there are; not known of standard input.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }
}

/// Opens a file, or standard input for `-`. Without a format the name says it; standard input is
/// NDJSON unless something else is said.
pub fn open(
    path: &str,
    format: Option<FileFormat>,
    schema: &StreamSchema,
    chunk_rows: usize,
) -> Result<Chunks, FileError> {
    let chunk_rows = chunk_rows.max(1);
    let format = format_of(path, format)?;
    let input = Input::open(path)?;
    let progress = input.progress.clone();
    let log = columns::log_schema(schema);
    let source = match format {
        FileFormat::NdJson => text::ndjson(input, schema, &log, chunk_rows),
        FileFormat::Json => text::json(input, schema, &log, chunk_rows),
        FileFormat::Csv => text::csv(input, &log, chunk_rows)?,
        FileFormat::Parquet => binary::parquet(input, chunk_rows)?,
        FileFormat::Arrow => binary::arrow(input)?,
    };
    Ok(Chunks {
        path: path.into(),
        log,
        schema: schema.clone(),
        chunk_rows,
        source,
        waiting: Vec::new(),
        waiting_rows: 0,
        done_rows: 0,
        progress,
    })
}

fn format_of(path: &str, given: Option<FileFormat>) -> Result<FileFormat, FileError> {
    if let Some(format) = given {
        return Ok(format);
    }
    if path == "-" {
        return Ok(FileFormat::NdJson);
    }
    let lower = path.to_lowercase();
    let bare = [".gz", ".zst", ".zstd"].iter().find_map(|ending| lower.strip_suffix(ending));
    let bare = bare.unwrap_or(&lower);
    match bare.rsplit_once('.').map(|(_, ending)| ending) {
        Some("ndjson" | "jsonl") => Ok(FileFormat::NdJson),
        Some("json") => Ok(FileFormat::Json),
        Some("csv") => Ok(FileFormat::Csv),
        Some("parquet" | "pq") => Ok(FileFormat::Parquet),
        Some("arrow" | "feather" | "ipc" | "arrows") => Ok(FileFormat::Arrow),
        _ => Err(FileError::UnknownFormat { path: path.into() }),
    }
}

impl Chunks {
    /// How far the file is read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Brings a batch of the file into the stream's types.
    fn conform(&self, batch: RecordBatch) -> Result<RecordBatch, FileError> {
        if batch.schema() == self.log {
            return Ok(batch);
        }
        let invalid = |reason: String| FileError::Invalid {
            path: self.path.clone(),
            reason: format!("{reason}; rows are counted after the first {}", self.seen_rows()),
        };
        let batch = cast_checked(&self.log, batch).map_err(invalid)?;
        rows::conform(&self.log, &self.schema, batch).map_err(|error| invalid(error.to_string()))
    }

    fn seen_rows(&self) -> u64 {
        self.done_rows + u64::try_from(self.waiting_rows).expect("a usize has at most 64 bits")
    }

    fn take(&mut self, rows: usize) -> Result<RecordBatch, FileError> {
        let whole = concat_batches(&self.log, &self.waiting).map_err(|error| {
            FileError::Invalid { path: self.path.clone(), reason: error.to_string() }
        })?;
        let chunk = whole.slice(0, rows);
        let rest = whole.slice(rows, whole.num_rows() - rows);
        self.waiting_rows = rest.num_rows();
        self.waiting = if rest.num_rows() == 0 { Vec::new() } else { vec![rest] };
        self.done_rows += u64::try_from(rows).expect("a usize has at most 64 bits");
        Ok(chunk)
    }
}

impl Iterator for Chunks {
    type Item = Result<RecordBatch, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.waiting_rows < self.chunk_rows {
            let batch = match self.source.next() {
                None => break,
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(batch)) => batch,
            };
            match self.conform(batch) {
                Ok(batch) => {
                    self.waiting_rows += batch.num_rows();
                    self.waiting.push(batch);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        match self.waiting_rows.min(self.chunk_rows) {
            0 => None,
            rows => Some(self.take(rows)),
        }
    }
}

/// Casts what a stream has another type for, and fails where a value does not fit. A file's types
/// are often an accident of the program that wrote it, so more is cast here than from the wire.
fn cast_checked(log: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch, String> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut arrays = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let wanted = match log.field_with_name(field.name()) {
            Ok(wanted) if wanted.data_type() != field.data_type() => wanted,
            _ => {
                fields.push(Field::clone(field));
                arrays.push(Arc::clone(column));
                continue;
            }
        };
        if !can_cast_types(field.data_type(), wanted.data_type()) {
            return Err(format!(
                "column \"{}\" is {} in the file, which does not become {}",
                field.name(),
                field.data_type(),
                wanted.data_type()
            ));
        }
        let cast = cast_with_options(column, wanted.data_type(), &options)
            .map_err(|error| format!("column \"{}\": {error}", field.name()))?;
        fields.push(Field::clone(field).with_data_type(wanted.data_type().clone()));
        arrays.push(cast);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| error.to_string())
}

/// An open file.
struct Input {
    path: String,
    /// Where Parquet and Arrow files can be read by place; `None` for standard input and compressed
    /// files.
    seekable: Option<PathBuf>,
    reader: Box<dyn Read + Send>,
    progress: Progress,
}

impl Input {
    fn open(path: &str) -> Result<Input, FileError> {
        let io = |source: io::Error| FileError::Io { path: path.into(), source };
        let read_bytes = Arc::new(AtomicU64::new(0));
        if path == "-" {
            let progress = Progress { read_bytes: Arc::clone(&read_bytes), total_bytes: None };
            let reader = Box::new(Counted { inner: io::stdin(), read_bytes });
            return Ok(Input { path: path.into(), seekable: None, reader, progress });
        }
        let file = File::open(path).map_err(io)?;
        let total_bytes = Some(file.metadata().map_err(io)?.len());
        let progress = Progress { read_bytes: Arc::clone(&read_bytes), total_bytes };
        let counted = Counted { inner: file, read_bytes };
        let lower = path.to_lowercase();
        let compression = if lower.ends_with(".gz") {
            Compression::Gzip
        } else if lower.ends_with(".zst") || lower.ends_with(".zstd") {
            Compression::Zstd
        } else {
            Compression::None
        };
        let (reader, seekable): (Box<dyn Read + Send>, _) = match compression {
            Compression::None => (Box::new(counted), Some(PathBuf::from(path))),
            // Several gzip members one after the other are one file, as `gzip` itself reads them.
            Compression::Gzip => {
                (Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(counted))), None)
            }
            Compression::Zstd => {
                (Box::new(zstd::stream::read::Decoder::new(counted).map_err(io)?), None)
            }
        };
        Ok(Input { path: path.into(), seekable, reader, progress })
    }

    fn invalid(&self, error: impl std::fmt::Display) -> FileError {
        FileError::Invalid { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = u64::try_from(count).expect("a usize has at most 64 bits");
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(count)
    }
}
