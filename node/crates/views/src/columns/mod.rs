//! Arrow forms of the columns of a stream.
//!
//! There are three, one for each place where rows are:
//!
//! | form | where | columns |
//! |---|---|---|
//! | log | entries of the log | those of the stream |
//! | segment | tails and Parquet files | log, then `_offset`, `_appended_at` |
//! | scan | what SQL sees | log, then `_partition`, `_offset`, `_appended_at` |
//!
//! Text is `Utf8` in the log, because that is compact and its buffers can be used in place, and
//! `Utf8View` in scans, because that is what the SQL engine computes on; see [`to_scan`]. Types
//! inside lists and structs are the same everywhere, as a Parquet reader has them.

mod hidden;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};

pub use hidden::{to_scan, with_hidden};

/// The hidden column that says in which partition an event is.
pub const PARTITION: &str = "_partition";
/// The hidden column that says at which offset of its partition.
pub const OFFSET: &str = "_offset";
/// The hidden column that says when its owner accepted it.
pub const APPENDED_AT: &str = "_appended_at";

/// Field metadata key under which the log keeps what Arrow's own types cannot say.
pub const TYPE_KEY: &str = "alluvium.type";
/// The value of [`TYPE_KEY`] of a JSON column.
pub const TYPE_JSON: &str = "json";

/// The zone of every timestamp with zone.
pub const UTC: &str = "UTC";

/// The schema of rows in the log.
#[must_use]
pub fn log_schema(schema: &StreamSchema) -> SchemaRef {
    Arc::new(Schema::new(fields(schema.columns())))
}

/// The schema of rows in tails and segments, given that of the log.
#[must_use]
pub fn segment_schema(log: &SchemaRef) -> SchemaRef {
    let hidden = [offset_field(), appended_at_field()];
    let fields: Vec<_> = log.fields().iter().cloned().chain(hidden.map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

/// The schema of rows as SQL sees them.
#[must_use]
pub fn scan_schema(schema: &StreamSchema) -> SchemaRef {
    let own = fields(schema.columns()).into_iter().map(|field| {
        let scan_type = scan_type(field.data_type());
        Arc::new(field.with_data_type(scan_type))
    });
    let hidden =
        [Field::new(PARTITION, DataType::Int32, false), offset_field(), appended_at_field()];
    let fields: Vec<_> = own.chain(hidden.map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

/// The Arrow type of a column in the log.
#[must_use]
pub fn log_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::SmallInt => DataType::Int16,
        ColumnType::Integer => DataType::Int32,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Real => DataType::Float32,
        ColumnType::Double => DataType::Float64,
        &ColumnType::Numeric { precision, scale } => {
            DataType::Decimal128(precision, i8::try_from(scale).expect("a scale is at most 38"))
        }
        ColumnType::Text | ColumnType::Json => DataType::Utf8,
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        ColumnType::List(item) => DataType::List(Arc::new(item_field(item))),
        ColumnType::Struct(columns) => DataType::Struct(Fields::from(fields(columns))),
    }
}

/// The column type that holds every value of an Arrow type, for making a stream from a file. `None`
/// where there is none.
#[must_use]
pub fn column_type_of(data_type: &DataType) -> Option<ColumnType> {
    let column_type = match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => ColumnType::SmallInt,
        DataType::Int32 | DataType::UInt16 => ColumnType::Integer,
        DataType::Int64 | DataType::UInt32 => ColumnType::BigInt,
        DataType::UInt64 => ColumnType::Numeric { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => ColumnType::Real,
        DataType::Float64 => ColumnType::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            if 38 < *precision || *precision < scale {
                return None;
            }
            ColumnType::Numeric { precision: *precision, scale }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ColumnType::Bytes,
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
        DataType::Timestamp(_, None) => ColumnType::Timestamp,
        DataType::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
        DataType::Interval(_) | DataType::Duration(_) => ColumnType::Interval,
        DataType::Dictionary(_, values) => return column_type_of(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            ColumnType::List(Box::new(column_type_of_field(item)?))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| {
                let column_type = column_type_of_field(field)?;
                Some(Column {
                    name: field.name().clone(),
                    column_type,
                    nullable: field.is_nullable(),
                })
            });
            ColumnType::Struct(columns.collect::<Option<_>>()?)
        }
        // A column of nulls only says nothing of its values, and the others have no counterpart.
        DataType::Null
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(_, _)
        | DataType::Map(_, _)
        | DataType::RunEndEncoded(_, _) => return None,
    };
    Some(column_type)
}

/// As [`column_type_of`], and JSON where the field says so.
#[must_use]
pub fn column_type_of_field(field: &Field) -> Option<ColumnType> {
    let column_type = column_type_of(field.data_type())?;
    let is_json = field.metadata().get(TYPE_KEY).is_some_and(|value| value == TYPE_JSON);
    match column_type {
        ColumnType::Text if is_json => Some(ColumnType::Json),
        other => Some(other),
    }
}

fn fields(columns: &[Column]) -> Vec<Field> {
    columns.iter().map(|column| field(&column.name, &column.column_type, column.nullable)).collect()
}

fn field(name: &str, column_type: &ColumnType, nullable: bool) -> Field {
    let field = Field::new(name, log_type(column_type), nullable);
    if *column_type == ColumnType::Json {
        return field.with_metadata(HashMap::from([(TYPE_KEY.into(), TYPE_JSON.into())]));
    }
    field
}

fn item_field(item: &ColumnType) -> Field {
    field(Field::LIST_FIELD_DEFAULT_NAME, item, true)
}

fn offset_field() -> Field {
    Field::new(OFFSET, DataType::Int64, false)
}

fn appended_at_field() -> Field {
    Field::new(APPENDED_AT, log_type(&ColumnType::TimestampTz), false)
}

fn scan_type(log_type: &DataType) -> DataType {
    match log_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other.clone(),
    }
}
