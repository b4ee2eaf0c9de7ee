//! The canonical bytes of keys, column by column; see [`alluvium_core::routing`].
//!
//! The type of a column is looked at once for a batch; what is left for each row is to push its
//! values into one buffer that is used again.

use alluvium_core::routing::{INTERVAL, KeyBytes, LIST, STRUCT};
use arrow::array::{
    Array, AsArray as _, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

/// One column of a key, with its type known.
pub(super) enum KeyColumn<'a> {
    Boolean(&'a BooleanArray),
    SmallInt(&'a Int16Array),
    Integer(&'a Int32Array),
    BigInt(&'a Int64Array),
    Real(&'a Float32Array),
    Double(&'a Float64Array),
    Numeric(&'a Decimal128Array, u8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Interval(&'a IntervalMonthDayNanoArray),
    List(&'a ListArray, Box<KeyColumn<'a>>),
    Struct(&'a dyn Array, Vec<KeyColumn<'a>>),
}

impl<'a> KeyColumn<'a> {
    /// Of a column of the log.
    pub fn new(column: &'a dyn Array) -> KeyColumn<'a> {
        match column.data_type() {
            DataType::Boolean => KeyColumn::Boolean(column.as_boolean()),
            DataType::Int16 => KeyColumn::SmallInt(column.as_primitive()),
            DataType::Int32 => KeyColumn::Integer(column.as_primitive()),
            DataType::Int64 => KeyColumn::BigInt(column.as_primitive()),
            DataType::Float32 => KeyColumn::Real(column.as_primitive::<Float32Type>()),
            DataType::Float64 => KeyColumn::Double(column.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, scale) => {
                let scale = u8::try_from(*scale).expect("scales of the log are not negative");
                KeyColumn::Numeric(column.as_primitive(), scale)
            }
            DataType::Utf8 => KeyColumn::Text(column.as_string()),
            DataType::Binary => KeyColumn::Bytes(column.as_binary()),
            DataType::Date32 => KeyColumn::Date(column.as_primitive()),
            DataType::Time64(_) => KeyColumn::Time(column.as_primitive()),
            DataType::Timestamp(_, _) => KeyColumn::Timestamp(column.as_primitive()),
            DataType::Interval(_) => KeyColumn::Interval(column.as_primitive()),
            DataType::List(_) => {
                let list: &ListArray = column.as_list();
                KeyColumn::List(list, Box::new(KeyColumn::new(list.values())))
            }
            DataType::Struct(_) => {
                let fields = column.as_struct().columns();
                KeyColumn::Struct(
                    column,
                    fields.iter().map(|field| KeyColumn::new(field)).collect(),
                )
            }
            other => unreachable!("the log has no columns of type {other}"),
        }
    }

    /// Adds the value of a row.
    #[inline]
    pub fn push(&self, row: usize, key: &mut KeyBytes) {
        if self.array().is_null(row) {
            return key.push_null();
        }
        match self {
            KeyColumn::Boolean(column) => key.push_bool(column.value(row)),
            KeyColumn::SmallInt(column) => key.push_i64(i64::from(column.value(row))),
            KeyColumn::Integer(column) => key.push_i64(i64::from(column.value(row))),
            KeyColumn::BigInt(column) => key.push_i64(column.value(row)),
            KeyColumn::Real(column) => key.push_f64(f64::from(column.value(row))),
            KeyColumn::Double(column) => key.push_f64(column.value(row)),
            KeyColumn::Numeric(column, scale) => key.push_i128(column.value(row), *scale),
            KeyColumn::Text(column) => key.push_text(column.value(row)),
            KeyColumn::Bytes(column) => key.push_bytes(column.value(row)),
            KeyColumn::Date(column) => key.push_i64(i64::from(column.value(row))),
            KeyColumn::Time(column) => key.push_i64(column.value(row)),
            KeyColumn::Timestamp(column) => key.push_i64(column.value(row)),
            KeyColumn::Interval(column) => {
                let value = column.value(row);
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&value.months.to_le_bytes());
                bytes[4..8].copy_from_slice(&value.days.to_le_bytes());
                bytes[8..].copy_from_slice(&value.nanoseconds.to_le_bytes());
                key.push_other(INTERVAL, &bytes);
            }
            KeyColumn::List(column, items) => {
                let offsets = column.value_offsets();
                let mut inner = KeyBytes::new();
                for item in offsets[row]..offsets[row + 1] {
                    items.push(item as usize, &mut inner);
                }
                key.push_other(LIST, inner.as_slice());
            }
            KeyColumn::Struct(_, fields) => {
                let mut inner = KeyBytes::new();
                for field in fields {
                    field.push(row, &mut inner);
                }
                key.push_other(STRUCT, inner.as_slice());
            }
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            KeyColumn::Boolean(column) => *column,
            KeyColumn::SmallInt(column) => *column,
            KeyColumn::Integer(column) => *column,
            KeyColumn::BigInt(column) => *column,
            KeyColumn::Real(column) => *column,
            KeyColumn::Double(column) => *column,
            KeyColumn::Numeric(column, _) => *column,
            KeyColumn::Text(column) => *column,
            KeyColumn::Bytes(column) => *column,
            KeyColumn::Date(column) => *column,
            KeyColumn::Time(column) => *column,
            KeyColumn::Timestamp(column) => *column,
            KeyColumn::Interval(column) => *column,
            KeyColumn::List(column, _) => *column,
            KeyColumn::Struct(column, _) => *column,
        }
    }
}
