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
use crate::clock::{self, Stopwatch};
use crate::ingest::{AppendError, ENCODE_EARLY_ROWS_MIN, PartReply};

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
    /// Where it comes from.
    pub origin: Origin,
    /// Since it is on its way.
    pub since: Stopwatch,
}

/// Where a part comes from, and so what becomes of it where this node is not the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a client of this node: it goes on to the owner.
    Client,
    /// It was on its way to another owner; by now this node is the owner.
    Forwarder,
    /// From another node, which is told to look further: parts are forwarded once.
    Peer,
}

impl Append {
    /// From a client of this node.
    pub fn new(part: Part, rows: Option<RecordBatch>, permit: Permit, reply: PartReply) -> Append {
        let (origin, since) = (Origin::Client, Stopwatch::start());
        Append { part, rows, payload: None, permit, reply, origin, since }
    }

    /// From another node, in the form of the log. Small ones are joined with others, and so are
    /// encoded again.
    pub fn received(
        part: Part,
        rows: Option<RecordBatch>,
        payload: Bytes,
        permit: Permit,
        reply: PartReply,
    ) -> Append {
        let large = rows.as_ref().is_some_and(|rows| ENCODE_EARLY_ROWS_MIN <= rows.num_rows());
        let payload = large.then_some(payload);
        Append { payload, origin: Origin::Peer, ..Append::new(part, rows, permit, reply) }
    }

    /// The events in the form of the log; empty for an empty part.
    pub fn payload(&self) -> Bytes {
        match (&self.payload, &self.rows) {
            (Some(payload), _) => payload.clone(),
            (None, Some(rows)) => rows::encode_payload(rows),
            (None, None) => Bytes::new(),
        }
    }

    /// Whether sending it twice does no harm.
    fn is_stamped(&self) -> bool {
        self.part.producer.is_some()
    }
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
    parts: Vec<Append>,
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
        match append.origin {
            Origin::Forwarder => self.forwarder.taken_back(),
            // It must not overtake those that are still on their way to another owner.
            Origin::Client if self.forwarder.is_busy() => return self.forwarder.push(append),
            Origin::Client | Origin::Peer => {}
        }
        self.appends.pending.push_back(append);
        self.propose_pending(ctx);
    }
}

impl PartitionActor {
    /// Proposes what waits, as far as the way to disk has room.
    pub(super) fn propose_pending(&mut self, ctx: &mut Context<Self>) {
        if self.appends.pending.is_empty() {
            return;
        }
        if !self.shell.leads() {
            for append in std::mem::take(&mut self.appends.pending) {
                self.pass_on(append);
            }
            return;
        }
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
        let mut payload = None;
        for append in &taken {
            parts.push(append.part);
            batches.extend(append.rows.clone());
            payload.clone_from(&append.payload);
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
        self.appends.in_flight.insert(request, InFlight { rows, parts: taken });
        self.step(Input::Propose { request, command: Command::Append(append).encode() }, ctx);
    }

    /// An append was applied: its events join the tail, its callers are answered.
    pub(super) fn appended(&mut self, request: Option<RequestId>, appended: &Appended) {
        let in_flight = request.and_then(|request| self.appends.in_flight.remove(&request));
        let (rows, parts) = match in_flight {
            Some(InFlight { rows, parts }) => (rows, parts),
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
        for (part, outcome) in parts.into_iter().zip(&appended.parts) {
            // A caller that left needs no answer.
            let _ = part.reply.send(Ok(*outcome));
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
        for part in in_flight.parts {
            match reply {
                Reply::NotOwner { .. } => self.pass_on(part),
                Reply::Busy { .. } => {
                    let reason = "the partition's log is behind";
                    // A caller that left needs no answer, here and below.
                    let _ = part.reply.send(Err(AppendError::Busy { reason }));
                }
                Reply::Lost { .. } | Reply::ReadReady { .. } | Reply::MembersChanged { .. } => {
                    if part.is_stamped() && part.origin != Origin::Peer {
                        self.forwarder.push(part);
                    } else {
                        let _ = part.reply.send(Err(AppendError::Lost));
                    }
                }
            }
        }
    }

    /// This node does not own the partition: the part goes to the owner, or its sender is told.
    fn pass_on(&self, mut part: Append) {
        if part.origin == Origin::Peer {
            let owner = self.shell.status().leader;
            let _ = part.reply.send(Err(AppendError::NotOwner { owner }));
        } else {
            part.origin = Origin::Client;
            self.forwarder.push(part);
        }
    }

    /// The replica leaves this node: what waits here goes to the owner.
    pub(super) fn pass_all_on(&mut self) {
        for in_flight in std::mem::take(&mut self.appends.in_flight).into_values() {
            for part in in_flight.parts {
                if part.is_stamped() {
                    self.pass_on(part);
                } else {
                    let _ = part.reply.send(Err(AppendError::Lost));
                }
            }
        }
        for part in std::mem::take(&mut self.appends.pending) {
            self.pass_on(part);
        }
    }
}
