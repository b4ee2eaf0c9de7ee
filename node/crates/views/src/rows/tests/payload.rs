//! The form of rows in the log, and pieces of batches.

use alluvium_core::schema::ColumnType;
use bytes::{BufMut as _, Bytes, BytesMut};

use super::super::{concat, decode_payload, encode_payload, keep};
use super::{every_type, json, log_of, rows_of_every_type, schema, show};

#[test]
fn a_payload_holds_the_rows() {
    let batch = rows_of_every_type();
    let log = log_of(&every_type());
    let payload = encode_payload(&batch);
    assert_eq!(decode_payload(payload, &log).expect("its own payload"), batch);

    let slice = batch.slice(1, 2);
    let payload = encode_payload(&slice);
    assert_eq!(decode_payload(payload, &log).expect("its own payload"), slice);

    assert!(encode_payload(&batch.slice(0, 0)).is_empty());
    assert_eq!(decode_payload(Bytes::new(), &log).expect("no rows").num_rows(), 0);
}

#[test]
fn decoding_shares_aligned_bytes() {
    let schema = schema([("a", ColumnType::BigInt)]);
    let rows: String = (0..1_000).map(|row| format!("{{\"a\":{row}}}")).collect();
    let payload = encode_payload(&json(&schema, &rows).expect("good rows"));
    let batch = decode_payload(payload.clone(), &log_of(&schema)).expect("its own payload");
    let values = batch.column(0).to_data().buffers()[0].as_ptr() as usize;
    let bytes = payload.as_ptr() as usize;
    assert!((bytes..bytes + payload.len()).contains(&values), "the column lies in the payload");
    assert_eq!((values - bytes) % 16, 0, "and is aligned in it");
}

#[test]
fn a_damaged_payload_is_an_error() {
    let log = log_of(&every_type());
    let payload = encode_payload(&rows_of_every_type());
    for cut in [1, 7, 100, payload.len() / 2] {
        assert!(decode_payload(payload.slice(..cut), &log).is_err(), "cut at {cut}");
    }
    let other = log_of(&schema([("a", ColumnType::BigInt)]));
    let error = decode_payload(payload.clone(), &other).expect_err("another schema");
    assert_eq!(error.to_string(), "corrupt payload: rows of another schema");

    // Bytes that are not aligned are copied, not refused.
    let mut moved = BytesMut::new();
    moved.put_u8(0);
    moved.put_slice(&payload);
    let moved = moved.freeze().slice(1..);
    assert_eq!(decode_payload(moved, &log).expect("its own payload"), rows_of_every_type());
}

#[test]
fn pieces() {
    let schema = schema([("a", ColumnType::Integer), ("b", ColumnType::Text)]);
    let log = log_of(&schema);
    let rows: String = (0..6).map(|row| format!("{{\"a\":{row},\"b\":\"t{row}\"}}")).collect();
    let batch = json(&schema, &rows).expect("good rows");
    let numbers = |batch| show(&batch).join(",").replace(" | ", ":");

    assert_eq!(numbers(keep(&batch, &[1..3, 5..6])), "1:t1,2:t2,5:t5");
    assert_eq!(numbers(keep(&batch, std::slice::from_ref(&(2..4)))), "2:t2,3:t3");
    assert_eq!(keep(&batch, std::slice::from_ref(&(0..6))), batch);
    assert_eq!(keep(&batch, &[]).num_rows(), 0);

    let halves = [batch.slice(0, 2), batch.slice(2, 4)];
    assert_eq!(concat(&log, &halves), batch);
    assert_eq!(concat(&log, &[]).num_rows(), 0);
}
