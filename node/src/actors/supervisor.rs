//! Starts and stops partitions and views, so that what runs is what the catalogue says.

mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{
    Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture,
};
use alluvium_core::ids::{GroupId, NodeId, Offset, PartitionNumber};
use alluvium_core::meta::MetaOutcome;
use alluvium_core::partition::Partition;
use alluvium_core::replica::{Machine, Members, Replica, ReplicaConfig};
use alluvium_core::stream::Stream;
use alluvium_core::view::ViewEntry;
use alluvium_store::{LogWriter, PartitionLog, SegmentWriter, Store, StoreError, StoreMetrics};
use tokio::sync::{oneshot, watch};

use super::effects::ReplicaShell;
use super::meta::ChangeError;
use super::partition::{
    MAILBOX_MESSAGES_MAX, PartitionActor, PartitionHandle, PartitionParts, PersistedNotice,
    SealLimits, Serving,
};
use super::ticker::{Follow, Ticker};
use crate::clock;
use crate::streams::{ServedStream, Streams};
use crate::telemetry::Metrics;

pub use views::{CaughtUp, Meet, RunningViews, StopViews, ViewThread};

/// Makes this node serve exactly these streams and views.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reconcile {
    /// The streams of the catalogue.
    pub streams: Vec<Arc<Stream>>,
    /// Its views.
    pub views: Vec<ViewEntry>,
    /// Who is told when it is done.
    pub then: Option<(MetaOutcome, oneshot::Sender<Result<MetaOutcome, ChangeError>>)>,
    /// Told when the first reconciliation of this life is done.
    pub ready: Option<oneshot::Sender<()>>,
}

/// What the supervisor starts partitions with.
#[derive(Debug)]
pub struct Supervisor {
    /// This node.
    pub node: NodeId,
    /// Where partitions keep what they have.
    pub store: Arc<Store>,
    /// The way to the raft database.
    pub writer: LogWriter,
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
}

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
    }
}

impl Handler<Reconcile> for Supervisor {
    type Result = ();

    fn handle(&mut self, reconcile: Reconcile, ctx: &mut Self::Context) {
        let gone = self.gone(&reconcile.streams);
        let gone_views = self.views.take_gone(&reconcile.views);
        let stop = async move {
            views::stop(&gone_views).await;
            for stream in &gone {
                for partition in &stream.partitions {
                    partition.stop().await;
                }
            }
            (gone, gone_views)
        };
        let done = stop.into_actor(self).map(move |(gone, gone_views), supervisor, _ctx| {
            supervisor.remove_views(&gone_views);
            supervisor.remove(&gone);
            supervisor.serve(reconcile);
        });
        // One change at a time: the next waits until the partitions of this one run.
        ctx.wait(done);
    }
}

impl Supervisor {
    /// Served streams that the catalogue has no more.
    fn gone(&self, wanted: &[Arc<Stream>]) -> Vec<Arc<ServedStream>> {
        let mut gone = Vec::new();
        for served in self.streams.all().values() {
            if !wanted.iter().any(|stream| stream.id == served.stream.id) {
                gone.push(served.clone());
            }
        }
        gone
    }

    fn remove(&self, gone: &[Arc<ServedStream>]) {
        for stream in gone {
            for partition in &stream.partitions {
                if let Err(error) = self.store.remove_group(partition.group) {
                    tracing::error!(%error, group = %partition.group, "remove a dropped partition");
                }
            }
        }
    }

    fn serve(&mut self, reconcile: Reconcile) {
        let running = self.streams.all();
        let mut served = BTreeMap::new();
        for stream in &reconcile.streams {
            let name = stream.definition.name.clone();
            let kept = running.get(&name).filter(|served| served.stream.id == stream.id);
            let serving = match kept {
                Some(kept) => kept.clone(),
                None => Arc::new(self.start_stream(stream)),
            };
            served.insert(name, serving);
        }
        if reconcile.ready.is_some() {
            self.remove_strangers(&reconcile.streams);
            self.remove_strange_views(&reconcile.views);
        }
        self.streams.publish(served);
        self.serve_views(&reconcile.views);
        if let Some((outcome, caller)) = reconcile.then {
            // A caller that left needs no answer.
            let _ = caller.send(Ok(outcome));
        }
        if let Some(ready) = reconcile.ready {
            let _ = ready.send(());
        }
    }

    /// Groups on disk that no stream has: their stream was dropped just before a crash.
    fn remove_strangers(&self, streams: &[Arc<Stream>]) {
        let groups = match self.store.groups() {
            Ok(groups) => groups,
            Err(error) => {
                tracing::error!(%error, "list the groups of the store");
                return;
            }
        };
        for group in groups {
            let known = group == GroupId::META || streams.iter().any(|s| s.groups.contains(&group));
            if known {
                continue;
            }
            tracing::info!(%group, "remove what is left of a dropped stream");
            if let Err(error) = self.store.remove_group(group) {
                tracing::error!(%error, %group, "remove what is left of a dropped stream");
            }
        }
    }

    fn start_stream(&self, stream: &Arc<Stream>) -> ServedStream {
        let mut partitions = Vec::with_capacity(stream.groups.len());
        for (number, group) in stream.partitions() {
            let serving = match self.start_partition(stream, number, group) {
                Ok(serving) => serving,
                Err(error) => {
                    let name = &stream.definition.name;
                    tracing::error!(stream = %name, partition = %number, %error, "not served");
                    self.metrics.partition_damaged();
                    Serving::Damaged { reason: error.to_string() }
                }
            };
            let stream = stream.definition.name.clone();
            partitions.push(Arc::new(PartitionHandle { stream, number, group, serving }));
        }
        ServedStream::new(stream.clone(), partitions)
    }

    fn start_partition(
        &self,
        stream: &Arc<Stream>,
        number: PartitionNumber,
        group: GroupId,
    ) -> Result<Serving, StartError> {
        let (stored, machine) = load_group::<Partition>(&self.store, group, self.node)?;
        let start = machine.start();
        let replica = Replica::new(replica_config(group, self.node), machine, stored.restored)?;
        let log_schema = alluvium_views::columns::log_schema(&stream.definition.schema);
        let schema = alluvium_views::columns::segment_schema(&log_schema);
        let (log_stream, segments) = (stream.clone(), stored.segments);
        let log = PartitionLog::open(&self.store, group, log_stream, number, schema, segments)?;
        log.retain(start);
        let advanced = Arc::new(watch::Sender::new(log.view().end));
        let parts = Parts {
            advanced: advanced.clone(),
            stream: stream.clone(),
            number,
            replica,
            log: log.clone(),
            writer: self.writer.clone(),
            segments: self.segments.clone(),
            store: self.store.metrics(),
            limits: self.limits,
            metrics: self.metrics.clone(),
        };
        let addr =
            PartitionActor::start_in_arbiter(&self.arbiter, move |ctx| parts.into_actor(ctx));
        // Bounded by the number of partitions.
        self.ticker.do_send(Follow(addr.clone().recipient()));
        Ok(Serving::Running { addr, log, advanced })
    }
}

/// Reads a group back, or makes it when the catalogue has it and the disk does not yet.
pub fn load_group<M: Machine + Default>(
    store: &Store,
    group: GroupId,
    node: NodeId,
) -> Result<(alluvium_store::StoredGroup, M), LoadError> {
    store.create_group(group, &Members::of_voters([node]))?;
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
    stream: Arc<Stream>,
    number: PartitionNumber,
    replica: Replica<Partition>,
    log: Arc<PartitionLog>,
    writer: LogWriter,
    segments: SegmentWriter,
    store: Arc<StoreMetrics>,
    limits: SealLimits,
    metrics: Arc<Metrics>,
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
            shell: ReplicaShell::new(self.replica, self.writer, notice),
            log: self.log,
            segments: self.segments,
            store: self.store,
            limits: self.limits,
            metrics: self.metrics,
        })
    }
}
