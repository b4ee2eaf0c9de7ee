//! Groups by their keys.

use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber, StreamId};
use alluvium_core::stream::Frontier;
use alluvium_query::host::Freshness;
use alluvium_query::wire::{decode_batches, encode_batch};
use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use tonic::Code;

use super::FakeDoor;
use crate::grpc::status::door_status;
use crate::grpc::view::{Lookup, Wait, WrittenKeys, lookup};

fn asked(keys: &str) -> Lookup {
    Lookup {
        view: "sums".into(),
        keys: WrittenKeys::Json(Bytes::copy_from_slice(keys.as_bytes())),
        limit: None,
        columns: Vec::new(),
        wait: Wait::For(Freshness::Linearizable),
        json_rows: true,
    }
}

/// The rows of an answer as JSON, in an order of their own.
async fn found(door: &FakeDoor, asked: Lookup) -> Vec<String> {
    let found = lookup(door, &asked).await.unwrap();
    let mut lines: Vec<_> =
        std::str::from_utf8(&found.rows).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

async fn refused(door: &FakeDoor, asked: Lookup) -> (Code, String) {
    let status = door_status(lookup(door, &asked).await.unwrap_err());
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn whole_keys_find_their_groups_over_all_partitions() {
    let door = FakeDoor::filled();
    let one = found(&door, asked(r#"{"floor": 1, "city": "Berlin"}"#)).await;
    assert_eq!(one, [r#"{"city":"Berlin","floor":1,"n":2,"total":15}"#]);
    // Twice the same, one that is not there, one that the view leaves out, and nulls.
    let keys = r#"{"city":"Berlin","floor":2} {"city":"Berlin","floor":2} {"city":"X","floor":1}
        {"city":"Rome","floor":1} {"city":null,"floor":null}"#;
    let many = found(&door, asked(keys)).await;
    let berlin = r#"{"city":"Berlin","floor":2,"n":1,"total":6}"#;
    assert_eq!(many, [berlin, r#"{"city":null,"floor":null,"n":1,"total":7}"#]);
    let answer = lookup(&door, &asked(keys)).await.unwrap();
    let ends = [(PartitionNumber(0), Offset(3)), (PartitionNumber(1), Offset(3))];
    assert_eq!(answer.frontier, ("events".into(), Frontier(ends.into_iter().collect())));
}

#[tokio::test]
async fn the_first_values_find_all_groups_that_begin_so() {
    let door = FakeDoor::filled();
    let berlin = |limit| Lookup { limit: Some(limit), ..asked(r#"{"city":"Berlin"}"#) };
    assert_eq!(found(&door, berlin(10)).await.len(), 3);
    assert_eq!(found(&door, berlin(2)).await.len(), 2);
    let all = Lookup { limit: Some(10), ..asked("{}") };
    assert_eq!(found(&door, all).await.len(), 4);
    let (code, reason) = refused(&door, asked(r#"{"city":"Berlin"}"#)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(reason.contains("set a limit"), "{reason}");
}

#[tokio::test]
async fn columns_are_chosen_and_rows_are_arrow_too() {
    let door = FakeDoor::filled();
    let columns = vec!["total".to_owned(), "city".to_owned()];
    let key = r#"{"city":"Berlin","floor":1}"#;
    let chosen = found(&door, Lookup { columns: columns.clone(), ..asked(key) }).await;
    assert_eq!(chosen, [r#"{"total":15,"city":"Berlin"}"#]);
    let arrow = Lookup { columns, json_rows: false, ..asked(key) };
    let (_, batches) = decode_batches(lookup(&door, &arrow).await.unwrap().rows).unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 15);
    // An answer without rows still says its columns.
    let none = Lookup { json_rows: false, ..asked(r#"{"city":"X","floor":1}"#) };
    let (schema, _) = decode_batches(lookup(&door, &none).await.unwrap().rows).unwrap();
    assert_eq!(schema.fields().len(), 4);
}

#[tokio::test]
async fn keys_may_be_arrow_of_any_fitting_type() {
    let door = FakeDoor::filled();
    let floors: ArrayRef = Arc::new(Int32Array::from(vec![Some(2), None]));
    let cities: ArrayRef = Arc::new(StringArray::from(vec!["Berlin", "Berlin"]));
    let keys = RecordBatch::try_from_iter_with_nullable([
        ("floor", floors.clone(), true),
        ("city", cities.clone(), true),
    ]);
    let arrow = |batch: &RecordBatch| Lookup {
        keys: WrittenKeys::ArrowIpc(encode_batch(batch)),
        ..asked("")
    };
    let keys = keys.unwrap();
    let rows = found(&door, arrow(&keys)).await;
    let without = r#"{"city":"Berlin","floor":null,"n":1,"total":1}"#;
    assert_eq!(rows, [r#"{"city":"Berlin","floor":2,"n":1,"total":6}"#, without]);
    // The first column alone is a beginning, though the other may be null.
    let beginning = keys.project(&[1]).unwrap().slice(0, 1);
    let rows = found(&door, Lookup { limit: Some(9), ..arrow(&beginning) }).await;
    assert_eq!(rows.len(), 3);
    let swapped = RecordBatch::try_from_iter([("city", floors), ("floor", cities)]).unwrap();
    assert_eq!(refused(&door, arrow(&swapped)).await.0, Code::InvalidArgument);
    let garbage = Lookup { keys: WrittenKeys::ArrowIpc(Bytes::from_static(b"rows")), ..asked("") };
    assert_eq!(refused(&door, garbage).await.0, Code::InvalidArgument);
}

#[tokio::test]
async fn bad_lookups_are_told_what_is_wrong() {
    let door = FakeDoor::filled();
    let cases = [
        ("", "no key is given; \"sums\" is looked up by (city, floor)"),
        (r#"{"floor":1}"#, "looked up by (city, floor), or the first of these; floor is given"),
        (r#"{"city":"a","flor":1}"#, "city, flor is given"),
        (r#"{"city":"a","floor":1,"n":1}"#, "city, floor, n is given"),
        (r#"{"city":"a","floor":1} {"city":"b"}"#, "key 1 has other columns"),
        (r#"{"city":"a"} {"city":"b"}"#, "only whole keys can be looked up several at a time"),
        (r#"{"city":"a","floor":"up"}"#, "column \"floor\""),
        (r#"{"city":7,"floor":1}"#, "column \"city\""),
        (r#"{"city":"a","#, "key 0:"),
        ("[1]", "key 0:"),
    ];
    for (keys, expected) in cases {
        let (code, reason) = refused(&door, asked(keys)).await;
        assert_eq!(code, Code::InvalidArgument, "{keys}");
        assert!(reason.contains(expected), "{keys}: {reason}");
    }
    let many = r#"{"city":"a","floor":1}"#.repeat(10_001);
    assert!(refused(&door, asked(&many)).await.1.contains("more than one call may have (10000)"));
    let key = || asked(r#"{"city":"a","floor":1}"#);
    let (code, reason) = refused(&door, Lookup { view: "sum".into(), ..key() }).await;
    assert_eq!((code, reason.as_str()), (Code::NotFound, "view \"sum\" does not exist"));
    let (code, reason) = refused(&door, Lookup { columns: vec!["x".into()], ..key() }).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(reason.contains("no column \"x\"; it has city, floor, n, total"), "{reason}");
    let (code, _) = refused(&door, Lookup { limit: Some(100_001), ..key() }).await;
    assert_eq!(code, Code::InvalidArgument);
    let least = Wait::For(Freshness::AtLeast(vec![(
        StreamId(1),
        Frontier([(PartitionNumber(0), Offset(9))].into()),
    )]));
    let (code, _) = refused(&door, Lookup { wait: least, ..key() }).await;
    assert_eq!(code, Code::Unavailable);
}
