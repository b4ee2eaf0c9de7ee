//! Folds the events of one partition into one view.
//!
//! One loop for history and for events as they come: read what follows from the log, fold it, go
//! on. Each slice is short (see [`pace`]), since all views share the threads of their arbiters,
//! where reading files is allowed and nothing else runs.
//!
//! A panic in a slice throws away the memory of this part alone. It is read back from its last
//! checkpoint and folded event by event up to the one that panics; there it parks.

mod pace;

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler,
    WrapFuture,
};
use alluvium_core::ids::{Offset, ViewId};
use alluvium_store::{EventBatch, EventReader, PartitionLog};
use alluvium_views::fold::FoldError;
use arrow::datatypes::SchemaRef;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::WatchStream;

use super::supervisor::{CaughtUp, Supervisor};
use super::ticker::Tick;
use crate::clock::Stopwatch;
use crate::contain::contain;
use crate::telemetry::Metrics;
use crate::views::{Condition, ViewPart, reason_of};
use pace::Pace;

/// Ticks between two checkpoints: what a crash makes the view fold again.
const CHECKPOINT_TICKS: u32 = 20;

/// After a checkpoint that could not be written: time for someone to make room.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// Messages one part may have waiting: ticks, its own slices and a few orders.
pub const MAILBOX_MESSAGES_MAX: usize = 64;

/// Goes on after being parked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Resume;

/// Writes down where it stands, then ends the actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopView(pub oneshot::Sender<()>);

/// What a view actor is started with.
#[derive(Debug)]
pub struct ViewParts {
    /// Which life of the view.
    pub view: ViewId,
    /// What it folds into.
    pub part: Arc<ViewPart>,
    /// What it reads.
    pub log: Arc<PartitionLog>,
    /// The columns it needs.
    pub columns: SchemaRef,
    /// Tells that events were added.
    pub advanced: watch::Receiver<Offset>,
    /// Who is told when it has caught up.
    pub supervisor: actix::Addr<Supervisor>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// See the module.
#[derive(Debug)]
pub struct ViewActor {
    parts: ViewParts,
    /// None until it starts, and while it is parked for want of one.
    reader: Option<EventReader>,
    pace: Pace,
    /// A slice is on its way, so another need not be sent.
    scheduled: bool,
    parked: bool,
    /// Parked for a reason that may pass by itself.
    goes_on: bool,
    /// After a panic: fold single events until this one is behind.
    careful_until: Option<Offset>,
    ticks: u32,
    checkpoint: Written,
    /// Events the node had applied at the last tick, and whether there were new ones then.
    applied: (u64, bool),
}

/// The checkpoint that is on its way into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Not { next: Offset },
    UnderWay,
}

impl ViewActor {
    /// Not started yet.
    pub fn new(parts: ViewParts) -> ViewActor {
        let next = parts.part.status().next;
        ViewActor {
            parts,
            reader: None,
            pace: Pace::default(),
            scheduled: false,
            parked: false,
            goes_on: false,
            careful_until: None,
            ticks: 0,
            checkpoint: Written::Not { next },
            applied: (0, false),
        }
    }

    /// Takes a turn after everyone else on this thread has had theirs. A message to itself would be
    /// handled in the same turn.
    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if self.scheduled || self.parked {
            return;
        }
        self.scheduled = true;
        let turn = tokio::task::yield_now().into_actor(self).map(|(), actor, ctx| {
            actor.scheduled = false;
            if !actor.parked {
                actor.slice(ctx);
            }
        });
        ctx.spawn(turn);
    }

    fn slice(&mut self, ctx: &mut Context<Self>) {
        let watch = Stopwatch::start();
        let rows_max = if self.careful_until.is_some() { 1 } else { self.pace.rows() };
        let Some(reader) = &mut self.reader else { return };
        let events = match reader.next(rows_max) {
            Ok(Some(events)) => events,
            Ok(None) => return self.caught_up(),
            Err(error) => return self.park(error.to_string()),
        };
        match contain(|| self.parts.part.fold(&events)) {
            Ok(Ok(())) => self.folded(&events, watch.elapsed(), ctx),
            Ok(Err(error)) => self.failed(&error),
            Err(panic) => self.panicked(&events, panic, ctx),
        }
    }

    fn folded(&mut self, events: &EventBatch, elapsed: Duration, ctx: &mut Context<Self>) {
        let rows = events.rows.num_rows();
        self.parts.metrics.view_folded(rows as u64);
        if self.careful_until.is_some_and(|until| until <= self.parts.part.status().next) {
            self.careful_until = None;
        }
        let building = self.parts.part.status().condition == Condition::Building;
        let (_, ingesting) = self.applied;
        match self.pace.took(rows, elapsed, building && ingesting) {
            Some(rest) => {
                self.scheduled = true;
                ctx.run_later(rest, |actor, ctx| {
                    actor.scheduled = false;
                    actor.schedule(ctx);
                });
            }
            None => self.schedule(ctx),
        }
    }

    fn caught_up(&mut self) {
        if self.parts.part.status().condition == Condition::Building {
            self.parts.part.set_condition(Condition::Serving);
            // Once in the life of the part.
            self.parts.supervisor.do_send(CaughtUp(self.parts.view));
        }
    }

    fn failed(&mut self, error: &FoldError) {
        let reason = reason_of(error);
        let next = self.parts.part.status().next;
        self.read_from(next);
        self.park(reason);
    }

    /// What the part has in memory cannot be trusted any more.
    fn panicked(&mut self, events: &EventBatch, panic: String, ctx: &mut Context<Self>) {
        let end = events.first.advance(events.rows.num_rows() as u64);
        let start = self.parts.log.view().start;
        if let Err(reason) = self.parts.part.reopen(start) {
            return self.park(reason);
        }
        let next = self.parts.part.status().next;
        self.checkpoint = Written::Not { next };
        self.read_from(next);
        if events.rows.num_rows() == 1 {
            return self.park(format!("a panic at offset {}: {panic}", events.first));
        }
        self.careful_until = Some(end);
        self.schedule(ctx);
    }

    /// Goes on with the event at `next`; parks when the log cannot be read.
    fn read_from(&mut self, next: Offset) {
        let (log, columns) = (Arc::clone(&self.parts.log), SchemaRef::clone(&self.parts.columns));
        match EventReader::new(log, columns, next) {
            Ok(reader) => self.reader = Some(reader),
            Err(error) => self.park(error.to_string()),
        }
    }

    fn park(&mut self, reason: String) {
        let (view, partition) = (self.parts.part.name(), self.parts.part.partition());
        tracing::error!(view, %partition, reason, "the view is parked");
        self.parked = true;
        self.parts.part.set_condition(Condition::Parked { reason });
    }

    fn checkpoint_if_due(&mut self, ctx: &mut Context<Self>) {
        self.ticks += 1;
        if CHECKPOINT_TICKS <= self.ticks {
            self.ticks = 0;
            self.begin_checkpoint(ctx);
        }
    }

    fn begin_checkpoint(&mut self, ctx: &mut Context<Self>) {
        let next = self.parts.part.status().next;
        if self.checkpoint == Written::UnderWay || self.checkpoint == (Written::Not { next }) {
            return;
        }
        let checkpoint = match contain(|| self.parts.part.checkpoint()) {
            Ok(Ok(checkpoint)) => checkpoint,
            Ok(Err(error)) => return self.park(reason_of(&error)),
            Err(panic) => return self.park(format!("a panic while writing it down: {panic}")),
        };
        self.checkpoint = Written::UnderWay;
        let part = Arc::clone(&self.parts.part);
        // The database may wait for its own threads.
        let written = tokio::task::spawn_blocking(move || part.write(&checkpoint));
        let done = written.into_actor(self).map(move |written, actor, ctx| match written {
            Ok(Ok(())) => {
                actor.parts.part.checkpointed();
                actor.checkpoint = Written::Not { next };
                actor.hold();
            }
            Ok(Err(error)) => actor.not_written(&error.to_string(), ctx),
            Err(error) => actor.not_written(&error.to_string(), ctx),
        });
        ctx.spawn(done);
    }

    /// What is not in the database was counted as stored already, so memory is read back, once
    /// there is hope: most often the disk is full.
    fn not_written(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.park(format!(
            "its checkpoint could not be written: {reason}; it goes on by itself as soon as that \
             works"
        ));
        self.goes_on = true;
        ctx.run_later(WRITE_AGAIN, |actor, ctx| {
            if actor.goes_on {
                actor.resume(ctx);
            }
        });
    }

    fn resume(&mut self, ctx: &mut Context<Self>) {
        self.goes_on = false;
        let start = self.parts.log.view().start;
        if let Err(reason) = self.parts.part.reopen(start) {
            return self.park(reason);
        }
        let next = self.parts.part.status().next;
        self.checkpoint = Written::Not { next };
        self.parked = false;
        self.parts.part.set_condition(Condition::Building);
        self.read_from(next);
        self.schedule(ctx);
    }

    /// Retention keeps what a crash would make this part read again.
    fn hold(&self) {
        match self.parts.part.stored().durable_next() {
            Ok(Some(next)) => self.parts.log.hold(self.parts.view, next),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, view = self.parts.part.name(), "look at the state")
            }
        }
    }
}

impl Actor for ViewActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let next = self.parts.part.status().next;
        self.parts.log.hold(self.parts.view, next);
        self.read_from(next);
        ctx.add_stream(WatchStream::new(self.parts.advanced.clone()));
    }
}

impl StreamHandler<Offset> for ViewActor {
    fn handle(&mut self, _end: Offset, ctx: &mut Self::Context) {
        self.schedule(ctx);
    }

    // The partition stopped; so will this, when it is told.
    fn finished(&mut self, _ctx: &mut Self::Context) {}
}

impl Handler<Tick> for ViewActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        let applied = self.parts.metrics.events_applied();
        self.applied = (applied, applied != self.applied.0);
        if !self.parked {
            self.checkpoint_if_due(ctx);
        }
    }
}

impl Handler<Resume> for ViewActor {
    type Result = ();

    fn handle(&mut self, _resume: Resume, ctx: &mut Self::Context) {
        if self.parked {
            self.resume(ctx);
        }
    }
}

impl Handler<StopView> for ViewActor {
    type Result = ();

    fn handle(&mut self, StopView(done): StopView, ctx: &mut Self::Context) {
        if !self.parked && self.checkpoint != Written::UnderWay {
            let part = &self.parts.part;
            let written = contain(|| part.checkpoint().map(|checkpoint| part.write(&checkpoint)));
            if !matches!(written, Ok(Ok(Ok(())))) {
                tracing::warn!(view = part.name(), "the next start folds some events again");
            }
        }
        self.parts.part.set_condition(Condition::Stopped);
        self.parts.log.release(self.parts.view);
        ctx.stop();
        // The asker may have left.
        let _ = done.send(());
    }
}
