//! The files as one sequence of rows.

use std::path::{Path, PathBuf};

use alluvium_core::schema::{Column, HIDDEN_COLUMNS, StreamSchema};
use alluvium_query::files::{self, Chunks, FileFormat};
use alluvium_query::wire::decode_batches;
use alluvium_views::columns;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::CliError;

/// Rows read at once: enough to read fast, little enough to wait for.
const READ_ROWS: usize = 8_192;

/// Gives rows of one schema, batch by batch, of whatever sizes.
pub trait RowSource {
    /// The next rows; none at the end.
    fn next(&mut self) -> Result<Option<RecordBatch>, CliError>;
}

/// See the module.
#[derive(Debug)]
pub struct Input {
    paths: Vec<PathBuf>,
    format: Option<FileFormat>,
    schema: StreamSchema,
    /// Files opened so far, with the number of rows before each.
    opened: Vec<(u64, PathBuf)>,
    current: Option<Chunks>,
    rows: u64,
    /// Of the files that are read to their end.
    done_bytes: u64,
    bytes_total: Option<u64>,
}

/// Formats by name.
pub fn file_formats() -> impl TypedValueParser<Value = FileFormat> {
    PossibleValuesParser::new(["ndjson", "json", "csv", "parquet", "arrow"]).map(|name| match name
        .as_str()
    {
        "json" => FileFormat::Json,
        "csv" => FileFormat::Csv,
        "parquet" => FileFormat::Parquet,
        "arrow" => FileFormat::Arrow,
        _ => FileFormat::NdJson,
    })
}

/// Sees that the files are there before anything is begun: half an input would be appended else.
pub fn check(paths: &[PathBuf]) -> Result<(), CliError> {
    if 1 < paths.iter().filter(|path| is_stdin(path)).count() {
        return Err(CliError::Usage("standard input (-) can be read only once".into()));
    }
    for path in paths.iter().filter(|path| !is_stdin(path)) {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let message = format!("{} is a directory; name its files", path.display());
                return Err(CliError::Usage(message));
            }
            Ok(_) => {}
            Err(error) => {
                return Err(CliError::Usage(format!("read {}: {error}", path.display())));
            }
        }
    }
    Ok(())
}

/// The columns of a stream, from the schema of `SELECT *` over it.
pub fn stream_schema(bytes: Bytes) -> Result<StreamSchema, CliError> {
    let garbled = |reason: String| {
        CliError::Failed(format!("the columns of the stream cannot be read: {reason}"))
    };
    let (schema, _) = decode_batches(bytes).map_err(|error| garbled(error.to_string()))?;
    let mut found = Vec::new();
    for field in schema.fields() {
        if HIDDEN_COLUMNS.contains(&field.name().as_str()) {
            continue;
        }
        let Some(column_type) = columns::column_type_of_field(field) else {
            return Err(garbled(format!("column \"{}\" is {}", field.name(), field.data_type())));
        };
        let (name, nullable) = (field.name().clone(), field.is_nullable());
        found.push(Column { name, column_type, nullable });
    }
    StreamSchema::new(found).map_err(|error| garbled(error.to_string()))
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

impl Input {
    /// Over these files, in this order.
    pub fn new(paths: &[PathBuf], format: Option<FileFormat>, schema: StreamSchema) -> Input {
        let sizes = paths.iter().map(|path| match is_stdin(path) {
            true => None,
            false => std::fs::metadata(path).ok().map(|found| found.len()),
        });
        Input {
            bytes_total: sizes.sum(),
            paths: paths.to_vec(),
            format,
            schema,
            opened: Vec::new(),
            current: None,
            rows: 0,
            done_bytes: 0,
        }
    }

    /// The size of all files; none where standard input is among them.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Bytes read so far, as they lie in the files.
    pub fn bytes_read(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |chunks| chunks.progress().read_bytes());
        let read = self.done_bytes + current;
        // Files read by place are read in parts twice.
        self.bytes_total.map_or(read, |total| read.min(total))
    }

    /// Which rows of which file the rows `[first, end)` of the input are. People count from 1.
    pub fn place(&self, first: u64, end: u64) -> String {
        let (file, before) = self.file_of(first);
        let (last_file, last_before) = self.file_of(end.saturating_sub(1).max(first));
        if file == last_file {
            return format!("{file}, rows {} to {}", first - before + 1, end - before);
        }
        format!("{file}, row {}, to {last_file}, row {}", first - before + 1, end - last_before)
    }

    /// The file that holds a row, and the rows before that file.
    fn file_of(&self, row: u64) -> (String, u64) {
        let holding = self.opened.iter().rev().find(|(before, _)| *before <= row);
        holding.map_or(("the input".into(), 0), |(before, path)| (shown(path), *before))
    }

    fn open_next(&mut self) -> Result<bool, CliError> {
        let Some(path) = self.paths.get(self.opened.len()) else {
            return Ok(false);
        };
        let Some(name) = path.to_str() else {
            return Err(CliError::Usage(format!("{} is not Unicode; rename it", path.display())));
        };
        let chunks = files::open(name, self.format, &self.schema, READ_ROWS)
            .map_err(|error| CliError::Failed(error.to_string()))?;
        self.opened.push((self.rows, path.clone()));
        self.current = Some(chunks);
        Ok(true)
    }

    fn close(&mut self) {
        let Some(chunks) = self.current.take() else { return };
        let progress = chunks.progress();
        self.done_bytes += progress.total_bytes().unwrap_or(progress.read_bytes());
    }
}

fn shown(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

impl RowSource for Input {
    fn next(&mut self) -> Result<Option<RecordBatch>, CliError> {
        loop {
            if let Some(chunks) = &mut self.current {
                if let Some(batch) = chunks.next() {
                    let batch = batch.map_err(|error| CliError::Failed(error.to_string()))?;
                    self.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                self.close();
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_core::schema::ColumnType;
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn schema() -> StreamSchema {
        let column =
            |name: &str, column_type| Column { name: name.into(), column_type, nullable: true };
        StreamSchema::new(vec![column("n", ColumnType::BigInt), column("t", ColumnType::Text)])
            .unwrap()
    }

    fn numbers(input: &mut Input) -> Result<Vec<i64>, CliError> {
        let mut numbers = Vec::new();
        while let Some(batch) = input.next()? {
            numbers.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
        }
        Ok(numbers)
    }

    #[test]
    fn files_follow_each_other_whatever_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a.ndjson"), dir.path().join("b.csv"));
        std::fs::write(&first, "{\"n\":1,\"t\":\"x\"}\n{\"t\":\"y\",\"n\":2}\n").unwrap();
        std::fs::write(&second, "t,n\nz,3\n").unwrap();
        let mut input = Input::new(&[first.clone(), second.clone()], None, schema());
        assert_eq!(input.bytes_total(), Some(32 + 8));
        assert_eq!(numbers(&mut input).unwrap(), [1, 2, 3]);
        assert_eq!(input.bytes_read(), 40);
        assert_eq!(input.place(0, 2), format!("{}, rows 1 to 2", first.display()));
        assert_eq!(input.place(2, 3), format!("{}, rows 1 to 1", second.display()));
        let across = format!("{}, row 2, to {}, row 1", first.display(), second.display());
        assert_eq!(input.place(1, 3), across);
    }

    #[test]
    fn a_bad_row_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        std::fs::write(&path, "{\"n\":1}\n{\"n\":\"many\"}\n").unwrap();
        let mut input = Input::new(std::slice::from_ref(&path), None, schema());
        let message = numbers(&mut input).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        assert!(message.contains("row ") && message.contains("column \"n\""), "{message}");
    }

    #[test]
    fn what_is_no_file_is_refused_before_anything_begins() {
        let refused = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            check(&paths).unwrap_err().to_string()
        };
        assert!(refused(&["/nowhere/a.csv"]).starts_with("read /nowhere/a.csv"));
        assert!(refused(&["/"]).contains("is a directory"));
        assert!(refused(&["-", "-"]).contains("only once"));
        assert!(check(&[PathBuf::from("-")]).is_ok());
    }
}
