//! One replica of one partition: groups appends into entries, applies what is agreed, seals what is
//! old.

mod append;
mod asking;
mod handle;
mod leave;
mod place;
mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use alluvium_core::ids::{
    Epoch, GroupId, Index, NodeId, Offset, PartitionNumber, ProducerId, RequestId,
};
use alluvium_core::partition::{Command, Outcome, Partition, ProducerState};
use alluvium_core::replica::{Applied, Input, Members, Persisted, Progress, Reply};
use alluvium_core::stream::Stream;
use alluvium_core::time::Time;
use alluvium_store::{PartitionLog, PartitionView, SegmentWriter, Store, StoreMetrics};
use tokio::sync::{oneshot, watch};

pub use append::{Append, Origin, Permit};
pub use handle::{LAG_MAX, PartitionHandle, Serving};
pub use leave::LetGo;
pub use seal::{SealLimits, Sealed};

use crate::actors::effects::{ReplicaShell, Stepped};
use crate::actors::inbox::{CutOff, Deliver, StepDown};
use crate::actors::meta::MetaLink;
use crate::actors::supervisor::Supervisor;
use crate::actors::ticker::Tick;
use crate::clock;
use crate::grpc::peer::Peers;
use crate::ingest::Forwarder;
use crate::telemetry::Metrics;

/// Messages one partition may have waiting: 256 callers with a few appends each and the node's own
/// notices. Their bytes are bounded by the append budget.
pub const MAILBOX_MESSAGES_MAX: usize = 4_096;

/// How often an owner with producers puts the time into its log, so that idle producers expire
/// alike on every replica.
const CLOCK_INTERVAL: Duration = Duration::from_secs(3_600);

/// The replica's writes are durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PersistedNotice(pub Persisted);

/// Answers with a pinned view that holds everything acknowledged before the question.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Read(pub Reader);

/// A caller who waits for a pinned view.
type Reader = oneshot::Sender<Result<Arc<PartitionView>, ReadError>>;

/// Why a partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node is not the owner, or nobody is at the moment.
    #[error("partition {partition} has no owner that can be reached; try again")]
    NoOwner {
        /// Which partition.
        partition: PartitionNumber,
        /// The owner, when somebody knows it.
        owner: Option<NodeId>,
    },
    /// Its replica leaves this node, or has come to it: ask again, and it is looked for anew.
    #[error("partition {partition} is moving between nodes; try again")]
    Moved {
        /// Which partition.
        partition: PartitionNumber,
    },
    /// Too many questions wait.
    #[error("partition {partition} has no room for more questions; try again")]
    Busy {
        /// Which partition.
        partition: PartitionNumber,
    },
    /// The partition stopped or cannot be served.
    #[error("partition {partition} is not served: {reason}")]
    NotServed {
        /// Which partition.
        partition: PartitionNumber,
        /// Why.
        reason: String,
    },
}

/// What a partition says of itself.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Raft's term.
    pub term: u64,
    /// The owner, if known.
    pub owner: Option<u64>,
    /// Who holds it, as far as this replica knows.
    pub members: Members,
    /// How far the others are; empty unless this node is the owner.
    pub progress: Vec<Progress>,
    /// The last index of its log.
    pub last_index: Index,
    /// Producers with what is remembered of them.
    pub producers: Vec<(ProducerId, ProducerState)>,
}

/// Asks for [`Inspected`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Inspect(pub oneshot::Sender<Inspected>);

/// Begins a producer's new life; answered with what the partition knows of it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Fence {
    /// The producer.
    pub producer: ProducerId,
    /// Its new life.
    pub epoch: Epoch,
    /// The caller.
    pub reply: oneshot::Sender<Result<ProducerState, ReadError>>,
}

/// Ends the actor; its callers are told that the outcome is not known.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop(pub oneshot::Sender<()>);

/// What a partition actor is started with.
#[derive(Debug)]
pub struct PartitionParts {
    /// Told of each advance of the event log.
    pub advanced: Arc<watch::Sender<Offset>>,
    /// The stream it belongs to.
    pub stream: Arc<Stream>,
    /// Its place in the stream.
    pub number: PartitionNumber,
    /// Its Raft group.
    pub group: GroupId,
    /// Where parts for other owners wait.
    pub forwarder: Arc<Forwarder>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Where the catalogue is changed.
    pub meta: MetaLink,
    /// Where its files are.
    pub files: Arc<Store>,
    /// The restored replica.
    pub shell: ReplicaShell<Partition>,
    /// Its tail and segments.
    pub log: Arc<PartitionLog>,
    /// Seals and merges.
    pub segments: SegmentWriter,
    /// What the store counts.
    pub store: Arc<StoreMetrics>,
    /// When to seal.
    pub limits: SealLimits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Told when the group does without this replica.
    pub released: Addr<Supervisor>,
}

/// See the module.
#[derive(Debug)]
pub struct PartitionActor {
    advanced: Arc<watch::Sender<Offset>>,
    stream: Arc<Stream>,
    number: PartitionNumber,
    group: GroupId,
    forwarder: Arc<Forwarder>,
    peers: Arc<Peers>,
    place: place::Place,
    leaving: leave::Leaving,
    released: Addr<Supervisor>,
    shell: ReplicaShell<Partition>,
    log: Arc<PartitionLog>,
    sealing: seal::Sealing,
    appends: append::Appends,
    fences: BTreeMap<RequestId, oneshot::Sender<Result<ProducerState, ReadError>>>,
    reads: BTreeMap<RequestId, Reader>,
    /// Reads whose index is known but not yet applied.
    ready: Vec<(Index, Reader)>,
    requests: u64,
    clocked_at: Time,
    metrics: Arc<Metrics>,
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The only voter leads at once, and so does the one that shall own the partition; else
        // Raft's own timeouts decide.
        if self.shall_campaign() {
            self.step(Input::Campaign, ctx);
        }
    }
}

impl PartitionActor {
    /// Not started yet.
    pub fn new(parts: PartitionParts) -> PartitionActor {
        PartitionActor {
            advanced: parts.advanced,
            stream: parts.stream,
            number: parts.number,
            group: parts.group,
            forwarder: parts.forwarder,
            peers: parts.peers,
            place: place::Place::new(parts.meta, parts.files),
            leaving: leave::Leaving::default(),
            released: parts.released,
            shell: parts.shell,
            log: parts.log,
            sealing: seal::Sealing::new(parts.segments, parts.store, parts.limits),
            appends: append::Appends::default(),
            fences: BTreeMap::new(),
            reads: BTreeMap::new(),
            ready: Vec::new(),
            requests: 0,
            clocked_at: clock::now(),
            metrics: parts.metrics,
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Stepped { applied, replies, fetch, checkpoint_wanted, installed } =
            self.shell.step(input);
        for applied in applied {
            self.applied(applied);
        }
        for reply in replies {
            self.replied(reply);
        }
        self.shell.tell();
        self.place.wanted |= checkpoint_wanted;
        if let Some(fetch) = fetch {
            self.fetch(fetch, ctx);
        }
        if installed.is_some() {
            self.installed();
        }
        if !self.place.stepping_down.is_empty() && !self.shell.leads() {
            for done in self.place.stepping_down.drain(..) {
                let _ = done.send(());
            }
        }
        self.answer_reads();
        self.propose_pending(ctx);
        self.seal_if_due(ctx);
    }

    fn applied(&mut self, applied: Applied<Outcome>) {
        match applied.outcome {
            Outcome::Appended(appended) => self.appended(applied.request, &appended),
            Outcome::Retained { start } => self.sealing.retain(&self.log, start),
            Outcome::Clock => {}
            Outcome::Fenced { known } => {
                if let Some(caller) = applied.request.and_then(|id| self.fences.remove(&id)) {
                    // A caller that left needs no answer.
                    let _ = caller.send(Ok(known));
                }
            }
        }
    }

    fn replied(&mut self, reply: Reply) {
        let partition = self.number;
        match reply {
            Reply::ReadReady { request, index } => {
                if let Some(reader) = self.reads.remove(&request) {
                    self.ready.push((index, reader));
                }
            }
            Reply::NotOwner { request, .. }
            | Reply::Busy { request }
            | Reply::Lost { request }
            | Reply::MembersChanged { request } => {
                let owner = self.shell.status().leader;
                if let Some(reader) = self.reads.remove(&request) {
                    // A reader that left needs no answer.
                    let _ = reader.send(Err(ReadError::NoOwner { partition, owner }));
                } else if let Some(caller) = self.fences.remove(&request) {
                    let _ = caller.send(Err(ReadError::NoOwner { partition, owner }));
                } else {
                    self.append_refused(request, &reply);
                }
            }
        }
    }

    fn answer_reads(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let applied = self.shell.status().applied;
        for (index, reader) in std::mem::take(&mut self.ready) {
            if index <= applied {
                let _ = reader.send(Ok(self.log.view()));
            } else {
                self.ready.push((index, reader));
            }
        }
    }

    /// Proposes a command of the node's own, answered to nobody.
    fn propose_own(&mut self, command: &Command, ctx: &mut Context<Self>) {
        let request = self.next_request();
        self.step(Input::Propose { request, command: command.encode() }, ctx);
    }

    fn keep_time(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        if now.since(self.clocked_at) < CLOCK_INTERVAL {
            return;
        }
        self.clocked_at = now;
        if self.shell.machine().producers().next().is_some() {
            self.propose_own(&Command::Clock { now }, ctx);
        }
    }

    /// The first offset kept.
    fn start(&self) -> Offset {
        self.shell.machine().start()
    }
}

impl Handler<PersistedNotice> for PartitionActor {
    type Result = ();

    fn handle(&mut self, PersistedNotice(persisted): PersistedNotice, ctx: &mut Self::Context) {
        self.step(Input::Persisted(persisted), ctx);
    }
}

impl Handler<Tick> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        self.leave_when_due(ctx);
        if self.leaving.is_silent() {
            return;
        }
        self.step(Input::Tick, ctx);
        self.keep_place(ctx);
        if self.shell.leads() {
            self.keep_time(ctx);
            self.retain_if_due(ctx);
        }
    }
}

impl Handler<Deliver> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Deliver(envelope): Deliver, ctx: &mut Self::Context) {
        if self.leaving.is_silent() {
            return;
        }
        self.step(Input::Message(envelope), ctx);
    }
}

impl Handler<StepDown> for PartitionActor {
    type Result = ();

    fn handle(&mut self, StepDown(done): StepDown, ctx: &mut Self::Context) {
        let successor = self.shell.successor().filter(|_| self.shell.leads());
        let Some(to) = successor else {
            // Who asked may have gone on.
            let _ = done.send(());
            return;
        };
        self.place.stepping_down.push(done);
        self.step(Input::TransferLeader { to }, ctx);
    }
}

impl Handler<CutOff> for PartitionActor {
    type Result = ();

    fn handle(&mut self, CutOff(node): CutOff, ctx: &mut Self::Context) {
        self.step(Input::Unreachable { node }, ctx);
    }
}

impl Handler<Read> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Read(reader): Read, ctx: &mut Self::Context) {
        let request = self.next_request();
        self.reads.insert(request, reader);
        self.step(Input::ReadIndex { request }, ctx);
    }
}

impl Handler<Fence> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Fence { producer, epoch, reply }: Fence, ctx: &mut Self::Context) {
        let request = self.next_request();
        self.fences.insert(request, reply);
        let command = Command::Fence { producer, epoch, now: clock::now() };
        self.step(Input::Propose { request, command: command.encode() }, ctx);
    }
}

impl Handler<Inspect> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Inspect(asker): Inspect, _ctx: &mut Self::Context) {
        let status = self.shell.status();
        let producers = self.shell.machine().producers();
        let inspected = Inspected {
            term: status.term.0,
            owner: status.leader.map(|node| node.0),
            members: self.shell.members(),
            progress: self.shell.progress(),
            last_index: status.last_index,
            producers: producers.map(|(id, state)| (id, state.clone())).collect(),
        };
        let _ = asker.send(inspected);
    }
}

impl Handler<Stop> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Stop(done): Stop, ctx: &mut Self::Context) {
        let stream = &self.stream.definition.name;
        tracing::debug!(%stream, partition = %self.number, "partition stops");
        self.pass_all_on();
        ctx.stop();
        let _ = done.send(());
    }
}
