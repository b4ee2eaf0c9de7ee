//! Functions that we do faster than the engine underneath, with the same answers.
//!
//! `date_bin` over microseconds and a fixed stride, which is what nearly every chart over events
//! asks for: events come nearly in the order of their times, so most fall into the bin of the one
//! before and need no division. Everything else goes to the function that was there.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Puts our functions in the place of those of the same name.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let plain = state.udf("date_bin")?;
    state.register_udf(Arc::new(ScalarUDF::new_from_impl(DateBin { plain })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateBin {
    plain: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match bin_micros(&args.args) {
            Some(bins) => Ok(bins),
            None => self.plain.invoke_with_args(args),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.plain.inner().output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.plain.documentation()
    }
}

const NANOS_PER_MICRO: i64 = 1_000;
const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The bins of an array of microseconds, where stride and origin are whole microseconds and no
/// value is too far away to be counted in nanoseconds. `None` otherwise.
fn bin_micros(args: &[ColumnarValue]) -> Option<ColumnarValue> {
    let [ColumnarValue::Scalar(stride), ColumnarValue::Array(times), origin @ ..] = args else {
        return None;
    };
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = times.data_type() else {
        return None;
    };
    let stride = micros(stride_nanos(stride)?)?;
    let origin = match origin {
        [] => 0,
        [ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(nanos), _))] => {
            micros(*nanos)?
        }
        _ => return None,
    };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let bins = bin(times.values(), u64::try_from(stride).ok()?, origin)?;
    let bins = PrimitiveArray::<TimestampMicrosecondType>::new(bins, times.nulls().cloned());
    Some(ColumnarValue::Array(Arc::new(bins.with_timezone_opt(zone.clone()))))
}

fn stride_nanos(stride: &ScalarValue) -> Option<i64> {
    match stride {
        ScalarValue::IntervalMonthDayNano(Some(stride)) if stride.months == 0 => {
            i64::from(stride.days).checked_mul(NANOS_PER_DAY)?.checked_add(stride.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(stride)) => {
            let days = i64::from(stride.days).checked_mul(NANOS_PER_DAY)?;
            days.checked_add(i64::from(stride.milliseconds) * 1_000_000)
        }
        _ => None,
    }
}

fn micros(nanos: i64) -> Option<i64> {
    (nanos % NANOS_PER_MICRO == 0).then_some(nanos / NANOS_PER_MICRO)
}

fn bin(times: &[i64], stride: u64, origin: i64) -> Option<ScalarBuffer<i64>> {
    let signed_stride = i64::try_from(stride).ok().filter(|stride| 0 < *stride)?;
    // Half of what nanoseconds reach, so that the differences below cannot overflow either.
    let reach = i64::MAX / NANOS_PER_MICRO / 2;
    if reach < signed_stride || reach < origin.abs() {
        return None;
    }
    let mut bins = Vec::with_capacity(times.len());
    let mut start = bin_start(*times.first().unwrap_or(&0), signed_stride, origin, reach)?;
    for &time in times {
        if stride <= time.wrapping_sub(start).cast_unsigned() {
            start = bin_start(time, signed_stride, origin, reach)?;
        }
        bins.push(start);
    }
    Some(ScalarBuffer::from(bins))
}

fn bin_start(time: i64, stride: i64, origin: i64, reach: i64) -> Option<i64> {
    if time < -reach || reach < time {
        return None;
    }
    Some(origin + (time - origin).div_euclid(stride) * stride)
}
