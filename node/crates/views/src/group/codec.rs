//! Values of key columns to bytes and back. The form is described at the head of the module.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type,
    Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::text::{is_text, put_text, text_len, texts, unescape};
use super::value::KeyValue;
use crate::bytes_column::BytesColumn;

const NULL: u8 = 0;
const VALUE: u8 = 1;
/// Calls a macro with the Arrow type of a primitive data type that keys may have.
macro_rules! by_primitive {
    ($data_type:expr => ($each:ident), $($rest:tt)*) => {
        match $data_type {
            DataType::Int8 => $each!(Int8Type),
            DataType::Int16 => $each!(Int16Type),
            DataType::Int32 => $each!(Int32Type),
            DataType::Int64 => $each!(Int64Type),
            DataType::UInt8 => $each!(UInt8Type),
            DataType::UInt16 => $each!(UInt16Type),
            DataType::UInt32 => $each!(UInt32Type),
            DataType::UInt64 => $each!(UInt64Type),
            DataType::Float32 => $each!(Float32Type),
            DataType::Float64 => $each!(Float64Type),
            DataType::Decimal32(_, _) => $each!(Decimal32Type),
            DataType::Decimal64(_, _) => $each!(Decimal64Type),
            DataType::Decimal128(_, _) => $each!(Decimal128Type),
            DataType::Decimal256(_, _) => $each!(Decimal256Type),
            DataType::Date32 => $each!(Date32Type),
            DataType::Date64 => $each!(Date64Type),
            DataType::Time32(TimeUnit::Second) => $each!(Time32SecondType),
            DataType::Time32(TimeUnit::Millisecond) => $each!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => $each!(Time64MicrosecondType),
            DataType::Time64(TimeUnit::Nanosecond) => $each!(Time64NanosecondType),
            DataType::Timestamp(TimeUnit::Second, _) => $each!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $each!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $each!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $each!(TimestampNanosecondType),
            DataType::Duration(TimeUnit::Second) => $each!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => $each!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => $each!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => $each!(DurationNanosecondType),
            DataType::Interval(IntervalUnit::YearMonth) => $each!(IntervalYearMonthType),
            DataType::Interval(IntervalUnit::DayTime) => $each!(IntervalDayTimeType),
            DataType::Interval(IntervalUnit::MonthDayNano) => $each!(IntervalMonthDayNanoType),
            $($rest)*
        }
    };
}

/// A column of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its type.
    pub data_type: DataType,
    /// Largest first, and nulls last.
    pub descending: bool,
}

/// Writes and reads keys over the same columns.
#[derive(Clone, Debug)]
pub struct KeyCodec {
    columns: Vec<KeyColumn>,
}

/// Why there is no key, or none to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Groups cannot be told apart by values of this type.
    #[error("groups are not told apart by values of type {0}")]
    Type(DataType),
    /// Other columns were given.
    #[error("a column of type {found} where the key has {expected}")]
    Column {
        /// The type in the key; null when it has fewer columns.
        expected: DataType,
        /// The type given.
        found: DataType,
    },
    /// The bytes are no key of these columns.
    #[error("a stored key is malformed")]
    Malformed,
}

/// The keys of some rows.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// Of one column of at most eight bytes: the ordered form as a number.
    Small { values: Vec<u64>, nulls: Option<NullBuffer> },
    /// Any others, one after the other.
    Bytes { bytes: Vec<u8>, ends: Vec<usize> },
}

impl KeyCodec {
    /// Of keys over these columns.
    ///
    /// # Errors
    /// When one of them has no ordered form.
    pub fn new(columns: Vec<KeyColumn>) -> Result<KeyCodec, KeyError> {
        for column in &columns {
            if width(&column.data_type).is_none() && !is_text(&column.data_type) {
                return Err(KeyError::Type(column.data_type.clone()));
            }
        }
        Ok(KeyCodec { columns })
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// The width of the value, where keys fit a number.
    pub(super) fn small_width(&self) -> Option<usize> {
        match self.columns.as_slice() {
            [KeyColumn { data_type, descending: false }] => {
                width(data_type).filter(|&width| width <= 8)
            }
            _ => None,
        }
    }

    /// The key of one row, given its first values; each array has one row.
    ///
    /// # Errors
    /// When the arrays are not of the types of the first columns.
    pub fn key(&self, values: &[ArrayRef]) -> Result<Vec<u8>, KeyError> {
        self.check(values)?;
        let (bytes, ends) = self.encode_bytes(values, 1);
        Ok(bytes[..ends[0]].to_vec())
    }

    /// What one value, the only row of `value`, adds to the keys of rows that have it in a column.
    ///
    /// # Errors
    /// When it is not of the column's type.
    pub(crate) fn form(&self, column: usize, value: &ArrayRef) -> Result<Vec<u8>, KeyError> {
        let Some(KeyColumn { data_type, descending }) = self.columns.get(column) else {
            return Err(KeyError::Malformed);
        };
        if data_type != value.data_type() || value.len() != 1 {
            let (expected, found) = (data_type.clone(), value.data_type().clone());
            return Err(KeyError::Column { expected, found });
        }
        let mut lengths = [0];
        add_lengths(value, &mut lengths);
        let mut form = vec![0; lengths[0]];
        put_column(value, *descending, &mut form, &mut [0]);
        Ok(form)
    }

    /// Cuts what one column adds to a key off its front.
    pub(crate) fn part<'a>(
        &self,
        column: usize,
        rest: &mut &'a [u8],
    ) -> Result<&'a [u8], KeyError> {
        let all = *rest;
        split_value(&self.columns[column], rest)?;
        Ok(&all[..all.len() - rest.len()])
    }

    /// The keys of `rows` rows.
    pub(crate) fn encode(&self, values: &[ArrayRef], rows: usize) -> Result<Encoded, KeyError> {
        self.check(values)?;
        if self.small_width().is_some() {
            let nulls = values[0].nulls().filter(|nulls| nulls.null_count() != 0).cloned();
            return Ok(Encoded::Small { values: small(&values[0]), nulls });
        }
        let (bytes, ends) = self.encode_bytes(values, rows);
        Ok(Encoded::Bytes { bytes, ends })
    }

    /// As [`KeyCodec::encode`], all of them as bytes, with the place where each ends.
    pub(crate) fn encode_rows(
        &self,
        values: &[ArrayRef],
        rows: usize,
    ) -> Result<(Vec<u8>, Vec<usize>), KeyError> {
        self.check(values)?;
        Ok(self.encode_bytes(values, rows))
    }

    /// The values of these keys, an array for each column.
    ///
    /// # Errors
    /// When one of them is no key of these columns.
    pub fn decode<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, KeyError> {
        let arrays = self.decode_some(keys, |_| true)?;
        Ok(arrays.into_iter().flatten().collect())
    }

    /// As [`KeyCodec::decode`], of the columns that are wanted.
    pub(crate) fn decode_some<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<ArrayRef>>, KeyError> {
        let mut rest: Vec<&[u8]> = keys.collect();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (place, column) in self.columns.iter().enumerate() {
            if is_wanted(place) {
                arrays.push(Some(take_column(column, &mut rest)?));
                continue;
            }
            for rest in &mut rest {
                split_value(column, rest)?;
            }
            arrays.push(None);
        }
        if rest.iter().any(|rest| !rest.is_empty()) {
            return Err(KeyError::Malformed);
        }
        Ok(arrays)
    }

    /// Where the first `columns` columns of a key end.
    pub(crate) fn prefix_len(&self, key: &[u8], columns: usize) -> Result<usize, KeyError> {
        let mut rest = key;
        for column in &self.columns[..columns] {
            split_value(column, &mut rest)?;
        }
        Ok(key.len() - rest.len())
    }

    fn check(&self, values: &[ArrayRef]) -> Result<(), KeyError> {
        for (place, value) in values.iter().enumerate() {
            let expected = self.columns.get(place).map(|column| &column.data_type);
            if expected != Some(value.data_type()) {
                return Err(KeyError::Column {
                    expected: expected.cloned().unwrap_or(DataType::Null),
                    found: value.data_type().clone(),
                });
            }
        }
        Ok(())
    }

    fn encode_bytes(&self, values: &[ArrayRef], rows: usize) -> (Vec<u8>, Vec<usize>) {
        let mut ends = vec![0; rows];
        for value in values {
            add_lengths(value, &mut ends);
        }
        // `ends` becomes where each key starts, and moves on with each column that is written.
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut bytes = vec![0; total];
        for (value, column) in values.iter().zip(&self.columns) {
            put_column(value, column.descending, &mut bytes, &mut ends);
        }
        (bytes, ends)
    }
}

/// The width of a value that is not null, where all have the same.
fn width(data_type: &DataType) -> Option<usize> {
    macro_rules! width_of {
        ($primitive:ty) => {
            Some(<$primitive as ArrowPrimitiveType>::Native::WIDTH)
        };
    }
    by_primitive! {
        data_type => (width_of),
        DataType::Boolean => Some(1),
        _ => None,
    }
}

fn add_lengths(array: &ArrayRef, lengths: &mut [usize]) {
    if let Some(width) = width(array.data_type()) {
        for (row, length) in lengths.iter_mut().enumerate() {
            *length += if array.is_null(row) { 1 } else { 1 + width };
        }
        return;
    }
    let texts = BytesColumn::new(array);
    for (row, length) in lengths.iter_mut().enumerate() {
        *length += 1;
        if array.is_valid(row) {
            let text = texts.value(row);
            let zeros = text.iter().filter(|&&byte| byte == 0).count();
            *length += text.len() + zeros + 2;
        }
    }
}

/// Writes a column's part of each key at `places`, which move behind it.
fn put_column(array: &ArrayRef, descending: bool, bytes: &mut [u8], places: &mut [usize]) {
    let mut put = |row: usize, write: &mut dyn FnMut(&mut [u8]) -> usize| {
        let place = &mut places[row];
        let out = &mut bytes[*place..];
        let length = if array.is_null(row) {
            out[0] = NULL;
            1
        } else {
            out[0] = VALUE;
            1 + write(&mut out[1..])
        };
        if descending {
            out[..length].iter_mut().for_each(|byte| *byte = !*byte);
        }
        *place += length;
    };
    macro_rules! put_primitives {
        ($primitive:ty) => {{
            let values = array.as_primitive::<$primitive>().values();
            for (row, &value) in values.iter().enumerate() {
                put(row, &mut |out| {
                    value.put(out);
                    <$primitive as ArrowPrimitiveType>::Native::WIDTH
                });
            }
        }};
    }
    by_primitive! {
        array.data_type() => (put_primitives),
        DataType::Boolean => {
            let values = array.as_boolean();
            for row in 0..values.len() {
                put(row, &mut |out| {
                    out[0] = u8::from(values.value(row));
                    1
                });
            }
        }
        _ => {
            let texts = BytesColumn::new(array);
            for row in 0..array.len() {
                put(row, &mut |out| put_text(texts.value(row), out));
            }
        }
    }
}

/// The ordered forms of a column of at most eight bytes; nothing is said of nulls.
fn small(array: &ArrayRef) -> Vec<u64> {
    macro_rules! small_of {
        ($primitive:ty) => {
            array
                .as_primitive::<$primitive>()
                .values()
                .iter()
                .map(|&value| {
                    if <$primitive as ArrowPrimitiveType>::Native::WIDTH <= 8 {
                        value.small()
                    } else {
                        unreachable!("only columns of at most eight bytes are small")
                    }
                })
                .collect()
        };
    }
    by_primitive! {
        array.data_type() => (small_of),
        DataType::Boolean => array.as_boolean().values().iter().map(u64::from).collect(),
        other => unreachable!("a column of type {other} is not small"),
    }
}

/// Cuts one value off the front of a key: `None` for a null. The bytes are as in the key.
fn split_value<'a>(column: &KeyColumn, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, KeyError> {
    let flip = if column.descending { 0xFF } else { 0 };
    let (&tag, after) = rest.split_first().ok_or(KeyError::Malformed)?;
    *rest = after;
    match tag ^ flip {
        NULL => return Ok(None),
        VALUE => {}
        _ => return Err(KeyError::Malformed),
    }
    let length = match width(&column.data_type) {
        Some(width) => width,
        None => text_len(after, flip).ok_or(KeyError::Malformed)?,
    };
    let (value, after) = after.split_at_checked(length).ok_or(KeyError::Malformed)?;
    *rest = after;
    Ok(Some(value))
}

/// Is given the bytes of one value, or none for null.
type TakeValue<'a> = dyn FnMut(Option<&[u8]>) -> Result<(), KeyError> + 'a;

fn take_column(column: &KeyColumn, rest: &mut [&[u8]]) -> Result<ArrayRef, KeyError> {
    let mut flipped = Vec::new();
    let mut each = |take: &mut TakeValue<'_>| {
        for rest in &mut *rest {
            let value = split_value(column, rest)?;
            match value {
                Some(value) if column.descending => {
                    flipped.clear();
                    flipped.extend(value.iter().map(|byte| !byte));
                    take(Some(&flipped))?;
                }
                value => take(value)?,
            }
        }
        Ok::<(), KeyError>(())
    };
    macro_rules! take_primitives {
        ($primitive:ty) => {{
            let mut values = PrimitiveArray::<$primitive>::builder(0);
            each(&mut |value| {
                values.append_option(value.map(<$primitive as ArrowPrimitiveType>::Native::take));
                Ok(())
            })?;
            Arc::new(values.finish().with_data_type(column.data_type.clone())) as ArrayRef
        }};
    }
    let array = by_primitive! {
        &column.data_type => (take_primitives),
        DataType::Boolean => {
            let mut values = Vec::new();
            each(&mut |value| {
                values.push(value.map(|value| value[0] != 0));
                Ok(())
            })?;
            Arc::new(BooleanArray::from(values)) as ArrayRef
        }
        _ => {
            let mut values = Vec::new();
            each(&mut |value| {
                values.push(value.map(unescape));
                Ok(())
            })?;
            return texts(&column.data_type, &values);
        }
    };
    Ok(array)
}
