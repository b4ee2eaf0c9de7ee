//! The meta group's replica: catalogue, producers, id counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use alluvium_core::ids::{GroupId, Index, ProducerId, RequestId};
use alluvium_core::meta::{Meta, MetaCommand, MetaOutcome};
use alluvium_core::replica::{Applied, Input, Reply};
use alluvium_core::stream::Stream;
use alluvium_core::view::ViewEntry;
use alluvium_store::{SegmentWriter, StoreError};
use tokio::sync::oneshot;

use super::effects::{ReplicaShell, Stepped};
use super::partition::PersistedNotice;
use super::supervisor::{Reconcile, Supervisor};
use super::ticker::Tick;

/// Log bytes after which the catalogue is written down and its log let go.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Changes one mailbox may have waiting; a change takes one fsync, so this is seconds of work.
const MAILBOX_MESSAGES_MAX: usize = 1_024;

/// Proposes a change of the catalogue; answered when it is agreed, applied and carried out here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Change(pub MetaCommand, pub oneshot::Sender<Result<MetaOutcome, ChangeError>>);

/// Names of producers, for `system.producers`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NameProducers(pub Vec<ProducerId>, pub oneshot::Sender<BTreeMap<ProducerId, String>>);

/// Why the catalogue was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Too many changes wait, or the log is behind.
    #[error("too many changes of the catalogue are under way; try again")]
    Busy,
    /// The meta group has no leader here, or lost it: the outcome is not known.
    #[error(
        "the meta group has no settled leader; look whether the change was made, then try again"
    )]
    Lost,
    /// A partition could not be started.
    #[error("{reason}")]
    NotStarted {
        /// What failed.
        reason: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// The catalogue's log was let go up to an index, or not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct CheckpointWritten(Result<Index, StoreError>);

/// How the rest of the node reaches the meta group.
#[derive(Debug)]
pub struct MetaHandle {
    addr: Addr<MetaActor>,
}

/// See the module.
#[derive(Debug)]
pub struct MetaActor {
    shell: ReplicaShell<Meta>,
    segments: SegmentWriter,
    supervisor: Addr<Supervisor>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Result<MetaOutcome, ChangeError>>>,
    /// The first read of this life: answered when the catalogue holds all that was ever
    /// acknowledged.
    caught_up: Option<RequestId>,
    ready: Option<oneshot::Sender<()>>,
    requests: u64,
    checkpointing: bool,
}

impl MetaActor {
    /// Starts it on this thread's arbiter; `shell` is built inside, with the actor's own notices.
    /// `ready` is told once the streams of the catalogue are served.
    pub fn start_with(
        build: impl FnOnce(
            Box<dyn Fn(alluvium_core::replica::Persisted) + Send + Sync>,
        ) -> ReplicaShell<Meta>
        + 'static,
        segments: SegmentWriter,
        supervisor: Addr<Supervisor>,
        ready: oneshot::Sender<()>,
    ) -> MetaHandle {
        let addr = MetaActor::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
            let own = ctx.address();
            // One notice for each write of this replica: bounded by what was proposed.
            let shell = build(Box::new(move |persisted| own.do_send(PersistedNotice(persisted))));
            MetaActor {
                shell,
                segments,
                supervisor,
                waiting: BTreeMap::new(),
                caught_up: None,
                ready: Some(ready),
                requests: 0,
                checkpointing: false,
            }
        });
        MetaHandle { addr }
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Stepped { applied, replies } = self.shell.step(input);
        for applied in applied {
            self.applied(applied);
        }
        for reply in replies {
            self.replied(&reply);
        }
        self.checkpoint_if_due(ctx);
    }

    fn applied(&mut self, applied: Applied<MetaOutcome>) {
        let caller = applied.request.and_then(|request| self.waiting.remove(&request));
        // While the log is replayed, the catalogue passes through states that are long gone:
        // streams are started and stopped only for the state that holds everything acknowledged.
        if self.ready.is_none() {
            self.reconcile(caller.map(|caller| (applied.outcome, caller)));
        } else if let Some(caller) = caller {
            let _ = caller.send(Ok(applied.outcome));
        }
    }

    fn replied(&mut self, reply: &Reply) {
        match reply {
            Reply::ReadReady { request, .. } => {
                if self.caught_up == Some(*request) {
                    let ready = self.ready.take();
                    self.supervisor.do_send(Reconcile {
                        streams: self.streams(),
                        views: self.views(),
                        then: None,
                        ready,
                    });
                }
            }
            Reply::NotOwner { request, .. } | Reply::Lost { request } => {
                self.refuse(*request, &ChangeError::Lost);
            }
            Reply::Busy { request } => self.refuse(*request, &ChangeError::Busy),
            Reply::MembersChanged { .. } => {}
        }
    }

    fn refuse(&mut self, request: RequestId, error: &ChangeError) {
        if self.caught_up == Some(request) {
            self.caught_up = None;
        }
        if let Some(caller) = self.waiting.remove(&request) {
            let _ = caller.send(Err(error.clone()));
        }
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.shell.machine().streams().values().cloned().collect()
    }

    fn views(&self) -> Vec<ViewEntry> {
        self.shell.machine().views().values().cloned().collect()
    }

    fn reconcile(
        &self,
        then: Option<(MetaOutcome, oneshot::Sender<Result<MetaOutcome, ChangeError>>)>,
    ) {
        // One for each applied change: bounded by the waiting callers.
        let (streams, views) = (self.streams(), self.views());
        self.supervisor.do_send(Reconcile { streams, views, then, ready: None });
    }

    fn checkpoint_if_due(&mut self, ctx: &mut Context<Self>) {
        if self.checkpointing || self.shell.status().log_bytes < LOG_BYTES_MAX {
            return;
        }
        let Some(checkpoint) = self.shell.checkpoint() else {
            return;
        };
        let own = ctx.address();
        let done = Box::new(move |result| own.do_send(CheckpointWritten(result)));
        // Refused, it is due again with the next step.
        self.checkpointing = self.segments.checkpoint_only(GroupId::META, checkpoint, done).is_ok();
    }
}

impl Actor for MetaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.step(Input::Campaign, ctx);
    }
}

impl Handler<PersistedNotice> for MetaActor {
    type Result = ();

    fn handle(&mut self, PersistedNotice(persisted): PersistedNotice, ctx: &mut Self::Context) {
        self.step(Input::Persisted(persisted), ctx);
        if self.ready.is_some() && self.caught_up.is_none() {
            let request = self.next_request();
            self.caught_up = Some(request);
            self.step(Input::ReadIndex { request }, ctx);
        }
    }
}

impl Handler<Tick> for MetaActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        self.step(Input::Tick, ctx);
        if self.ready.is_some() && self.caught_up.is_none() {
            let request = self.next_request();
            self.caught_up = Some(request);
            self.step(Input::ReadIndex { request }, ctx);
        }
    }
}

impl Handler<Change> for MetaActor {
    type Result = ();

    fn handle(&mut self, Change(command, caller): Change, ctx: &mut Self::Context) {
        let request = self.next_request();
        self.waiting.insert(request, caller);
        self.step(Input::Propose { request, command: command.encode() }, ctx);
    }
}

impl Handler<NameProducers> for MetaActor {
    type Result = ();

    fn handle(&mut self, NameProducers(ids, asker): NameProducers, _ctx: &mut Self::Context) {
        let mut names = BTreeMap::new();
        for id in ids {
            if let Some(name) = self.shell.machine().producer_name(id) {
                names.insert(id, name.to_string());
            }
        }
        let _ = asker.send(names);
    }
}

impl Handler<CheckpointWritten> for MetaActor {
    type Result = ();

    fn handle(&mut self, CheckpointWritten(result): CheckpointWritten, ctx: &mut Self::Context) {
        self.checkpointing = false;
        match result {
            Ok(through) => self.step(Input::Truncate { through }, ctx),
            Err(error) => tracing::error!(%error, "write the catalogue's checkpoint"),
        }
    }
}

impl MetaHandle {
    /// Proposes a change and waits until it is agreed, applied and carried out on this node.
    pub async fn change(&self, command: MetaCommand) -> Result<MetaOutcome, ChangeError> {
        let (reply, answer) = oneshot::channel();
        match self.addr.try_send(Change(command, reply)) {
            Ok(()) => answer.await.unwrap_or(Err(ChangeError::Stopping)),
            Err(actix::prelude::SendError::Full(_)) => Err(ChangeError::Busy),
            Err(actix::prelude::SendError::Closed(_)) => Err(ChangeError::Stopping),
        }
    }

    /// Names of these producers, as far as they are known.
    pub async fn producer_names(&self, ids: Vec<ProducerId>) -> BTreeMap<ProducerId, String> {
        let (reply, answer) = oneshot::channel();
        if self.addr.try_send(NameProducers(ids, reply)).is_err() {
            return BTreeMap::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Where changes are proposed.
    pub fn change_recipient(&self) -> actix::Recipient<Change> {
        self.addr.clone().recipient()
    }

    /// Where ticks go.
    pub fn tick_recipient(&self) -> actix::Recipient<Tick> {
        self.addr.clone().recipient()
    }
}
