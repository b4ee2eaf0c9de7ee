//! Where the small appends of one stream gather.
//!
//! Reading one row costs a fraction of what it takes to set up its columns and to hand it to its
//! partition. So while the appends taken before are on their way to disk, those that come in wait
//! here, and leave together as one batch: a lone append waits for nobody, and there is no timer.
//! Each is still answered for itself: what is wrong with one is told to its sender alone, and the
//! offsets of an answer are those of its own rows.
//!
//! Invariants: whoever waits has a driver; the appends of one lane reach a partition in the order
//! they came. Only appends without a producer's stamp come here: a stamp belongs to one batch.

use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::partition::PartOutcome;
use alluvium_core::stream::Frontier;
use alluvium_views::rows::{self, InvalidRows};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{AppendAck, AppendError, PartitionAck, part_message};
use crate::actors::partition::Permit;
use crate::streams::ServedStream;
use crate::telemetry::Metrics;

/// Bytes up to which an append is small: larger ones cost more to read than to hand on.
pub(super) const SMALL_BYTES_MAX: usize = 4 << 10;

/// Appends that leave together: with two megabytes of rows at most, a few milliseconds of work.
const JOINED_APPENDS_MAX: usize = 512;

/// Bytes that appends read one by one may take together, after unpacking. A few bytes can stand for
/// very many; whoever comes after that tries again.
const UNPACKED_BYTES_MAX: usize = 2 * rows::UNPACKED_BYTES_MAX;

/// See the module. One for each stream.
#[derive(Debug, Default)]
pub struct Lane {
    gathering: Mutex<Gathering>,
}

#[derive(Debug, Default)]
struct Gathering {
    waiting: Vec<Small>,
    is_driven: bool,
}

/// A small append and its sender.
#[derive(Debug)]
pub(super) struct Small {
    pub rows: SmallRows,
    pub permit: OwnedSemaphorePermit,
    pub reply: Reply,
}

/// Rows of a small append, as they were sent.
#[derive(Debug)]
pub(super) enum SmallRows {
    Json(Bytes),
    ArrowIpc(Bytes),
}

type Reply = oneshot::Sender<Result<AppendAck, AppendError>>;

/// A sender whose rows are good.
struct Sender {
    reply: Reply,
    row_count: usize,
}

/// What came of the part of one partition.
type Placed = Result<(Offset, Offset), AppendError>;

/// Takes what waits, again and again, until nothing does.
struct Driver {
    stream: Arc<ServedStream>,
    metrics: Arc<Metrics>,
    is_done: bool,
}

/// Adds an append to the lane of its stream; answered through its reply.
pub(super) fn join(stream: &Arc<ServedStream>, metrics: &Arc<Metrics>, small: Small) {
    let mut gathering = stream.lane.gathering.lock();
    gathering.waiting.push(small);
    if !std::mem::replace(&mut gathering.is_driven, true) {
        let (stream, metrics) = (stream.clone(), metrics.clone());
        // Not by the caller itself: a call that is given up must not take the others along.
        tokio::spawn(Driver { stream, metrics, is_done: false }.run());
    }
}

impl Lane {
    fn take(&self) -> Vec<Small> {
        let mut gathering = self.gathering.lock();
        let count = gathering.waiting.len().min(JOINED_APPENDS_MAX);
        gathering.is_driven = 0 < count;
        if count == gathering.waiting.len() {
            let room = Vec::with_capacity(count);
            return std::mem::replace(&mut gathering.waiting, room);
        }
        gathering.waiting.drain(..count).collect()
    }
}

impl Driver {
    async fn run(mut self) {
        loop {
            let taken = self.stream.lane.take();
            if taken.is_empty() {
                self.is_done = true;
                return;
            }
            self.append(taken).await;
        }
    }

    async fn append(&self, taken: Vec<Small>) {
        let Some((rows, senders, permit)) = self.decode(taken) else {
            return;
        };
        self.metrics.append_received(rows.num_rows() as u64, rows::own_bytes(&rows) as u64);
        let definition = &self.stream.stream.definition;
        let partitions = rows::partitions_of(definition, &rows, self.stream.next_turn());
        let mut answers = Vec::new();
        for (number, rows) in rows::deal(definition, &rows, &partitions) {
            let (reply, answer) = oneshot::channel();
            let handle = &self.stream.partitions[number.0 as usize];
            let sent = handle.append(part_message(None, Some(rows), &permit, reply));
            answers.push((number, sent.map(|()| answer)));
        }
        let mut placed: Vec<Option<Placed>> = vec![None; self.stream.partitions.len()];
        for (number, answer) in answers {
            placed[number.0 as usize] = Some(match answer {
                Ok(answer) => offsets(answer.await.unwrap_or(Err(AppendError::Lost))),
                Err(error) => Err(error),
            });
        }
        answer_all(senders, &partitions, placed);
    }

    /// One batch of everything that is good; who sent something else is told so. `None` when there
    /// is nothing to append.
    fn decode(&self, taken: Vec<Small>) -> Option<(RecordBatch, Vec<Sender>, Permit)> {
        let (mut json, mut ipc) = (Bodies::default(), Bodies::default());
        let mut permits: Option<OwnedSemaphorePermit> = None;
        for Small { rows, permit, reply } in taken {
            match &mut permits {
                Some(permits) => permits.merge(permit),
                None => permits = Some(permit),
            }
            let (bodies, bytes) = match rows {
                SmallRows::Json(bytes) => (&mut json, bytes),
                SmallRows::ArrowIpc(bytes) => (&mut ipc, bytes),
            };
            bodies.bytes.push(bytes);
            bodies.replies.push(reply);
        }
        let schema = &self.stream.stream.definition.schema;
        let log = &self.stream.log_schema;
        let mut batches = Vec::new();
        let mut senders = Vec::new();
        json.decode(
            |bodies| rows::decode_json_joined(schema, log, bodies),
            |body| rows::decode_json(schema, log, &body),
            &mut batches,
            &mut senders,
        );
        ipc.decode(
            |bodies| rows::decode_ipc_joined(schema, log, bodies),
            |body| rows::decode_ipc(schema, log, body),
            &mut batches,
            &mut senders,
        );
        let permit = Arc::new(permits?);
        (!senders.is_empty()).then(|| (rows::concat(log, &batches), senders, permit))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.is_done {
            // It was cut off between two awaits: the next append starts another one, and who waits
            // is told that nobody knows.
            *self.stream.lane.gathering.lock() = Gathering::default();
        }
    }
}

/// Bodies of one form with their senders.
#[derive(Default)]
struct Bodies {
    bytes: Vec<Bytes>,
    replies: Vec<Reply>,
}

impl Bodies {
    fn decode(
        self,
        joined: impl Fn(&[Bytes]) -> Option<(RecordBatch, Vec<usize>)>,
        alone: impl Fn(Bytes) -> Result<RecordBatch, InvalidRows>,
        batches: &mut Vec<RecordBatch>,
        senders: &mut Vec<Sender>,
    ) {
        if self.bytes.is_empty() {
            return;
        }
        if let Some((batch, ends)) = joined(&self.bytes) {
            let mut first = 0;
            for (reply, end) in self.replies.into_iter().zip(ends) {
                senders.push(Sender { reply, row_count: end - first });
                first = end;
            }
            batches.push(batch);
            return;
        }
        let mut unpacked = 0;
        for (bytes, reply) in self.bytes.into_iter().zip(self.replies) {
            if UNPACKED_BYTES_MAX < unpacked {
                let _ = reply.send(Err(AppendError::Busy { reason: "too much came at once" }));
                continue;
            }
            match alone(bytes) {
                Ok(batch) => {
                    unpacked += rows::own_bytes(&batch);
                    senders.push(Sender { reply, row_count: batch.num_rows() });
                    batches.push(batch);
                }
                Err(invalid) => {
                    // A caller that left needs no answer.
                    let _ = reply.send(Err(invalid.into()));
                }
            }
        }
    }
}

/// Where a part without a stamp was placed: only a stamp is ever refused or recognised.
fn offsets(outcome: Result<PartOutcome, AppendError>) -> Placed {
    match outcome? {
        PartOutcome::Appended { first, end } => Ok((first, end)),
        PartOutcome::Duplicate { .. }
        | PartOutcome::Fenced { .. }
        | PartOutcome::OutOfSequence { .. } => Err(AppendError::Lost),
    }
}

/// Tells each sender where its rows are: in a partition they lie in the order of the batch.
fn answer_all(
    senders: Vec<Sender>,
    partitions: &[PartitionNumber],
    mut placed: Vec<Option<Placed>>,
) {
    let mut rest = partitions;
    for Sender { reply, row_count } in senders {
        let (own, after) = rest.split_at(row_count);
        rest = after;
        // A caller that left needs no answer.
        let _ = reply.send(ack(own, &mut placed));
    }
}

/// The answer to rows that went to these partitions; takes their offsets.
fn ack(own: &[PartitionNumber], placed: &mut [Option<Placed>]) -> Result<AppendAck, AppendError> {
    let mut frontier = Frontier::default();
    let mut parts: Vec<PartitionAck> = Vec::with_capacity(1);
    let mut failure = None;
    for &partition in own {
        match placed[partition.0 as usize].as_mut() {
            Some(Ok((next, _end))) => {
                let first = *next;
                *next = first.advance(1);
                match parts.iter_mut().find(|part| part.partition == partition) {
                    Some(part) => part.offsets = part.offsets.map(|(first, _)| (first, *next)),
                    None => parts.push(PartitionAck {
                        partition,
                        offsets: Some((first, *next)),
                        duplicate: false,
                    }),
                }
                frontier.0.insert(partition, *next);
            }
            Some(Err(error)) => failure = Some(error.clone()),
            None => failure = Some(AppendError::Lost),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    parts.sort_unstable_by_key(|part| part.partition);
    Ok(AppendAck { frontier, partitions: parts, duplicate: false, event_count: own.len() as u64 })
}
