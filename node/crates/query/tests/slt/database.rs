//! The engine over a host in memory, as the sqllogictest runner wants a database.

use std::path::Path;
use std::sync::Arc;

use alluvium_query::host::{Freshness, Host};
use alluvium_query::testing::MemHost;
use alluvium_query::{Engine, EngineOptions, SqlError, split_statements};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sqllogictest::{DBOutput, DefaultColumnType};

use crate::{feed, show};

/// Where the events of a stream lie when the statements run.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// None is sealed yet.
    TailOnly,
    /// All are in segments.
    SealedOnly,
    /// The older ones are in segments, the younger ones are not.
    Mixed,
}

/// One connection; all of them see the same streams.
#[derive(Clone)]
pub struct Database(Arc<Engine>);

impl Database {
    /// All examples, fed into their streams.
    pub async fn open(folder: &Path, state: State) -> Database {
        let host = Arc::new(MemHost::new(folder));
        let options = EngineOptions::new(folder.join("spill"));
        let engine = Engine::new(host.clone(), options).expect("an engine with default options");
        for example in feed::examples() {
            let script = std::fs::read_to_string(example.join("streams.sql")).expect("a script");
            for statement in split_statements(&script).expect("statements") {
                let answer = engine.run(&statement, Freshness::Linearizable).await;
                answer.unwrap_or_else(|error| panic!("{error}\n{statement}"));
            }
            for feed in feed::feeds(&example) {
                fill(&host, &feed, state);
            }
        }
        Database(Arc::new(engine))
    }

    /// Runs one statement and waits for all of its rows.
    pub async fn ask(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), SqlError> {
        let answer = self.0.run(sql, Freshness::Linearizable).await?;
        let schema = answer.schema.clone();
        Ok((schema, answer.collect().await?))
    }
}

fn fill(host: &MemHost, feed: &feed::Feed, state: State) {
    let stream = host.catalogue().get(&feed.stream).cloned().expect("streams.sql creates it");
    let batches = feed::read(&feed.file, &stream.definition.schema);
    // Two segments in each partition, so that neighbours are tested too.
    let cuts = match state {
        State::TailOnly => vec![],
        State::SealedOnly => vec![batches.len() / 2, batches.len() - 1],
        State::Mixed => vec![batches.len() / 3, batches.len() / 2],
    };
    for (number, batch) in batches.into_iter().enumerate() {
        host.append_rows(&feed.stream, &batch).expect("an append in memory");
        if cuts.contains(&number) {
            host.seal(&feed.stream).expect("a segment in a temporary folder");
        }
    }
}

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Database {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        let (schema, batches) = self.ask(sql).await?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = schema.fields().iter().map(|field| show::letter(field.data_type())).collect();
        Ok(DBOutput::Rows { types, rows: batches.iter().flat_map(show::rows).collect() })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "alluvium"
    }
}
