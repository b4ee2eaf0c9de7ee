//! Results of small groups, worked out by hand.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, StringViewArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};

use super::super::{Aggregate, AggregateCall, Order, Regression, StateError};
use super::{call, states};

fn run(call: &AggregateCall, arguments: &[ArrayRef]) -> Result<ArrayRef, StateError> {
    let mut states = states(call, 2);
    let rows = arguments.first().map_or(0, |argument| argument.len());
    states.update(&vec![0; rows], arguments, None)?;
    states.finish(&[0, 1])
}

fn numbers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// The double of the group with rows and of the one without.
fn two(aggregate: Aggregate, arguments: &[ArrayRef]) -> [Option<f64>; 2] {
    let types: Vec<_> = arguments.iter().map(|argument| argument.data_type().clone()).collect();
    let found = run(&call(aggregate, false, &types), arguments).unwrap();
    let found = found.as_primitive::<Float64Type>();
    [0, 1].map(|row| found.is_valid(row).then(|| found.value(row)))
}

#[test]
fn sums_are_exact_and_do_not_wrap() {
    let sum = call(Aggregate::Sum, false, &[DataType::Int64]);
    let column = numbers(&[Some(i64::MAX), Some(1), None, Some(-1)]);
    let found = run(&sum, &[column]).unwrap();
    assert_eq!(found.as_ref(), &Int64Array::from(vec![Some(i64::MAX), None]));
    let error = run(&sum, &[numbers(&[Some(i64::MAX), Some(1)])]).unwrap_err();
    assert_eq!(error.to_string(), "sum is outside BIGINT");
    assert_eq!(two(Aggregate::Avg, &[numbers(&[Some(1), Some(2), None])]), [Some(1.5), None]);

    let decimals = |values: Vec<i128>| -> ArrayRef {
        let array = Decimal128Array::from(values);
        Arc::new(array.with_precision_and_scale(38, 2).unwrap())
    };
    let most = 10_i128.pow(38) - 1;
    let sum = call(Aggregate::Sum, false, &[DataType::Decimal128(38, 2)]);
    let found = run(&sum, &[decimals(vec![most, most, -most])]).unwrap();
    assert_eq!(found.as_primitive::<Decimal128Type>().value(0), most);
    let error = run(&sum, &[decimals(vec![most, 1])]).unwrap_err();
    assert_eq!(error.to_string(), "sum is outside NUMERIC(38,2)");

    let column = Decimal128Array::from(vec![100, 200, 200]);
    let column: ArrayRef = Arc::new(column.with_precision_and_scale(9, 2).unwrap());
    let avg = call(Aggregate::Avg, false, &[DataType::Decimal128(9, 2)]);
    assert_eq!(avg.output_type, DataType::Decimal128(13, 6));
    let found = run(&avg, &[column]).unwrap();
    assert_eq!(found.as_primitive::<Decimal128Type>().value(0), 1_666_666);
}

#[test]
fn nan_is_above_all_others() {
    let column = [doubles(&[f64::NAN, 1.0, -3.0])];
    assert_eq!(two(Aggregate::Min, &column), [Some(-3.0), None]);
    assert!(two(Aggregate::Max, &column)[0].unwrap().is_nan());
}

#[test]
fn spreads_are_those_of_the_textbook() {
    let column = [doubles(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])];
    assert_eq!(two(Aggregate::Deviation { sample: false }, &column), [Some(2.0), None]);
    let found = two(Aggregate::Variance { sample: true }, &column)[0].unwrap();
    assert!((found - 32.0 / 7.0).abs() < 1e-12);
    let one = [doubles(&[5.0])];
    assert_eq!(two(Aggregate::Variance { sample: true }, &one), [None, None]);
    assert_eq!(two(Aggregate::Variance { sample: false }, &one), [Some(0.0), None]);
    // A large mean beside a small spread.
    let far = [doubles(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0])];
    assert_eq!(two(Aggregate::Variance { sample: true }, &far), [Some(30.0), None]);
}

#[test]
fn lines_go_through_their_points() {
    let (x, y) = (doubles(&[1.0, 2.0, 3.0, 4.0]), doubles(&[5.0, 7.0, 9.0, 11.0]));
    let points = [y, x];
    let figure = |regression| two(Aggregate::Regression(regression), &points);
    assert_eq!(figure(Regression::Slope), [Some(2.0), None]);
    assert_eq!(figure(Regression::Intercept), [Some(3.0), None]);
    assert_eq!(figure(Regression::R2), [Some(1.0), None]);
    assert_eq!(figure(Regression::AvgX), [Some(2.5), None]);
    assert_eq!(figure(Regression::Sxx), [Some(5.0), None]);
    assert_eq!(figure(Regression::Syy), [Some(20.0), None]);
    assert_eq!(figure(Regression::Sxy), [Some(10.0), None]);
    assert_eq!(two(Aggregate::Covariance { sample: false }, &points), [Some(2.5), None]);
    let correlation = two(Aggregate::Correlation, &points)[0].unwrap();
    assert!((correlation - 1.0).abs() < 1e-12);
    let flat = [doubles(&[1.0, 2.0]), doubles(&[3.0, 3.0])];
    assert_eq!(two(Aggregate::Correlation, &flat), [None, None]);
    assert_eq!(two(Aggregate::Regression(Regression::Slope), &flat), [None, None]);
    assert_eq!(two(Aggregate::Correlation, &[doubles(&[1.0]), doubles(&[2.0])]), [None, None]);
}

#[test]
fn different_values_count_once() {
    let column = [numbers(&[Some(3), Some(3), None, Some(5), Some(-1), Some(5)])];
    let distinct = |aggregate| run(&call(aggregate, true, &[DataType::Int64]), &column).unwrap();
    let count = distinct(Aggregate::Count);
    assert_eq!(count.as_primitive::<Int64Type>().values(), &[3, 0]);
    let sum = distinct(Aggregate::Sum);
    assert_eq!(sum.as_ref(), &Int64Array::from(vec![Some(7), None]));
    let zeros = [doubles(&[0.0, -0.0, f64::NAN, -f64::NAN])];
    let count = run(&call(Aggregate::Count, true, &[DataType::Float64]), &zeros).unwrap();
    assert_eq!(count.as_primitive::<Int64Type>().values(), &[2, 0]);
}

#[test]
fn a_row_is_chosen_by_its_keys() {
    let texts = |values: &[Option<&str>]| -> ArrayRef {
        Arc::new(values.iter().copied().collect::<StringViewArray>())
    };
    let values = texts(&[Some("c"), None, Some("b"), Some("a"), Some("z")]);
    let keys = numbers(&[Some(2), Some(1), Some(1), Some(2), None]);
    let types = [DataType::Utf8View, DataType::Int64];
    let chosen = |aggregate| {
        let call = call(aggregate, false, &types);
        let found = run(&call, &[Arc::clone(&values), Arc::clone(&keys)]).unwrap();
        assert!(found.is_null(1), "no rows, no value");
        let found = found.as_string_view();
        found.is_valid(0).then(|| found.value(0).to_owned())
    };
    let orders = || vec![Order::ASCENDING];
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(chosen(Aggregate::First { orders: orders(), ignore_nulls: false }), None);
    assert_eq!(chosen(Aggregate::First { orders: orders(), ignore_nulls: true }), some("b"));
    assert_eq!(chosen(Aggregate::Last { orders: orders(), ignore_nulls: false }), some("z"));
    let first = vec![Order { descending: false, nulls_first: true }];
    assert_eq!(chosen(Aggregate::Last { orders: first, ignore_nulls: false }), some("a"));
    assert_eq!(chosen(Aggregate::ArgMin), None);
    assert_eq!(chosen(Aggregate::ArgMax), some("a"));
}

#[test]
fn a_histogram_counts_between_its_bounds() {
    let aggregate = Aggregate::Histogram { bounds: vec![0.0, 10.0] };
    let call = call(aggregate, false, &[DataType::Float64]);
    let column = doubles(&[-1.0, 0.0, 9.99, 10.0, f64::NAN]);
    let found = run(&call, &[column]).unwrap();
    let lists = found.as_list::<i32>();
    assert_eq!(lists.value(0).as_primitive::<Int64Type>().values(), &[1, 2, 2]);
    assert_eq!(lists.value(1).as_primitive::<Int64Type>().values(), &[0, 0, 0]);
}

#[test]
fn what_is_not_maintained_is_refused() {
    let aggregate = Aggregate::Histogram { bounds: vec![2.0, 1.0] };
    assert!(call(aggregate, false, &[DataType::Int64]).states().is_err());
    let aggregate = Aggregate::ApproxQuantile { quantile: 1.5 };
    assert!(call(aggregate, false, &[DataType::Int64]).states().is_err());
    let text = AggregateCall {
        arguments: vec![DataType::Utf8View],
        ..call(Aggregate::Sum, false, &[DataType::Int64])
    };
    let error = text.states().unwrap_err();
    assert_eq!(error.to_string(), "sum of (Utf8View) is not maintained");
}
