//! Windows of event time: `tumble(ts, size)`, `hop(ts, slide, size)`, `session(ts, gap)`.
//!
//! As functions they give the start of the window that a time belongs to. Only `tumble` can say
//! that of a time alone, so only it can stand anywhere; the others stand in `GROUP BY`.

use std::sync::Arc;

use alluvium_views::fold::WindowKind;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::SqlError;

/// Panes of one hopping window: more would make each read put together too many.
const PANES_MAX: i64 = 10_000;
const DAY_MICROS: i64 = 86_400_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tumble,
    Hop,
    Session,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Tumble => "tumble",
            Kind::Hop => "hop",
            Kind::Session => "session",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Kind::Tumble => "tumble(time, INTERVAL '1 minute')",
            Kind::Hop => "hop(time, INTERVAL '1 minute', INTERVAL '5 minutes')",
            Kind::Session => "session(time, INTERVAL '30 seconds')",
        }
    }

    fn argument_count(self) -> usize {
        match self {
            Kind::Tumble | Kind::Session => 2,
            Kind::Hop => 3,
        }
    }
}

/// Adds the functions. `date_bin` must be there.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let date_bin = state.udf("date_bin")?;
    for kind in [Kind::Tumble, Kind::Hop, Kind::Session] {
        let signature = Signature::user_defined(Volatility::Immutable);
        let function = TimeWindow { kind, signature, date_bin: Arc::clone(&date_bin) };
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeWindow {
    kind: Kind,
    signature: Signature,
    date_bin: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for TimeWindow {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let wrong = || {
            let reason =
                format!("{} takes a time and intervals: {}", self.kind.name(), self.kind.usage());
            DataFusionError::Plan(reason)
        };
        if types.len() != self.kind.argument_count() {
            return Err(wrong());
        }
        let mut coerced = Vec::new();
        for (place, data_type) in types.iter().enumerate() {
            coerced.push(match (place, data_type) {
                (0, DataType::Timestamp(_, zone)) => {
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                (0, DataType::Date32) => DataType::Timestamp(TimeUnit::Microsecond, None),
                (1.., DataType::Interval(_)) => DataType::Interval(IntervalUnit::MonthDayNano),
                _ => return Err(wrong()),
            });
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Plan(self.kind.usage().into()))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.kind {
            Kind::Tumble => {
                // date_bin takes them the other way round.
                args.args.swap(0, 1);
                args.arg_fields.swap(0, 1);
                self.date_bin.invoke_with_args(args)
            }
            Kind::Hop | Kind::Session => Err(SqlError::unsupported(format!(
                "{} says which windows an event belongs to, so it stands in GROUP \
                 BY, by itself: GROUP BY {}",
                self.kind.name(),
                self.kind.usage()
            ))
            .into()),
        }
    }
}

/// A group expression that is a window of event time, and the expression to fold by.
pub(crate) struct Found {
    pub(crate) kind: WindowKind,
    pub(crate) expr: Expr,
}

/// What a group expression is. `event_time` is the name of the stream's event time, and `date_bin`
/// the function.
pub(crate) fn find(
    expr: &Expr,
    event_time: Option<&str>,
    date_bin: &Arc<ScalarUDF>,
) -> Result<Option<Found>, SqlError> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else {
        return Ok(None);
    };
    let is_event_time = |time: &Expr| match (time, event_time) {
        (Expr::Column(column), Some(event_time)) => column.name == event_time,
        _ => false,
    };
    let kind = match (func.name(), args.as_slice()) {
        ("tumble", [time, size]) | ("date_bin", [size, time] | [size, time, _]) => {
            match length(size) {
                Some(size) if is_event_time(time) => WindowKind::Tumble { size },
                _ => return Ok(None),
            }
        }
        ("date_trunc", [unit, time]) => match unit_length(unit) {
            Some(size) if is_event_time(time) => WindowKind::Tumble { size },
            _ => return Ok(None),
        },
        ("hop", [time, slide, size]) => {
            if !is_event_time(time) {
                return Err(not_event_time("hop", event_time));
            }
            hop(slide, size)?
        }
        ("session", [time, _]) => {
            if !is_event_time(time) {
                return Err(not_event_time("session", event_time));
            }
            kind(&ScalarFunction { func: Arc::clone(func), args: args.clone() })?
        }
        _ => return Ok(None),
    };
    let expr = match kind {
        WindowKind::Tumble { .. } => expr.clone(),
        WindowKind::Hop { slide, size } => {
            let pane = ScalarValue::IntervalMonthDayNano(Some(
                IntervalMonthDayNanoType::make_value(0, 0, gcd(slide, size) * 1_000),
            ));
            date_bin.call(vec![Expr::Literal(pane, None), args[0].clone()])
        }
        WindowKind::Session { .. } => args[0].clone(),
    };
    Ok(Some(Found { kind, expr }))
}

/// The window that a call of `hop` or `session` says.
pub(crate) fn kind(function: &ScalarFunction) -> Result<WindowKind, SqlError> {
    match (function.func.name(), function.args.as_slice()) {
        ("hop", [_, slide, size]) => hop(slide, size),
        ("session", [_, gap]) => {
            Ok(WindowKind::Session { gap: length(gap).ok_or_else(|| no_length("session"))? })
        }
        (name, _) => Err(SqlError::internal(format!("{name} is no window"))),
    }
}

fn hop(slide: &Expr, size: &Expr) -> Result<WindowKind, SqlError> {
    let slide = length(slide).ok_or_else(|| no_length("hop"))?;
    let size = length(size).ok_or_else(|| no_length("hop"))?;
    if size < slide {
        return Err(SqlError::invalid(
            "hop(time, slide, size) has a slide longer than its size: events between two windows \
             would be in none",
        ));
    }
    if PANES_MAX < size / gcd(slide, size) {
        return Err(SqlError::invalid(format!(
            "hop(time, slide, size) would cut each window into more than {PANES_MAX} panes: \
             choose a longer slide"
        )));
    }
    Ok(WindowKind::Hop { slide, size })
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn not_event_time(function: &str, event_time: Option<&str>) -> SqlError {
    SqlError::invalid(match event_time {
        Some(column) => format!(
            "{function} is a window of event time, which is the column \"{column}\" of this \
             stream, by itself"
        ),
        None => format!(
            "{function} is a window of event time, and this stream has none: CREATE STREAM … WITH \
             (event_time = 'column')"
        ),
    })
}

fn no_length(function: &str) -> SqlError {
    SqlError::invalid(format!(
        "{function} takes intervals that are always as long, such as INTERVAL '5 minutes', and at \
         least a microsecond: not months or years, and not computed"
    ))
}

/// Microseconds of an interval that is always as long.
fn length(expr: &Expr) -> Option<i64> {
    let micros = match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            let nanos = interval.nanoseconds;
            if interval.months != 0 || nanos % 1_000 != 0 {
                return None;
            }
            i64::from(interval.days).checked_mul(DAY_MICROS)?.checked_add(nanos / 1_000)?
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            let days = i64::from(interval.days).checked_mul(DAY_MICROS)?;
            days.checked_add(i64::from(interval.milliseconds) * 1_000)?
        }
        _ => return None,
    };
    (0 < micros).then_some(micros)
}

/// Microseconds of a unit of `date_trunc` that is always as long.
fn unit_length(unit: &Expr) -> Option<i64> {
    let unit = match unit {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => text.to_lowercase(),
        _ => return None,
    };
    Some(match unit.as_str() {
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => 3_600_000_000,
        "day" => DAY_MICROS,
        "week" => 7 * DAY_MICROS,
        _ => return None,
    })
}
