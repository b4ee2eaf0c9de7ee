//! When a partition seals its tail into a segment, and when old segments go.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};
use alluvium_core::ids::{Index, Offset};
use alluvium_core::partition::cut::CutPolicy;
use alluvium_core::partition::{Command, retention};
use alluvium_core::replica::{Checkpoint, Input};
use alluvium_core::stream::Stream;
use alluvium_core::time::Time;
use alluvium_store::{CutTask, PartitionLog, SegmentBusy, SegmentWriter, StoreError, StoreMetrics};
use arrow::datatypes::SchemaRef;

use super::PartitionActor;
use crate::clock::{self, Stopwatch};

/// When to seal.
#[derive(Clone, Copy, Debug)]
pub struct SealLimits {
    /// Size and age at which a tail is sealed.
    pub policy: CutPolicy,
    /// Bytes of unsealed events of all partitions above which every tail worth a file is sealed.
    pub pressure_bytes: u64,
    /// How often old segments are looked for.
    pub retention_interval: Duration,
}

/// A tail smaller than this is not sealed for memory's sake: the file would cost more than it
/// frees.
const PRESSURE_TAIL_BYTES_MIN: u64 = 1 << 20;

/// Log bytes without events (producers' empty parts, elections) after which a checkpoint lets them
/// go.
const EVENTLESS_LOG_BYTES_MAX: u64 = 4 << 20;

/// After a failed seal, most often a full disk: time for the retention or a person to help.
const FAILED_WAIT: Duration = Duration::from_secs(5);

/// While the segment thread has more than enough to do: about the time of one seal.
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// A tail was sealed, or not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Sealed(pub Result<Index, StoreError>);

/// What the partition knows about its sealing.
#[derive(Debug)]
pub struct Sealing {
    segments: SegmentWriter,
    store: Arc<StoreMetrics>,
    limits: SealLimits,
    log_schema: std::sync::OnceLock<SchemaRef>,
    state: State,
    retained: Stopwatch,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Not again for a while, by a clock that nobody sets.
    Resting {
        since: Stopwatch,
        wait: Duration,
    },
    /// This checkpoint and the events before it are being written.
    UnderWay {
        checkpoint: Checkpoint,
    },
}

impl Sealing {
    pub(super) fn new(
        segments: SegmentWriter,
        store: Arc<StoreMetrics>,
        limits: SealLimits,
    ) -> Sealing {
        let (state, retained) = (State::Idle, Stopwatch::start());
        let log_schema = std::sync::OnceLock::new();
        Sealing { segments, store, limits, log_schema, state, retained }
    }

    pub(super) fn log_schema(&self, stream: &Stream) -> &SchemaRef {
        let schema = &stream.definition.schema;
        self.log_schema.get_or_init(|| alluvium_views::columns::log_schema(schema))
    }

    pub(super) fn retain(&self, log: &Arc<PartitionLog>, start: Offset) {
        self.segments.retain(log, start);
    }
}

fn resting(wait: Duration) -> State {
    State::Resting { since: Stopwatch::start(), wait }
}

impl PartitionActor {
    /// Seals the tail when its size, its age, the node's memory or its log says so.
    pub(super) fn seal_if_due(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        match self.sealing.state {
            State::Idle => {}
            State::Resting { since, wait } if wait <= since.elapsed() => {}
            State::Resting { .. } | State::UnderWay { .. } => return,
        }
        if !self.seal_is_due(now) && !self.place.wanted {
            return;
        }
        let Some(checkpoint) = self.shell.checkpoint() else {
            return;
        };
        let addr = ctx.address();
        // One seal of a partition is under way at a time, so this notice is bounded.
        let done = Box::new(move |result| addr.do_send(Sealed(result)));
        let end = self.shell.machine().end();
        let written = checkpoint.clone();
        let task = CutTask { log: self.log.clone(), checkpoint, end, done };
        self.sealing.state = match self.sealing.segments.cut(task) {
            Ok(()) => State::UnderWay { checkpoint: written },
            // The segment thread is behind; the tail keeps growing until the append budget says no.
            Err(SegmentBusy(_)) => resting(BUSY_WAIT),
        };
    }

    fn seal_is_due(&self, now: Time) -> bool {
        let view = self.log.view();
        let limits = &self.sealing.limits;
        if view.tail_bytes == 0 {
            return EVENTLESS_LOG_BYTES_MAX < self.shell.status().log_bytes;
        }
        let pressed = limits.pressure_bytes < self.sealing.store.tail_bytes.get();
        limits.policy.due(view.tail_bytes, view.tail_oldest, now)
            || pressed && PRESSURE_TAIL_BYTES_MIN < view.tail_bytes
    }

    /// Proposes a later start when old segments have outlived the stream's retention.
    pub(super) fn retain_if_due(&mut self, ctx: &mut Context<Self>) {
        let keep = self.stream.definition.retention;
        if keep.is_none() {
            return;
        }
        if self.sealing.retained.elapsed() < self.sealing.limits.retention_interval {
            return;
        }
        self.sealing.retained = Stopwatch::start();
        let view = self.log.view();
        // What a view has not durably folded stays, however old it is.
        let held = self.log.held().unwrap_or(view.end);
        let aged = view
            .segments
            .iter()
            .take_while(|segment| segment.end <= held)
            .map(|segment| retention::Sealed { end: segment.end, newest: segment.newest() });
        let start = retention::start_after(self.start(), aged, keep, clock::now());
        if self.start() < start {
            self.propose_own(&Command::Retain { start }, ctx);
        }
    }
}

impl Handler<Sealed> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Sealed(result): Sealed, ctx: &mut Self::Context) {
        match result {
            Ok(through) => {
                let before = std::mem::replace(&mut self.sealing.state, State::Idle);
                self.step(Input::Truncate { through }, ctx);
                if let State::UnderWay { checkpoint } = before
                    && std::mem::take(&mut self.place.wanted)
                {
                    self.step(Input::OfferCheckpoint { checkpoint }, ctx);
                }
            }
            Err(error) => {
                let stream = &self.stream.definition.name;
                tracing::error!(%stream, partition = %self.number, %error, "seal the tail");
                self.metrics.seal_failed();
                self.sealing.state = resting(FAILED_WAIT);
            }
        }
    }
}
