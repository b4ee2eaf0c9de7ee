//! Values as numbers and bytes that order as the values do.
//!
//! | values | are |
//! |---|---|
//! | booleans, integers, floats, dates, times, timestamps, small decimals | 64 bits, *words* |
//! | decimals, intervals of months, days and nanoseconds | 128 bits, *wides* |
//! | text, bytes | bytes |
//!
//! A value comes back from what it became, but that every NaN is the same one. As in PostgreSQL NaN
//! is above all other doubles. A real is the word of the double it equals.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryViewArray, BooleanArray,
    FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow::datatypes::{DataType, IntervalDayTime, IntervalMonthDayNano, IntervalUnit};

/// Which of the three the values of a type are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Word,
    Wide,
    Bytes,
}

/// A value that orders as an unsigned number of 64 bits.
pub(super) trait Word: Copy {
    fn word(self) -> u64;
    fn from_word(word: u64) -> Self;
}

/// A value that orders as an unsigned number of 128 bits.
pub(super) trait Wide: Copy {
    fn wide(self) -> u128;
    fn from_wide(wide: u128) -> Self;
}

const SIGN: u64 = 1 << 63;

macro_rules! signed_words {
    ($($native:ty),*) => {$(
        impl Word for $native {
            #[inline]
            fn word(self) -> u64 {
                i64::from(self) as u64 ^ SIGN
            }

            #[inline]
            fn from_word(word: u64) -> $native {
                (word ^ SIGN) as $native
            }
        }
    )*};
}

macro_rules! unsigned_words {
    ($($native:ty),*) => {$(
        impl Word for $native {
            #[inline]
            fn word(self) -> u64 {
                u64::from(self)
            }

            #[inline]
            fn from_word(word: u64) -> $native {
                word as $native
            }
        }
    )*};
}

signed_words!(i8, i16, i32, i64);
unsigned_words!(u8, u16, u32, u64);

impl Word for f64 {
    #[inline]
    fn word(self) -> u64 {
        let bits = if self.is_nan() { f64::NAN.to_bits() & !SIGN } else { self.to_bits() };
        // Below zero larger bits are smaller numbers.
        if bits & SIGN == 0 { bits | SIGN } else { !bits }
    }

    #[inline]
    fn from_word(word: u64) -> f64 {
        f64::from_bits(if word & SIGN == 0 { !word } else { word & !SIGN })
    }
}

impl Word for f32 {
    #[inline]
    fn word(self) -> u64 {
        f64::from(self).word()
    }

    #[inline]
    fn from_word(word: u64) -> f32 {
        f64::from_word(word) as f32
    }
}

impl Word for IntervalDayTime {
    fn word(self) -> u64 {
        let (days, ms) = (i64::from(self.days), i64::from(self.milliseconds as u32 ^ 1 << 31));
        (days << 32 | ms) as u64 ^ SIGN
    }

    fn from_word(word: u64) -> IntervalDayTime {
        let word = word ^ SIGN;
        IntervalDayTime::new((word >> 32) as i32, (word as u32 ^ 1 << 31) as i32)
    }
}

impl Wide for i128 {
    #[inline]
    fn wide(self) -> u128 {
        self as u128 ^ 1 << 127
    }

    #[inline]
    fn from_wide(wide: u128) -> i128 {
        (wide ^ 1 << 127) as i128
    }
}

impl Wide for IntervalMonthDayNano {
    fn wide(self) -> u128 {
        let part = |part: i32| u128::from(part as u32 ^ 1 << 31);
        part(self.months) << 96 | part(self.days) << 64 | u128::from(self.nanoseconds.word())
    }

    fn from_wide(wide: u128) -> IntervalMonthDayNano {
        let part = |part: u128| (part as u32 ^ 1 << 31) as i32;
        IntervalMonthDayNano::new(part(wide >> 96), part(wide >> 64), i64::from_word(wide as u64))
    }
}

/// Runs `$run` with the name `$name` standing for the Arrow type of a type whose values are words;
/// `$otherwise` for other types, and for booleans.
macro_rules! with_word_type {
    ($data_type:expr, $name:ident => $run:expr, $otherwise:expr) => {{
        use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
        macro_rules! run {
            ($arrow_type:ident) => {{
                type $name = arrow::datatypes::$arrow_type;
                $run
            }};
        }
        match $data_type {
            DataType::Int8 => run!(Int8Type),
            DataType::Int16 => run!(Int16Type),
            DataType::Int32 => run!(Int32Type),
            DataType::Int64 => run!(Int64Type),
            DataType::UInt8 => run!(UInt8Type),
            DataType::UInt16 => run!(UInt16Type),
            DataType::UInt32 => run!(UInt32Type),
            DataType::UInt64 => run!(UInt64Type),
            DataType::Float32 => run!(Float32Type),
            DataType::Float64 => run!(Float64Type),
            DataType::Decimal32(_, _) => run!(Decimal32Type),
            DataType::Decimal64(_, _) => run!(Decimal64Type),
            DataType::Date32 => run!(Date32Type),
            DataType::Date64 => run!(Date64Type),
            DataType::Time32(TimeUnit::Second) => run!(Time32SecondType),
            DataType::Time32(_) => run!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => run!(Time64MicrosecondType),
            DataType::Time64(_) => run!(Time64NanosecondType),
            DataType::Timestamp(TimeUnit::Second, _) => run!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => run!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => run!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => run!(TimestampNanosecondType),
            DataType::Duration(TimeUnit::Second) => run!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => run!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => run!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => run!(DurationNanosecondType),
            DataType::Interval(IntervalUnit::YearMonth) => run!(IntervalYearMonthType),
            DataType::Interval(IntervalUnit::DayTime) => run!(IntervalDayTimeType),
            _ => $otherwise,
        }
    }};
}
pub(super) use with_word_type;

/// What the values of a type are; `None` where they are nothing of the kind.
pub(super) fn shape(data_type: &DataType) -> Option<Shape> {
    match data_type {
        DataType::Boolean => Some(Shape::Word),
        DataType::Decimal128(_, _) | DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(Shape::Wide)
        }
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Some(Shape::Bytes),
        other => with_word_type!(
            other,
            T => {
                let _: Option<T> = None;
                Some(Shape::Word)
            },
            None
        ),
    }
}

/// The words of an array, whatever they are where it is null. The type must have words.
pub(super) fn words(array: &dyn Array) -> Vec<u64> {
    with_word_type!(
        array.data_type(),
        T => array.as_primitive::<T>().values().iter().map(|value| value.word()).collect(),
        array.as_boolean().values().iter().map(u64::from).collect()
    )
}

/// The wides of an array, as [`words`].
pub(super) fn wides(array: &dyn Array) -> Vec<u128> {
    match array.data_type() {
        DataType::Decimal128(_, _) => {
            let values = array.as_primitive::<arrow::datatypes::Decimal128Type>().values();
            values.iter().map(|value| value.wide()).collect()
        }
        _ => {
            let values = array.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>();
            values.values().iter().map(|value| value.wide()).collect()
        }
    }
}

/// The array of a type that words came from.
pub(super) fn from_words(
    data_type: &DataType,
    words: impl Iterator<Item = Option<u64>>,
) -> ArrayRef {
    with_word_type!(
        data_type,
        T => {
            let values = words.map(|word| word.map(<T as ArrowPrimitiveType>::Native::from_word));
            let values: PrimitiveArray<T> = values.collect();
            Arc::new(values.with_data_type(data_type.clone()))
        },
        Arc::new(words.map(|word| word.map(|word| word != 0)).collect::<BooleanArray>())
    )
}

/// The array of a type that wides came from.
pub(super) fn from_wides(
    data_type: &DataType,
    wides: impl Iterator<Item = Option<u128>>,
) -> ArrayRef {
    use arrow::datatypes::{Decimal128Type, IntervalMonthDayNanoType};
    match data_type {
        DataType::Decimal128(_, _) => {
            let values = wides.map(|wide| wide.map(i128::from_wide));
            let values: PrimitiveArray<Decimal128Type> = values.collect();
            Arc::new(values.with_data_type(data_type.clone()))
        }
        _ => {
            let values = wides.map(|wide| wide.map(IntervalMonthDayNano::from_wide));
            Arc::new(values.collect::<PrimitiveArray<IntervalMonthDayNanoType>>())
        }
    }
}

/// The array of a type that bytes came from; `None` where one is not of the type.
pub(super) fn from_bytes<'a>(
    data_type: &DataType,
    values: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
) -> Option<ArrayRef> {
    let texts = || {
        let texts = values.clone().map(|value| value.map(std::str::from_utf8).transpose());
        texts.collect::<Result<Vec<_>, _>>().ok()
    };
    Some(match data_type {
        DataType::Utf8 => Arc::new(texts()?.into_iter().collect::<StringArray>()),
        DataType::LargeUtf8 => Arc::new(texts()?.into_iter().collect::<LargeStringArray>()),
        DataType::Utf8View => Arc::new(texts()?.into_iter().collect::<StringViewArray>()),
        DataType::LargeBinary => Arc::new(values.collect::<LargeBinaryArray>()),
        DataType::BinaryView => Arc::new(values.collect::<BinaryViewArray>()),
        DataType::FixedSizeBinary(size) => {
            let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size);
            Arc::new(array.ok()?)
        }
        _ => Arc::new(values.collect::<BinaryArray>()),
    })
}
