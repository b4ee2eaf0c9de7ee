//! Exact statistics of a segment's columns.
//!
//! Taken from what the Parquet writer counted, merged without reading the events again, and kept in
//! the manifest in a form of our own. A bound that is not exact, or of a type without a useful
//! order, is left out: queries answer `min` and `max` from here.

use std::cmp::Ordering;
use std::sync::Arc;

use alluvium_core::codec::{Malformed, Reader, Writer};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, make_comparator,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};

/// Longest text or bytes kept as a bound. Longer ones are left out: the manifest is read as a
/// whole.
const BOUND_BYTES_MAX: usize = 256;

/// Statistics of one column.
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// The column.
    pub name: String,
    /// The smallest value: an array of one row, of the column's type. `None` when all are null, a
    /// bound is long, any is not a number, or the type has no order.
    pub min: Option<ArrayRef>,
    /// The largest value; see `min`.
    pub max: Option<ArrayRef>,
    /// How many nulls.
    pub null_count: u64,
}

/// Whether bounds of this type are kept.
pub(crate) fn has_bounds(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(_, _)
            | DataType::Utf8
            | DataType::Binary
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// The smaller (`Less`) or larger (`Greater`) of the values of an array, as an array of one row.
/// `None` when there is none or it is of no use as a bound.
pub(crate) fn extreme(values: &ArrayRef, wanted: Ordering) -> Option<ArrayRef> {
    let compare = make_comparator(values, values, SortOptions::default()).ok()?;
    let mut best = None;
    for row in (0..values.len()).filter(|&row| values.is_valid(row)) {
        match best {
            Some(found) if compare(row, found) != wanted => {}
            Some(_) | None => best = Some(row),
        }
    }
    let bound = values.slice(best?, 1);
    is_useful(&bound).then_some(bound)
}

/// Statistics of segments put together, or nothing if they are not of the same columns.
pub(crate) fn unite(parts: &[&[ColumnStatistics]]) -> Option<Vec<ColumnStatistics>> {
    let (first, _) = parts.split_first()?;
    let mut united = Vec::with_capacity(first.len());
    for (place, column) in first.iter().enumerate() {
        let mut same = Vec::with_capacity(parts.len());
        for part in parts {
            same.push(part.get(place).filter(|other| other.name == column.name)?);
        }
        united.push(ColumnStatistics {
            name: column.name.clone(),
            min: unite_bounds(&same, |column| &column.min, Ordering::Less),
            max: unite_bounds(&same, |column| &column.max, Ordering::Greater),
            null_count: same.iter().map(|column| column.null_count).sum(),
        });
    }
    Some(united)
}

fn unite_bounds(
    columns: &[&ColumnStatistics],
    bound: impl Fn(&ColumnStatistics) -> &Option<ArrayRef>,
    wanted: Ordering,
) -> Option<ArrayRef> {
    // A part without a bound may hold anything; that all its values are null is not worth telling
    // apart.
    let bounds: Option<Vec<&dyn Array>> =
        columns.iter().map(|column| bound(column).as_deref()).collect();
    let bounds = arrow::compute::concat(&bounds?).ok()?;
    extreme(&bounds, wanted)
}

fn is_useful(bound: &ArrayRef) -> bool {
    match bound.data_type() {
        DataType::Float32 => !bound.as_primitive::<Float32Type>().value(0).is_nan(),
        DataType::Float64 => !bound.as_primitive::<Float64Type>().value(0).is_nan(),
        DataType::Utf8 => bound.as_string::<i32>().value(0).len() <= BOUND_BYTES_MAX,
        DataType::Binary => bound.as_binary::<i32>().value(0).len() <= BOUND_BYTES_MAX,
        // Every other type of `has_bounds` is small and has an order.
        other => has_bounds(other),
    }
}

/// Writes statistics:
/// name text | nulls u64 | type u8 (0: no bounds) | details of the type | optional min | optional
/// max
pub(crate) fn encode(column: &ColumnStatistics, row: &mut Writer) {
    row.text(&column.name);
    row.u64(column.null_count);
    let Some(example) = column.min.as_ref().or(column.max.as_ref()) else {
        row.u8(NO_BOUNDS);
        return;
    };
    encode_type(example.data_type(), row);
    for bound in [&column.min, &column.max] {
        row.flag(bound.is_some());
        if let Some(bound) = bound {
            encode_value(bound, row);
        }
    }
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(row: &mut Reader<'_>) -> Result<ColumnStatistics, Malformed> {
    let name = row.text()?.to_owned();
    let null_count = row.u64()?;
    let Some(data_type) = decode_type(row)? else {
        return Ok(ColumnStatistics { name, min: None, max: None, null_count });
    };
    let min = if row.flag()? { Some(decode_value(&data_type, row)?) } else { None };
    let max = if row.flag()? { Some(decode_value(&data_type, row)?) } else { None };
    Ok(ColumnStatistics { name, min, max, null_count })
}

/// Fewest bytes [`encode`] writes.
pub(crate) const ENCODED_BYTES_MIN: usize = 4 + 8 + 1;

const NO_BOUNDS: u8 = 0;
const BOOLEAN: u8 = 1;
const INT16: u8 = 2;
const INT32: u8 = 3;
const INT64: u8 = 4;
const FLOAT32: u8 = 5;
const FLOAT64: u8 = 6;
const DECIMAL128: u8 = 7;
const UTF8: u8 = 8;
const BINARY: u8 = 9;
const DATE32: u8 = 10;
const TIME64: u8 = 11;
const TIMESTAMP: u8 = 12;

fn encode_type(data_type: &DataType, row: &mut Writer) {
    match data_type {
        DataType::Boolean => row.u8(BOOLEAN),
        DataType::Int16 => row.u8(INT16),
        DataType::Int32 => row.u8(INT32),
        DataType::Int64 => row.u8(INT64),
        DataType::Float32 => row.u8(FLOAT32),
        DataType::Float64 => row.u8(FLOAT64),
        DataType::Decimal128(precision, scale) => {
            row.u8(DECIMAL128);
            row.u8(*precision);
            row.u8(scale.cast_unsigned());
        }
        DataType::Utf8 => row.u8(UTF8),
        DataType::Binary => row.u8(BINARY),
        DataType::Date32 => row.u8(DATE32),
        DataType::Time64(_) => row.u8(TIME64),
        DataType::Timestamp(_, zone) => {
            row.u8(TIMESTAMP);
            row.flag(zone.is_some());
            if let Some(zone) = zone {
                row.text(zone);
            }
        }
        other => unreachable!("no bounds are kept of {other}"),
    }
}

fn decode_type(row: &mut Reader<'_>) -> Result<Option<DataType>, Malformed> {
    let at = row.position();
    Ok(Some(match row.u8()? {
        NO_BOUNDS => return Ok(None),
        BOOLEAN => DataType::Boolean,
        INT16 => DataType::Int16,
        INT32 => DataType::Int32,
        INT64 => DataType::Int64,
        FLOAT32 => DataType::Float32,
        FLOAT64 => DataType::Float64,
        DECIMAL128 => DataType::Decimal128(row.u8()?, row.u8()?.cast_signed()),
        UTF8 => DataType::Utf8,
        BINARY => DataType::Binary,
        DATE32 => DataType::Date32,
        TIME64 => DataType::Time64(TimeUnit::Microsecond),
        TIMESTAMP => {
            let zone = if row.flag()? { Some(row.text()?.into()) } else { None };
            DataType::Timestamp(TimeUnit::Microsecond, zone)
        }
        found => {
            let found = u64::from(found);
            return Err(Malformed::Unknown { what: "type of a bound", found, at });
        }
    }))
}

fn encode_value(value: &ArrayRef, row: &mut Writer) {
    match value.data_type() {
        DataType::Boolean => row.flag(value.as_boolean().value(0)),
        DataType::Int16 => row.u16(value.as_primitive::<Int16Type>().value(0).cast_unsigned()),
        DataType::Int32 => row.u32(value.as_primitive::<Int32Type>().value(0).cast_unsigned()),
        DataType::Int64 => row.i64(value.as_primitive::<Int64Type>().value(0)),
        DataType::Float32 => row.u32(value.as_primitive::<Float32Type>().value(0).to_bits()),
        DataType::Float64 => row.u64(value.as_primitive::<Float64Type>().value(0).to_bits()),
        DataType::Decimal128(_, _) => {
            row.raw(&value.as_primitive::<Decimal128Type>().value(0).to_le_bytes());
        }
        DataType::Utf8 => row.text(value.as_string::<i32>().value(0)),
        DataType::Binary => row.bytes(value.as_binary::<i32>().value(0)),
        DataType::Date32 => row.u32(value.as_primitive::<Date32Type>().value(0).cast_unsigned()),
        DataType::Time64(_) => row.i64(value.as_primitive::<Time64MicrosecondType>().value(0)),
        DataType::Timestamp(_, _) => {
            row.i64(value.as_primitive::<TimestampMicrosecondType>().value(0));
        }
        other => unreachable!("no bounds are kept of {other}"),
    }
}

fn decode_value(data_type: &DataType, row: &mut Reader<'_>) -> Result<ArrayRef, Malformed> {
    Ok(match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![row.flag()?])),
        DataType::Int16 => Arc::new(Int16Array::from(vec![row.u16()?.cast_signed()])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![row.u32()?.cast_signed()])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![row.i64()?])),
        DataType::Float32 => Arc::new(Float32Array::from(vec![f32::from_bits(row.u32()?)])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![f64::from_bits(row.u64()?)])),
        DataType::Decimal128(precision, scale) => {
            let bytes = row.raw(16)?.try_into().expect("16 bytes were asked for");
            let value = Decimal128Array::from(vec![i128::from_le_bytes(bytes)]);
            let value = value.with_precision_and_scale(*precision, *scale);
            Arc::new(value.map_err(|error| Malformed::inconsistent(error.to_string()))?)
        }
        DataType::Utf8 => Arc::new(StringArray::from(vec![row.text()?])),
        DataType::Binary => Arc::new(BinaryArray::from(vec![row.bytes()?])),
        DataType::Date32 => Arc::new(Date32Array::from(vec![row.u32()?.cast_signed()])),
        DataType::Time64(_) => Arc::new(Time64MicrosecondArray::from(vec![row.i64()?])),
        DataType::Timestamp(_, zone) => {
            let value = TimestampMicrosecondArray::from(vec![row.i64()?]);
            Arc::new(value.with_timezone_opt(zone.clone()))
        }
        other => unreachable!("no bounds are kept of {other}"),
    })
}
