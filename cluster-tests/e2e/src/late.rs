//! Events out of order: three in ten are late by up to thirty days, and the clock of one producer
//! is a day fast.
//!
//! Twenty days pass while they are sent, so windows go past a retention of days.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::views::ViewCase;

/// The stream's name.
pub const STREAM: &str = "late";

/// Producers; the last one's clock is fast.
pub const PRODUCERS: u32 = 4;

const DAY_US: i64 = 86_400_000_000;
const LATE_US_MAX: i64 = 30 * DAY_US;
/// 2026-10-01T00:00:00Z.
const START_US: i64 = 1_790_812_800_000_000;
const SPAN_US: i64 = 20 * DAY_US;
const SENSORS: i64 = 40;

/// Makes the events in the order they are sent.
#[derive(Debug)]
pub struct LateEvents {
    rng: ChaCha8Rng,
    total: i64,
    sent: i64,
}

impl LateEvents {
    /// About `total` events.
    pub fn new(total: u32, seed: u64) -> LateEvents {
        LateEvents { rng: ChaCha8Rng::seed_from_u64(seed), total: total.into(), sent: 0 }
    }

    /// The next events of a producer.
    pub fn batch(&mut self, producer: u32, row_count: usize) -> RecordBatch {
        let fast = if producer + 1 == PRODUCERS { DAY_US } else { 0 };
        let (mut at, mut sensors, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..row_count {
            let now = START_US + SPAN_US / self.total * self.sent + fast;
            let is_late = self.rng.random_ratio(3, 10);
            at.push(if is_late { now - self.rng.random_range(0..LATE_US_MAX) } else { now });
            sensors.push(self.rng.random_range(0..SENSORS));
            values.push(self.rng.random_range(-1_000..1_000_i64));
            self.sent += 1;
        }
        // Eighths are exact, so sums do not depend on their order.
        let readings = values.iter().map(|&value| value as f64 / 8.0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_value(producer.into(), row_count)),
            Arc::new(TimestampMicrosecondArray::from(at)),
            Arc::new(Int64Array::from(sensors)),
            Arc::new(Float64Array::from_iter_values(readings)),
            Arc::new(Int64Array::from(values)),
        ];
        let field = |name: &str, data_type| Field::new(name, data_type, false);
        let schema = Schema::new(vec![
            field("producer", DataType::Int64),
            field("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
            field("sensor", DataType::Int64),
            field("reading", DataType::Float64),
            field("value", DataType::Int64),
        ]);
        RecordBatch::try_new(Arc::new(schema), columns).expect("columns fit the schema")
    }
}

/// `CREATE STREAM` of these events.
pub fn create_stream() -> String {
    format!(
        "CREATE STREAM {STREAM} (producer BIGINT NOT NULL, at TIMESTAMP NOT NULL, \
         sensor BIGINT NOT NULL, reading DOUBLE PRECISION NOT NULL, value BIGINT NOT NULL) \
         PARTITION BY (sensor) WITH (event_time = 'at', partitions = 3)"
    )
}

/// Windows of all kinds that keep everything, so that late events amend them.
pub fn amended() -> Vec<ViewCase> {
    let hopping = |start: &str, from: &str| {
        format!(
            "SELECT {start} AS start, sensor, count(*) AS events, sum(value) AS total, \
             avg(reading) AS mean FROM {from} GROUP BY 1, 2"
        )
    };
    let hops = hopping("hop(at, INTERVAL '6 hours', INTERVAL '1 day')", STREAM);
    // Each event is in the four windows that begin in the day up to it.
    let back = "(VALUES (INTERVAL '0 hours'), (INTERVAL '6 hours'), (INTERVAL '12 hours'), \
         (INTERVAL '18 hours')) AS step (back)";
    let hops_batch =
        hopping("date_bin(INTERVAL '6 hours', at) - back", &format!("{STREAM} CROSS JOIN {back}"));
    let sessions = format!(
        "SELECT session(at, INTERVAL '30 minutes') AS start, sensor, count(*) AS events, \
         sum(value) AS total FROM {STREAM} GROUP BY 1, 2"
    );
    let sessions_batch = format!(
        "SELECT min(at) AS start, sensor, count(*) AS events, sum(value) AS total FROM (SELECT *, \
         sum(first) OVER (PARTITION BY sensor ORDER BY at ROWS UNBOUNDED PRECEDING) AS number \
         FROM (SELECT at, sensor, value, CASE WHEN at - lag(at) OVER (PARTITION BY sensor ORDER \
         BY at) < INTERVAL '30 minutes' THEN 0 ELSE 1 END AS first FROM {STREAM}) AS marked) AS \
         numbered GROUP BY sensor, number"
    );
    vec![
        ViewCase::new("hourly", hourly("")).with("lateness = '1 hour'"),
        ViewCase::new("hops", hops).compared_with(hops_batch),
        ViewCase::new("sessions", sessions).compared_with(sessions_batch),
    ]
}

/// Windows that are given up ten days after the watermark has passed them. What is left of them is
/// exact: an event of a window that is still kept was never refused.
pub fn kept() -> ViewCase {
    let kept = format!(
        "JOIN (SELECT partition, CAST(watermark AS TIMESTAMP) AS watermark FROM system.views \
         WHERE view = 'kept') AS reached ON {STREAM}._partition = reached.partition \
         WHERE watermark - INTERVAL '10 days' < \
         date_bin(INTERVAL '1 hour', at) + INTERVAL '1 hour'"
    );
    ViewCase::new("kept", hourly(""))
        .with("retention = '10 days', lateness = '1 hour'")
        .compared_with(hourly(&kept))
}

fn hourly(rest: &str) -> String {
    format!(
        "SELECT date_bin(INTERVAL '1 hour', at) AS start, sensor, count(*) AS events, \
         sum(value) AS total, min(reading) AS least, max(reading) AS most, avg(reading) AS mean, \
         count(DISTINCT producer) AS producers FROM {STREAM} {rest} GROUP BY 1, 2"
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    #[test]
    fn three_in_ten_are_out_of_order_and_one_clock_is_fast() {
        let mut events = LateEvents::new(100_000, 7);
        let times = |batch: &RecordBatch| {
            batch.column(1).as_primitive::<TimestampMicrosecondType>().values().to_vec()
        };
        let slow = times(&events.batch(0, 50_000));
        let mut newest = i64::MIN;
        let mut behind = 0;
        for &at in &slow {
            behind += i64::from(at < newest);
            newest = newest.max(at);
        }
        assert!((14_000..16_000).contains(&behind), "{behind} of 50000 are out of order");
        let fast = times(&events.batch(PRODUCERS - 1, 1_000));
        assert!(newest + DAY_US <= *fast.iter().max().unwrap());
    }
}
