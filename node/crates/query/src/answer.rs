//! What a statement answers.

use std::sync::Arc;

use alluvium_core::stream::Frontier;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;

use crate::error::SqlError;
use crate::output::{self, BatchStream};

/// What a statement answers.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows. Dropping it stops the statement.
    pub batches: BatchStream,
    /// The cut of each stream that was read, or the frontier after what was inserted; by stream
    /// name.
    pub as_of: Vec<(String, Frontier)>,
    /// What was done, as PostgreSQL says it: `SELECT`, `INSERT 0 3`, `CREATE STREAM`.
    pub tag: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .field("as_of", &self.as_of)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Waits for all rows.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, SqlError> {
        self.batches.try_collect().await
    }

    /// An answer without columns.
    pub(crate) fn done(tag: &str) -> Answer {
        Answer {
            schema: Arc::new(Schema::empty()),
            batches: output::ready(Vec::new()),
            as_of: Vec::new(),
            tag: tag.into(),
        }
    }

    pub(crate) fn of(batch: RecordBatch, tag: &str) -> Answer {
        Answer {
            schema: batch.schema(),
            batches: output::ready(vec![batch]),
            as_of: Vec::new(),
            tag: tag.into(),
        }
    }

    pub(crate) fn inserted(count: u64, as_of: Vec<(String, Frontier)>) -> Result<Answer, SqlError> {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, false)]));
        let rows = Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(rows)])
            .map_err(|error| SqlError::internal(error.to_string()))?;
        Ok(Answer { as_of, ..Answer::of(batch, &format!("INSERT 0 {count}")) })
    }
}
