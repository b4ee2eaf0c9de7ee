//! Functions that make much out of little, kept to what a node can hold.
//!
//! `repeat('x', 1000000000)` is a short statement, and its answer one allocation. An allocation
//! that fails ends the process, so how much such a function would make is reckoned first. Reckoned
//! is what one call makes for one batch; what a statement holds altogether is not bounded here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

/// What one call may make for one batch, in bytes.
const MADE_BYTES_MAX: u128 = 64 << 20;

/// Bytes of a character, at most.
const CHARACTER_BYTES: u128 = 4;

/// Bytes of a number in a list.
const NUMBER_BYTES: u128 = 8;

/// Bytes that an element of a list takes beside its value.
const ELEMENT_BYTES: u128 = 16;

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// The shortest month: a step of one takes at least this long.
const DAYS_PER_MONTH: i128 = 28;

/// How the result grows with the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// Text of as many characters as the second argument says.
    Pad,
    /// The first argument as many times as the second says.
    Repeat,
    /// A list of as many elements as the second argument says.
    Resize,
    /// From the first argument to the second in steps of the third.
    Series,
    /// The first argument with each occurrence of the second as the third.
    Replace,
}

const BOUNDED: [(&str, Growth); 8] = [
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("repeat", Growth::Repeat),
    ("array_repeat", Growth::Repeat),
    ("array_resize", Growth::Resize),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
    ("replace", Growth::Replace),
];

/// Puts bounded functions in the place of those of the same name.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (name, growth) in BOUNDED {
        let plain = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { plain, growth })))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    plain: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.plain.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.plain.coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.plain.simplify(args, info)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made_bytes = made_bytes(self.growth, &args.args, args.number_rows)?;
        if MADE_BYTES_MAX < made_bytes {
            let name = self.name();
            return Err(DataFusionError::Execution(format!(
                "{name} would make about {made_bytes} bytes for {rows} rows at once; \
                 {MADE_BYTES_MAX} are allowed",
                rows = args.number_rows,
            )));
        }
        self.plain.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.plain.documentation()
    }
}

/// What the call would make, in bytes, rather too much than too little.
fn made_bytes(growth: Growth, args: &[ColumnarValue], row_count: usize) -> Result<u128> {
    let args: Vec<Argument> = args.iter().map(Argument::new).collect();
    if args.iter().all(|arg| matches!(arg, Argument::Scalar(_))) {
        // Computed once.
        return row_bytes(growth, &args, 0);
    }
    let mut bytes: u128 = 0;
    for row in 0..row_count {
        bytes = bytes.saturating_add(row_bytes(growth, &args, row)?);
    }
    Ok(bytes)
}

/// The same for one row. A null or an argument that is not there makes nothing.
fn row_bytes(growth: Growth, args: &[Argument], row: usize) -> Result<u128> {
    let bytes = match (growth, args) {
        (Growth::Pad, [_, length, ..]) => length.count(row).saturating_mul(CHARACTER_BYTES),
        (Growth::Repeat, [value, times]) => {
            times.count(row).saturating_mul(value.size(row) + ELEMENT_BYTES)
        }
        (Growth::Resize, [_, length, rest @ ..]) => {
            let value = rest.first().map_or(NUMBER_BYTES, |value| value.size(row));
            length.count(row).saturating_mul(value + ELEMENT_BYTES)
        }
        (Growth::Series, _) => series_steps(args, row)?.saturating_mul(NUMBER_BYTES),
        (Growth::Replace, [text, from, to]) => {
            let least = text.size(row).saturating_mul(to.size(row).max(1));
            if least <= MADE_BYTES_MAX / 8_192 {
                // Not worth counting.
                least
            } else {
                replaced_bytes(text.text(row), from.text(row), to.text(row))
            }
        }
        (Growth::Pad | Growth::Repeat | Growth::Resize | Growth::Replace, _) => 0,
    };
    Ok(bytes)
}

fn replaced_bytes(text: Option<&str>, from: Option<&str>, to: Option<&str>) -> u128 {
    let (Some(text), Some(from), Some(to)) = (text, from, to) else { return 0 };
    let times = match from.len() {
        0 => text.chars().count() + 1,
        _ => text.matches(from).count(),
    };
    text.len() as u128 + times as u128 * to.len() as u128
}

/// How many values a series has: integers count by themselves, times in nanoseconds.
fn series_steps(args: &[Argument], row: usize) -> Result<u128> {
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        match position(&arg.value(row)?) {
            Some(value) => values.push(value),
            None => return Ok(0),
        }
    }
    let (start, stop, step) = match values.as_slice() {
        [stop] => (0, *stop, 1),
        [start, stop] => (*start, *stop, 1),
        [start, stop, step, ..] => (*start, *stop, *step),
        [] => return Ok(0),
    };
    // A step of zero is refused by the function itself.
    Ok((stop - start).unsigned_abs() / step.unsigned_abs().max(1) + 1)
}

/// A place on the scale of a series, or the length of a step. `None` for a null and what no series
/// is made of.
fn position(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::Date32(days) => days.map(|days| i128::from(days) * NANOS_PER_DAY),
        ScalarValue::TimestampSecond(value, _) => value.map(|v| i128::from(v) * 1_000_000_000),
        ScalarValue::TimestampMillisecond(value, _) => value.map(|v| i128::from(v) * 1_000_000),
        ScalarValue::TimestampMicrosecond(value, _) => value.map(|v| i128::from(v) * 1_000),
        ScalarValue::TimestampNanosecond(value, _) => value.map(i128::from),
        ScalarValue::IntervalMonthDayNano(step) => step.map(|step| {
            let IntervalMonthDayNano { months, days, nanoseconds } = step;
            let days = i128::from(months) * DAYS_PER_MONTH + i128::from(days);
            days * NANOS_PER_DAY + i128::from(nanoseconds)
        }),
        _ => None,
    }
}

/// An argument, row by row, without making an array of what is the same in each.
enum Argument<'a> {
    Scalar(&'a ScalarValue),
    /// With the average size of a value.
    Array(&'a ArrayRef, u128),
}

impl Argument<'_> {
    fn new(value: &ColumnarValue) -> Argument<'_> {
        match value {
            ColumnarValue::Scalar(value) => Argument::Scalar(value),
            ColumnarValue::Array(array) => {
                // An array that does not say counts with all its buffers.
                let bytes = array.to_data().get_slice_memory_size();
                let bytes = bytes.unwrap_or_else(|_| array.get_array_memory_size());
                Argument::Array(array, (bytes / array.len().max(1)) as u128)
            }
        }
    }

    fn value(&self, row: usize) -> Result<ScalarValue> {
        match self {
            Argument::Scalar(value) => Ok((*value).clone()),
            Argument::Array(array, _) => ScalarValue::try_from_array(array, row),
        }
    }

    /// How many, where it says how many.
    fn count(&self, row: usize) -> u128 {
        let count = match self {
            Argument::Scalar(ScalarValue::Int64(count)) => *count,
            Argument::Scalar(ScalarValue::UInt64(count)) => {
                count.map(|count| i64::try_from(count).unwrap_or(i64::MAX))
            }
            Argument::Array(array, _) => match array.as_primitive_opt::<Int64Type>() {
                Some(counts) if counts.is_valid(row) => Some(counts.value(row)),
                _ => None,
            },
            Argument::Scalar(_) => None,
        };
        count.and_then(|count| u128::try_from(count).ok()).unwrap_or(0)
    }

    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Argument::Scalar(value) => value.try_as_str().flatten(),
            Argument::Array(array, _) if array.is_null(row) => None,
            Argument::Array(array, _) => match array.data_type() {
                DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
                DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
                DataType::Utf8View => Some(array.as_string_view().value(row)),
                _ => None,
            },
        }
    }

    fn size(&self, row: usize) -> u128 {
        match (self.text(row), self) {
            (Some(text), _) => text.len() as u128,
            (None, Argument::Array(_, average)) => *average,
            (None, Argument::Scalar(value)) => value.size() as u128,
        }
    }
}
