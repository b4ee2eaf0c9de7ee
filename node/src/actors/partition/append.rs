//! Appends of one partition: joined into entries on the way in, answered on the way out.
//!
//! While a write is under way, small appends gather; when it ends they leave together as one entry.
//! So a lone append waits for nobody, and many share one fsync without a timer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actix::{Context, Handler, Message};
use alluvium_core::ids::RequestId;
use alluvium_core::partition::{self, Appended, Command, Part};
use alluvium_core::replica::{Input, Reply};
use alluvium_views::{columns, rows};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::PartitionActor;
use crate::clock;
use crate::ingest::{AppendError, PartReply};

/// A place in the append budget; shared by the parts of one batch, free when all are answered.
pub type Permit = Arc<OwnedSemaphorePermit>;

/// Appends one part of a batch to this partition; answered when it is durable and applied.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Append {
    /// Who sent it and how many events it has.
    pub part: Part,
    /// The events, in the log schema; none for an empty part.
    pub rows: Option<RecordBatch>,
    /// The events encoded, when that was worth doing early.
    pub payload: Option<Bytes>,
    /// Its place in the append budget.
    pub permit: Permit,
    /// The caller.
    pub reply: PartReply,
}

/// Entries one partition may have on the way to disk. More would only queue in the log writer;
/// fewer leaves the disk idle while the next entry is built.
const ENTRIES_IN_FLIGHT_MAX: usize = 4;

/// Small appends joined into one entry: enough to share the cost of an entry, few enough that
/// joining them does not hold up the partition.
const JOINED_PARTS_MAX: usize = 512;

/// Appends between arrival and answer.
#[derive(Debug, Default)]
pub struct Appends {
    pending: VecDeque<Append>,
    in_flight: BTreeMap<RequestId, InFlight>,
}

#[derive(Debug)]
struct InFlight {
    rows: Option<RecordBatch>,
    callers: Vec<(PartReply, Permit)>,
}

impl Appends {
    /// The next entry's worth: one large append, or a run of small ones.
    fn take_entry(&mut self) -> Vec<Append> {
        let mut taken = Vec::new();
        while let Some(next) = self.pending.front() {
            let large = next.payload.is_some();
            if large && !taken.is_empty() || taken.len() == JOINED_PARTS_MAX {
                break;
            }
            taken.extend(self.pending.pop_front());
            if large {
                break;
            }
        }
        taken
    }
}

impl Handler<Append> for PartitionActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Self::Context) {
        self.appends.pending.push_back(append);
        self.propose_pending(ctx);
    }
}

impl PartitionActor {
    /// Proposes what waits, as far as the way to disk has room.
    pub(super) fn propose_pending(&mut self, ctx: &mut Context<Self>) {
        while !self.appends.pending.is_empty() && self.may_propose() {
            let taken = self.appends.take_entry();
            self.propose_entry(taken, ctx);
        }
    }

    fn may_propose(&self) -> bool {
        let in_flight = self.appends.in_flight.len();
        let large = self.appends.pending.front().is_some_and(|next| next.payload.is_some());
        in_flight == 0 || large && in_flight < ENTRIES_IN_FLIGHT_MAX
    }

    fn propose_entry(&mut self, taken: Vec<Append>, ctx: &mut Context<Self>) {
        let mut parts = Vec::with_capacity(taken.len());
        let mut batches = Vec::with_capacity(taken.len());
        let mut callers = Vec::with_capacity(taken.len());
        let mut payload = None;
        for append in taken {
            parts.push(append.part);
            batches.extend(append.rows);
            payload = append.payload;
            callers.push((append.reply, append.permit));
        }
        let rows = match batches.len() {
            0 | 1 => batches.pop(),
            _ => Some(rows::concat(&batches[0].schema(), &batches)),
        };
        let payload = match (&rows, payload) {
            (_, Some(payload)) => payload,
            (Some(rows), None) => rows::encode_payload(rows),
            (None, None) => Bytes::new(),
        };
        let append = partition::Append { appended_at: clock::now(), parts, payload };
        let request = self.next_request();
        self.appends.in_flight.insert(request, InFlight { rows, callers });
        self.step(Input::Propose { request, command: Command::Append(append).encode() }, ctx);
    }

    /// An append was applied: its events join the tail, its callers are answered.
    pub(super) fn appended(&mut self, request: Option<RequestId>, appended: &Appended) {
        let in_flight = request.and_then(|request| self.appends.in_flight.remove(&request));
        let (rows, callers) = match in_flight {
            Some(InFlight { rows, callers }) => (rows, callers),
            None => (None, Vec::new()),
        };
        if appended.first < appended.end {
            let rows = rows.unwrap_or_else(|| self.decode(appended));
            let kept = match appended.kept.as_slice() {
                [whole] if whole.len() == rows.num_rows() => rows,
                ranges => rows::keep(&rows, ranges),
            };
            let rows = columns::with_hidden(&kept, appended.first, appended.appended_at);
            self.metrics.append_applied(rows.num_rows() as u64);
            self.log
                .append(appended.first, appended.appended_at, rows)
                .expect("applied events follow each other and have the stream's schema");
            self.advanced.send_replace(appended.end);
        }
        for ((reply, _permit), outcome) in callers.into_iter().zip(&appended.parts) {
            // A caller that left needs no answer.
            let _ = reply.send(Ok(*outcome));
        }
    }

    fn decode(&self, appended: &Appended) -> RecordBatch {
        let schema = self.sealing.log_schema(&self.stream);
        rows::decode_payload(appended.payload.clone(), schema)
            .expect("a payload that passed its checksum was encoded by this code")
    }

    /// An append will not be applied, or nobody knows.
    pub(super) fn append_refused(&mut self, request: RequestId, reply: &Reply) {
        let Some(in_flight) = self.appends.in_flight.remove(&request) else {
            return;
        };
        for (caller, _permit) in in_flight.callers {
            let error = match reply {
                Reply::NotOwner { .. } => AppendError::NotOwner { partition: self.number },
                Reply::Busy { .. } => AppendError::Busy { reason: "the partition's log is behind" },
                Reply::Lost { .. } | Reply::ReadReady { .. } | Reply::MembersChanged { .. } => {
                    AppendError::Lost
                }
            };
            let _ = caller.send(Err(error));
        }
    }
}
