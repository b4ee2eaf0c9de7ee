//! The promises at the head of the module, over every aggregate; results beside simple oracles.

mod laws;
mod results;
mod sketches;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Float64Array, Int64Array, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

use super::{Aggregate, AggregateCall, Form, Order, Regression, States};

/// A call over values of these types.
fn call(aggregate: Aggregate, distinct: bool, arguments: &[DataType]) -> AggregateCall {
    let output_type = aggregate.output_type(arguments).expect("the aggregate has a type");
    AggregateCall {
        aggregate,
        distinct,
        arguments: arguments.to_vec(),
        input: Form::Values,
        output: Form::Values,
        output_type,
    }
}

fn states(call: &AggregateCall, slots: usize) -> Box<dyn States> {
    let mut states = call.states().expect("the aggregate is maintained");
    states.resize(slots);
    states
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Types that columns of streams have.
fn types() -> Vec<DataType> {
    vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(20, 2),
        DataType::Utf8View,
        DataType::BinaryView,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        timestamp(),
        DataType::Interval(IntervalUnit::MonthDayNano),
    ]
}

fn is_summed(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Every aggregate over every type it takes.
fn calls() -> Vec<AggregateCall> {
    let mut calls = vec![call(Aggregate::Count, false, &[])];
    for data_type in types() {
        let one = std::slice::from_ref(&data_type);
        for aggregate in [Aggregate::Count, Aggregate::Min, Aggregate::Max] {
            calls.push(call(aggregate, false, one));
        }
        calls.push(call(Aggregate::Count, true, one));
        calls.push(call(Aggregate::ApproxDistinct, false, one));
        calls.push(call(Aggregate::FrequentItems { k: 3 }, false, one));
        let two = [data_type.clone(), DataType::Int64];
        let orders = vec![Order { descending: true, nulls_first: true }];
        calls.push(call(Aggregate::First { orders, ignore_nulls: true }, false, &two));
        let orders = vec![Order::ASCENDING];
        calls.push(call(Aggregate::Last { orders, ignore_nulls: false }, false, &two));
        let swapped = [DataType::Utf8View, data_type.clone()];
        calls.push(call(Aggregate::ArgMin, false, &swapped));
        calls.push(call(Aggregate::ArgMax, false, &swapped));
        if is_summed(&data_type) {
            for distinct in [false, true] {
                calls.push(call(Aggregate::Sum, distinct, one));
                calls.push(call(Aggregate::Avg, distinct, one));
                calls.push(call(Aggregate::Variance { sample: true }, distinct, one));
            }
            calls.push(call(Aggregate::ApproxQuantile { quantile: 0.9 }, false, one));
            calls.push(call(Aggregate::Histogram { bounds: vec![-1.0, 0.0, 4.5] }, false, one));
        }
        if data_type.is_integer() {
            for aggregate in [Aggregate::BitAnd, Aggregate::BitOr, Aggregate::BitXor] {
                calls.push(call(aggregate, false, one));
            }
        }
    }
    for aggregate in [Aggregate::BoolAnd, Aggregate::BoolOr] {
        calls.push(call(aggregate, false, &[DataType::Boolean]));
    }
    for takes_last in [false, true] {
        let (orders, ignore_nulls) = (Vec::new(), false);
        let aggregate = match takes_last {
            true => Aggregate::Last { orders, ignore_nulls },
            false => Aggregate::First { orders, ignore_nulls },
        };
        calls.push(call(aggregate, false, &[DataType::Int64]));
    }
    for aggregate in [
        Aggregate::Covariance { sample: true },
        Aggregate::Correlation,
        Aggregate::Regression(Regression::Slope),
        Aggregate::Regression(Regression::Count),
    ] {
        calls.push(call(aggregate, false, &[DataType::Float64, DataType::Float64]));
    }
    calls
}

/// Whether merging in another order may change digits, or what is chosen.
fn depends_on_order(call: &AggregateCall) -> bool {
    let is_float = call.arguments.first().is_some_and(DataType::is_floating);
    match &call.aggregate {
        Aggregate::Sum | Aggregate::Avg => is_float && !call.distinct,
        Aggregate::Variance { .. } | Aggregate::Deviation { .. } => !call.distinct,
        Aggregate::Covariance { .. } | Aggregate::Correlation | Aggregate::Regression(_) => true,
        Aggregate::First { orders, .. } | Aggregate::Last { orders, .. } => orders.is_empty(),
        _ => false,
    }
}

/// An array of a type made of whole numbers.
fn array(data_type: &DataType, values: &[Option<i64>]) -> ArrayRef {
    let each = values.iter().copied();
    match data_type {
        DataType::Boolean => {
            Arc::new(each.map(|value| value.map(|value| 0 < value)).collect::<BooleanArray>())
        }
        DataType::Float32 | DataType::Float64 => {
            let doubles = each.map(|value| {
                value.map(|value| match value {
                    -8 => f64::NAN,
                    -7 => -0.0,
                    -6 => f64::NEG_INFINITY,
                    value => value as f64 * 0.37,
                })
            });
            let doubles: ArrayRef = Arc::new(doubles.collect::<Float64Array>());
            cast(&doubles, data_type).expect("a double is a real")
        }
        DataType::Utf8View => {
            let texts = each.map(|value| value.map(|value| format!("a text, number {value}")));
            Arc::new(texts.collect::<StringViewArray>())
        }
        DataType::BinaryView => {
            let bytes = each.map(|value| value.map(|value| vec![0; (value & 15) as usize]));
            Arc::new(bytes.collect::<BinaryViewArray>())
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            use arrow::datatypes::{IntervalMonthDayNano, IntervalMonthDayNanoType};
            let values = each.map(|value| {
                value.map(|value| IntervalMonthDayNano::new(value as i32 / 3, 1, -value))
            });
            Arc::new(values.collect::<arrow::array::PrimitiveArray<IntervalMonthDayNanoType>>())
        }
        DataType::Date32 | DataType::Time64(_) => {
            let values: Int64Array = each.map(|value| value.map(|value| value + 9)).collect();
            let narrow =
                if *data_type == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
            let values = cast(&values, &narrow).expect("it is small");
            cast(&values, data_type).expect("a number is a date or time")
        }
        _ => {
            let values: Int64Array = each.collect();
            cast(&values, data_type).expect("a whole number is of the type")
        }
    }
}

fn encoded(states: &dyn States, slots: u32) -> Vec<Vec<u8>> {
    let encode = |slot| {
        let mut out = Vec::new();
        states.encode(slot, &mut out);
        out
    };
    (0..slots).map(encode).collect()
}

/// Merges encoded states, one for each slot, and nothing is left over.
fn merge_all(states: &mut dyn States, encoded: &[Vec<u8>]) {
    for (slot, bytes) in (0..).zip(encoded) {
        let mut rest = bytes.as_slice();
        states.merge(slot, &mut rest).expect("a state that was encoded is merged");
        assert!(rest.is_empty(), "a state says where it ends");
    }
}

fn shown(array: &ArrayRef) -> String {
    format!("{:?} {array:?}", array.data_type())
}
