//! Appends for doors whose clients wait: nothing more is read from them until there is room.

use std::time::Duration;

use alluvium_core::partition::Stamp;
use alluvium_views::rows;
use arrow::record_batch::RecordBatch;

use super::run::TIMEOUT_MAX;
use crate::bootstrap::Node;
use crate::clock::Stopwatch;
use crate::ingest::{AppendAck, AppendError, ClientRows, RETRY_AFTER};

/// How long a client waits for room.
const WAIT_MAX: Duration = TIMEOUT_MAX;

/// Appends rows of the log schema. Tries again while nothing of the batch is appended; after that
/// only with a stamp, by which a second try is recognised.
pub async fn append(
    node: &Node,
    stream: &str,
    stamp: Option<Stamp>,
    batch: RecordBatch,
) -> Result<AppendAck, AppendError> {
    let byte_count = rows::own_bytes(&batch);
    let watch = Stopwatch::start();
    loop {
        let is_late = WAIT_MAX < watch.elapsed();
        match node.ingest.admit_in_turn(byte_count).await {
            Ok(permit) => {
                let rows = ClientRows::Rows(batch.clone());
                let appended = match node.ingest.submit(stream, stamp, rows, permit) {
                    Ok(pending) => pending.acknowledged(None).await,
                    Err(error) => Err(error),
                };
                let again = stamp.is_some() && !is_late && is_passing(&appended);
                node.metrics.append_answered(appended.is_ok(), watch.elapsed());
                if !again {
                    return appended;
                }
            }
            Err(AppendError::Busy { .. }) if !is_late => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Whether the same batch may find things better in a moment.
fn is_passing(appended: &Result<AppendAck, AppendError>) -> bool {
    match appended {
        Err(AppendError::Busy { .. } | AppendError::NotOwner { .. } | AppendError::Lost) => true,
        Ok(_)
        | Err(
            AppendError::UnknownStream { .. }
            | AppendError::Invalid(_)
            | AppendError::DiskFull
            | AppendError::Damaged { .. }
            | AppendError::Fenced { .. }
            | AppendError::OutOfSequence { .. }
            | AppendError::Refused { .. }
            | AppendError::Stopping,
        ) => false,
    }
}
