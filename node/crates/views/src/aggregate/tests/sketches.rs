//! Sketches keep to the errors they state; sets to their bounds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::super::{
    Aggregate, COUNTERS_MIN, DISTINCT_VALUES_MAX, Form, RELATIVE_ERROR_MAX, StateError,
};
use super::{call, encoded, merge_all, states};

/// Numbers that look random: SplitMix64.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = state;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    })
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<Int64Array>())
}

#[test]
fn approx_distinct_is_within_three_standard_errors() {
    let call = call(Aggregate::ApproxDistinct, false, &[DataType::Int64]);
    for count in [1, 10, 1000, 1500, 1600, 20_000, 300_000] {
        let mut states = states(&call, 1);
        let values = integers(random(count).take(count as usize).map(|value| value as i64));
        let slots = vec![0; values.len()];
        for _ in 0..2 {
            states.update(&slots, std::slice::from_ref(&values), None).unwrap();
        }
        let found = states.finish(&[0]).unwrap().as_primitive::<UInt64Type>().value(0);
        let error = (found as f64 - count as f64).abs() / count as f64;
        assert!(error <= 0.0243 || found.abs_diff(count) <= 1, "{found} instead of {count}");
        assert!(states.bytes() < 40_000);
    }
}

#[test]
fn states_of_sketches_are_values() {
    let values = call(Aggregate::ApproxDistinct, false, &[DataType::Int64]);
    let to_state = super::AggregateCall {
        output: Form::State,
        output_type: DataType::Binary,
        ..values.clone()
    };
    let from_state = super::AggregateCall {
        input: Form::State,
        arguments: vec![DataType::Binary],
        ..values.clone()
    };
    let (mut whole, mut parts) = (states(&values, 1), states(&to_state, 4));
    let column = integers(0..9000);
    let slots: Vec<u32> = (0..9000).map(|row| row % 3).collect();
    parts.update(&slots, std::slice::from_ref(&column), None).unwrap();
    whole.update(&vec![0; 9000], &[column], None).unwrap();
    let column = parts.finish(&[0, 1, 2, 3]).unwrap();
    assert_eq!(column.null_count(), 0);
    let mut joined = states(&from_state, 1);
    joined.update(&[0; 4], &[column], None).unwrap();
    assert_eq!(encoded(&*joined, 1), encoded(&*whole, 1));
    assert_eq!(&joined.finish(&[0]).unwrap(), &whole.finish(&[0]).unwrap());
    let other = call(Aggregate::Count, false, &[]);
    let error = states(&values, 1).merge(0, &mut encoded(&*states(&other, 1), 1)[0].as_slice());
    assert!(matches!(error, Err(StateError::Malformed { .. })), "{error:?}");
}

#[test]
fn quantiles_are_within_their_error() {
    for scale in [1e-300, 1e-3, 1.0, 1e300] {
        let spread = |value: u64| ((value % 2_000_001) as f64 - 400_000.0) * scale;
        let mut values: Vec<f64> = random(7).take(20_000).map(spread).collect();
        let column: ArrayRef = Arc::new(Float64Array::from(values.clone()));
        values.sort_unstable_by(f64::total_cmp);
        for quantile in [0.0, 0.01, 0.19999, 0.2, 0.5, 0.9, 0.999, 1.0] {
            let call = call(Aggregate::ApproxQuantile { quantile }, false, &[DataType::Float64]);
            let mut states = states(&call, 1);
            states.update(&vec![0; values.len()], std::slice::from_ref(&column), None).unwrap();
            let found = states.finish(&[0]).unwrap().as_primitive::<Float64Type>().value(0);
            let place = (quantile * values.len() as f64).ceil().max(1.0) as usize - 1;
            let error = (found - values[place]).abs();
            let max = RELATIVE_ERROR_MAX * values[place].abs();
            assert!(error <= max, "{quantile} of {scale}: {found} instead of {}", values[place]);
        }
    }
}

#[test]
fn quantiles_of_few_values_are_exact_at_the_ends() {
    let call = call(Aggregate::ApproxQuantile { quantile: 0.5 }, false, &[DataType::Int64]);
    let mut states = states(&call, 2);
    states.update(&[0], &[integers([123_457].into_iter())], None).unwrap();
    let found = states.finish(&[0, 1]).unwrap();
    assert_eq!(
        found.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
        [Some(123_457.0), None]
    );
}

#[test]
fn frequent_items_are_found_among_many() {
    let call = call(Aggregate::FrequentItems { k: 5 }, false, &[DataType::Int64]);
    // Five values make up half of the rows, the others are met once or twice.
    let values: Vec<i64> = random(3)
        .take(60_000)
        .map(|value| match value % 10 {
            few @ 0..=4 if value % 7 != few => few as i64,
            _ => (value >> 20) as i64,
        })
        .collect();
    let mut exact: HashMap<i64, i64> = HashMap::new();
    values.iter().for_each(|value| *exact.entry(*value).or_default() += 1);
    let (mut whole, mut left, mut right) = (states(&call, 1), states(&call, 1), states(&call, 1));
    for (place, part) in values.chunks(777).enumerate() {
        let column = [integers(part.iter().copied())];
        let slots = vec![0; part.len()];
        whole.update(&slots, &column, None).unwrap();
        let side = if place % 2 == 0 { &mut left } else { &mut right };
        side.update(&slots, &column, None).unwrap();
    }
    let (first, second) = (encoded(&*left, 1), encoded(&*right, 1));
    merge_all(&mut *left, &second);
    merge_all(&mut *right, &first);
    assert_eq!(encoded(&*left, 1), encoded(&*right, 1), "a merge is the same both ways");
    for states in [whole, left] {
        let lists = states.finish(&[0]).unwrap();
        let items = lists.as_list::<i32>().value(0);
        let columns = items.as_struct().columns();
        let number = |column: usize, row| columns[column].as_primitive::<Int64Type>().value(row);
        assert_eq!(items.len(), 5);
        for row in 0..5 {
            let (value, count, error) = (number(0, row), number(1, row), number(2, row));
            assert!((0..5).contains(&value), "{value} is not among the most frequent");
            assert!(count <= exact[&value] && exact[&value] <= count + error, "{value}: {count}");
            assert!(error as usize <= values.len() / (COUNTERS_MIN + 1), "{error}");
        }
    }
}

#[test]
fn distinct_values_are_bounded() {
    let call = call(Aggregate::Count, true, &[DataType::Int64]);
    let mut states = states(&call, 2);
    let column = [integers(0..DISTINCT_VALUES_MAX as i64)];
    let slots = vec![1; DISTINCT_VALUES_MAX];
    assert!(states.has_room(&slots, &column, None));
    states.update(&slots, &column, None).unwrap();
    assert!(!states.has_room(&[1], &[integers([7].into_iter())], None));
    states.update(&[1], &[integers([7].into_iter())], None).unwrap();
    let error = states.update(&[1], &[integers([-1].into_iter())], None).unwrap_err();
    assert!(error.to_string().contains("100000 values"), "{error}");
    assert!(error.to_string().contains("approx_distinct"), "{error}");
    let counts = states.finish(&[0, 1]).unwrap();
    assert_eq!(counts.as_primitive::<Int64Type>().values(), &[0, DISTINCT_VALUES_MAX as i64]);
}
