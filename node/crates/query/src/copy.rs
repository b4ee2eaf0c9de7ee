//! `COPY stream [(columns)] FROM STDIN [WITH (…)]`: rows as text, CSV or PostgreSQL's binary form.
//!
//! Reads what comes in pieces of any size and gives batches of the stream's log schema. Files are
//! not read: `COPY … FROM 'file'` and `COPY … TO` are refused.

mod binary;
mod options;
mod text;

use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use alluvium_core::stream::Stream;
use alluvium_views::{columns, rows};
use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::SqlError;

/// Rows of one batch.
const BATCH_ROWS: usize = 20_000;

/// Bytes of text of one batch: the columns are never much larger.
const BATCH_BYTES: usize = 4 << 20;

/// The longest row: as much as one append may carry.
const ROW_BYTES_MAX: usize = 8 << 20;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// PostgreSQL's own, with tabs and backslashes.
    Text,
    /// Comma-separated values.
    Csv,
    /// PostgreSQL's binary form.
    Binary,
}

/// Where rows go and how they are written.
#[derive(Clone, Debug)]
pub struct CopyIn {
    pub(crate) stream: Arc<Stream>,
    /// Places in the stream's schema, in the order of the input.
    pub(crate) columns: Vec<usize>,
    pub(crate) form: Form,
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    pub(crate) null: String,
    pub(crate) has_header: bool,
}

impl CopyIn {
    /// The stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// How many columns a row has.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Whether rows come in the binary form.
    pub fn is_binary(&self) -> bool {
        self.form == Form::Binary
    }

    fn column_type(&self, place: usize) -> &ColumnType {
        &self.stream.definition.schema.columns()[self.columns[place]].column_type
    }
}

/// Rows on their way in.
#[derive(Debug)]
pub struct CopyRows {
    copy: CopyIn,
    log: SchemaRef,
    input: Vec<u8>,
    collected: Collected,
    /// Rows given out in batches.
    done: u64,
    /// Lines or tuples read, the header among them.
    line: u64,
    is_over: bool,
    begun: bool,
}

/// The rows of the next batch, as text.
#[derive(Debug, Default)]
struct Collected {
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

impl Collected {
    fn new(count: usize) -> Collected {
        let columns = (0..count).map(|_| StringBuilder::new()).collect();
        Collected { columns, rows: 0, bytes: 0 }
    }

    fn push(&mut self, row: &[Option<&str>]) {
        for (column, value) in self.columns.iter_mut().zip(row) {
            self.bytes += value.map_or(0, str::len);
            column.append_option(*value);
        }
        self.rows += 1;
    }

    fn is_full(&self) -> bool {
        BATCH_ROWS <= self.rows || BATCH_BYTES <= self.bytes
    }
}

impl CopyRows {
    /// For what `copy` says.
    pub fn new(copy: CopyIn) -> CopyRows {
        let log = columns::log_schema(&copy.stream.definition.schema);
        let collected = Collected::new(copy.column_count());
        CopyRows {
            copy,
            log,
            input: Vec::new(),
            collected,
            done: 0,
            line: 0,
            is_over: false,
            begun: false,
        }
    }

    /// Takes the next bytes; gives the batches that are full.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<RecordBatch>, SqlError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        self.input.extend_from_slice(bytes);
        self.read(false)
    }

    /// The rows that are left.
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>, SqlError> {
        let mut batches = if self.is_over { Vec::new() } else { self.read(true)? };
        if 0 < self.collected.rows {
            batches.push(self.take()?);
        }
        Ok(batches)
    }

    fn read(&mut self, is_end: bool) -> Result<Vec<RecordBatch>, SqlError> {
        let mut batches = Vec::new();
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while !self.is_over {
            let taken = match self.copy.form {
                Form::Binary => binary::next(&self.copy, rest, &mut self.begun),
                Form::Csv | Form::Text => text::next(&self.copy, rest, is_end),
            };
            match taken.map_err(|reason| self.at_line(&reason))? {
                Taken::More => break,
                Taken::Nothing(length) => rest = &rest[length..],
                Taken::End => self.is_over = true,
                Taken::Row(length, row) => {
                    rest = &rest[length..];
                    let is_header = self.line == 0 && self.copy.has_header;
                    if !is_header {
                        self.collect(&row)?;
                    }
                    self.line += 1;
                    if self.collected.is_full() {
                        batches.push(self.take()?);
                    }
                }
            }
        }
        if ROW_BYTES_MAX < rest.len() {
            return Err(self.at_line("a row is longer than 8 MiB"));
        }
        if is_end && !rest.is_empty() && !self.is_over {
            return Err(self.at_line("the input ends in the middle of a row"));
        }
        self.input = rest.to_vec();
        Ok(batches)
    }

    fn collect(&mut self, row: &[Option<String>]) -> Result<(), SqlError> {
        let wanted = self.copy.column_count();
        if row.len() != wanted {
            let reason = format!("a row has {} values, {wanted} are wanted", row.len());
            return Err(self.at_line(&reason));
        }
        let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
        self.collected.push(&row);
        Ok(())
    }

    fn at_line(&self, reason: &str) -> SqlError {
        let what = if self.copy.is_binary() { "row" } else { "line" };
        SqlError::invalid(format!("COPY, {what} {}: {reason}", self.line + 1))
    }

    /// Brings what is collected into the stream's types.
    fn take(&mut self) -> Result<RecordBatch, SqlError> {
        let count = self.copy.column_count();
        let mut collected = std::mem::replace(&mut self.collected, Collected::new(count));
        let schema = &self.copy.stream.definition.schema;
        let names = self.copy.columns.iter().map(|place| &schema.columns()[*place].name);
        let fields = names.map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>();
        let arrays = collected.columns.iter_mut();
        let arrays: Vec<ArrayRef> =
            arrays.map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| SqlError::internal(error.to_string()))?;
        let batch = rows::conform(&self.log, schema, batch).map_err(|error| {
            let done = self.done;
            SqlError::invalid(match done {
                0 => format!("COPY: {error}"),
                _ => format!("COPY: {error}; rows are counted after the first {done}"),
            })
        })?;
        self.done += u64::try_from(batch.num_rows()).expect("a usize has at most 64 bits");
        Ok(batch)
    }
}

/// What was found at the beginning of the input.
enum Taken {
    /// Not all of a row is there.
    More,
    /// So many bytes that say nothing.
    Nothing(usize),
    /// So many bytes that are a row.
    Row(usize, Vec<Option<String>>),
    /// The end that the input itself says.
    End,
}

#[cfg(test)]
mod tests;
