//! Bodies of several senders read as one batch.

use std::sync::Arc;

use alluvium_core::schema::{ColumnType, StreamSchema};
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::super::{concat, decode_ipc, decode_ipc_joined, decode_json, decode_json_joined};
use super::{log_of, schema};

fn two_columns() -> StreamSchema {
    schema([("n!", ColumnType::BigInt), ("name", ColumnType::Text)])
}

fn json_joined(bodies: &[&str]) -> Option<(RecordBatch, Vec<usize>)> {
    let bodies: Vec<_> =
        bodies.iter().map(|body| Bytes::copy_from_slice(body.as_bytes())).collect();
    decode_json_joined(&two_columns(), &log_of(&two_columns()), &bodies)
}

fn stream(batches: &[RecordBatch]) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    Bytes::from(bytes)
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let columns = columns.map(|(name, array)| (name.to_owned(), array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Rows `numbers`, with integers of a type that has to be cast.
fn rows(numbers: std::ops::Range<i32>) -> RecordBatch {
    let names: StringArray = numbers.clone().map(|n| Some(format!("name {n}"))).collect();
    batch([("n", Arc::new(Int32Array::from_iter_values(numbers))), ("NAME", Arc::new(names))])
}

#[test]
fn json_reads_as_it_would_alone() {
    let bodies = [
        "{\"n\": 1, \"name\": \"a\"}\n",
        "",
        "{\"name\": null, \"n\": 2}{\"n\": 3}",
        " {\"N\": 4, \"name\": \"é\"}",
    ];
    let (joined, ends) = json_joined(&bodies).expect("good bodies");
    assert_eq!(ends, [1, 1, 3, 4]);
    let (schema, log) = (two_columns(), log_of(&two_columns()));
    let alone = bodies.map(|body| decode_json(&schema, &log, body.as_bytes()).expect("good"));
    assert_eq!(joined, concat(&log, &alone));
}

#[test]
fn json_that_is_only_good_together_is_refused() {
    for halves in [["{\"n\":", "1}"], ["{\"n\": 1", "2}"], ["{\"n\": 1, \"name\": \"a", "b\"}"]] {
        assert!(json_joined(&halves).is_none(), "{halves:?}");
    }
    for bad in ["{\"n\": null}", "{\"m\": 1}", "{\"n\": \"x\"}", "[1]"] {
        assert!(json_joined(&["{\"n\": 1}", bad]).is_none(), "{bad}");
    }
    let not_utf8 = [Bytes::from_static(b"{\"n\": 1, \"name\": \"\xff\"}")];
    assert!(decode_json_joined(&two_columns(), &log_of(&two_columns()), &not_utf8).is_none());
}

#[test]
fn arrow_reads_as_it_would_alone() {
    let (schema, log) = (two_columns(), log_of(&two_columns()));
    let bodies = [stream(&[rows(0..1)]), stream(&[rows(1..3), rows(3..4)]), stream(&[rows(4..5)])];
    let (joined, ends) = decode_ipc_joined(&schema, &log, &bodies).expect("good bodies");
    assert_eq!(ends, [1, 4, 5]);
    let alone = bodies.map(|body| decode_ipc(&schema, &log, body).expect("good"));
    assert_eq!(joined, concat(&log, &alone));
}

#[test]
fn arrow_that_does_not_belong_together_is_left_apart() {
    let (schema, log) = (two_columns(), log_of(&two_columns()));
    let joined = |bodies: &[Bytes]| decode_ipc_joined(&schema, &log, bodies);
    let good = stream(&[rows(0..2)]);
    let other_type = batch([("n", Arc::new(Int64Array::from(vec![1])))]);
    assert!(joined(&[good.clone(), stream(&[other_type])]).is_none(), "another schema");
    let null = batch([
        ("n", Arc::new(Int32Array::from(vec![None]))),
        ("NAME", Arc::new(StringArray::from(vec!["a"]))),
    ]);
    assert!(joined(&[good.clone(), stream(&[null])]).is_none(), "null in a NOT NULL column");
    assert!(joined(&[good.clone(), good.slice(..good.len() / 2)]).is_none(), "cut off");
    assert!(joined(&[Bytes::new()]).is_none(), "no schema");
    let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let words =
        batch([("n", Arc::new(Int32Array::from(vec![1, 2, 3]))), ("name", Arc::new(names))]);
    let words = stream(&[words]);
    assert!(joined(&[words.clone(), words.clone()]).is_none(), "dictionaries");
    assert!(decode_ipc(&schema, &log, words).is_ok());
}
