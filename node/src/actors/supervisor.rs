//! Starts and stops partitions and views, so that what runs is what the catalogue says.

mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture,
};
use alluvium_core::ids::{GroupId, NodeId, Offset, PartitionNumber};
use alluvium_core::partition::Partition;
use alluvium_core::replica::{Machine, Members, Replica, ReplicaConfig};
use alluvium_core::stream::Stream;
use alluvium_core::view::ViewEntry;
use alluvium_store::{PartitionLog, SegmentWriter, Store, StoreError, StoreMetrics};
use tokio::sync::{oneshot, watch};

use super::effects::{ReplicaShell, Ways};
use super::inbox::Inbox;
use super::meta::{Changed, Changer, MetaLink};
use super::partition::{
    MAILBOX_MESSAGES_MAX, PartitionActor, PartitionHandle, PartitionParts, PersistedNotice,
    SealLimits, Serving,
};
use super::ticker::{Follow, Ticker};
use crate::clock;
use crate::grpc::peer::Peers;
use crate::ingest::Forwarder;
use crate::streams::{ServedStream, Streams};
use crate::telemetry::Metrics;

pub use views::{CaughtUp, ELSEWHERE, RunningViews, StopViews, ViewThread};

/// How often the catalogue is told of parts of views that have caught up, until it says so itself.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// Makes this node serve exactly these streams and views.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reconcile {
    /// The streams of the catalogue.
    pub streams: Vec<Arc<Stream>>,
    /// Its views.
    pub views: Vec<ViewEntry>,
    /// Who is told when it is done.
    pub then: Option<(Changed, Changer)>,
    /// Who else is told.
    pub settled: Vec<oneshot::Sender<()>>,
    /// Told when the first reconciliation of this life is done.
    pub ready: Option<oneshot::Sender<()>>,
}

/// What the supervisor starts partitions with.
#[derive(Debug)]
pub struct Supervisor {
    /// Where partitions keep what they have.
    pub store: Arc<Store>,
    /// To the disk and to other nodes.
    pub ways: Ways,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Where messages of other replicas come in.
    pub inbox: Arc<Inbox>,
    /// Where the catalogue is changed.
    pub meta: MetaLink,
    /// Seals, merges, drops.
    pub segments: SegmentWriter,
    /// When partitions seal.
    pub limits: SealLimits,
    /// Where partition actors run.
    pub arbiter: ArbiterHandle,
    /// Their beat.
    pub ticker: Addr<Ticker>,
    /// What is served, for everyone else.
    pub streams: Arc<Streams>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Its views.
    pub views: RunningViews,
    /// Its own address, once it runs.
    pub own: Option<Addr<Supervisor>>,
    /// What is on this node's disk, whether the catalogue wants it here or not.
    pub held: Held,
}

/// The groups of which this node has something on disk, and what was last asked for.
#[derive(Debug, Default)]
pub struct Held {
    groups: BTreeSet<GroupId>,
    /// Those of them whose leader has let this node go.
    released: BTreeSet<GroupId>,
    streams: Vec<Arc<Stream>>,
    views: Vec<ViewEntry>,
}

/// A group does without the replica of this node.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Released(pub GroupId);

/// Why a partition was not started; the others are.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Checkpoint(#[from] alluvium_core::replica::CorruptCheckpoint),
    #[error(transparent)]
    Replica(#[from] alluvium_core::replica::ReplicaError),
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.own = Some(ctx.address());
        // A word of a part that has caught up may get lost on its way to the catalogue.
        ctx.run_interval(TELL_AGAIN, |supervisor, _ctx| supervisor.tell_of_parts());
    }
}

impl Handler<Reconcile> for Supervisor {
    type Result = ();

    fn handle(&mut self, reconcile: Reconcile, ctx: &mut Self::Context) {
        if reconcile.ready.is_some() {
            self.look_at_disk(&reconcile.streams);
        }
        self.held.streams.clone_from(&reconcile.streams);
        self.held.views.clone_from(&reconcile.views);
        let gone = self.gone(&reconcile.streams);
        let gone_views = self.views.take_gone(&reconcile.views);
        let left_parts = self.take_parts_of(&gone);
        gone.iter().for_each(|partition| partition.leave());
        let stop = async move {
            views::stop(gone_views.iter().flat_map(|(_, actors)| actors.values())).await;
            views::stop(left_parts.iter().map(|(_, actor)| actor)).await;
            for partition in &gone {
                partition.stop().await;
            }
            (gone, gone_views, left_parts)
        };
        let done = stop.into_actor(self).map(move |stopped, supervisor, _ctx| {
            let (gone, gone_views, left_parts) = stopped;
            supervisor.remove_views(&gone_views);
            supervisor.remove_parts(&left_parts);
            supervisor.remove(&gone);
            supervisor.serve(reconcile);
        });
        // One change at a time: the next waits until the partitions of this one run.
        ctx.wait(done);
    }
}

impl Handler<Released> for Supervisor {
    type Result = ();

    fn handle(&mut self, Released(group): Released, ctx: &mut Self::Context) {
        // It may have come back: what the catalogue says by now counts.
        if self.ways.cluster.hosts(group) {
            return;
        }
        self.held.released.insert(group);
        let (streams, views) = (self.held.streams.clone(), self.held.views.clone());
        let again = Reconcile { streams, views, then: None, settled: Vec::new(), ready: None };
        Handler::<Reconcile>::handle(self, again, ctx);
    }
}

impl Supervisor {
    /// Partitions that run here and shall not any more: their stream was dropped, or their group
    /// does without this node.
    fn gone(&self, wanted: &[Arc<Stream>]) -> Vec<Arc<PartitionHandle>> {
        let mut gone = Vec::new();
        for served in self.streams.all().values() {
            let dropped = !wanted.iter().any(|stream| stream.id == served.stream.id);
            let partitions = served.partitions.iter();
            gone.extend(
                partitions
                    .filter(|partition| !matches!(partition.serving, Serving::Elsewhere))
                    .filter(|partition| dropped || !self.hosts(partition.group))
                    .cloned(),
            );
        }
        gone
    }

    /// Whether a replica of the group runs on this node: it shall, or it may not go yet.
    fn hosts(&self, group: GroupId) -> bool {
        !self.held.released.contains(&group)
            && (self.held.groups.contains(&group) || self.ways.cluster.hosts(group))
    }

    fn remove(&mut self, gone: &[Arc<PartitionHandle>]) {
        for partition in gone {
            self.inbox.close(partition.group);
            // Whoever owns it, it is not this node.
            self.ways.cluster.led_by(partition.group, None);
            if let Err(error) = self.store.remove_group(partition.group) {
                tracing::error!(%error, group = %partition.group, "remove a partition");
            }
            self.held.groups.remove(&partition.group);
            self.held.released.remove(&partition.group);
        }
    }

    fn serve(&mut self, reconcile: Reconcile) {
        let running = self.streams.all();
        let mut served = BTreeMap::new();
        for stream in &reconcile.streams {
            let name = stream.definition.name.clone();
            let kept = running.get(&name).filter(|served| served.stream.id == stream.id);
            let serving = match kept {
                Some(kept) if self.is_in_place(kept) => kept.clone(),
                kept => Arc::new(self.start_stream(stream, kept)),
            };
            served.insert(name, serving);
        }
        if reconcile.ready.is_some() {
            self.remove_strange_views(&reconcile.views);
        }
        self.streams.publish(served);
        self.serve_views(&reconcile.views);
        if let Some((changed, caller)) = reconcile.then {
            // A caller that left needs no answer.
            let _ = caller.send(Ok(changed));
        }
        for caller in reconcile.settled.into_iter().chain(reconcile.ready) {
            let _ = caller.send(());
        }
    }

    /// Groups on disk: those that no stream has go, since their stream was dropped just before a
    /// crash. The catalogue holds everything that was agreed when it is asked for the first time.
    fn look_at_disk(&mut self, streams: &[Arc<Stream>]) {
        let groups = match self.store.groups() {
            Ok(groups) => groups,
            Err(error) => {
                tracing::error!(%error, "list the groups of the store");
                return;
            }
        };
        for group in groups {
            if group == GroupId::META {
                continue;
            }
            if streams.iter().any(|stream| stream.groups.contains(&group)) {
                self.held.groups.insert(group);
                continue;
            }
            tracing::info!(%group, "remove what is left of a partition");
            if let Err(error) = self.store.remove_group(group) {
                tracing::error!(%error, %group, "remove what is left of a partition");
            }
        }
    }

    /// Whether exactly those partitions of a stream run here that shall.
    fn is_in_place(&self, served: &ServedStream) -> bool {
        served.partitions.iter().all(|partition| {
            let elsewhere = matches!(partition.serving, Serving::Elsewhere);
            elsewhere != self.hosts(partition.group)
        })
    }

    fn start_stream(
        &mut self,
        stream: &Arc<Stream>,
        kept: Option<&Arc<ServedStream>>,
    ) -> ServedStream {
        let log_schema = alluvium_views::columns::log_schema(&stream.definition.schema);
        let mut partitions = Vec::with_capacity(stream.groups.len());
        for (number, group) in stream.partitions() {
            let hosts = self.hosts(group);
            let before = kept.map(|kept| &kept.partitions[number.0 as usize]);
            if let Some(before) = before
                && hosts != matches!(before.serving, Serving::Elsewhere)
            {
                partitions.push(before.clone());
                continue;
            }
            let forwarder = Arc::new(Forwarder::start(group, self.peers.clone()));
            let serving = if hosts {
                self.serve_partition(stream, number, group, &forwarder)
            } else {
                Serving::Elsewhere
            };
            partitions.push(Arc::new(PartitionHandle {
                stream: stream.definition.name.clone(),
                number,
                group,
                serving,
                forwarder,
                peers: self.peers.clone(),
                log_schema: log_schema.clone(),
                has_left: AtomicBool::new(false),
            }));
        }
        ServedStream::new(stream.clone(), partitions)
    }

    fn serve_partition(
        &mut self,
        stream: &Arc<Stream>,
        number: PartitionNumber,
        group: GroupId,
        forwarder: &Arc<Forwarder>,
    ) -> Serving {
        self.held.groups.insert(group);
        match self.start_partition(stream, number, group, forwarder) {
            Ok(serving) => serving,
            Err(error) => {
                let name = &stream.definition.name;
                tracing::error!(stream = %name, partition = %number, %error, "not served");
                self.metrics.partition_damaged();
                Serving::Damaged { reason: error.to_string() }
            }
        }
    }

    /// The voters a group began with: what its log is read on top of.
    fn initial(&self, group: GroupId) -> Members {
        let known = self.ways.cluster.known();
        let placement = known.placements.get(&group);
        Members::of_voters(placement.map(|placement| placement.initial.clone()).unwrap_or_default())
    }

    fn start_partition(
        &self,
        stream: &Arc<Stream>,
        number: PartitionNumber,
        group: GroupId,
        forwarder: &Arc<Forwarder>,
    ) -> Result<Serving, StartError> {
        let initial = self.initial(group);
        let (stored, machine) = load_group::<Partition>(&self.store, group, &initial)?;
        let start = machine.start();
        let config = replica_config(group, self.ways.cluster.me());
        let replica = Replica::new(config, machine, stored.restored)?;
        let log_schema = alluvium_views::columns::log_schema(&stream.definition.schema);
        let schema = alluvium_views::columns::segment_schema(&log_schema);
        let (log_stream, segments) = (stream.clone(), stored.segments);
        let log = PartitionLog::open(&self.store, group, log_stream, number, schema, segments)?;
        log.retain(start);
        let advanced = Arc::new(watch::Sender::new(log.view().end));
        let alone = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            advanced: advanced.clone(),
            alone: alone.clone(),
            stream: stream.clone(),
            number,
            group,
            forwarder: forwarder.clone(),
            peers: self.peers.clone(),
            meta: self.meta.clone(),
            files: self.store.clone(),
            replica,
            log: log.clone(),
            ways: self.ways.clone(),
            segments: self.segments.clone(),
            store: self.store.metrics(),
            limits: self.limits,
            metrics: self.metrics.clone(),
            released: self.own.clone().expect("partitions are started by an actor that runs"),
        };
        let addr =
            PartitionActor::start_in_arbiter(&self.arbiter, move |ctx| parts.into_actor(ctx));
        let local = addr.downgrade();
        forwarder.meet(move |part| match local.upgrade() {
            Some(addr) => addr.try_send(part).map_err(actix::prelude::SendError::into_inner),
            None => Err(part),
        });
        self.inbox.open(group, addr.clone().recipient(), addr.clone().recipient());
        // Bounded by the number of partitions.
        self.ticker.do_send(Follow(addr.clone().recipient()));
        Ok(Serving::Running { addr, log, advanced, alone })
    }
}

/// Reads a group back, or makes it when the catalogue has it and the disk does not yet.
pub fn load_group<M: Machine + Default>(
    store: &Store,
    group: GroupId,
    initial: &Members,
) -> Result<(alluvium_store::StoredGroup, M), LoadError> {
    store.create_group(group, initial)?;
    let stored = store.load(group)?;
    let machine = match &stored.checkpoint {
        Some(checkpoint) => M::restore(checkpoint)?,
        None => M::default(),
    };
    Ok((stored, machine))
}

/// Why a group could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store could not, or found damage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint is not one.
    #[error(transparent)]
    Checkpoint(#[from] alluvium_core::replica::CorruptCheckpoint),
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> StartError {
        match error {
            LoadError::Store(error) => StartError::Store(error),
            LoadError::Checkpoint(error) => StartError::Checkpoint(error),
        }
    }
}

/// How replicas of this node take part in elections.
pub fn replica_config(group: GroupId, node: NodeId) -> ReplicaConfig {
    ReplicaConfig::new(group, node, clock::random_id())
}

/// What crosses to the arbiter's thread.
struct Parts {
    advanced: Arc<watch::Sender<Offset>>,
    alone: Arc<AtomicBool>,
    stream: Arc<Stream>,
    number: PartitionNumber,
    group: GroupId,
    forwarder: Arc<Forwarder>,
    peers: Arc<Peers>,
    meta: MetaLink,
    files: Arc<Store>,
    replica: Replica<Partition>,
    log: Arc<PartitionLog>,
    ways: Ways,
    segments: SegmentWriter,
    store: Arc<StoreMetrics>,
    limits: SealLimits,
    metrics: Arc<Metrics>,
    released: Addr<Supervisor>,
}

impl Parts {
    fn into_actor(self, ctx: &mut Context<PartitionActor>) -> PartitionActor {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
        let own = ctx.address();
        // One notice for each write of this replica: bounded by what was admitted.
        let notice = Box::new(move |persisted| own.do_send(PersistedNotice(persisted)));
        PartitionActor::new(PartitionParts {
            advanced: self.advanced,
            stream: self.stream,
            number: self.number,
            group: self.group,
            forwarder: self.forwarder,
            peers: self.peers,
            meta: self.meta,
            files: self.files,
            shell: ReplicaShell::new(self.group, self.replica, self.ways, notice)
                .telling(self.alone),
            log: self.log,
            segments: self.segments,
            store: self.store,
            limits: self.limits,
            metrics: self.metrics,
            released: self.released,
        })
    }
}
