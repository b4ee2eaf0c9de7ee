//! The benchmarks' events: an access log of one day, ten columns, about 100 bytes as CSV.
//!
//! Skewed hosts, users and addresses, 1 % of the rows late by up to ten minutes, log-normal
//! latencies and sizes. Block `n` is the same at every call and on every machine with the same
//! total, so that peers can be given the same rows.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int16Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Rows of one block: also the batch that the ingest benchmark sends.
pub const BLOCK_ROWS: usize = 10_000;

/// `CREATE STREAM` columns, in order.
pub const COLUMNS: &str = "ts TIMESTAMP, host TEXT, service TEXT, region TEXT, method TEXT, \
     status SMALLINT, url TEXT, user_id BIGINT, latency_ms DOUBLE PRECISION, bytes BIGINT";

const SEED: u64 = 20_261_121;
/// 2026-11-01T00:00:00Z.
const DAY_START_US: i64 = 1_793_491_200_000_000;
const DAY_US: i64 = 86_400_000_000;
const HOSTS: u32 = 2_000;
const SERVICES: u32 = 40;
const URLS: u32 = 20_000;
const USERS: u32 = 1_000_000;
const METHODS: [(f64, &str); 4] = [(0.78, "GET"), (0.94, "POST"), (0.98, "PUT"), (1.0, "DELETE")];
const REGIONS: [&str; 8] = [
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-south-1",
    "westeurope",
    "eastus",
    "onprem-1",
];
const SECTIONS: [&str; 10] = [
    "cart",
    "checkout",
    "product",
    "search",
    "account",
    "api/v1/metrics",
    "api/v1/events",
    "static",
    "review",
    "segment",
];
/// Cumulative share and status.
const STATUSES: [(f64, i16); 13] = [
    (0.800, 200),
    (0.830, 201),
    (0.850, 204),
    (0.860, 301),
    (0.910, 304),
    (0.920, 400),
    (0.930, 401),
    (0.935, 403),
    (0.975, 404),
    (0.980, 429),
    (0.990, 500),
    (0.995, 502),
    (1.000, 503),
];

/// Makes the blocks of a table of `total` rows.
#[derive(Debug)]
pub struct Events {
    total: u64,
    schema: SchemaRef,
    hosts: Vec<String>,
    services: Vec<String>,
    urls: Vec<String>,
}

/// The values of one row that others depend on.
struct Row {
    ts: i64,
    host: u32,
    service: u32,
    url: u32,
    user: i64,
    status: i16,
    method: &'static str,
    latency: f64,
    bytes: i64,
}

impl Events {
    /// A table of `total` rows, spread evenly over the day.
    pub fn new(total: u64) -> Events {
        let section = |url: u32| SECTIONS[url as usize % SECTIONS.len()];
        Events {
            total: total.max(1),
            schema: schema(),
            hosts: (0..HOSTS).map(|host| format!("host-{host:04}")).collect(),
            services: (0..SERVICES).map(|service| format!("svc-{service:02}")).collect(),
            urls: (0..URLS).map(|url| format!("/{}/item-{url:05}", section(url))).collect(),
        }
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u64 {
        self.total.div_ceil(BLOCK_ROWS as u64)
    }

    /// The columns as Arrow has them.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// One block; the last may be short.
    pub fn block(&self, number: u64) -> RecordBatch {
        let first = number * BLOCK_ROWS as u64;
        let after = self.total.min(first + BLOCK_ROWS as u64);
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        rng.set_stream(number);
        let rows: Vec<Row> = (first..after).map(|place| self.row(place, &mut rng)).collect();
        let text = |pick: &dyn Fn(&Row) -> String| {
            Arc::new(StringArray::from_iter_values(rows.iter().map(pick))) as ArrayRef
        };
        let ts = rows.iter().map(|row| row.ts);
        let status = rows.iter().map(|row| row.status);
        let latency = rows.iter().map(|row| row.latency);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(ts)),
            text(&|row| self.hosts[row.host as usize].clone()),
            text(&|row| self.services[row.service as usize].clone()),
            text(&|row| region(row.host).to_owned()),
            text(&|row| row.method.to_owned()),
            Arc::new(Int16Array::from_iter_values(status)),
            text(&|row| self.urls[row.url as usize].clone()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.user))),
            Arc::new(Float64Array::from_iter_values(latency)),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.bytes))),
        ];
        RecordBatch::try_new(self.schema.clone(), columns).expect("columns fit the schema")
    }

    fn row(&self, place: u64, rng: &mut ChaCha8Rng) -> Row {
        let on_time = DAY_START_US + (DAY_US as f64 * place as f64 / self.total as f64) as i64;
        let late = if rng.random_bool(0.01) { rng.random_range(0..600_000_000) } else { 0 };
        let host = skewed(rng, HOSTS, 0.4);
        let service = host * 7 % SERVICES;
        let chance = rng.random::<f64>();
        let (_, status) =
            STATUSES.iter().find(|(share, _)| chance < *share).unwrap_or(&STATUSES[0]);
        let chance = rng.random::<f64>();
        let (_, method) = METHODS.iter().find(|(share, _)| chance < *share).unwrap_or(&METHODS[0]);
        let latency = (2.0 + 0.05 * f64::from(service % 10) + 0.9 * normal(rng)).exp();
        Row {
            ts: (on_time - late).max(DAY_START_US),
            host,
            service,
            url: skewed(rng, URLS, 0.7),
            user: i64::from(skewed(rng, USERS, 0.6)) * 7_919 % i64::from(USERS),
            status: *status,
            method,
            latency: (latency * 1_000.0).round() / 1_000.0,
            bytes: (7.5 + 1.5 * normal(rng)).exp() as i64,
        }
    }
}

/// The dimension table: host, data centre, team, cost per hour.
pub fn hosts() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("host", DataType::Utf8, true),
        Field::new("dc", DataType::Utf8, true),
        Field::new("team", DataType::Utf8, true),
        Field::new("cost_per_hour", DataType::Float64, true),
    ]));
    let text = |pick: &dyn Fn(u32) -> String| {
        Arc::new(StringArray::from_iter_values((0..HOSTS).map(pick))) as ArrayRef
    };
    let cost = (0..HOSTS).map(|host| f64::from(50 + host % 40 * 25) / 1_000.0);
    let columns = vec![
        text(&|host| format!("host-{host:04}")),
        text(&|host| format!("dc-{:02}", host % 12)),
        text(&|host| format!("team-{:02}", host * 11 % 25)),
        Arc::new(Float64Array::from_iter_values(cost)) as ArrayRef,
    ];
    RecordBatch::try_new(schema, columns).expect("columns fit the schema")
}

/// How a row is written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// One JSON object.
    Json,
    /// Comma-separated, without a header.
    Csv,
}

/// The rows of a block as lines, each with its line end.
pub fn lines(block: &RecordBatch, form: TextForm) -> Vec<String> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int16Type, Int64Type, TimestampMicrosecondType};
    let text = |column: usize| block.column(column).as_string::<i32>();
    let ts = block.column(0).as_primitive::<TimestampMicrosecondType>();
    let (host, service, region, method) = (text(1), text(2), text(3), text(4));
    let status = block.column(5).as_primitive::<Int16Type>();
    let url = text(6);
    let user = block.column(7).as_primitive::<Int64Type>();
    let latency = block.column(8).as_primitive::<Float64Type>();
    let bytes = block.column(9).as_primitive::<Int64Type>();
    let line = |row: usize| {
        let ts = timestamp(ts.value(row));
        let (host, service, region) = (host.value(row), service.value(row), region.value(row));
        let (method, status, url) = (method.value(row), status.value(row), url.value(row));
        let (user, latency, bytes) = (user.value(row), latency.value(row), bytes.value(row));
        let mut line = String::with_capacity(256);
        let written = match form {
            TextForm::Json => writeln!(
                line,
                "{{\"ts\":\"{ts}\",\"host\":\"{host}\",\"service\":\"{service}\",\
                 \"region\":\"{region}\",\"method\":\"{method}\",\"status\":{status},\
                 \"url\":\"{url}\",\"user_id\":{user},\"latency_ms\":{latency},\"bytes\":{bytes}}}"
            ),
            TextForm::Csv => writeln!(
                line,
                "{ts},{host},{service},{region},{method},{status},{url},{user},{latency},{bytes}"
            ),
        };
        written.expect("a string takes any text");
        line
    };
    (0..block.num_rows()).map(line).collect()
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("host", DataType::Utf8),
        field("service", DataType::Utf8),
        field("region", DataType::Utf8),
        field("method", DataType::Utf8),
        field("status", DataType::Int16),
        field("url", DataType::Utf8),
        field("user_id", DataType::Int64),
        field("latency_ms", DataType::Float64),
        field("bytes", DataType::Int64),
    ]))
}

fn region(host: u32) -> &'static str {
    REGIONS[(host * 3 + host / 250) as usize % REGIONS.len()]
}

/// Every event lies in one day, so only the time of day has to be worked out.
fn timestamp(micros: i64) -> String {
    let of_day = micros - DAY_START_US;
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("2026-11-01 {hours:02}:{minutes:02}:{:02}.{fraction:06}", seconds % 60)
}

/// A number below `count`, small ones more often: an inverse power of a uniform number.
fn skewed(rng: &mut ChaCha8Rng, count: u32, skew: f64) -> u32 {
    let picked = f64::from(count) * rng.random::<f64>().powf(1.0 / (1.0 - skew));
    (picked as u32).min(count - 1)
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int16Type, TimestampMicrosecondType};

    use super::*;

    #[test]
    fn a_block_is_the_same_at_every_call_and_follows_the_day() {
        let events = Events::new(25_000);
        assert_eq!(events.blocks(), 3);
        assert_eq!(events.block(1), Events::new(25_000).block(1));
        assert_ne!(events.block(0), events.block(1));
        let last = events.block(2);
        assert_eq!(last.num_rows(), 5_000);
        let ts = last.column(0).as_primitive::<TimestampMicrosecondType>();
        let latest = ts.values().iter().max().copied().unwrap();
        assert!((DAY_START_US + DAY_US - 10_000_000..DAY_START_US + DAY_US).contains(&latest));
    }

    #[test]
    fn shares_are_those_of_an_access_log() {
        let block = Events::new(10_000).block(0);
        let status = block.column(5).as_primitive::<Int16Type>();
        let ok = status.values().iter().filter(|status| **status == 200).count();
        assert!((7_700..8_300).contains(&ok), "{ok} of 10000 are 200");
        let latency = block.column(8).as_primitive::<Float64Type>();
        let mut sorted = latency.values().to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        assert!((6.0..13.0).contains(&sorted[5_000]), "median latency {}", sorted[5_000]);
    }

    #[test]
    fn lines_are_json_with_the_values_of_the_row() {
        let block = Events::new(10_000).block(0);
        let json = lines(&block, TextForm::Json);
        let row: serde_json::Value = serde_json::from_str(&json[7]).unwrap();
        assert_eq!(row["host"], block.column(1).as_string::<i32>().value(7));
        assert_eq!(row["status"], block.column(5).as_primitive::<Int16Type>().value(7));
        assert!(row["ts"].as_str().unwrap().starts_with("2026-11-01 00:0"), "{row}");
        let csv = lines(&block, TextForm::Csv);
        let bytes: usize = csv.iter().map(String::len).sum();
        assert!((90..115).contains(&(bytes / csv.len())), "{} bytes a row", bytes / csv.len());
    }
}
