//! Tests of rows, by what comes in.

mod ipc;
mod joined;
mod json;
mod payload;
mod random;
mod split;

use std::sync::Arc;

use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{InvalidRows, decode_json};
use crate::columns::log_schema;

/// A column; its name ends with `!` where it is NOT NULL.
fn column(name: &str, column_type: ColumnType) -> Column {
    let nullable = !name.ends_with('!');
    Column { name: name.trim_end_matches('!').into(), column_type, nullable }
}

fn schema<const N: usize>(columns: [(&str, ColumnType); N]) -> StreamSchema {
    let columns = columns.map(|(name, column_type)| column(name, column_type));
    StreamSchema::new(columns.to_vec()).expect("a schema")
}

fn list(item: ColumnType) -> ColumnType {
    ColumnType::List(Box::new(item))
}

/// One column of each type there is.
fn every_type() -> StreamSchema {
    let address = vec![column("city!", ColumnType::Text), column("zip", ColumnType::Integer)];
    schema([
        ("boolean", ColumnType::Boolean),
        ("smallint", ColumnType::SmallInt),
        ("integer", ColumnType::Integer),
        ("bigint", ColumnType::BigInt),
        ("real", ColumnType::Real),
        ("double", ColumnType::Double),
        ("numeric", ColumnType::Numeric { precision: 10, scale: 2 }),
        ("text", ColumnType::Text),
        ("bytes", ColumnType::Bytes),
        ("date", ColumnType::Date),
        ("time", ColumnType::Time),
        ("timestamp", ColumnType::Timestamp),
        ("timestamptz", ColumnType::TimestampTz),
        ("interval", ColumnType::Interval),
        ("json", ColumnType::Json),
        ("tags", list(ColumnType::Text)),
        ("address", ColumnType::Struct(address)),
        ("matrix", list(list(ColumnType::Integer))),
    ])
}

fn definition(schema: StreamSchema, partition_by: &[usize], partitions: u32) -> StreamDefinition {
    StreamDefinition {
        name: "test".into(),
        schema,
        partition_by: partition_by.to_vec(),
        event_time: None,
        partitions,
        retention: None,
        replicas: 1,
    }
}

fn json(schema: &StreamSchema, text: &str) -> Result<RecordBatch, InvalidRows> {
    decode_json(schema, &log_schema(schema), text.as_bytes())
}

/// Rows of every type, without and with nulls.
fn rows_of_every_type() -> RecordBatch {
    let text = r#"
        {"boolean": true, "smallint": -5, "integer": 7, "bigint": 9007199254740993, "real": 1.5,
         "double": 0.1, "numeric": 19.99, "text": "grüße \"\u00e9\ud83d\ude00", "bytes": "\\x00ff",
         "date": "2026-11-21", "time": "14:05:09.25", "timestamp": "2026-11-21T14:05:09",
         "timestamptz": "2026-11-21T14:05:09+01:00", "interval": "1 mon 2 days 03:04:05",
         "json": {"a": [1, 2.50, null]}, "tags": ["a", null, ""],
         "address": {"city": "Ulm", "zip": 89073}, "matrix": [[1, 2], [], null, [3]]}
        {"boolean": null, "tags": null, "address": null, "matrix": []}
        {"address": {"city": "Bonn"}, "text": ""}
    "#;
    json(&every_type(), text).expect("good rows")
}

/// The rows as one line each.
fn show(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<_> = batch.columns().iter().map(show_column).collect();
    let row = |row: usize| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>();
    (0..batch.num_rows()).map(|number| row(number).join(" | ")).collect()
}

fn show_column(column: &ArrayRef) -> Vec<String> {
    // Whether names of zones can be looked up depends on who else uses the library, so that a UTC
    // column is shown without its zone, and then a Z.
    if let DataType::Timestamp(TimeUnit::Microsecond, Some(_)) = column.data_type() {
        let plain = column.as_primitive::<TimestampMicrosecondType>().clone();
        let plain: ArrayRef = Arc::new(plain.with_timezone_opt(None::<Arc<str>>));
        let with_z = |text: String| if text == "∅" { text } else { text + "Z" };
        return show_column(&plain).into_iter().map(with_z).collect();
    }
    let options = FormatOptions::default().with_null("∅");
    let formatter = ArrayFormatter::try_new(column, &options).expect("a column with a display");
    (0..column.len()).map(|row| formatter.value(row).to_string()).collect()
}

fn to_json(batch: &RecordBatch) -> String {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch).expect("rows that can be written");
    String::from_utf8(writer.into_inner()).expect("JSON is UTF-8")
}

fn log_of(schema: &StreamSchema) -> SchemaRef {
    log_schema(schema)
}
