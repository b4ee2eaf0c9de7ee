//! From what a client sent to events in partitions.
//!
//! An append is checked, split by key and handed to the owners of its partitions; it is
//! acknowledged when every one of them has it durable and applied. A batch with a producer's stamp
//! goes to *every* partition of the stream, with an empty part where no event falls, so that
//! sequences are dense in each partition and a gap is always a gap.

mod forward;
mod lane;

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Epoch, NodeId, Offset, PartitionNumber, Sequence};
use alluvium_core::partition::{Part, PartOutcome, Stamp};
use alluvium_core::stream::Frontier;
use alluvium_store::Store;
use alluvium_views::rows::{self, InvalidRows};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use self::forward::Forwarder;
pub use self::lane::Lane;
use self::lane::{SMALL_BYTES_MAX, Small, SmallRows};
use crate::actors::partition::{Append, Permit};
use crate::streams::{ServedStream, Streams};
use crate::telemetry::Metrics;

/// Rows from which a batch is worth encoding before it reaches its partition: smaller ones are
/// likely to be joined with their neighbours there, and encoded once together.
pub const ENCODE_EARLY_ROWS_MIN: usize = 256;

/// What an append that found no room is told to wait before the next try: about two group commits
/// of a busy disk.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// One unit of the append budget. Appends take whole units, so that one semaphore serves 2 GiB.
const UNIT_BYTES: usize = 1_024;

/// Rows as a client sent them.
#[derive(Debug)]
pub enum ClientRows {
    /// An Arrow IPC stream.
    ArrowIpc(Bytes),
    /// JSON objects.
    Json(Bytes),
    /// Rows of the log schema, from SQL.
    Rows(RecordBatch),
}

impl ClientRows {
    fn byte_count(&self) -> usize {
        match self {
            ClientRows::ArrowIpc(bytes) | ClientRows::Json(bytes) => bytes.len(),
            ClientRows::Rows(batch) => rows::own_bytes(batch),
        }
    }
}

/// Where the events of a batch stand in one partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionAck {
    /// Which partition.
    pub partition: PartitionNumber,
    /// Offsets `[first, end)`; absent for a retry so old that only its sequence is remembered.
    pub offsets: Option<(Offset, Offset)>,
    /// The partition held the batch already.
    pub duplicate: bool,
}

/// A batch is durable and applied.
#[derive(Clone, Debug)]
pub struct AppendAck {
    /// Ask a query `at least` this to see the batch.
    pub frontier: Frontier,
    /// Each partition that took part.
    pub partitions: Vec<PartitionAck>,
    /// Every partition held it already.
    pub duplicate: bool,
    /// Events in the batch.
    pub event_count: u64,
}

/// Why a batch was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// No such stream.
    #[error("stream \"{name}\" does not exist; create it with CREATE STREAM")]
    UnknownStream {
        /// As asked.
        name: String,
    },
    /// The rows are not rows of this stream. Nothing was appended.
    #[error(transparent)]
    Invalid(#[from] InvalidRows),
    /// Too much is waiting. Nothing was appended here; try the same batch again later.
    #[error("{reason}; try again in {} ms", RETRY_AFTER.as_millis())]
    Busy {
        /// What is full.
        reason: &'static str,
    },
    /// The disk has no room. Queries go on.
    #[error("the disk is full; free some space or drop a stream, then try again")]
    DiskFull,
    /// The partition cannot be served.
    #[error("partition {partition} of stream \"{stream}\" is damaged and not served: {reason}")]
    Damaged {
        /// Stream name.
        stream: String,
        /// Which partition.
        partition: PartitionNumber,
        /// What was found.
        reason: String,
    },
    /// A later life of this producer has begun.
    #[error(
        "epoch {found} of the producer is over, epoch {current} has begun; open the producer again"
    )]
    Fenced {
        /// As sent.
        found: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// A batch before this one is missing.
    #[error(
        "sequence {found} does not follow: partition {partition} expects {expected}; send the \
         missing batches first"
    )]
    OutOfSequence {
        /// Which partition.
        partition: PartitionNumber,
        /// The next sequence it takes.
        expected: Sequence,
        /// As sent.
        found: Sequence,
    },
    /// No owner of the partition could be reached in time. Nothing was appended.
    #[error("a partition has no owner that can be reached; try again")]
    NotOwner {
        /// The owner, where somebody knows it.
        owner: Option<NodeId>,
    },
    /// The owner of the partition cannot take it. Nothing was appended.
    #[error("the owner of a partition refused: {reason}")]
    Refused {
        /// As it says.
        reason: String,
    },
    /// Nobody knows whether the batch was appended: send it again with the same sequence.
    #[error("the outcome is not known; send the batch again with the same sequence")]
    Lost,
    /// The node is stopping.
    #[error("the node is stopping; try again")]
    Stopping,
}

/// What a partition answers for its part.
pub type PartReply = oneshot::Sender<Result<PartOutcome, AppendError>>;

/// Takes appends in.
#[derive(Debug)]
pub struct Ingest {
    streams: Arc<Streams>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    budget: Arc<Semaphore>,
    budget_units: usize,
    tail_bytes_max: u64,
}

/// Bytes that may wait for an answer, and bytes that may wait to be sealed.
#[derive(Clone, Copy, Debug)]
pub struct IngestLimits {
    /// Bytes of appends that may be under way.
    pub pending_bytes_max: usize,
    /// Bytes of unsealed events in memory, over all partitions.
    pub tail_bytes_max: u64,
}

/// A batch on its way; see [`Ingest::submit`].
#[derive(Debug)]
pub struct PendingAppend {
    stream: Arc<ServedStream>,
    stamp: Option<Stamp>,
    event_count: u64,
    parts: Vec<PendingPart>,
    permit: Permit,
}

/// What one partition was handed of a batch.
#[derive(Debug)]
struct PendingPart {
    partition: PartitionNumber,
    /// Kept only where the part may have to be handed over again: where it has a stamp.
    rows: Option<RecordBatch>,
    answer: oneshot::Receiver<Result<PartOutcome, AppendError>>,
}

impl Ingest {
    /// Over the streams of this node.
    pub fn new(
        streams: Arc<Streams>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        limits: IngestLimits,
    ) -> Ingest {
        let budget_units = limits.pending_bytes_max.div_ceil(UNIT_BYTES).max(1);
        let budget = Arc::new(Semaphore::new(budget_units));
        let tail_bytes_max = limits.tail_bytes_max;
        Ingest { streams, store, metrics, budget, budget_units, tail_bytes_max }
    }

    /// Takes a place in the append budget at once, or says that there is none.
    fn admit(&self, byte_count: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        self.check_room()?;
        let acquired = self.budget.clone().try_acquire_many_owned(self.units(byte_count));
        acquired.map_err(|_| AppendError::Busy { reason: "too many appends are under way" })
    }

    /// Waits for a place in the append budget: for callers that read no further meanwhile.
    pub async fn admit_in_turn(&self, byte_count: usize) -> Result<Permit, AppendError> {
        self.check_room()?;
        let acquired = self.budget.clone().acquire_many_owned(self.units(byte_count)).await;
        let permit: OwnedSemaphorePermit = acquired.map_err(|_| AppendError::Stopping)?;
        Ok(Arc::new(permit))
    }

    fn check_room(&self) -> Result<(), AppendError> {
        if !self.store.has_room() {
            return Err(AppendError::DiskFull);
        }
        if self.tail_bytes_max < self.store.metrics().tail_bytes.get() {
            return Err(AppendError::Busy {
                reason: "events come in faster than they can be sealed",
            });
        }
        Ok(())
    }

    fn units(&self, byte_count: usize) -> u32 {
        let units = byte_count.div_ceil(UNIT_BYTES).clamp(1, self.budget_units);
        u32::try_from(units).expect("the budget is below 4 TiB")
    }

    /// Appends one batch and waits for its acknowledgement. Small ones share their way with others
    /// that come at the same time.
    pub async fn append(
        &self,
        name: &str,
        stamp: Option<Stamp>,
        rows: ClientRows,
    ) -> Result<AppendAck, AppendError> {
        let byte_count = rows.byte_count();
        let permit = self.admit(byte_count)?;
        let is_small = stamp.is_none() && byte_count <= SMALL_BYTES_MAX;
        let rows = match rows {
            ClientRows::Json(bytes) if is_small => SmallRows::Json(bytes),
            ClientRows::ArrowIpc(bytes) if is_small => SmallRows::ArrowIpc(bytes),
            rows @ (ClientRows::Json(_) | ClientRows::ArrowIpc(_) | ClientRows::Rows(_)) => {
                let pending = self.submit(name, stamp, rows, Arc::new(permit))?;
                return pending.acknowledged(None).await;
            }
        };
        let stream = self.stream(name)?;
        let (reply, answer) = oneshot::channel();
        lane::join(&stream, &self.metrics, Small { rows, permit, reply });
        answer.await.unwrap_or(Err(AppendError::Lost))
    }

    fn stream(&self, name: &str) -> Result<Arc<ServedStream>, AppendError> {
        let stream = self.streams.get(name);
        stream.ok_or_else(|| AppendError::UnknownStream { name: name.to_string() })
    }

    /// Checks a batch and hands its parts to their partitions, in the order of calls; the answer is
    /// awaited apart, so that a producer's batches may follow each other without waiting.
    pub fn submit(
        &self,
        name: &str,
        stamp: Option<Stamp>,
        rows: ClientRows,
        permit: Permit,
    ) -> Result<PendingAppend, AppendError> {
        let stream = self.stream(name)?;
        let definition = &stream.stream.definition;
        let batch = match rows {
            ClientRows::ArrowIpc(bytes) => {
                rows::decode_ipc(&definition.schema, &stream.log_schema, bytes)?
            }
            ClientRows::Json(bytes) => {
                rows::decode_json(&definition.schema, &stream.log_schema, &bytes)?
            }
            ClientRows::Rows(batch) => batch,
        };
        let event_count = batch.num_rows() as u64;
        self.metrics.append_received(event_count, rows::own_bytes(&batch) as u64);
        let split = rows::split(definition, &batch, stream.next_turn());
        let mut parts = Vec::with_capacity(stream.partitions.len());
        for (partition, rows) in with_empty_parts(split, &stream, stamp.as_ref()) {
            let handle = &stream.partitions[partition.0 as usize];
            let (reply, answer) = oneshot::channel();
            let kept = stamp.and_then(|_| rows.clone());
            handle.append(part_message(stamp, rows, &permit, reply))?;
            parts.push(PendingPart { partition, rows: kept, answer });
        }
        Ok(PendingAppend { stream, stamp, event_count, parts, permit })
    }
}

/// A part for each partition that must see the batch.
fn with_empty_parts(
    split: Vec<(PartitionNumber, RecordBatch)>,
    stream: &ServedStream,
    stamp: Option<&Stamp>,
) -> Vec<(PartitionNumber, Option<RecordBatch>)> {
    let mut parts = Vec::with_capacity(stream.partitions.len());
    if stamp.is_none() {
        parts.extend(split.into_iter().map(|(number, rows)| (number, Some(rows))));
        return parts;
    }
    let mut split = split.into_iter().peekable();
    for (number, _) in stream.stream.partitions() {
        let rows = split.next_if(|(next, _)| *next == number).map(|(_, rows)| rows);
        parts.push((number, rows));
    }
    parts
}

fn part_message(
    stamp: Option<Stamp>,
    rows: Option<RecordBatch>,
    permit: &Permit,
    reply: PartReply,
) -> Append {
    let event_count = rows.as_ref().map_or(0, RecordBatch::num_rows);
    let early = rows.as_ref().filter(|rows| ENCODE_EARLY_ROWS_MIN <= rows.num_rows());
    let payload = early.map(rows::encode_payload);
    let event_count = u32::try_from(event_count).expect("a batch holds fewer than 2^32 events");
    let part = Part { producer: stamp, event_count };
    Append { payload, ..Append::new(part, rows, permit.clone(), reply) }
}

impl PendingAppend {
    /// Waits until every partition has answered.
    ///
    /// `before` is what the same client sent before and has acknowledged. While a partition changes
    /// its owner, a batch may come to the new one before another that was sent earlier and is still
    /// with the former: it is judged out of sequence. When all before it are acknowledged, it was
    /// judged too early, and is handed over once more.
    pub async fn acknowledged(self, before: Option<&Stamp>) -> Result<AppendAck, AppendError> {
        let follows = self.stamp.as_ref().zip(before).is_some_and(|(it, before)| {
            it.producer == before.producer && it.sequence == before.sequence.next()
        });
        let mut ack = AppendAck {
            frontier: Frontier::default(),
            partitions: Vec::with_capacity(self.parts.len()),
            duplicate: !self.parts.is_empty(),
            event_count: self.event_count,
        };
        let mut failure = None;
        for PendingPart { partition, rows, answer } in self.parts {
            // A partition that stopped drops its callers: what became of the part is not known.
            let mut outcome = answer.await.unwrap_or(Err(AppendError::Lost));
            if follows && matches!(outcome, Ok(PartOutcome::OutOfSequence { .. })) {
                let (reply, answer) = oneshot::channel();
                let again = part_message(self.stamp, rows, &self.permit, reply);
                outcome = match self.stream.partitions[partition.0 as usize].append(again) {
                    Ok(()) => answer.await.unwrap_or(Err(AppendError::Lost)),
                    Err(error) => Err(error),
                };
            }
            match outcome.and_then(|outcome| part_ack(partition, self.stamp.as_ref(), outcome)) {
                Ok(part) => {
                    ack.duplicate &= part.duplicate;
                    if let Some((_, end)) = part.offsets {
                        ack.frontier.0.insert(partition, end);
                    }
                    ack.partitions.push(part);
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(ack),
        }
    }

    /// Who sent it, and as which of its batches.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }
}

fn part_ack(
    partition: PartitionNumber,
    stamp: Option<&Stamp>,
    outcome: PartOutcome,
) -> Result<PartitionAck, AppendError> {
    // Only a stamp is ever refused.
    let (epoch, sequence) = stamp.map(|stamp| (stamp.epoch, stamp.sequence)).unwrap_or_default();
    match outcome {
        PartOutcome::Appended { first, end } => {
            Ok(PartitionAck { partition, offsets: Some((first, end)), duplicate: false })
        }
        PartOutcome::Duplicate { offsets } => {
            Ok(PartitionAck { partition, offsets, duplicate: true })
        }
        PartOutcome::Fenced { current } => Err(AppendError::Fenced { found: epoch, current }),
        PartOutcome::OutOfSequence { expected } => {
            Err(AppendError::OutOfSequence { partition, expected, found: sequence })
        }
    }
}
