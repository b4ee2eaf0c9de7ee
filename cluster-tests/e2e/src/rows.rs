//! The audited events: every value of every row follows from producer, sequence and place, so that
//! a batch can be made again for a retry and a stored row can be proven intact by SQL alone.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// `CREATE STREAM` of the audited events.
pub fn create_stream(name: &str, partitions: u32) -> String {
    format!(
        "CREATE STREAM {name} (producer BIGINT NOT NULL, sequence BIGINT NOT NULL, \
         place BIGINT NOT NULL, customer BIGINT NOT NULL, note TEXT NOT NULL) \
         PARTITION BY (customer) WITH (partitions = {partitions})"
    )
}

/// SQL that counts the rows of `name` whose values do not belong together.
pub fn damaged_rows(name: &str) -> String {
    format!(
        "SELECT count(*) FROM {name} WHERE note <> concat('batch ', CAST(producer AS VARCHAR), \
         '/', CAST(sequence AS VARCHAR), ' place ', CAST(place AS VARCHAR), \
         ' of customer ', CAST(customer AS VARCHAR))"
    )
}

/// How many rows the batch has: mostly few, one in twenty has many, so that batches of all sizes
/// meet in one fsync.
pub fn batch_rows(producer: u32, sequence: u64) -> u32 {
    let chance = mix(u64::from(producer), sequence, u64::MAX);
    let most = if chance.is_multiple_of(20) { 2_000 } else { 60 };
    1 + u32::try_from((chance >> 32) % most).expect("below 2,000")
}

/// The batch that this producer sends with this sequence, the same at every call.
pub fn batch(producer: u32, sequence: u64) -> RecordBatch {
    let rows = batch_rows(producer, sequence);
    let customers: Vec<i64> = (0..rows).map(|place| customer(producer, sequence, place)).collect();
    let notes = (0..).zip(&customers).map(|(place, customer): (u32, _)| {
        format!("batch {producer}/{sequence} place {place} of customer {customer}")
    });
    let notes = StringArray::from_iter_values(notes);
    let sequence = i64::try_from(sequence).expect("tests send fewer than 2^63 batches");
    let count = customers.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_value(i64::from(producer), count)),
        Arc::new(Int64Array::from_value(sequence, count)),
        Arc::new(Int64Array::from_iter_values((0..rows).map(i64::from))),
        Arc::new(Int64Array::from(customers)),
        Arc::new(notes),
    ];
    RecordBatch::try_new(SCHEMA.clone(), columns).expect("columns fit the schema")
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let number = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        number("producer"),
        number("sequence"),
        number("place"),
        number("customer"),
        Field::new("note", DataType::Utf8, false),
    ]))
});

/// Customers are few enough that each partition sees most batches, and many enough that small
/// batches leave some partitions without a row.
fn customer(producer: u32, sequence: u64, place: u32) -> i64 {
    let chance = mix(u64::from(producer), sequence, u64::from(place));
    i64::try_from(chance % 1_000).expect("below 1,000")
}

/// Spreads three numbers over 64 bits (the finaliser of SplitMix64).
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for part in [b, c] {
        x = (x ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}
