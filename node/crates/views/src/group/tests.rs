//! Keys keep order and come back; the table finds what was put in.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int16Array, Int64Array, IntervalMonthDayNanoArray, StringArray, StringViewArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array, make_comparator,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Encoded, GroupTable, KeyCodec, KeyColumn, KeyError};

const ROWS: usize = 12;

fn text() -> impl Strategy<Value = Vec<Option<String>>> {
    vec(of("[\0\u{1}ab\u{ff}]{0,4}"), ROWS)
}

fn integers() -> impl Strategy<Value = Vec<Option<i64>>> {
    let edges = select(vec![i64::MIN, -1, 0, 1, i64::MAX]);
    vec(of(prop_oneof![edges, any::<i64>()]), ROWS)
}

fn doubles() -> impl Strategy<Value = Vec<Option<f64>>> {
    // One NaN and one zero: which others are the same is another test.
    let edges = select(vec![f64::NEG_INFINITY, -1.5, 0.0, f64::MIN_POSITIVE, f64::NAN]);
    vec(of(prop_oneof![edges, any::<i32>().prop_map(f64::from)]), ROWS)
}

/// A column of any type that keys may have.
fn column() -> impl Strategy<Value = ArrayRef> {
    let narrow = |value: i64| value as i16;
    prop_oneof![
        text().prop_map(|texts| Arc::new(StringViewArray::from_iter(texts)) as ArrayRef),
        text().prop_map(|texts| Arc::new(StringArray::from_iter(texts)) as ArrayRef),
        text().prop_map(|texts| {
            let bytes = texts.into_iter().map(|text| text.map(String::into_bytes));
            Arc::new(BinaryViewArray::from_iter(bytes)) as ArrayRef
        }),
        integers().prop_map(|values| Arc::new(Int64Array::from(values)) as ArrayRef),
        integers().prop_map(move |values| {
            let values = values.into_iter().map(|value| value.map(narrow));
            Arc::new(Int16Array::from_iter(values)) as ArrayRef
        }),
        integers().prop_map(|values| {
            let values = values.into_iter().map(|value| value.map(i64::cast_unsigned));
            Arc::new(UInt64Array::from_iter(values)) as ArrayRef
        }),
        integers().prop_map(|values| {
            let values = values.into_iter().map(|value| value.map(|value| i128::from(value) << 40));
            let array = Decimal128Array::from_iter(values);
            Arc::new(array.with_precision_and_scale(38, 3).unwrap()) as ArrayRef
        }),
        integers().prop_map(|values| {
            let days = values.into_iter().map(|value| value.map(|value| value as i32));
            Arc::new(Date32Array::from_iter(days)) as ArrayRef
        }),
        integers().prop_map(|values| {
            let values =
                values.into_iter().map(|value| value.map(|value| value.rem_euclid(86_400)));
            Arc::new(Time64MicrosecondArray::from_iter(values)) as ArrayRef
        }),
        integers().prop_map(|values| {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef
        }),
        integers().prop_map(|values| {
            let of =
                |value: i64| IntervalMonthDayNano::new(value as i32, (value >> 32) as i32, value);
            let values = values.into_iter().map(|value| value.map(of));
            Arc::new(IntervalMonthDayNanoArray::from_iter(values)) as ArrayRef
        }),
        integers().prop_map(|values| {
            let flags = values.into_iter().map(|value| value.map(|value| value < 0));
            Arc::new(BooleanArray::from_iter(flags)) as ArrayRef
        }),
        doubles().prop_map(|values| Arc::new(Float64Array::from(values)) as ArrayRef),
    ]
}

fn codec(columns: &[(ArrayRef, bool)]) -> KeyCodec {
    let columns = columns.iter().map(|(column, descending)| KeyColumn {
        data_type: column.data_type().clone(),
        descending: *descending,
    });
    KeyCodec::new(columns.collect()).unwrap()
}

fn keys(codec: &KeyCodec, columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let row = |row: usize| columns.iter().map(|column| column.slice(row, 1)).collect::<Vec<_>>();
    (0..ROWS).map(|number| codec.key(&row(number)).unwrap()).collect()
}

fn compare(columns: &[(ArrayRef, bool)], left: usize, right: usize) -> Ordering {
    let each = columns.iter().map(|(column, descending)| {
        let options = SortOptions { descending: *descending, nulls_first: !descending };
        make_comparator(column, column, options).unwrap()(left, right)
    });
    each.fold(Ordering::Equal, Ordering::then)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn keys_compare_as_rows_and_come_back(columns in vec((column(), any::<bool>()), 1..4)) {
        let codec = codec(&columns);
        let arrays: Vec<ArrayRef> = columns.iter().map(|(column, _)| Arc::clone(column)).collect();
        let keys = keys(&codec, &arrays);
        for left in 0..ROWS {
            for right in 0..ROWS {
                prop_assert_eq!(keys[left].cmp(&keys[right]), compare(&columns, left, right));
                let prefix = codec.key(&[arrays[0].slice(left, 1)]).unwrap();
                let (first, _) = columns.split_at(1);
                let is_same = compare(first, left, right).is_eq();
                prop_assert_eq!(keys[right].starts_with(&prefix), is_same);
            }
        }
        let decoded = codec.decode(keys.iter().map(Vec::as_slice)).unwrap();
        for (decoded, array) in decoded.iter().zip(&arrays) {
            prop_assert_eq!(decoded.data_type(), array.data_type());
            prop_assert_eq!(format!("{decoded:?}"), format!("{array:?}"));
        }
        for key in &keys {
            let cut = codec.decode(std::iter::once(&key[..key.len() - 1]));
            prop_assert_eq!(cut.unwrap_err(), KeyError::Malformed);
        }
    }

    #[test]
    fn the_table_is_a_map(
        small in any::<bool>(),
        steps in vec((0_u8..6, of(0_i64..40)), 0..200),
    ) {
        let column = KeyColumn { data_type: DataType::Int64, descending: !small };
        let codec = KeyCodec::new(vec![column]).unwrap();
        let mut table = GroupTable::new(&codec);
        let mut model: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for (step, value) in steps {
            let array: ArrayRef = Arc::new(Int64Array::from(vec![value]));
            let key = codec.key(&[Arc::clone(&array)]).unwrap();
            prop_assert_eq!(table.find(&key), model.get(&key).copied());
            match step {
                0 => {
                    if let Some(slot) = model.remove(&key) {
                        table.remove(slot);
                    }
                }
                1 => {
                    let slots: Vec<u32> = model.values().rev().copied().collect();
                    table.keep(&slots);
                    for slot in model.values_mut() {
                        let place = slots.iter().position(|old| old == slot).unwrap();
                        *slot = u32::try_from(place).unwrap();
                    }
                }
                2 => {
                    if !model.contains_key(&key)
                        && let Some((_, slot)) = model.pop_first()
                    {
                        table.rename(slot, &key);
                        model.insert(key, slot);
                    }
                }
                _ => {
                    let next = u32::try_from(table.len()).unwrap();
                    let mut slots = Vec::new();
                    table.intern(&codec.encode(&[array], 1).unwrap(), &mut slots);
                    prop_assert_eq!(slots[0], *model.entry(key).or_insert(next));
                }
            }
            prop_assert_eq!(table.live(), model.len());
            for (key, &slot) in &model {
                let mut bytes = Vec::new();
                table.key(slot, &mut bytes);
                prop_assert_eq!(&bytes, key);
                prop_assert_eq!(table.find(key), Some(slot));
            }
        }
    }
}

#[test]
fn values_that_are_one_in_sql_have_one_key() {
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
    let nans: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, -f64::NAN]));
    for array in [zeros, nans] {
        let codec = codec(&[(Arc::clone(&array), false)]);
        let key = |row| codec.key(&[array.slice(row, 1)]).unwrap();
        assert_eq!(key(0), key(1));
        let Encoded::Small { values, .. } = codec.encode(&[Arc::clone(&array)], 2).unwrap() else {
            panic!("a double fits a number");
        };
        assert_eq!(values[0], values[1]);
    }
}

#[test]
fn the_form_is_what_it_was() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![Some("a\0b")])),
        Arc::new(Int64Array::from(vec![-2])),
        Arc::new(Float64Array::from(vec![1.0])),
        Arc::new(BooleanArray::from(vec![None::<bool>])),
        Arc::new(Date32Array::from(vec![1])),
    ];
    let with_order: Vec<_> = columns.iter().map(|column| (Arc::clone(column), false)).collect();
    let key = codec(&with_order).key(&columns).unwrap();
    let expected: &[&[u8]] = &[
        &[1, b'a', 0, 0xFF, b'b', 0, 1],
        &[1, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE],
        &[1, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0],
        &[0],
        &[1, 0x80, 0, 0, 1],
    ];
    assert_eq!(key, expected.concat());
}
