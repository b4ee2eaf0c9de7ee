//! Answers as text: an aligned table, CSV, JSON, or one JSON object on each line.
//!
//! Numbers are numbers, times are ISO 8601, a null is an empty field in CSV, `null` in JSON and
//! `NULL` in a table.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// A line of names, then a line for each row.
    Csv,
    /// One array of objects.
    Json,
    /// One object on each line.
    NdJson,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "table" => Ok(Format::Table),
            "csv" => Ok(Format::Csv),
            "json" => Ok(Format::Json),
            "ndjson" => Ok(Format::NdJson),
            _ => Err(format!("format \"{text}\" is none of table, csv, json, ndjson")),
        }
    }
}

/// Characters a table shows of one value; the rest becomes `…`.
const VALUE_CHARS_MAX: usize = 120;

/// Writes one answer, batch by batch. CSV and NDJSON are written as rows come; a table and a JSON
/// array are written by [`Printer::finish`].
#[derive(Debug)]
pub struct Printer {
    format: Format,
    schema: SchemaRef,
    kept: Vec<RecordBatch>,
    row_count: u64,
    has_header: bool,
}

impl Printer {
    /// A printer of one answer with this schema.
    pub fn new(format: Format, schema: SchemaRef) -> Printer {
        Printer { format, schema, kept: Vec::new(), row_count: 0, has_header: false }
    }

    /// Rows so far.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Takes the next rows.
    pub fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        self.row_count += u64::try_from(batch.num_rows()).expect("a usize has at most 64 bits");
        match self.format {
            Format::Table | Format::Json => self.kept.push(batch.clone()),
            Format::Csv => {
                write_csv(batch, !self.has_header, out).map_err(io_error)?;
                self.has_header = true;
            }
            Format::NdJson => write_json::<LineDelimited>(&[batch], out).map_err(io_error)?,
        }
        Ok(())
    }

    /// Writes what is left and the end. A table of no columns, which a statement like `CREATE
    /// STREAM` answers, is not written at all.
    pub fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        if self.schema.fields().is_empty() {
            return Ok(());
        }
        match self.format {
            Format::Table => {
                let text = table(&self.schema, &self.kept).map_err(io_error)?;
                out.write_all(text.as_bytes())
            }
            Format::Json => {
                let batches: Vec<&RecordBatch> = self.kept.iter().collect();
                write_json::<JsonArray>(&batches, out).map_err(io_error)?;
                out.write_all(b"\n")
            }
            Format::Csv if !self.has_header => {
                let none = RecordBatch::new_empty(self.schema);
                write_csv(&none, true, out).map_err(io_error)
            }
            Format::Csv | Format::NdJson => Ok(()),
        }
    }
}

/// A whole answer as text.
pub fn to_text(format: Format, schema: &SchemaRef, batches: &[RecordBatch]) -> io::Result<String> {
    let mut out = Vec::new();
    let mut printer = Printer::new(format, Arc::clone(schema));
    for batch in batches {
        printer.batch(batch, &mut out)?;
    }
    printer.finish(&mut out)?;
    String::from_utf8(out).map_err(|error| io::Error::other(error.to_string()))
}

fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, inner) => inner,
        other => io::Error::other(other.to_string()),
    }
}

fn options(null: &'static str) -> FormatOptions<'static> {
    FormatOptions::new().with_null(null).with_display_error(true)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let mut columns: Vec<Vec<String>> = Vec::with_capacity(schema.fields().len());
    for (place, field) in schema.fields().iter().enumerate() {
        let mut column = vec![field.name().clone()];
        for batch in batches {
            let options = options("NULL");
            let formatter = ArrayFormatter::try_new(batch.column(place).as_ref(), &options)?;
            column.extend(
                (0..batch.num_rows()).map(|row| shorten(&formatter.value(row).to_string())),
            );
        }
        columns.push(column);
    }
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| column.iter().map(|value| value.chars().count()).max().unwrap_or(0))
        .collect();
    let row_count = columns.first().map_or(0, |column| column.len() - 1);
    let mut text = String::new();
    for row in 0..=row_count {
        let mut line = String::new();
        for (place, column) in columns.iter().enumerate() {
            let is_right = row != 0 && is_number(schema.field(place).data_type());
            let value = &column[row];
            let padding = " ".repeat(widths[place] - value.chars().count());
            line.push_str(if place == 0 { " " } else { " | " });
            if is_right {
                line.push_str(&padding);
                line.push_str(value);
            } else {
                line.push_str(value);
                line.push_str(&padding);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if row == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&rules.join("+"));
            text.push('\n');
        }
    }
    let noun = if row_count == 1 { "row" } else { "rows" };
    text.push_str(&format!("({row_count} {noun})\n"));
    Ok(text)
}

/// Plans keep their lines; other values stay on theirs.
fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(VALUE_CHARS_MAX).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    short.replace('\n', "\\n")
}

fn write_json<F: json::writer::JsonFormat>(
    batches: &[&RecordBatch],
    out: &mut dyn Write,
) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, F>(out);
    writer.write_batches(batches)?;
    writer.finish()
}

fn write_csv(batch: &RecordBatch, header: bool, out: &mut dyn Write) -> Result<(), ArrowError> {
    let flat = flatten(batch)?;
    let mut writer = csv::WriterBuilder::new().with_header(header).build(out);
    writer.write(&flat)
}

/// CSV has no lists and structs: they are written as their text.
fn flatten(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() && !matches!(field.data_type(), DataType::Interval(_)) {
            fields.push(Field::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let options = options("");
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let texts = (0..column.len()).map(|row| {
            if column.is_null(row) { None } else { Some(formatter.value(row).to_string()) }
        });
        columns.push(Arc::new(StringArray::from_iter(texts)));
        fields.push(Field::new(field.name(), DataType::Utf8, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
