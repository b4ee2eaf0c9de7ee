//! Random views over random events: what was folded as the events came, in whatever pieces, is what
//! a replay folds, byte for byte, and what the query answers over the events.
//!
//! `ALLUVIUM_SEED` runs one case again, `ALLUVIUM_CASES` says how many there are.

use std::sync::Arc;

use alluvium_query::host::Host;
use alluvium_query::testing::FoldSettings;
use alluvium_views::columns;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, make_comparator,
};
use arrow::compute::{SortOptions, cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type};

use crate::world::World;

const CASES: u64 = 1_000;
/// Cases that share one engine: making one takes longer than a case.
const CASES_PER_WORLD: u64 = 50;

/// A generator of numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

/// Some of a list, in its order, each at most once.
fn some<'a>(random: &mut Random, list: &[&'a str], count: u64) -> Vec<&'a str> {
    let mut chosen: Vec<&str> = Vec::new();
    for _ in 0..count {
        let next = random.pick(list);
        if !chosen.contains(&next) {
            chosen.push(next);
        }
    }
    chosen
}

const PLAIN_GROUPS: [&str; 6] =
    ["shop", "item", "amount % 3", "upper(item)", "coalesce(item, '?') || shop", "price"];
const WINDOWS: [&str; 6] = [
    "date_bin(INTERVAL '1 hour', at)",
    "tumble(at, INTERVAL '10 minutes')",
    "date_trunc('hour', at)",
    "hop(at, INTERVAL '5 minutes', INTERVAL '15 minutes')",
    "hop(at, INTERVAL '10 minutes', INTERVAL '15 minutes')",
    "session(at, INTERVAL '3 minutes')",
];
const AGGREGATES: [&str; 40] = [
    "count(*)",
    "count(item)",
    "sum(amount)",
    "sum(price)",
    "sum(weight)",
    "avg(amount)",
    "avg(weight)",
    "avg(price)",
    "min(amount)",
    "max(item)",
    "min(price)",
    "max(at)",
    "min(weight)",
    "count(DISTINCT item)",
    "count(DISTINCT amount)",
    "sum(amount) FILTER (WHERE amount > 3)",
    "count(*) FILTER (WHERE item IS NULL)",
    "stddev(amount)",
    "var_pop(amount)",
    "bool_and(amount > 1)",
    "bool_or(amount > 7)",
    "bit_xor(amount)",
    "first_value(item ORDER BY at, id)",
    "last_value(amount ORDER BY at, id)",
    "approx_distinct(item)",
    "approx_distinct(DISTINCT amount)",
    "approx_median(weight)",
    "approx_percentile_cont(price, 0.9)",
    "top_k(item, 2)",
    "histogram(weight, 5, 20)",
    "arg_max(item, id)",
    "arg_min(weight, id)",
    "stddev_pop(weight)",
    "covar_samp(amount, id)",
    "covar_pop(weight, price)",
    "corr(amount, id)",
    "regr_slope(weight, price)",
    "regr_r2(amount, weight)",
    "regr_count(amount, weight)",
    "regr_sxy(weight, weight)",
];
const FILTERS: [&str; 5] =
    ["amount > 2", "item IS NOT NULL", "weight < 30", "shop <> 's1'", "amount % 2 = 0"];

fn view(random: &mut Random) -> String {
    let mut groups: Vec<&str> = Vec::new();
    if random.chance(2) {
        groups.push(random.pick(&WINDOWS));
    }
    let count = random.below(3);
    groups.extend(some(random, &PLAIN_GROUPS, count));
    let count = 1 + random.below(4);
    let aggregates = some(random, &AGGREGATES, count);
    let columns: Vec<String> = groups
        .iter()
        .enumerate()
        .map(|(place, group)| format!("{group} AS g{place}"))
        .chain(aggregates.iter().enumerate().map(|(place, call)| format!("{call} AS a{place}")))
        .collect();
    let mut query = format!("SELECT {} FROM sales", columns.join(", "));
    if random.chance(3) {
        query.push_str(&format!(" WHERE {}", random.pick(&FILTERS)));
    }
    if !groups.is_empty() {
        query.push_str(&format!(" GROUP BY {}", groups.join(", ")));
    }
    if random.chance(5) {
        query.push_str(" HAVING count(*) > 1");
    }
    query
}

fn settings(random: &mut Random) -> FoldSettings {
    FoldSettings {
        rows_max: usize::try_from(1 + random.below(20)).unwrap(),
        checkpoint_every: usize::try_from(1 + random.below(40)).unwrap(),
        reopens: random.chance(2),
        resident_bytes_max: if random.chance(2) { 0 } else { 1 << 20 },
    }
}

/// Events about two hours, in no order. `weight` is in tenths, which doubles round.
fn events(random: &mut Random, first: i64, count: u64) -> RecordBatch {
    let mut texts = |names: &[&str], nulls: bool| -> ArrayRef {
        let values = (0..count).map(|_| {
            let name = random.pick(names);
            if nulls && random.chance(6) { None } else { Some(name) }
        });
        Arc::new(values.collect::<StringArray>())
    };
    let shop = texts(&["s0", "s1", "s2"], false);
    let item = texts(&["i0", "i1", "i2", "i3", "größe"], true);
    let mut numbers = |end: u64| -> Vec<i64> {
        (0..count).map(|_| i64::try_from(random.below(end)).unwrap()).collect()
    };
    let amount = Int64Array::from(numbers(10));
    let price = Float64Array::from_iter_values(numbers(400).into_iter().map(|n| n as f64 / 4.0));
    let weight = Float64Array::from_iter_values(numbers(500).into_iter().map(|n| n as f64 * 0.1));
    let at = numbers(7_200).into_iter().map(|second| 1_767_225_600_000_000 + second * 1_000_000);
    let at = TimestampMicrosecondArray::from_iter_values(at);
    let id = Int64Array::from_iter_values(first..first + i64::try_from(count).unwrap());
    let arrays: [(&str, ArrayRef); 7] = [
        ("id", Arc::new(id)),
        ("shop", shop),
        ("item", item),
        ("amount", Arc::new(amount)),
        ("price", Arc::new(price)),
        ("weight", Arc::new(weight)),
        ("at", Arc::new(at)),
    ];
    RecordBatch::try_from_iter(arrays).unwrap()
}

async fn append(world: &World, batch: &RecordBatch) {
    let stream = Arc::clone(&world.host.catalogue()["sales"]);
    let log = columns::log_schema(&stream.definition.schema);
    let arrays = batch.columns().iter().zip(log.fields());
    let arrays = arrays.map(|(array, field)| cast(array, field.data_type()).unwrap()).collect();
    let rows = RecordBatch::try_new(log, arrays).unwrap();
    world.host.append_rows("sales", &rows).unwrap();
}

async fn ask(world: &World, sql: &str) -> RecordBatch {
    let answer = world.run(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let schema = Arc::clone(&answer.schema);
    let batches = answer.collect().await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    concat_batches(&schema, &batches).unwrap()
}

/// Panics where two answers are not the same: doubles to twelve digits, everything else exactly.
fn assert_same(left: &RecordBatch, right: &RecordBatch, context: &str) {
    assert_eq!(left.num_rows(), right.num_rows(), "{context}\n{left:?}\n{right:?}");
    for column in 0..left.num_columns() {
        let (a, b) = (left.column(column), right.column(column));
        // Beside a DISTINCT, a query adds sums of decimals up in two steps, each ten digits wider.
        let b = &match (a.data_type(), b.data_type()) {
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, other)) if scale == other => {
                arrow::compute::cast(b, a.data_type()).unwrap()
            }
            _ => b.clone(),
        };
        assert_eq!(a.data_type(), b.data_type(), "{context}: column {column}");
        for row in 0..left.num_rows() {
            let is_same =
                if a.data_type() == &DataType::Float64 && a.is_valid(row) && b.is_valid(row) {
                    let x = a.as_primitive::<Float64Type>().value(row);
                    let y = b.as_primitive::<Float64Type>().value(row);
                    let size = x.abs().max(y.abs());
                    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-12 * size
                } else {
                    make_comparator(a, b, SortOptions::default()).unwrap()(row, row).is_eq()
                };
            assert!(is_same, "{context}: row {row}, column {column}\n{left:?}\n{right:?}");
        }
    }
}

/// The state's digest of each partition; panics unless the audit finds it equal to the events.
async fn audit(world: &World, context: &str) -> Vec<String> {
    let text = world.rows("AUDIT VIEW v").await;
    let digests = text.lines().map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[5], "equal", "{context}\n{text}");
        cells[4].to_string()
    });
    digests.collect()
}

async fn run_case(world: &World, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let query = view(&mut random);
    let context = format!("ALLUVIUM_SEED={seed}: {query}");
    let partitions = 1 + random.below(3);
    world
        .csv(&format!(
            "CREATE STREAM sales (id BIGINT NOT NULL, shop TEXT NOT NULL, item TEXT, amount \
             BIGINT, price NUMERIC(10, 2), weight DOUBLE PRECISION, at TIMESTAMP) {} WITH \
             (event_time = at, partitions = {partitions})",
            random.pick(&["", "PARTITION BY (shop)", "PARTITION BY (item)"])
        ))
        .await;
    let steps = 2 + random.below(5);
    let created_at = random.below(steps);
    let mut first = 0;
    for step in 0..steps {
        world.host.fold_as(settings(&mut random));
        if step == created_at {
            let create = format!("CREATE MATERIALIZED VIEW v AS {query}");
            world.run(&create).await.unwrap_or_else(|error| panic!("{context}\n{error}"));
        }
        let count = random.below(25);
        append(world, &events(&mut random, first, count)).await;
        first += i64::try_from(count).unwrap();
        if random.chance(3) {
            world.host.seal("sales").unwrap();
        }
        if created_at < step && random.chance(3) {
            ask(world, "SELECT * FROM v").await;
            world.host.reopen_views().unwrap();
        }
    }
    let order: Vec<String> =
        (1..=query.matches(" AS ").count()).map(|place| place.to_string()).collect();
    let order = order.join(", ");
    let live = ask(world, &format!("SELECT * FROM v ORDER BY {order}")).await;
    let asked = ask(world, &format!("{query} ORDER BY {order}")).await;
    let aside = world.rows("SELECT * FROM system.quarantine LIMIT 1").await;
    assert_eq!(aside, "", "{context}");
    assert_same(&live, &asked, &context);
    let digests = audit(world, &context).await;
    world.host.fold_as(settings(&mut random));
    world.csv("REBUILD VIEW v").await;
    assert_eq!(audit(world, &context).await, digests, "replayed: {context}");
    world.csv("DROP MATERIALIZED VIEW v").await;
    world.csv("DROP STREAM sales").await;
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the run says how many cases it had")]
async fn live_replayed_and_asked_are_the_same() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ALLUVIUM_SEED") {
        run_case(&World::new(), seed).await;
        return;
    }
    let cases = number("ALLUVIUM_CASES").unwrap_or(CASES);
    for first in (0..cases).step_by(usize::try_from(CASES_PER_WORLD).unwrap()) {
        let world = World::new();
        for seed in first..cases.min(first + CASES_PER_WORLD) {
            run_case(&world, seed).await;
        }
    }
    println!("{cases} cases, seeds 0 to {}", cases.saturating_sub(1));
}
