//! What columns a file has, for people who have not written `CREATE STREAM` yet.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};

use alluvium_core::schema::{Column, StreamSchema};
use alluvium_views::columns;
use arrow::csv::reader::Format;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::json::reader::infer_json_schema;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{FileError, FileFormat, Input, format_of};

/// Guesses the columns of a file from its schema, or from its first `rows` rows. All are nullable:
/// that no null was seen in some rows promises nothing of the others.
pub fn infer(
    path: &str,
    format: Option<FileFormat>,
    rows: usize,
) -> Result<StreamSchema, FileError> {
    let format = format_of(path, format)?;
    let mut input = Input::open(path)?;
    let schema = match format {
        FileFormat::NdJson | FileFormat::Json => {
            let reader = BufReader::new(&mut input.reader);
            let (schema, _) = infer_json_schema(reader, Some(rows)).map_err(|error| {
                FileError::Invalid { path: path.into(), reason: error.to_string() }
            })?;
            SchemaRef::new(schema)
        }
        FileFormat::Csv => {
            let (schema, _) = Format::default()
                .with_header(true)
                .infer_schema(&mut input.reader, Some(rows))
                .map_err(|error| FileError::Invalid {
                    path: path.into(),
                    reason: error.to_string(),
                })?;
            SchemaRef::new(schema)
        }
        FileFormat::Parquet => {
            let file = seekable(&input)?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(file)
                .map_err(|error| input.invalid(error))?;
            SchemaRef::clone(builder.schema())
        }
        FileFormat::Arrow => arrow_schema(&mut input)?,
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column_type = columns::column_type_of(field.data_type()).ok_or_else(|| {
                input.invalid(format!(
                    "column \"{}\" is {}, which no column of a stream can be",
                    field.name(),
                    field.data_type()
                ))
            })?;
            Ok(Column { name: field.name().clone(), column_type, nullable: true })
        })
        .collect::<Result<Vec<Column>, FileError>>()?;
    StreamSchema::new(columns).map_err(|error| input.invalid(error))
}

fn seekable(input: &Input) -> Result<File, FileError> {
    match &input.seekable {
        Some(path) => {
            File::open(path).map_err(|source| FileError::Io { path: input.path.clone(), source })
        }
        None => Err(input.invalid("its columns can only be read from an uncompressed file")),
    }
}

fn arrow_schema(input: &mut Input) -> Result<SchemaRef, FileError> {
    if let Some(path) = &input.seekable {
        let open = || {
            File::open(path).map_err(|source| FileError::Io { path: input.path.clone(), source })
        };
        if let Ok(reader) = FileReader::try_new(BufReader::new(open()?), None) {
            return Ok(reader.schema());
        }
        let reader = StreamReader::try_new(BufReader::new(open()?), None)
            .map_err(|error| input.invalid(error))?;
        return Ok(reader.schema());
    }
    let mut bytes = Vec::new();
    input
        .reader
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Io { path: input.path.clone(), source })?;
    if let Ok(reader) = FileReader::try_new(Cursor::new(&bytes), None) {
        return Ok(reader.schema());
    }
    let reader =
        StreamReader::try_new(Cursor::new(&bytes), None).map_err(|error| input.invalid(error))?;
    Ok(reader.schema())
}
