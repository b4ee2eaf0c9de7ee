//! Definitions and events.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::view::{OnError, ViewOptions};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};

use super::random::Random;
use super::tally::PREFIX;
use crate::aggregate::{Aggregate, AggregateCall, Form};
use crate::fold::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, Window, WindowKind,
};

/// An expression fails on this value.
pub(super) const BAD: i64 = 13;
/// A filter fails on this value.
pub(super) const WORSE: i64 = 17;

/// What the view of a case is, besides its window.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub by_name: bool,
    pub by_id: bool,
    pub window: Option<WindowKind>,
    pub filtered: bool,
    /// Bounds of the two aggregates; the second takes positive values only.
    pub max: [usize; 2],
    pub retention: Option<i64>,
    pub lateness: i64,
    pub on_error: OnError,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub name: Option<&'static str>,
    pub id: i64,
    pub value: Option<i64>,
    pub time: Option<i64>,
}

#[derive(Debug)]
enum Expression {
    Column(usize),
    /// Fails where the value is [`BAD`].
    Value,
    /// Less than 5 or null; fails where the value is [`WORSE`].
    NotLarge,
    Positive,
    /// The start of the window of this length.
    Bin(i64),
}

impl Evaluate for Expression {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let values = rows.column(2).as_primitive::<Int64Type>();
        let any = |bad: i64| values.iter().any(|value| value == Some(bad));
        let flags = |flag: &dyn Fn(i64) -> bool| -> ArrayRef {
            Arc::new(values.iter().map(|value| value.map(flag)).collect::<BooleanArray>())
        };
        Ok(match self {
            Expression::Column(column) => Arc::clone(rows.column(*column)),
            Expression::Value if any(BAD) => return Err(EvaluateError("bad value".into())),
            Expression::Value => Arc::clone(rows.column(2)),
            Expression::NotLarge if any(WORSE) => return Err(EvaluateError("worse".into())),
            Expression::NotLarge => flags(&|value| value < 500),
            Expression::Positive => flags(&|value| 0 < value),
            Expression::Bin(size) => {
                let times = rows.column(3).as_primitive::<TimestampMicrosecondType>();
                let starts: TimestampMicrosecondArray =
                    unary(times, |time| time.div_euclid(*size) * size);
                Arc::new(starts.with_timezone("UTC"))
            }
        })
    }
}

impl Shape {
    pub(super) fn random(random: &mut Random) -> Shape {
        let window = match random.below(5) {
            0 | 1 => None,
            2 => Some(WindowKind::Tumble { size: 50 }),
            3 => Some(random.pick(&[
                WindowKind::Hop { slide: 20, size: 60 },
                WindowKind::Hop { slide: 40, size: 60 },
            ])),
            _ => Some(WindowKind::Session { gap: random.pick(&[10, 25]) }),
        };
        // Windows are merged from panes by who reads them, which fails above the bound.
        let is_hop = matches!(window, Some(WindowKind::Hop { .. }));
        let bound = |random: &mut Random| {
            if is_hop { 200 } else { random.pick(&[3, 8, 200, 200, 200]) }
        };
        Shape {
            by_name: random.one_in(2),
            by_id: random.one_in(2),
            window,
            filtered: random.one_in(2),
            max: [bound(random), bound(random)],
            retention: random.pick(&[None, Some(60), Some(2_000_000)]),
            lateness: random.pick(&[0, 30]),
            on_error: OnError::Quarantine,
        }
    }

    pub(super) fn definition(&self) -> Arc<Definition> {
        let mut groups = Vec::new();
        let mut group = |name: &str, data_type, nullable, expression: Expression| {
            let expression = Arc::new(expression);
            groups.push(GroupBy { name: name.into(), data_type, nullable, expression });
        };
        if self.by_name {
            group("name", DataType::Utf8View, true, Expression::Column(0));
        }
        let window = self.window.map(|kind| Window { group: usize::from(self.by_name), kind });
        match self.window {
            None => {}
            Some(WindowKind::Tumble { size }) => {
                group("window", time(), true, Expression::Bin(size))
            }
            Some(WindowKind::Hop { .. }) => group("window", time(), true, Expression::Bin(20)),
            Some(WindowKind::Session { .. }) => {
                group("window", time(), true, Expression::Column(3));
            }
        }
        if self.by_id {
            group("id", DataType::Int64, false, Expression::Column(1));
        }
        let value: Arc<dyn Evaluate> = Arc::new(Expression::Value);
        let aggregate = |max: usize, filter: Option<Arc<dyn Evaluate>>| AggregateColumn {
            name: format!("{PREFIX}{max}"),
            call: AggregateCall {
                aggregate: Aggregate::Count,
                distinct: false,
                arguments: vec![DataType::Int64],
                input: Form::Values,
                output: Form::Values,
                output_type: DataType::Utf8,
            },
            nullable: false,
            arguments: vec![Arc::clone(&value)],
            filter,
        };
        let micros = |time: i64| Duration::from_micros(time.unsigned_abs());
        Arc::new(Definition {
            input: schema(),
            filter: self.filtered.then(|| Arc::new(Expression::NotLarge) as Arc<dyn Evaluate>),
            groups,
            aggregates: vec![
                aggregate(self.max[0], None),
                aggregate(self.max[1], Some(Arc::new(Expression::Positive))),
            ],
            window,
            event_time: Some(3),
            options: ViewOptions {
                retention: self.retention.map(micros),
                lateness: micros(self.lateness),
                emit_final_after: None,
                on_error: self.on_error,
            },
            fingerprint: 7,
        })
    }
}

/// Events of few groups, mostly in the order of time.
pub(super) fn events(random: &mut Random) -> Vec<Event> {
    let count = random.below(120);
    let spread = random.pick(&[5, 40, 400]);
    let stride = random.pick(&[1, 4, 30, 300_000]);
    let ids = random.pick(&[1, 3, 20]);
    let mut now = 1_000;
    let event = |_| {
        now += random.below(stride).cast_signed();
        Event {
            name: random.pick(&[None, Some(""), Some("a"), Some("a\0"), Some("b")]),
            id: random.below(ids).cast_signed() - 1,
            value: match random.below(40) {
                0 => Some(BAD),
                1 => Some(WORSE),
                2..8 => None,
                8..12 => Some(500),
                value => Some(value.cast_signed() - 30),
            },
            time: (!random.one_in(30)).then(|| now - random.below(spread).cast_signed()),
        }
    };
    (0..count).map(event).collect()
}

pub(super) fn batch(events: &[Event]) -> RecordBatch {
    let times = events.iter().map(|event| event.time).collect::<TimestampMicrosecondArray>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(events.iter().map(|event| event.name).collect::<StringViewArray>()),
        Arc::new(events.iter().map(|event| event.id).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.value).collect::<Int64Array>()),
        Arc::new(times.with_timezone("UTC")),
    ];
    assert!(columns.iter().all(|column| column.len() == events.len()));
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::Int64, true),
        Field::new("time", time(), true),
    ]))
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
