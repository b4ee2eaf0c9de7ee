//! Collects the values of one scalar column of the log, from texts, numbers and booleans.

use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, PrimitiveBuilder, StringBuilder,
};
use arrow::datatypes::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};

use super::interval::interval;
use super::number::{self, BadNumber};
use super::text;
use crate::columns::log_type;

/// The values so far. Which one it is follows from the column type alone.
pub(super) enum Values {
    Boolean(BooleanBuilder),
    SmallInt(PrimitiveBuilder<Int16Type>),
    Integer(PrimitiveBuilder<Int32Type>),
    BigInt(PrimitiveBuilder<Int64Type>),
    Real(PrimitiveBuilder<Float32Type>),
    Double(PrimitiveBuilder<Float64Type>),
    Numeric { values: Decimal128Builder, precision: u8, scale: u8 },
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
}

/// Why a value is not added: in words, without the place.
pub(super) type Reason = String;

impl Values {
    /// For a column of this type, with room for `capacity` values; `None` for lists and structs.
    /// JSON is collected as text.
    pub fn new(column_type: &ColumnType, capacity: usize) -> Option<Values> {
        /// Room for the bytes of one text.
        const TEXT_BYTES_USUAL: usize = 16;
        let bytes = capacity * TEXT_BYTES_USUAL;
        let with_type = log_type(column_type);
        Some(match column_type {
            ColumnType::Boolean => Values::Boolean(BooleanBuilder::with_capacity(capacity)),
            ColumnType::SmallInt => Values::SmallInt(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::Integer => Values::Integer(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::BigInt => Values::BigInt(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::Real => Values::Real(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::Double => Values::Double(PrimitiveBuilder::with_capacity(capacity)),
            &ColumnType::Numeric { precision, scale } => {
                let values = Decimal128Builder::with_capacity(capacity).with_data_type(with_type);
                Values::Numeric { values, precision, scale }
            }
            ColumnType::Text | ColumnType::Json => {
                Values::Text(StringBuilder::with_capacity(capacity, bytes))
            }
            ColumnType::Bytes => Values::Bytes(BinaryBuilder::with_capacity(capacity, bytes)),
            ColumnType::Date => Values::Date(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::Time => Values::Time(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                let values = PrimitiveBuilder::with_capacity(capacity).with_data_type(with_type);
                Values::Timestamp(values)
            }
            ColumnType::Interval => Values::Interval(PrimitiveBuilder::with_capacity(capacity)),
            ColumnType::List(_) | ColumnType::Struct(_) => return None,
        })
    }

    /// Adds null.
    pub fn push_null(&mut self) {
        match self {
            Values::Boolean(values) => values.append_null(),
            Values::SmallInt(values) => values.append_null(),
            Values::Integer(values) => values.append_null(),
            Values::BigInt(values) => values.append_null(),
            Values::Real(values) => values.append_null(),
            Values::Double(values) => values.append_null(),
            Values::Numeric { values, .. } => values.append_null(),
            Values::Text(values) => values.append_null(),
            Values::Bytes(values) => values.append_null(),
            Values::Date(values) => values.append_null(),
            Values::Time(values) => values.append_null(),
            Values::Timestamp(values) => values.append_null(),
            Values::Interval(values) => values.append_null(),
        }
    }

    /// Adds what a text says.
    pub fn push_text(&mut self, text: &str) -> Result<(), Reason> {
        match self {
            Values::Text(values) => values.append_value(text),
            Values::Boolean(values) => values.append_value(read(text, "BOOLEAN", text::boolean)?),
            Values::Bytes(values) => {
                values.append_value(read(text, "BYTEA (\\x and hex)", text::bytes)?);
            }
            Values::Date(values) => values.append_value(read(text, "DATE", text::date)?),
            Values::Time(values) => values.append_value(read(text, "TIME", text::time)?),
            Values::Timestamp(values) => {
                values.append_value(read(text, "TIMESTAMP", text::timestamp)?);
            }
            Values::Interval(values) => values.append_value(read(text, "INTERVAL", interval)?),
            Values::SmallInt(_)
            | Values::Integer(_)
            | Values::BigInt(_)
            | Values::Real(_)
            | Values::Double(_)
            | Values::Numeric { .. } => return self.push_number(text),
        }
        Ok(())
    }

    /// Adds what a number says. Timestamps take microseconds since 1970.
    #[inline]
    pub fn push_number(&mut self, digits: &str) -> Result<(), Reason> {
        let bad =
            |type_name: &'static str| move |bad: BadNumber| bad_number(digits, type_name, bad);
        match self {
            Values::SmallInt(values) => {
                values.append_value(narrow(digits).map_err(bad("SMALLINT"))?);
            }
            Values::Integer(values) => {
                values.append_value(narrow(digits).map_err(bad("INTEGER"))?);
            }
            Values::BigInt(values) => {
                values.append_value(number::integer(digits.as_bytes()).map_err(bad("BIGINT"))?);
            }
            Values::Real(values) => {
                values.append_value(number::real(digits).map_err(bad("REAL"))?);
            }
            Values::Double(values) => {
                values.append_value(number::double(digits).map_err(bad("DOUBLE PRECISION"))?);
            }
            Values::Numeric { values, precision, scale } => {
                let value = number::decimal(digits.as_bytes(), *precision, *scale);
                values.append_value(value.map_err(|bad| {
                    bad_number(digits, &format!("NUMERIC({precision}, {scale})"), bad)
                })?);
            }
            Values::Timestamp(values) => {
                values.append_value(number::integer(digits.as_bytes()).map_err(bad("TIMESTAMP"))?);
            }
            Values::Boolean(_) => return Err(not_a("number", digits, "BOOLEAN")),
            Values::Text(_) => return Err(not_a("number", digits, "TEXT")),
            Values::Bytes(_) => return Err(not_a("number", digits, "BYTEA")),
            Values::Date(_) => return Err(not_a("number", digits, "DATE")),
            Values::Time(_) => return Err(not_a("number", digits, "TIME")),
            Values::Interval(_) => return Err(not_a("number", digits, "INTERVAL")),
        }
        Ok(())
    }

    /// Adds a boolean.
    pub fn push_bool(&mut self, value: bool) -> Result<(), Reason> {
        match self {
            Values::Boolean(values) => {
                values.append_value(value);
                Ok(())
            }
            Values::SmallInt(_)
            | Values::Integer(_)
            | Values::BigInt(_)
            | Values::Real(_)
            | Values::Double(_)
            | Values::Numeric { .. }
            | Values::Text(_)
            | Values::Bytes(_)
            | Values::Date(_)
            | Values::Time(_)
            | Values::Timestamp(_)
            | Values::Interval(_) => Err(format!("{value} is a boolean, the column is not")),
        }
    }

    /// The column.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Values::Boolean(values) => Arc::new(values.finish()),
            Values::SmallInt(values) => Arc::new(values.finish()),
            Values::Integer(values) => Arc::new(values.finish()),
            Values::BigInt(values) => Arc::new(values.finish()),
            Values::Real(values) => Arc::new(values.finish()),
            Values::Double(values) => Arc::new(values.finish()),
            Values::Numeric { values, .. } => Arc::new(values.finish()),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Bytes(values) => Arc::new(values.finish()),
            Values::Date(values) => Arc::new(values.finish()),
            Values::Time(values) => Arc::new(values.finish()),
            Values::Timestamp(values) => Arc::new(values.finish()),
            Values::Interval(values) => Arc::new(values.finish()),
        }
    }
}

/// A text as people should see it in a refusal: not all of a megabyte.
pub(super) fn clip(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn narrow<T: TryFrom<i64>>(digits: &str) -> Result<T, BadNumber> {
    let value = number::integer(digits.as_bytes())?;
    T::try_from(value).map_err(|_| BadNumber::OutOfRange)
}

fn read<T>(text: &str, type_name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Reason> {
    parse(text).ok_or_else(|| format!("\"{}\" cannot be read as {type_name}", clip(text)))
}

fn not_a(kind: &str, found: &str, type_name: &str) -> Reason {
    format!("{} is a {kind}, the column is {type_name}", clip(found))
}

fn bad_number(digits: &str, type_name: &str, bad: BadNumber) -> Reason {
    let digits = clip(digits);
    match bad {
        BadNumber::Malformed => format!("\"{digits}\" cannot be read as {type_name}"),
        BadNumber::OutOfRange => format!("{digits} is out of range for {type_name}"),
        BadNumber::Inexact => {
            format!("{digits} has more digits after the point than {type_name} keeps")
        }
    }
}
