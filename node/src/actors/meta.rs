//! The meta group's replica: catalogue, members, placement, id counters.
//!
//! Every node has one. Whoever leads takes changes, watches who is heard of, and plans; everybody
//! applies, publishes and reconciles what runs here with what the catalogue says.

mod handle;
mod lead;
mod messages;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, WrapFuture};
use alluvium_core::ids::{GroupId, Index, RequestId};
use alluvium_core::meta::{Meta, MetaOutcome};
use alluvium_core::replica::{Applied, Checkpoint, Input, Reply};
use alluvium_store::{SegmentWriter, Store};
use tokio::sync::oneshot;

use super::effects::{ReplicaShell, Stepped};
use super::inbox::{CutOff, Deliver, Inbox, StepDown};
use super::partition::PersistedNotice;
use super::supervisor::{Reconcile, Supervisor};
use super::ticker::Tick;
use crate::cluster::{Cluster, Known};
use crate::grpc::peer::{Answered, Peers};

pub use handle::{MetaHandle, MetaLink};
use lead::Leading;
use messages::{AskIndex, Await, CheckpointWritten, Heard, Settle};
pub use messages::{Change, ChangeError, Changed, Changer, NameProducers};

/// Log bytes after which the catalogue is written down and its log let go.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Changes one mailbox may have waiting; a change takes one fsync, so this is seconds of work. The
/// messages of other replicas wait here too.
const MAILBOX_MESSAGES_MAX: usize = 4_096;

/// Outcomes remembered for changes that another node proposed for this one: more than are under way
/// at a time.
const OUTCOMES_MAX: usize = 1_024;

/// What the actor is started with.
#[derive(Debug)]
pub struct MetaParts {
    /// Where checkpoints are.
    pub store: Arc<Store>,
    /// Starts and stops what the catalogue says.
    pub supervisor: Addr<Supervisor>,
    /// Told of members and placements.
    pub cluster: Arc<Cluster>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Where messages of other replicas come in.
    pub inbox: Arc<Inbox>,
    /// Told once the streams of the catalogue are served.
    pub ready: oneshot::Sender<()>,
}

/// How far this life has come.
#[derive(Debug)]
enum Readiness {
    /// The catalogue may lack something acknowledged.
    Unknown,
    /// The leader was asked where the log stands.
    Asked(RequestId),
    /// Everything up to here was acknowledged when it was asked.
    Known(Index),
    /// The catalogue has held all that was acknowledged before this life.
    Ready,
}

/// See the module.
#[derive(Debug)]
pub struct MetaActor {
    shell: ReplicaShell<Meta>,
    store: Arc<Store>,
    segments: SegmentWriter,
    supervisor: Addr<Supervisor>,
    cluster: Arc<Cluster>,
    peers: Arc<Peers>,
    waiting: BTreeMap<RequestId, Changer>,
    /// Callers whose change another node proposed.
    awaited: BTreeMap<Index, Vec<Changer>>,
    /// Outcomes of the last changes, by their place in the log.
    outcomes: BTreeMap<Index, MetaOutcome>,
    asked: BTreeMap<RequestId, oneshot::Sender<Result<Index, ChangeError>>>,
    /// Who waits for all changes up to an index, whatever they are.
    settling: Vec<(Index, oneshot::Sender<()>)>,
    readiness: Readiness,
    ready: Option<oneshot::Sender<()>>,
    requests: u64,
    checkpointing: bool,
    /// A follower waits for a checkpoint.
    checkpoint_wanted: bool,
    /// The checkpoint that is being written.
    written: Option<Checkpoint>,
    leading: Leading,
}

impl MetaActor {
    /// Starts it on this thread's arbiter; `shell` is built inside, with the actor's own notices.
    pub fn start_with(
        build: impl FnOnce(
            Box<dyn Fn(alluvium_core::replica::Persisted) + Send + Sync>,
        ) -> ReplicaShell<Meta>
        + 'static,
        parts: MetaParts,
    ) -> MetaHandle {
        let MetaParts { store, supervisor, cluster, peers, inbox, ready } = parts;
        let (known, others) = (cluster.clone(), peers.clone());
        let addr = MetaActor::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
            let own = ctx.address();
            // One notice for each write of this replica: bounded by what was proposed.
            let shell = build(Box::new(move |persisted| own.do_send(PersistedNotice(persisted))));
            MetaActor {
                shell,
                segments: store.segment_writer(),
                store,
                supervisor,
                cluster,
                peers,
                waiting: BTreeMap::new(),
                awaited: BTreeMap::new(),
                outcomes: BTreeMap::new(),
                asked: BTreeMap::new(),
                settling: Vec::new(),
                readiness: Readiness::Unknown,
                ready: Some(ready),
                requests: 0,
                checkpointing: false,
                checkpoint_wanted: false,
                written: None,
                leading: Leading::default(),
            }
        });
        inbox.open(GroupId::META, addr.clone().recipient(), addr.clone().recipient());
        MetaHandle::new(addr, known, others)
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Stepped { applied, replies, fetch, checkpoint_wanted, installed } =
            self.shell.step(input);
        self.checkpoint_wanted |= checkpoint_wanted;
        let news = !applied.is_empty() || installed.is_some();
        let mut carried = false;
        for applied in applied {
            carried |= self.applied(applied);
        }
        if news {
            self.publish();
            if !carried {
                self.reconcile_if_ready(None);
            }
        }
        for reply in replies {
            self.replied(&reply);
        }
        if let Some(fetch) = fetch {
            self.fetch(fetch, ctx);
        }
        self.become_ready();
        self.settle();
        self.checkpoint_if_due(ctx);
    }

    /// Lets go on who waits for what is applied by now, once it is carried out.
    fn settle(&mut self) {
        let applied = self.shell.status().applied;
        if self.settling.is_empty() || !matches!(self.readiness, Readiness::Ready) {
            return;
        }
        self.settling.retain(|(_, caller)| !caller.is_closed());
        let is_applied = |(index, _): &mut (Index, _)| *index <= applied;
        let settled: Vec<_> = self.settling.extract_if(.., is_applied).collect();
        if !settled.is_empty() {
            let settled = settled.into_iter().map(|(_, caller)| caller).collect();
            self.supervisor.do_send(Reconcile { settled, ..self.wanted() });
        }
    }

    /// True when somebody waits for what follows from it, and so everything is reconciled.
    fn applied(&mut self, applied: Applied<MetaOutcome>) -> bool {
        let Applied { index, request, outcome, .. } = applied;
        if matches!(outcome, MetaOutcome::Placed { .. }) {
            self.leading.look_soon();
        }
        self.outcomes.insert(index, outcome.clone());
        if OUTCOMES_MAX < self.outcomes.len() {
            self.outcomes.pop_first();
        }
        let mut callers: Vec<Changer> = self.awaited.remove(&index).unwrap_or_default();
        callers.extend(request.and_then(|request| self.waiting.remove(&request)));
        if callers.is_empty() {
            return false;
        }
        // What the catalogue says has to be known before it is carried out.
        self.publish();
        for caller in callers {
            let changed = Changed { index, outcome: outcome.clone() };
            self.reconcile_if_ready(Some((changed, caller)));
        }
        true
    }

    /// Lets everyone on this node see members and placements.
    fn publish(&self) {
        let meta = self.shell.machine();
        let (members, placements) = (meta.members().clone(), meta.placements().clone());
        let access = meta.access().clone();
        self.cluster.publish(Known { members, placements, access });
    }

    fn replied(&mut self, reply: &Reply) {
        match reply {
            Reply::ReadReady { request, index } => {
                if matches!(self.readiness, Readiness::Asked(asked) if asked == *request) {
                    self.readiness = Readiness::Known(*index);
                } else if let Some(asker) = self.asked.remove(request) {
                    // An asker that left needs no answer.
                    let _ = asker.send(Ok(*index));
                }
            }
            Reply::NotOwner { request, owner } => {
                self.refuse(*request, &ChangeError::NotLeader { leader: *owner });
            }
            Reply::Lost { request } => self.refuse(*request, &ChangeError::Lost),
            Reply::Busy { request } => self.refuse(*request, &ChangeError::Busy),
            Reply::MembersChanged { .. } => {}
        }
    }

    fn refuse(&mut self, request: RequestId, error: &ChangeError) {
        if matches!(self.readiness, Readiness::Asked(asked) if asked == request) {
            self.readiness = Readiness::Unknown;
        }
        // Callers that left need no answer.
        if let Some(caller) = self.waiting.remove(&request) {
            let _ = caller.send(Err(error.clone()));
        }
        if let Some(asker) = self.asked.remove(&request) {
            let _ = asker.send(Err(error.clone()));
        }
    }

    /// Asks where the log stands, once in this life: the leader by a read, anyone else the leader.
    fn ask_where_it_stands(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.readiness, Readiness::Unknown) {
            return;
        }
        let request = self.next_request();
        if self.shell.leads() {
            self.readiness = Readiness::Asked(request);
            return self.step(Input::ReadIndex { request }, ctx);
        }
        let Some(leader) = self.shell.status().leader else { return };
        self.readiness = Readiness::Asked(request);
        let (peers, own) = (self.peers.clone(), ctx.address());
        let ask = async move {
            let index = match peers.catalogue_index(leader).await {
                Ok(Answered::Here(index)) => Some(index),
                Ok(Answered::Elsewhere(_) | Answered::NotServed(_)) | Err(_) => None,
            };
            // One at a time.
            own.do_send(Heard(index));
        };
        ctx.spawn(ask.into_actor(self));
    }

    fn become_ready(&mut self) {
        let applied = self.shell.status().applied;
        match self.readiness {
            Readiness::Known(index) if index <= applied => {}
            Readiness::Unknown | Readiness::Asked(_) | Readiness::Known(_) | Readiness::Ready => {
                return;
            }
        }
        self.readiness = Readiness::Ready;
        self.publish();
        let ready = self.ready.take();
        self.supervisor.do_send(Reconcile { ready, ..self.wanted() });
    }

    /// What shall run here.
    fn wanted(&self) -> Reconcile {
        let meta = self.shell.machine();
        let streams = meta.streams().values().cloned().collect();
        let views = meta.views().values().cloned().collect();
        Reconcile { streams, views, then: None, settled: Vec::new(), ready: None }
    }

    /// While the log is replayed, the catalogue passes through states that are long gone: streams
    /// are started and stopped only for a state that holds everything acknowledged.
    fn reconcile_if_ready(&self, then: Option<(Changed, Changer)>) {
        if matches!(self.readiness, Readiness::Ready) {
            // One for each applied change.
            self.supervisor.do_send(Reconcile { then, ..self.wanted() });
        } else if let Some((changed, caller)) = then {
            let _ = caller.send(Ok(changed));
        }
    }

    fn checkpoint_if_due(&mut self, ctx: &mut Context<Self>) {
        let due = self.checkpoint_wanted || LOG_BYTES_MAX <= self.shell.status().log_bytes;
        if self.checkpointing || !due {
            return;
        }
        let Some(checkpoint) = self.shell.checkpoint() else {
            return;
        };
        let own = ctx.address();
        let done = Box::new(move |result| own.do_send(CheckpointWritten(result)));
        self.written = Some(checkpoint.clone());
        // Refused, it is due again with the next step.
        self.checkpointing = self.segments.checkpoint_only(GroupId::META, checkpoint, done).is_ok();
    }
}

impl Actor for MetaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.publish();
        // The only voter leads at once; among several, Raft's own timeouts decide.
        if self.shell.members().voters == [self.cluster.me()] {
            self.step(Input::Campaign, ctx);
        }
    }
}

impl Handler<PersistedNotice> for MetaActor {
    type Result = ();

    fn handle(&mut self, PersistedNotice(persisted): PersistedNotice, ctx: &mut Self::Context) {
        self.step(Input::Persisted(persisted), ctx);
        self.ask_where_it_stands(ctx);
    }
}

impl Handler<Tick> for MetaActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        self.step(Input::Tick, ctx);
        self.ask_where_it_stands(ctx);
        self.lead(ctx);
    }
}

impl Handler<Deliver> for MetaActor {
    type Result = ();

    fn handle(&mut self, Deliver(envelope): Deliver, ctx: &mut Self::Context) {
        self.step(Input::Message(envelope), ctx);
    }
}

impl Handler<StepDown> for MetaActor {
    type Result = ();

    fn handle(&mut self, StepDown(done): StepDown, ctx: &mut Self::Context) {
        if let Some(to) = self.shell.successor().filter(|_| self.shell.leads()) {
            self.step(Input::TransferLeader { to }, ctx);
        }
        // Whoever leads next is found by asking; nobody needs to wait.
        let _ = done.send(());
    }
}

impl Handler<CutOff> for MetaActor {
    type Result = ();

    fn handle(&mut self, CutOff(node): CutOff, ctx: &mut Self::Context) {
        self.step(Input::Unreachable { node }, ctx);
    }
}

impl Handler<Heard> for MetaActor {
    type Result = ();

    fn handle(&mut self, Heard(index): Heard, _ctx: &mut Self::Context) {
        if matches!(self.readiness, Readiness::Asked(_)) {
            self.readiness = index.map_or(Readiness::Unknown, Readiness::Known);
            self.become_ready();
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

impl Handler<Await> for MetaActor {
    type Result = ();

    fn handle(&mut self, Await(index, caller): Await, _ctx: &mut Self::Context) {
        if self.shell.status().applied < index {
            self.awaited.entry(index).or_default().push(caller);
            return;
        }
        match self.outcomes.get(&index).cloned() {
            Some(outcome) => self.reconcile_if_ready(Some((Changed { index, outcome }, caller))),
            // It came with a checkpoint: what it did in particular is not known here.
            None => {
                let _ = caller.send(Err(ChangeError::Lost));
            }
        }
    }
}

impl Handler<Settle> for MetaActor {
    type Result = ();

    fn handle(&mut self, Settle(index, caller): Settle, _ctx: &mut Self::Context) {
        self.settling.push((index, caller));
        self.settle();
    }
}

impl Handler<AskIndex> for MetaActor {
    type Result = ();

    fn handle(&mut self, AskIndex(asker): AskIndex, ctx: &mut Self::Context) {
        let request = self.next_request();
        self.asked.insert(request, asker);
        self.step(Input::ReadIndex { request }, ctx);
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
            Ok(through) => self.checkpoint_written(through, ctx),
            Err(error) => tracing::error!(%error, "write the catalogue's checkpoint"),
        }
    }
}
