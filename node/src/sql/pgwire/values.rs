//! Values of an answer in the protocol's text and binary forms.

use alluvium_query::pg_catalog::{PgType, pg_type};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Field, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, SchemaRef, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type, i256,
};
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};

use super::message::{Backend, FieldDescription};
use super::numbers;

/// Days from 1970-01-01 to 2000-01-01, where the binary forms of times begin.
const EPOCH_DAYS: i32 = 10_957;
const MICROS_PER_DAY: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * MICROS_PER_DAY;

/// The columns of an answer as they are sent.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: SchemaRef,
    types: Vec<PgType>,
    formats: Vec<Form>,
}

/// How a column is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Binary,
}

impl Columns {
    /// `formats`: none for all text, one for all columns, or one for each.
    pub fn new(schema: &SchemaRef, formats: &[i16]) -> Result<Columns, String> {
        let count = schema.fields().len();
        if 1 < formats.len() && formats.len() != count {
            return Err(format!("{} formats were given for {count} columns", formats.len()));
        }
        let form = |place: usize| match formats.get(place).or(formats.first()) {
            None | Some(0) => Ok(Form::Text),
            Some(1) => Ok(Form::Binary),
            Some(other) => Err(format!("{other} is no format: they are 0 and 1")),
        };
        let formats = (0..count).map(form).collect::<Result<_, _>>()?;
        let types = schema.fields().iter().map(|field| pg_type(field)).collect();
        Ok(Columns { schema: schema.clone(), types, formats })
    }

    /// Says what the columns are.
    pub fn describe(&self, out: &mut Backend) {
        let columns = self.schema.fields().iter().zip(self.types.iter().zip(&self.formats));
        let fields: Vec<FieldDescription<'_>> = columns
            .map(|(field, (pg_type, form))| FieldDescription {
                name: field.name(),
                oid: pg_type.oid,
                size: pg_type.size,
                modifier: pg_type.modifier,
                format: i16::from(*form == Form::Binary),
            })
            .collect();
        out.row_description(&fields);
    }

    /// Writes one row.
    pub fn row(&self, batch: &RecordBatch, row: usize, out: &mut Backend) {
        out.message(b'D', |body| {
            body.put_u16(u16::try_from(batch.num_columns()).unwrap_or(u16::MAX));
            for (place, column) in batch.columns().iter().enumerate() {
                if column.is_null(row) || *column.data_type() == DataType::Null {
                    body.put_i32(-1);
                    continue;
                }
                let at = body.len();
                body.put_i32(0);
                let cell = cell(column.as_ref(), row);
                match self.formats[place] {
                    Form::Text => text(&cell, body),
                    Form::Binary => binary(&cell, self.types[place].oid, body),
                }
                let length = i32::try_from(body.len() - at - 4).unwrap_or(i32::MAX);
                body[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        });
    }
}

/// One value that is not null.
enum Cell<'a> {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Real(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds.
    Time(i64),
    /// Microseconds since 1970.
    Timestamp(i64),
    TimestampTz(i64),
    Interval {
        months: i32,
        days: i32,
        micros: i64,
    },
    /// In digits.
    Numeric(String),
    List(ArrayRef),
    Json(String),
    Other(String),
}

fn cell(array: &dyn Array, row: usize) -> Cell<'_> {
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Cell::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Cell::Int(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Cell::Int(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Cell::Int(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::UInt(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float16 => Cell::Real(array.as_primitive::<Float16Type>().value(row).into()),
        DataType::Float32 => Cell::Real(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Cell::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row)),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Cell::Bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Cell::Bytes(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Cell::Bytes(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => Cell::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time32(_) | DataType::Time64(_) => {
            numbers::time(array, row).map_or_else(|| other(array, row), Cell::Time)
        }
        DataType::Timestamp(_, zone) => match (numbers::timestamp(array, row), zone) {
            (Some(micros), None) => Cell::Timestamp(micros),
            (Some(micros), Some(_)) => Cell::TimestampTz(micros),
            (None, _) => other(array, row),
        },
        DataType::Interval(unit) => interval(array, *unit, row),
        &DataType::Decimal128(precision, scale) => {
            let value: i128 = array.as_primitive::<Decimal128Type>().value(row);
            Cell::Numeric(Decimal128Type::format_decimal(value, precision, scale))
        }
        &DataType::Decimal256(precision, scale) => {
            let value: i256 = array.as_primitive::<Decimal256Type>().value(row);
            Cell::Numeric(Decimal256Type::format_decimal(value, precision, scale))
        }
        DataType::List(item) => list(item, array.as_list::<i32>().value(row)),
        DataType::LargeList(item) => list(item, array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(item, _) => list(item, array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => Cell::Json(json(array, row)),
        _ => other(array, row),
    }
}

/// A list of plain values; a list of anything else is JSON.
fn list(item: &Field, values: ArrayRef) -> Cell<'static> {
    match item.data_type() {
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_) => Cell::Json(json_list(&values)),
        _ => Cell::List(values),
    }
}

fn interval(array: &dyn Array, unit: IntervalUnit, row: usize) -> Cell<'_> {
    match unit {
        IntervalUnit::YearMonth => Cell::Interval {
            months: array.as_primitive::<IntervalYearMonthType>().value(row),
            days: 0,
            micros: 0,
        },
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            let micros = i64::from(value.milliseconds) * 1_000;
            Cell::Interval { months: 0, days: value.days, micros }
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let micros = value.nanoseconds / 1_000;
            Cell::Interval { months: value.months, days: value.days, micros }
        }
    }
}

/// Whatever else there is, in the words of the library.
fn other(array: &dyn Array, row: usize) -> Cell<'static> {
    let text = arrow::util::display::array_value_to_string(array, row);
    Cell::Other(text.unwrap_or_else(|error| error.to_string()))
}

fn text(cell: &Cell<'_>, out: &mut BytesMut) {
    match cell {
        Cell::Bool(value) => out.put_u8(if *value { b't' } else { b'f' }),
        Cell::Text(text) => out.put_slice(text.as_bytes()),
        Cell::Int(value) => put(out, format_args!("{value}")),
        Cell::UInt(value) => put(out, format_args!("{value}")),
        Cell::Real(value) => numbers::put_float(out, f64::from(*value), *value),
        Cell::Double(value) => numbers::put_float(out, *value, *value),
        Cell::Bytes(bytes) => {
            out.put_slice(b"\\x");
            bytes.iter().for_each(|byte| put(out, format_args!("{byte:02x}")));
        }
        Cell::Date(days) => numbers::put_date(out, i64::from(*days)),
        Cell::Time(micros) => numbers::put_clock(out, *micros),
        Cell::Timestamp(micros) => numbers::put_timestamp(out, *micros),
        Cell::TimestampTz(micros) => {
            numbers::put_timestamp(out, *micros);
            out.put_slice(b"+00");
        }
        Cell::Interval { months, days, micros } => {
            numbers::put_interval(out, *months, *days, *micros);
        }
        Cell::Numeric(digits) => out.put_slice(digits.as_bytes()),
        Cell::List(values) => put_list(values, out),
        Cell::Json(text) | Cell::Other(text) => out.put_slice(text.as_bytes()),
    }
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    use std::fmt::Write;
    // A buffer that grows takes everything.
    let _ = out.write_fmt(text);
}

/// `{1,NULL,"a b"}`
fn put_list(values: &ArrayRef, out: &mut BytesMut) {
    out.put_u8(b'{');
    for row in 0..values.len() {
        if row != 0 {
            out.put_u8(b',');
        }
        if values.is_null(row) {
            out.put_slice(b"NULL");
            continue;
        }
        let mut item = BytesMut::new();
        text(&cell(values.as_ref(), row), &mut item);
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.:_".contains(byte);
        if !item.is_empty() && item.iter().all(is_plain) && !item.eq_ignore_ascii_case(b"null") {
            out.put_slice(&item);
            continue;
        }
        out.put_u8(b'"');
        for byte in &item {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(*byte);
        }
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
}

fn binary(cell: &Cell<'_>, oid: u32, out: &mut BytesMut) {
    match cell {
        Cell::Bool(value) => out.put_u8(u8::from(*value)),
        Cell::Int(value) => match oid {
            21 => out.put_i16(i16::try_from(*value).unwrap_or(i16::MAX)),
            23 | 26 => out.put_i32(i32::try_from(*value).unwrap_or(i32::MAX)),
            _ => out.put_i64(*value),
        },
        Cell::UInt(value) => numbers::put_numeric(out, &value.to_string()),
        Cell::Real(value) => out.put_f32(*value),
        Cell::Double(value) => out.put_f64(*value),
        Cell::Text(text) => out.put_slice(text.as_bytes()),
        Cell::Bytes(bytes) => out.put_slice(bytes),
        Cell::Date(days) => out.put_i32(days.saturating_sub(EPOCH_DAYS)),
        Cell::Time(micros) => out.put_i64(*micros),
        Cell::Timestamp(micros) | Cell::TimestampTz(micros) => {
            out.put_i64(micros.saturating_sub(EPOCH_MICROS));
        }
        Cell::Interval { months, days, micros } => {
            out.put_i64(*micros);
            out.put_i32(*days);
            out.put_i32(*months);
        }
        Cell::Numeric(digits) => numbers::put_numeric(out, digits),
        Cell::List(values) => binary_list(values, out),
        Cell::Json(text) | Cell::Other(text) => out.put_slice(text.as_bytes()),
    }
}

fn binary_list(values: &ArrayRef, out: &mut BytesMut) {
    let item = pg_type(&Field::new("item", values.data_type().clone(), true)).oid;
    let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
    out.put_i32(i32::from(count != 0));
    out.put_i32(i32::from(values.null_count() != 0));
    out.put_u32(item);
    if count == 0 {
        return;
    }
    out.put_i32(count);
    out.put_i32(1);
    for row in 0..values.len() {
        if values.is_null(row) {
            out.put_i32(-1);
            continue;
        }
        let at = out.len();
        out.put_i32(0);
        binary(&cell(values.as_ref(), row), item, out);
        let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// A struct as a JSON object.
fn json(array: &dyn Array, row: usize) -> String {
    let fields = array.as_struct();
    let members = fields.fields().iter().zip(fields.columns()).map(|(field, column)| {
        format!("{}:{}", quoted(field.name()), json_value(column.as_ref(), row))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn json_list(values: &ArrayRef) -> String {
    let items = (0..values.len()).map(|row| json_value(values.as_ref(), row));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn json_value(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return "null".into();
    }
    let cell = cell(array, row);
    match &cell {
        Cell::Json(text) => text.clone(),
        Cell::List(values) => json_list(values),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(_) | Cell::UInt(_) | Cell::Numeric(_) => written(&cell),
        Cell::Real(value) if value.is_finite() => written(&cell),
        Cell::Double(value) if value.is_finite() => written(&cell),
        Cell::Real(_)
        | Cell::Double(_)
        | Cell::Text(_)
        | Cell::Bytes(_)
        | Cell::Date(_)
        | Cell::Time(_)
        | Cell::Timestamp(_)
        | Cell::TimestampTz(_)
        | Cell::Interval { .. }
        | Cell::Other(_) => quoted(&written(&cell)),
    }
}

fn written(cell: &Cell<'_>) -> String {
    let mut out = BytesMut::new();
    text(cell, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
