//! What must hold for all rows and all bytes. A failure prints the smallest input found.

use alluvium_core::ids::PartitionNumber;
use alluvium_core::routing::KeyBytes;
use alluvium_core::schema::{ColumnType, StreamSchema};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};

use super::super::{
    BATCH_EVENTS_MAX, concat, decode_ipc, decode_json, decode_payload, encode_payload, keep, split,
};
use super::{definition, every_type, json, log_of, rows_of_every_type, schema, to_json};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() }
}

fn small() -> StreamSchema {
    schema([
        ("id", ColumnType::BigInt),
        ("n", ColumnType::Integer),
        ("t", ColumnType::Text),
        ("x", ColumnType::Double),
    ])
}

type Row = (i64, Option<i32>, Option<String>, Option<f64>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let finite = any::<f64>().prop_filter("JSON has no NaN", |value| value.is_finite());
    let row = (any::<i64>(), option::of(0..5_i32), option::of("\\PC{0,9}"), option::of(finite));
    vec(row, 1..40)
}

fn batch_of(rows: &[Row]) -> RecordBatch {
    use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
    use std::sync::Arc;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref()))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3))),
    ];
    RecordBatch::try_new(log_of(&small()), columns).expect("columns of the log")
}

fn ipc(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Decodes bytes from anyone in every way there is.
fn decode_all(bytes: &[u8]) {
    let schema = every_type();
    let log = log_of(&schema);
    let from_json = decode_json(&schema, &log, bytes);
    let from_ipc = decode_ipc(&schema, &log, Bytes::copy_from_slice(bytes));
    for batch in from_json.into_iter().chain(from_ipc) {
        assert_eq!(batch.schema(), log);
        assert!(batch.num_rows() <= BATCH_EVENTS_MAX);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn json_reads_what_it_writes(rows in rows()) {
        let batch = batch_of(&rows);
        assert_eq!(json(&small(), &to_json(&batch)).unwrap(), batch);
    }

    #[test]
    fn ipc_reads_what_it_writes(rows in rows()) {
        let batch = batch_of(&rows);
        let found = decode_ipc(&small(), &log_of(&small()), Bytes::from(ipc(&batch)));
        assert_eq!(found.unwrap(), batch);
        assert_eq!(decode_payload(encode_payload(&batch), &log_of(&small())).unwrap(), batch);
    }

    #[test]
    fn split_is_what_each_row_says(rows in rows(), partitions in 1..20_u32) {
        let batch = batch_of(&rows);
        let parts = split(&definition(small(), &[1, 2], partitions), &batch, 0);
        let mut expected = vec![Vec::new(); partitions as usize];
        for row in 0..batch.num_rows() {
            let mut key = KeyBytes::new();
            let (numbers, texts) = (batch.column(1), batch.column(2));
            if numbers.is_null(row) {
                key.push_null();
            } else {
                key.push_i64(i64::from(numbers.as_primitive::<Int32Type>().value(row)));
            }
            if texts.is_null(row) {
                key.push_null();
            } else {
                key.push_text(texts.as_string::<i32>().value(row));
            }
            expected[key.partition(partitions).0 as usize].push(row as u32..row as u32 + 1);
        }
        let expected: Vec<_> = (0..)
            .map(PartitionNumber)
            .zip(&expected)
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(number, rows)| (number, keep(&batch, rows)))
            .collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn kept_rows_are_those_named(rows in rows(), lengths in vec(0..4_u32, 1..20)) {
        let batch = batch_of(&rows);
        let mut ranges = Vec::new();
        let mut expected = Vec::new();
        let mut at = 0;
        for pair in lengths.chunks(2) {
            let start = at + pair[0];
            let end = start + pair.get(1).copied().unwrap_or(0) + 1;
            at = end;
            if batch.num_rows() < end as usize {
                break;
            }
            ranges.push(start..end);
            expected.extend((start..end).map(|row| rows[row as usize].0));
        }
        let kept = keep(&batch, &ranges);
        assert_eq!(kept.column(0).as_primitive::<Int64Type>().values().to_vec(), expected);
        let half = rows.len() / 2;
        let halves = [batch.slice(0, half), batch.slice(half, rows.len() - half)];
        assert_eq!(concat(&log_of(&small()), &halves), batch);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
    }

    #[test]
    fn arbitrary_json_never_panics(
        text in "[\\[\\]{}:,\" 0-9a-f.eE+\\-\\\\untrls]{0,80}",
        name in 0..18_usize,
    ) {
        decode_all(text.as_bytes());
        let schema = every_type();
        let column = &schema.columns()[name].name;
        decode_all(format!("{{\"{column}\": {text}}}").as_bytes());
    }

    #[test]
    fn damaged_streams_never_panic(places in vec((any::<u32>(), any::<u8>()), 1..6)) {
        let mut bytes = ipc(&rows_of_every_type());
        for (at, byte) in places {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        decode_all(&bytes);
    }
}
