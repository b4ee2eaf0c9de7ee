//! `COPY … FROM STDIN`: rows from the client into a stream.

use alluvium_core::stream::Stream;
use alluvium_query::{CopyRows, SqlError};
use arrow::record_batch::RecordBatch;

use super::message::{Fault, Frontend};
use super::session::{Session, Trouble};
use crate::ingest::AppendError;
use crate::sql::append::append;
use crate::sql::run::{Door, RunError};

impl Session {
    /// Takes rows until the client says that they are all; says how many they were. What is
    /// appended before something goes wrong stays, and the error says how much that is.
    pub(super) async fn copy(&mut self, sql: &str) -> Result<String, Trouble> {
        let engine = self.node.engine(&self.caller);
        let mut copy = engine.copy_in(sql);
        if matches!(copy, Err(SqlError::NotFound { .. } | SqlError::Denied { .. })) {
            let caught_up = engine.host().catch_up().await.map_err(SqlError::from);
            copy = caught_up.and_then(|()| engine.copy_in(sql));
        }
        let copy = copy.map_err(|error| self.fault(sql, &RunError::from(error)))?;
        let place = self.node.statements.admit(sql, Door::Postgres, &self.asker());
        let place = place.map_err(|error| self.fault(sql, &error))?;
        self.wire.out.copy_in(copy.column_count(), copy.is_binary());
        self.wire.flush().await?;
        let stream = copy.stream().clone();
        let mut rows = CopyRows::new(copy);
        let mut count = 0;
        loop {
            let message = tokio::select! {
                biased;
                () = place.stopped() => {
                    let mut fault = self.fault(sql, &RunError::Cancelled);
                    fault.message.push_str(&stands(count));
                    return Err(fault.into());
                }
                message = self.wire.next() => message?,
            };
            let Some(message) = message else {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            };
            let (batches, is_over) = match message {
                Frontend::CopyData(bytes) => (rows.push(&bytes), false),
                Frontend::CopyDone => (rows.finish(), true),
                Frontend::CopyFail(reason) => {
                    let message = format!("the client gave up: {reason}{}", stands(count));
                    return Err(Fault::error("57014", message).into());
                }
                // A client may send these ahead.
                Frontend::Flush | Frontend::Sync => continue,
                _ => {
                    let message = "during COPY only rows are taken";
                    return Err(Fault::error("08P01", message).into());
                }
            };
            let appended = match batches {
                Ok(batches) => self.append(&stream, batches, &mut count).await,
                Err(error) => Err(error),
            };
            if let Err(error) = appended {
                let error = RunError::from(error);
                let mut fault = self.fault(sql, &error);
                fault.message.push_str(&stands(count));
                return Err(fault.into());
            }
            if is_over {
                return Ok(format!("COPY {count}"));
            }
        }
    }

    /// Appends; where there is no room now, the client waits, since nothing more is read from it.
    async fn append(
        &self,
        stream: &Stream,
        batches: Vec<RecordBatch>,
        count: &mut u64,
    ) -> Result<(), SqlError> {
        for batch in batches {
            let rows = u64::try_from(batch.num_rows()).expect("a usize has at most 64 bits");
            let appended = append(&self.node, &stream.definition.name, None, batch).await;
            appended.map_err(append_error)?;
            *count += rows;
        }
        Ok(())
    }
}

/// An append's error as a statement says it.
fn append_error(error: AppendError) -> SqlError {
    let reason = error.to_string();
    match error {
        AppendError::UnknownStream { .. } => SqlError::NotFound { reason },
        AppendError::Invalid(_) => SqlError::InvalidArgument { reason },
        AppendError::Busy { .. } | AppendError::DiskFull => {
            SqlError::ResourceExhausted { reason, retry_after: None }
        }
        AppendError::Damaged { .. }
        | AppendError::Fenced { .. }
        | AppendError::OutOfSequence { .. }
        | AppendError::NotOwner { .. }
        | AppendError::Refused { .. }
        | AppendError::Lost
        | AppendError::Stopping => SqlError::Unavailable { reason },
    }
}

/// What stands of a `COPY` that failed.
fn stands(count: u64) -> String {
    match count {
        0 => String::new(),
        _ => format!(" ({count} rows before it are appended and stay)"),
    }
}
