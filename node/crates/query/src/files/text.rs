//! NDJSON, JSON and CSV.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use alluvium_core::schema::StreamSchema;
use alluvium_views::rows;
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{FileError, Input};
use crate::nearest;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, FileError>> + Send>;

/// Text read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The longest line or object: as much as one append may carry.
const OBJECT_BYTES_MAX: usize = 8 << 20;

/// One object on each line.
pub(super) fn ndjson(
    input: Input,
    schema: &StreamSchema,
    log: &SchemaRef,
    chunk_rows: usize,
) -> Batches {
    let reader = BufReader::with_capacity(BUFFER_BYTES, input.reader);
    let lines = Lines { reader, path: input.path.clone() };
    decode(lines, input.path, schema, log, chunk_rows)
}

/// Objects with anything but objects between them: brackets, commas, line ends.
pub(super) fn json(
    input: Input,
    schema: &StreamSchema,
    log: &SchemaRef,
    chunk_rows: usize,
) -> Batches {
    let bytes = BufReader::with_capacity(BUFFER_BYTES, input.reader);
    let objects = Objects { reader: bytes, path: input.path.clone() };
    decode(objects, input.path, schema, log, chunk_rows)
}

/// Something that adds the text of the next object to a buffer, on one line.
trait NextObject: Send {
    /// Whether there was one.
    fn next_object(&mut self, buffer: &mut Vec<u8>) -> Result<bool, FileError>;
}

fn decode(
    mut objects: impl NextObject + 'static,
    path: String,
    schema: &StreamSchema,
    log: &SchemaRef,
    chunk_rows: usize,
) -> Batches {
    let schema = schema.clone();
    let log = Arc::clone(log);
    let mut buffer = Vec::new();
    let mut before: u64 = 0;
    let mut is_over = false;
    Box::new(std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        buffer.clear();
        let mut count = 0;
        while count < chunk_rows {
            match objects.next_object(&mut buffer) {
                Ok(true) => count += 1,
                Ok(false) => {
                    is_over = true;
                    break;
                }
                Err(error) => {
                    is_over = true;
                    return Some(Err(error));
                }
            }
        }
        if count == 0 {
            return None;
        }
        let batch = rows::decode_json(&schema, &log, &buffer).map_err(|error| {
            is_over = true;
            let reason = if before == 0 {
                error.to_string()
            } else {
                format!("{error}; rows are counted after the first {before}")
            };
            FileError::Invalid { path: path.clone(), reason }
        });
        before += u64::try_from(count).expect("a usize has at most 64 bits");
        Some(batch)
    }))
}

struct Lines<R> {
    reader: BufReader<R>,
    path: String,
}

impl<R: Read + Send> NextObject for Lines<R> {
    fn next_object(&mut self, buffer: &mut Vec<u8>) -> Result<bool, FileError> {
        loop {
            let start = buffer.len();
            let limit = u64::try_from(OBJECT_BYTES_MAX).expect("a usize has at most 64 bits");
            let count = (&mut self.reader)
                .take(limit)
                .read_until(b'\n', buffer)
                .map_err(|source| FileError::Io { path: self.path.clone(), source })?;
            if count == 0 {
                return Ok(false);
            }
            if count == OBJECT_BYTES_MAX {
                return Err(too_long(&self.path));
            }
            let is_blank = buffer[start..].iter().all(u8::is_ascii_whitespace);
            if is_blank {
                buffer.truncate(start);
                continue;
            }
            if buffer.last() != Some(&b'\n') {
                buffer.push(b'\n');
            }
            return Ok(true);
        }
    }
}

fn too_long(path: &str) -> FileError {
    let reason = format!("an object is longer than {OBJECT_BYTES_MAX} bytes");
    FileError::Invalid { path: path.into(), reason }
}

struct Objects<R> {
    reader: BufReader<R>,
    path: String,
}

impl<R: Read + Send> NextObject for Objects<R> {
    fn next_object(&mut self, buffer: &mut Vec<u8>) -> Result<bool, FileError> {
        let start = buffer.len();
        let mut depth: u32 = 0;
        let mut in_text = false;
        let mut is_escaped = false;
        loop {
            let bytes = self
                .reader
                .fill_buf()
                .map_err(|source| FileError::Io { path: self.path.clone(), source })?;
            if bytes.is_empty() {
                if depth != 0 {
                    let reason = "the file ends inside an object".into();
                    return Err(FileError::Invalid { path: self.path.clone(), reason });
                }
                return Ok(false);
            }
            let mut used = 0;
            let mut is_whole = false;
            for &byte in bytes {
                used += 1;
                if depth == 0 && byte != b'{' {
                    if !byte.is_ascii_whitespace() && !b"[],".contains(&byte) {
                        let reason = "it holds something else than JSON objects".into();
                        return Err(FileError::Invalid { path: self.path.clone(), reason });
                    }
                    continue;
                }
                // Raw line ends stand only between the parts of an object, where a space says the
                // same.
                buffer.push(if byte == b'\n' || byte == b'\r' { b' ' } else { byte });
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_text => is_escaped = true,
                    b'"' => in_text = !in_text,
                    b'{' if !in_text => depth += 1,
                    b'}' if !in_text => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    is_whole = true;
                    break;
                }
            }
            self.reader.consume(used);
            if is_whole {
                buffer.push(b'\n');
                return Ok(true);
            }
            if OBJECT_BYTES_MAX < buffer.len() - start {
                return Err(too_long(&self.path));
            }
        }
    }
}

/// Values by the names in the first line. An empty field is null, or the empty text where null may
/// not stand.
pub(super) fn csv(input: Input, log: &SchemaRef, chunk_rows: usize) -> Result<Batches, FileError> {
    let path = input.path.clone();
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, input.reader);
    let header = read_header(&mut reader, &path)?;
    let mut fields = Vec::with_capacity(header.len());
    for name in &header {
        let Ok(field) = log.field_with_name(name) else {
            let known = log.fields().iter().map(|field| field.name().as_str());
            let hint = nearest::hint(name, known);
            let reason = format!("the stream has no column \"{name}\"{hint}");
            return Err(FileError::Invalid { path, reason });
        };
        // What the CSV reader has no words for is read as text and cast afterwards.
        let is_read = field.data_type().is_primitive() && !is_interval(field.data_type())
            || matches!(field.data_type(), DataType::Boolean | DataType::Utf8);
        let read_as = if is_read { field.data_type().clone() } else { DataType::Utf8 };
        fields.push(Field::new(name, read_as, true));
    }
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_batch_size(chunk_rows)
        .build_buffered(reader)
        .map_err(|error| FileError::Invalid { path: path.clone(), reason: error.to_string() })?;
    let log = Arc::clone(log);
    Ok(Box::new(reader.map(move |batch| match batch {
        Ok(batch) => Ok(fill_texts(&log, batch)),
        Err(error) => {
            let reason = explain(&error.to_string(), &header);
            Err(FileError::Invalid { path: path.clone(), reason })
        }
    })))
}

/// Says the column by its name and the line as an editor counts it: the reader counts columns from
/// 0, and lines from 0 behind the line of names.
fn explain(error: &str, header: &[String]) -> String {
    let error = error.strip_prefix("Parser error: ").unwrap_or(error);
    let parts = error.split_once(" for column ").and_then(|(what, place)| {
        let (column, place) = place.split_once(" at line ")?;
        let line = place.split(|letter: char| !letter.is_ascii_digit()).next()?;
        Some((what, column.parse::<usize>().ok()?, line.parse::<u64>().ok()?))
    });
    match parts {
        Some((what, column, line)) => {
            let name = header.get(column).map_or("", String::as_str);
            format!("line {}, column \"{name}\": {what}", line + 2)
        }
        None => error.into(),
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

/// Reads the first line alone; the rest stays in the reader.
fn read_header(reader: &mut impl BufRead, path: &str) -> Result<Vec<String>, FileError> {
    let invalid = |reason: String| FileError::Invalid { path: path.into(), reason };
    let mut line = Vec::new();
    loop {
        let count = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| FileError::Io { path: path.into(), source })?;
        // A name may hold a line end between quotes.
        let is_whole = line.iter().filter(|&&byte| byte == b'"').count() % 2 == 0;
        if count == 0 || is_whole {
            break;
        }
    }
    // A byte-order mark is no part of the first name.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
    let (schema, _) = Format::default()
        .with_header(true)
        .infer_schema(line, Some(0))
        .map_err(|error| invalid(error.to_string()))?;
    if schema.fields().is_empty() {
        return Err(invalid("there is no line of column names".into()));
    }
    Ok(schema.fields().iter().map(|field| field.name().trim().to_string()).collect())
}

fn fill_texts(log: &SchemaRef, batch: RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let wanted = log.field_with_name(field.name());
        let is_filled = wanted
            .is_ok_and(|wanted| !wanted.is_nullable() && wanted.data_type() == &DataType::Utf8);
        if !is_filled || column.null_count() == 0 {
            return Arc::clone(column);
        }
        let texts = column.as_string::<i32>().iter().map(|text| Some(text.unwrap_or("")));
        Arc::new(StringArray::from_iter(texts)) as _
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect())
        .expect("the columns keep their types and lengths")
}
