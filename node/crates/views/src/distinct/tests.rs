//! The set of distinct values against ordinary sets, over random rows.

use std::collections::BTreeSet;

use arrow::array::{Date32Array, Int16Array};
use proptest::prelude::*;

use super::*;

/// Values of each group, by the plainest means.
#[derive(Default)]
struct Model(Vec<BTreeSet<i64>>);

impl Model {
    fn update(&mut self, values: &Int64Array, groups: &[usize], filter: Option<&BooleanArray>) {
        for (row, &group) in groups.iter().enumerate() {
            if values.is_valid(row) && filter.is_none_or(|filter| lets(filter, row)) {
                self.0[group].insert(values.value(row));
            }
        }
    }

    fn counts(&self) -> Vec<i64> {
        self.0.iter().map(|values| values.len() as i64).collect()
    }
}

fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

fn batch(
    next: &mut impl FnMut(u64) -> u64,
    groups: usize,
    values: u64,
) -> (Int64Array, Vec<usize>) {
    let rows = 1 + next(3_000) as usize;
    let array = (0..rows).map(|_| (next(20) != 0).then(|| next(values) as i64 - 5)).collect();
    (array, (0..rows).map(|_| next(groups as u64) as usize).collect())
}

#[test]
fn a_set_that_was_split_counts_like_a_plain_one() {
    let mut next = numbers(7);
    let mut counted = DistinctValues::new(&DataType::Int64).unwrap();
    let mut model = Model(vec![BTreeSet::new(); 9]);
    for _ in 0..80 {
        let (values, groups) = batch(&mut next, 9, 20_000);
        counted.update(&values, &groups, None, 9).unwrap();
        model.update(&values, &groups, None);
    }
    let expected = model.counts();
    assert!(2 * 16_384 < expected.iter().sum::<i64>() as usize, "the set was split");
    assert!(counted.size() < 8 << 20);
    // The first three groups leave, and the others are still complete.
    assert_eq!(counted.counts(Some(3)).values(), &expected[..3]);
    let state = counted.state(Some(2)).unwrap();
    for (row, group) in [3, 4].into_iter().enumerate() {
        let list = state.value(row);
        let values: BTreeSet<i64> =
            list.as_primitive::<Int64Type>().values().iter().copied().collect();
        assert_eq!(values, model.0[group]);
        assert_eq!(list.len(), values.len());
    }
    assert_eq!(counted.counts(None).values(), &expected[5..]);
    assert!(counted.counts(None).is_empty());
}

#[test]
fn every_supported_type_comes_back_as_it_went_in() {
    let arrays: [ArrayRef; 3] = [
        Arc::new(Int16Array::from(vec![Some(-7), None, Some(i16::MAX), Some(-7)])),
        Arc::new(Date32Array::from(vec![Some(i32::MIN), None, Some(3), Some(i32::MIN)])),
        Arc::new(
            PrimitiveArray::<TimestampMicrosecondType>::from(vec![
                Some(1),
                None,
                Some(-1),
                Some(1),
            ])
            .with_timezone("UTC"),
        ),
    ];
    for array in arrays {
        let mut counted = DistinctValues::new(array.data_type()).unwrap();
        counted.update(&array, &[0, 0, 1, 0], None, 3).unwrap();
        let state = counted.state(None).unwrap();
        assert_eq!(state.value_type(), *array.data_type());
        counted.merge(&state, &[1, 1, 0], 2).unwrap();
        assert_eq!(counted.counts(None).values(), &[0, 2]);
    }
    assert!(!is_supported(&DataType::Utf8View));
    assert!(!is_supported(&DataType::Float64));
}

proptest! {
    #[test]
    fn parts_merge_to_the_whole(
        seed in any::<u64>(),
        groups in 1_usize..40,
        values in 1_u64..5_000,
    ) {
        let mut next = numbers(seed);
        let mut model = Model(vec![BTreeSet::new(); groups]);
        let mut merged = DistinctValues::new(&DataType::Int64).unwrap();
        for part in 0..3 {
            let mut counted = DistinctValues::new(&DataType::Int64).unwrap();
            for _ in 0..4 {
                let (array, places) = batch(&mut next, groups, values);
                let filter: BooleanArray =
                    (0..array.len()).map(|_| (next(9) != 0).then(|| next(2) == 0)).collect();
                let filter = (next(2) == 0).then_some(&filter);
                model.update(&array, &places, filter);
                if part == 2 {
                    let rows = counted.convert(&array, filter).unwrap();
                    merged.merge(&rows, &places, groups).unwrap();
                } else {
                    counted.update(&array, &places, filter, groups).unwrap();
                }
            }
            let state = counted.state(None).unwrap();
            let places: Vec<usize> = (0..state.len()).collect();
            merged.merge(&state, &places, groups).unwrap();
        }
        let counts = merged.counts(None);
        prop_assert_eq!(counts.values(), &model.counts()[..]);
    }
}
