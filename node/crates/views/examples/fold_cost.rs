//! Prints what folding costs: a view of count, sum, min and max, on one core.
//!
//! The events are a key and a value; a checkpoint is encoded every million of them, as one would be
//! every second or two. Nothing is stored. Not a benchmark of the node: it shows what the fold
//! itself leaves room for. The bars are 5 million events a second for a thousand groups and one
//! million a second for a million groups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_core::ids::Offset;
use alluvium_core::view::ViewOptions;
use alluvium_views::aggregate::{Aggregate, AggregateCall, Form};
use alluvium_views::fold::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, KeyRange, Keys, Limits, Merge,
    StoredError, StoredGroups, ViewState, Visit,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

const BATCH_ROWS: usize = 8_192;
const CHECKPOINT_ROWS: usize = 1 << 20;
const ROUNDS: usize = 6;

#[allow(clippy::print_stdout, reason = "printing is what this program is for")]
fn main() {
    println!("groups    key     fold ns/row  checkpoint ns/row  events/s     read ms");
    for groups in [1_000, 1_000_000] {
        for text in [false, true] {
            let cost = measure(groups, text);
            let row = |part: Duration| part.as_nanos() as f64 / CHECKPOINT_ROWS as f64;
            println!(
                "{groups:<9} {:<7} {:>11.1} {:>18.1} {:>9.2} M {:>11.1}",
                if text { "text" } else { "bigint" },
                row(cost.fold),
                row(cost.checkpoint),
                1e3 / (row(cost.fold) + row(cost.checkpoint)),
                cost.read.as_secs_f64() * 1e3,
            );
        }
    }
}

struct Cost {
    fold: Duration,
    checkpoint: Duration,
    read: Duration,
}

/// The best of some rounds, once all groups are there.
fn measure(groups: u64, text: bool) -> Cost {
    let definition = definition(text);
    let limits = Limits { resident_bytes_max: 1 << 30 };
    let mut state =
        ViewState::open(Arc::clone(&definition), Offset(0), None, limits).expect("a definition");
    let batches: Vec<RecordBatch> =
        (0..CHECKPOINT_ROWS / BATCH_ROWS).map(|number| batch(number, groups, text)).collect();
    let mut best = Cost { fold: Duration::MAX, checkpoint: Duration::MAX, read: Duration::MAX };
    for round in 0..ROUNDS {
        let began = Instant::now();
        for rows in &batches {
            state.fold(state.progress().next, rows, &Nothing).expect("good events");
        }
        let folded = Instant::now();
        let checkpoint = state.checkpoint(&Nothing).expect("a whole state");
        let given = Instant::now();
        assert!(!checkpoint.puts.is_empty());
        state.stored();
        if round == 0 {
            continue;
        }
        best.fold = best.fold.min(folded - began);
        best.checkpoint = best.checkpoint.min(given - folded);
        let began = Instant::now();
        let mut merge = Merge::disjoint(Arc::clone(&definition)).expect("a definition");
        state.read(&Keys::All, &Nothing, &mut merge).expect("a whole state");
        let rows: usize =
            merge.finish().expect("sums in range").iter().map(RecordBatch::num_rows).sum();
        best.read = best.read.min(began.elapsed());
        assert_eq!(rows as u64, state.progress().groups);
    }
    best
}

/// Nothing is put out of memory, so nothing is asked for.
struct Nothing;

impl StoredGroups for Nothing {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError> {
        Ok(vec![None; keys.len()])
    }

    fn scan(&self, _range: &KeyRange, _visit: &mut Visit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Column(usize);

impl Evaluate for Column {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(Arc::clone(rows.column(self.0)))
    }
}

fn definition(text: bool) -> Arc<Definition> {
    let value: Arc<dyn Evaluate> = Arc::new(Column(1));
    let aggregate = |aggregate: Aggregate| {
        let is_count = aggregate == Aggregate::Count;
        let arguments = if is_count { Vec::new() } else { vec![DataType::Int64] };
        AggregateColumn {
            name: format!("{aggregate:?}"),
            nullable: !is_count,
            call: AggregateCall {
                aggregate,
                distinct: false,
                arguments,
                input: Form::Values,
                output: Form::Values,
                output_type: DataType::Int64,
            },
            arguments: if is_count { Vec::new() } else { vec![Arc::clone(&value)] },
            filter: None,
        }
    };
    let schema = schema(text);
    let key = GroupBy {
        name: "key".into(),
        data_type: schema.field(0).data_type().clone(),
        nullable: false,
        expression: Arc::new(Column(0)),
    };
    let aggregates = [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
    Arc::new(Definition {
        input: schema,
        filter: None,
        groups: vec![key],
        aggregates: aggregates.map(aggregate).into(),
        window: None,
        event_time: None,
        options: ViewOptions::default(),
        fingerprint: 1,
    })
}

fn schema(text: bool) -> SchemaRef {
    let key = if text { DataType::Utf8View } else { DataType::Int64 };
    Arc::new(Schema::new(vec![
        Field::new("key", key, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

/// Keys spread evenly over the groups.
fn batch(number: usize, groups: u64, text: bool) -> RecordBatch {
    let rows = (number * BATCH_ROWS..(number + 1) * BATCH_ROWS).map(|row| {
        let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 29)
    });
    let keys = rows.clone().map(|row| (row % groups).cast_signed());
    let keys: ArrayRef = if text {
        Arc::new(keys.map(|key| Some(format!("customer {key}"))).collect::<StringViewArray>())
    } else {
        Arc::new(keys.collect::<Int64Array>())
    };
    let values = Arc::new(rows.map(|row| (row >> 40).cast_signed()).collect::<Int64Array>());
    RecordBatch::try_new(schema(text), vec![keys, values]).expect("columns as declared")
}
