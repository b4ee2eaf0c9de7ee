//! Dealing rows out to partitions.

use std::collections::BTreeMap;

use alluvium_core::ids::PartitionNumber;
use alluvium_core::routing::KeyBytes;
use alluvium_core::schema::ColumnType;
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;

use super::super::split;
use super::{definition, every_type, json, rows_of_every_type, schema, show};

fn keyed_rows(count: i64) -> RecordBatch {
    let schema = schema([("id", ColumnType::BigInt), ("user", ColumnType::Text)]);
    let row = |id: i64| match id % 7 {
        0 => format!("{{\"id\": {id}}}"),
        user => format!("{{\"id\": {id}, \"user\": \"u{}\"}}", user * id % 50),
    };
    let rows: String = (0..count).map(row).collect();
    json(&schema, &rows).expect("good rows")
}

/// The same, row by row and with nothing clever.
fn slow_split(batch: &RecordBatch, partitions: u32) -> BTreeMap<PartitionNumber, Vec<i64>> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let users = batch.column(1).as_string::<i32>();
    let mut split: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let mut key = KeyBytes::new();
        match users.is_null(row) {
            true => key.push_null(),
            false => key.push_text(users.value(row)),
        }
        split.entry(key.partition(partitions)).or_default().push(ids.value(row));
    }
    split
}

#[test]
fn rows_go_where_their_key_says_in_the_order_they_came() {
    let batch = keyed_rows(1_000);
    let schema = schema([("id", ColumnType::BigInt), ("user", ColumnType::Text)]);
    for partitions in [1, 2, 3, 8, 1_024] {
        let definition = definition(schema.clone(), &[1], partitions);
        let found: BTreeMap<_, Vec<_>> = split(&definition, &batch, 0)
            .into_iter()
            .map(|(number, rows)| {
                (number, rows.column(0).as_primitive::<Int64Type>().values().to_vec())
            })
            .collect();
        assert_eq!(found, slow_split(&batch, partitions), "{partitions} partitions");
    }
}

#[test]
fn without_a_key_a_batch_stays_together() {
    let batch = keyed_rows(10);
    let schema = schema([("id", ColumnType::BigInt), ("user", ColumnType::Text)]);
    let definition = definition(schema, &[], 3);
    for (turn, expected) in [(0, 0), (1, 1), (2, 2), (3, 0), (u32::MAX, 0)] {
        let parts = split(&definition, &batch, turn);
        assert_eq!(parts, [(PartitionNumber(expected), batch.clone())]);
        let shares = |place: usize| {
            let data = |batch: &RecordBatch| batch.column(place).to_data().buffers()[0].as_ptr();
            data(&parts[0].1) == data(&batch)
        };
        assert!(shares(0) && shares(1), "nothing is copied");
    }
    assert!(split(&definition, &batch.slice(0, 0), 0).is_empty());
}

#[test]
fn every_type_can_be_a_key() {
    let batch = rows_of_every_type();
    for place in 0..batch.num_columns() {
        let definition = definition(every_type(), &[place, 7], 64);
        let parts = split(&definition, &batch, 0);
        let mut rows: Vec<_> = parts.iter().flat_map(|(_, rows)| show(rows)).collect();
        rows.sort();
        let mut expected = show(&batch);
        expected.sort();
        assert_eq!(rows, expected, "column {place}");
    }
}
