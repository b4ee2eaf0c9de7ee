//! Prints what each step of the way of a row costs, in nanoseconds a row on one core.
//!
//! The rows are those of an access log, ten columns, about 200 bytes as JSON. Not a benchmark of
//! the node: it shows which step to look at first.

use std::hint::black_box;
use std::time::{Duration, Instant};

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;
use alluvium_core::time::Time;
use alluvium_views::{columns, rows};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

const ROW_COUNT: usize = 1_000;
const ROUNDS: u32 = 300;

#[allow(clippy::print_stdout, reason = "printing is what this program is for")]
fn main() {
    let schema = schema();
    let log = columns::log_schema(&schema);
    let scan = columns::scan_schema(&schema);
    let json = json();
    let keyed = definition(schema.clone(), 8);
    println!("{ROW_COUNT} rows, {} bytes of JSON a row", json.len() / ROW_COUNT);

    let batch = rows::decode_json(&schema, &log, json.as_bytes()).expect("good rows");
    let payload = rows::encode_payload(&batch);
    let ipc = ipc(&batch);
    let segment = columns::with_hidden(&batch, Offset(0), Time(0));
    let halves = [batch.slice(0, ROW_COUNT / 2), batch.slice(ROW_COUNT / 2, ROW_COUNT / 2)];
    println!("{} bytes of payload a row", payload.len() / ROW_COUNT);

    let print = |step: &str, mean: Duration| {
        println!("{step:<32} {:>8.1} ns", mean.as_nanos() as f64 / ROW_COUNT as f64);
    };
    print("decode_json", time(|| rows::decode_json(&schema, &log, json.as_bytes())));
    print("decode_ipc, 10 columns alike", time(|| rows::decode_ipc(&schema, &log, ipc.clone())));
    print("split over 8 partitions", time(|| rows::split(&keyed, &batch, 0)));
    print("split, one partition", time(|| rows::split(&definition(schema.clone(), 1), &batch, 0)));
    print("concat of two", time(|| rows::concat(&log, &halves)));
    print("encode_payload", time(|| rows::encode_payload(&batch)));
    print("decode_payload", time(|| rows::decode_payload(payload.clone(), &log)));
    print("with_hidden", time(|| columns::with_hidden(&batch, Offset(0), Time(0))));
    print("to_scan", time(|| columns::to_scan(&segment, PartitionNumber(0), &scan)));

    // Few rows at a time: what a batch costs beside its rows.
    let one = batch.slice(0, 1);
    let one_payload = rows::encode_payload(&one);
    let print = |step: &str, mean: Duration| println!("{step:<32} {mean:>8.1?} a batch of one row");
    print("encode_payload", time(|| rows::encode_payload(&one)));
    print("decode_payload", time(|| rows::decode_payload(one_payload.clone(), &log)));
    let one_line = json.lines().next().expect("a row").to_owned();
    print("decode_json", time(|| rows::decode_json(&schema, &log, one_line.as_bytes())));
    println!("{} bytes of payload for one row", one_payload.len());
}

/// The shortest of many runs: what the step costs when nothing else runs.
fn time<T>(mut step: impl FnMut() -> T) -> Duration {
    let run = |_| {
        let start = Instant::now();
        black_box(step());
        start.elapsed()
    };
    (0..ROUNDS).map(run).min().expect("at least one round")
}

fn schema() -> StreamSchema {
    let column =
        |name: &str, column_type| Column { name: name.into(), column_type, nullable: true };
    StreamSchema::new(vec![
        column("at", ColumnType::TimestampTz),
        column("client", ColumnType::Text),
        column("user_id", ColumnType::BigInt),
        column("method", ColumnType::Text),
        column("path", ColumnType::Text),
        column("status", ColumnType::SmallInt),
        column("bytes", ColumnType::BigInt),
        column("seconds", ColumnType::Double),
        column("cached", ColumnType::Boolean),
        column("cost", ColumnType::Numeric { precision: 12, scale: 4 }),
    ])
    .expect("a schema")
}

fn definition(schema: StreamSchema, partitions: u32) -> StreamDefinition {
    StreamDefinition {
        name: "access".into(),
        schema,
        partition_by: vec![2],
        event_time: Some(0),
        partitions,
        retention: None,
        replicas: 1,
    }
}

fn json() -> String {
    let row = |row: usize| {
        let (a, b) = (row * 7_919 % 256, row * 104_729 % 100_003);
        format!(
            "{{\"at\":\"2026-11-21T{:02}:{:02}:{:02}.{:06}Z\",\"client\":\"10.1.{a}.{}\",\
             \"user_id\":{b},\"method\":\"GET\",\"path\":\"/products/{}/reviews?page={}\",\
             \"status\":{},\"bytes\":{},\"seconds\":{:.4},\"cached\":{},\"cost\":{}.{:04}}}\n",
            row / 3_600 % 24,
            row / 60 % 60,
            row % 60,
            b * 9,
            row % 250,
            b % 5_000,
            row % 9,
            [200, 200, 200, 304, 404][row % 5],
            b * 13,
            b as f64 / 9_973.0,
            row.is_multiple_of(3),
            b % 7,
            a,
        )
    };
    (0..ROW_COUNT).map(row).collect()
}

fn ipc(batch: &arrow::array::RecordBatch) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).expect("a schema");
    writer.write(batch).expect("rows");
    writer.finish().expect("an end");
    Bytes::from(bytes)
}
