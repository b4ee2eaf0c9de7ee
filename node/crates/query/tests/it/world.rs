//! An engine over a [`MemHost`], spoken to in SQL and answering in CSV.

use std::sync::Arc;

use alluvium_core::stream::Frontier;
use alluvium_query::host::Freshness;
use alluvium_query::print::{Format, to_text};
use alluvium_query::testing::MemHost;
use alluvium_query::{Answer, Engine, EngineOptions, SqlError};
use tempfile::TempDir;

pub struct World {
    pub engine: Engine,
    pub host: Arc<MemHost>,
    pub dir: TempDir,
}

impl World {
    pub fn new() -> World {
        World::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut EngineOptions)) -> World {
        let dir = TempDir::new().unwrap();
        let host = Arc::new(MemHost::new(dir.path()));
        let mut options = EngineOptions::new(dir.path().join("temp"));
        options.target_partitions = 2;
        change(&mut options);
        let engine = Engine::new(Arc::<MemHost>::clone(&host), options).unwrap();
        World { engine, host, dir }
    }

    /// Runs a script, statement by statement.
    pub async fn script(&self, sql: &str) {
        for statement in alluvium_query::split_statements(sql).unwrap() {
            self.csv(&statement).await;
        }
    }

    pub async fn run(&self, sql: &str) -> Result<Answer, SqlError> {
        self.engine.run(sql, Freshness::Linearizable).await
    }

    pub async fn try_csv(&self, sql: &str, freshness: Freshness) -> Result<String, SqlError> {
        let answer = self.engine.run(sql, freshness).await?;
        let schema = Arc::clone(&answer.schema);
        let batches = answer.collect().await?;
        for batch in &batches {
            assert_eq!(batch.schema(), schema, "{sql}");
        }
        Ok(to_text(Format::Csv, &schema, &batches).unwrap())
    }

    /// The answer as CSV, names in the first line.
    pub async fn csv(&self, sql: &str) -> String {
        match self.try_csv(sql, Freshness::Linearizable).await {
            Ok(text) => text,
            Err(error) => panic!("{sql}\n{:?}: {error}", error.kind()),
        }
    }

    /// The answer as CSV without the line of names.
    pub async fn rows(&self, sql: &str) -> String {
        let text = self.csv(sql).await;
        text.split_once('\n').map(|(_, rows)| rows.to_string()).unwrap_or_default()
    }

    pub async fn as_of(&self, sql: &str, stream: &str, frontier: &Frontier) -> String {
        let id = self.stream_id(stream);
        let freshness = Freshness::AsOf(vec![(id, frontier.clone())]);
        self.try_csv(sql, freshness).await.unwrap()
    }

    pub fn stream_id(&self, name: &str) -> alluvium_core::ids::StreamId {
        use alluvium_query::host::Host;
        self.host.catalogue()[name].id
    }

    /// The text of the last plan of a statement, every file in it.
    pub async fn plan(&self, sql: &str) -> String {
        let answer = self.run(&format!("EXPLAIN VERBOSE {sql}")).await.unwrap();
        let schema = Arc::clone(&answer.schema);
        let batches = answer.collect().await.unwrap();
        let text = to_text(Format::NdJson, &schema, &batches).unwrap();
        let last = text.lines().rfind(|line| line.contains("\"plan_type\":\"physical_plan\""));
        last.expect("a plan was made").replace("\\n", "\n")
    }

    /// `rides` with 30 rows in each of `segments` segments and `tail` rows behind them. Row `n` has
    /// `ride_id = n`, `rider = r<n % 7>` and `elapsed_s = n / 2`.
    pub async fn rides(&self, segments: u32, tail: u32) {
        self.csv(
            "CREATE STREAM rides (ride_id BIGINT NOT NULL, rider TEXT, elapsed_s DOUBLE PRECISION, \
             started_at TIMESTAMP) PARTITION BY (rider) WITH (partitions = 3, event_time = started_at)",
        )
        .await;
        for segment in 0..segments {
            self.append_rides(segment * 30, 30).await;
            self.host.seal("rides").unwrap();
        }
        if tail != 0 {
            self.append_rides(segments * 30, tail).await;
        }
    }

    pub async fn append_rides(&self, first: u32, count: u32) {
        let rows: Vec<String> = (first..first + count)
            .map(|n| {
                let day = 1 + n / 1_440;
                let (hour, minute) = (n / 60 % 24, n % 60);
                format!(
                    "({n}, 'r{}', {n} / 2.0, TIMESTAMP '2026-01-{day:02} {hour:02}:{minute:02}:00')",
                    n % 7
                )
            })
            .collect();
        self.csv(&format!("INSERT INTO rides VALUES {}", rows.join(", "))).await;
    }
}
