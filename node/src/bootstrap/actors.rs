//! Starts what a node is made of, and waits until its catalogue is whole.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use alluvium_core::ids::GroupId;
use alluvium_core::meta::Meta;
use alluvium_core::partition::cut::CutPolicy;
use alluvium_core::replica::{Members, Replica};
use alluvium_query::views::ViewCompiler;
use alluvium_query::{Engine, EngineOptions};
use alluvium_store::Store;
use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::servers::Doors;
use super::{Addresses, Node, NodeIdentity, RETENTION_INTERVAL, SPILL_DIR, first, join, presence};
use crate::access::Guard;
use crate::actors::effects::{PersistedNotice, ReplicaShell, Ways};
use crate::actors::inbox::Inbox;
use crate::actors::meta::{MetaActor, MetaHandle, MetaLink, MetaParts};
use crate::actors::partition::SealLimits;
use crate::actors::supervisor::{
    Held, RunningViews, StopViews, Supervisor, ViewThread, load_group, replica_config,
};
use crate::actors::ticker::{Follow, Ticker};
use crate::clock::{self, Stopwatch};
use crate::cluster::{Cluster, Outbox};
use crate::config::Config;
use crate::grpc::peer::{PeerDoor, Peers, Snapshots, run_links};
use crate::host::{NodeDoor, NodeHost};
use crate::ingest::{Ingest, IngestLimits};
use crate::sql::run::Statements;
use crate::streams::Streams;
use crate::telemetry::Metrics;
use crate::views::Views;

/// How long a node that stops tries to hand over what it owns: an election and some.
const STEP_DOWN_MAX: Duration = Duration::from_secs(2);

/// What a node is started from.
pub(super) struct Starting<'a> {
    pub config: &'a Config,
    pub store: Arc<Store>,
    pub addresses: Addresses,
    pub query: &'a Runtime,
    pub io: &'a Runtime,
    pub started: Stopwatch,
    pub doors: &'a Arc<Doors>,
}

/// A node that runs, and who starts and stops what it serves.
pub(super) struct Started {
    pub node: Arc<Node>,
    supervisor: Addr<Supervisor>,
}

impl Started {
    /// Lets other nodes own what this one does, as far as that takes no longer than a moment.
    pub async fn step_down(&self) {
        let cluster = &self.node.cluster;
        cluster.set_stopping(cluster.me(), true);
        let streams = self.node.streams.all();
        let partitions = streams.values().flat_map(|stream| &stream.partitions);
        let all = futures::future::join_all(partitions.map(|partition| partition.step_down()));
        if tokio::time::timeout(STEP_DOWN_MAX, all).await.is_err() {
            tracing::warn!("some partitions find no other owner now");
        }
        self.node.meta.step_down().await;
    }

    /// Writes down where views stand, and ends what runs.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.supervisor.send(StopViews).await.context("stop the views")?;
        for stream in self.node.streams.all().values() {
            for partition in &stream.partitions {
                partition.stop().await;
            }
        }
        Ok(())
    }
}

/// What the node is made of before its catalogue is whole.
struct Parts {
    cluster: Arc<Cluster>,
    peers: Arc<Peers>,
    streams: Arc<Streams>,
    views: Arc<Views>,
    metrics: Arc<Metrics>,
    compiler: ViewCompiler,
    supervisor: Addr<Supervisor>,
    meta: Arc<MetaHandle>,
}

impl Starting<'_> {
    pub async fn start(self) -> anyhow::Result<Started> {
        let finding = join::Finding {
            config: self.config,
            store: &self.store,
            addresses: self.doors.advertised(),
            io: self.io.handle(),
            standing: self.doors.standing(),
            doors: self.doors,
        };
        let identity = finding.identity().await?;
        let (ready, is_ready) = oneshot::channel();
        let parts = self.start_parts(&identity, ready).await?;
        let me = presence::Presence {
            cluster: parts.cluster.clone(),
            peers: parts.peers.clone(),
            meta: parts.meta.clone(),
            store: self.store.clone(),
            doors: self.doors.clone(),
            name: self.config.name.clone(),
            locality: self.config.locality.clone(),
            token: self.store.token(clock::random_wide())?,
        };
        self.io.spawn(me.clone().announce());
        self.io.spawn(me.beat());
        self.doors.waits_for("the catalogue; most members of the meta group must be reached");
        is_ready.await.context("start the streams of the catalogue")?;
        let guard = Arc::new(Guard::new(self.config.auth_required, parts.cluster.clone()));
        let file = self.config.admin_password_file.as_deref();
        first::ensure(&guard, &parts.cluster, &parts.meta, file).await?;
        self.finish(identity, parts, guard)
    }

    async fn start_parts(
        &self,
        identity: &NodeIdentity,
        ready: oneshot::Sender<()>,
    ) -> anyhow::Result<Parts> {
        let (config, store) = (self.config, &self.store);
        let me = identity.node_id;
        let cluster =
            Arc::new(Cluster::new(me, identity.cluster, self.doors.advertised().peer.clone()));
        let (io, tls) = (self.io.handle().clone(), self.doors.tls().clone());
        let peers = Arc::new(Peers::new(cluster.clone(), io, tls));
        let (outbox, inbox) = (Arc::new(Outbox::default()), Arc::new(Inbox::default()));
        let (metrics, streams) = (Arc::new(Metrics::new()), Arc::new(Streams::default()));
        let (views, link) = (Arc::new(Views::default()), MetaLink::default());
        let compiler = ViewCompiler::new(&engine_options(config))?;
        let arbiter = Arbiter::new();
        let ticker = Ticker::start_in_arbiter(&arbiter.handle(), |_ctx| Ticker::default());
        let writer = store.log_writer();
        let ways = Ways { writer, outbox: outbox.clone(), cluster: cluster.clone() };
        let supervisor = Supervisor {
            store: store.clone(),
            ways: ways.clone(),
            peers: peers.clone(),
            inbox: inbox.clone(),
            meta: link.clone(),
            segments: store.segment_writer(),
            limits: seal_limits(config),
            arbiter: arbiter.handle(),
            ticker,
            streams: streams.clone(),
            metrics: metrics.clone(),
            views: RunningViews::new(compiler.clone(), views.clone(), view_threads()),
            own: None,
            held: Held::default(),
        };
        let supervisor = supervisor.start();
        // The first node began the meta group alone, here or wherever the cluster began.
        let initial = Members::of_voters([alluvium_core::meta::FIRST_NODE]);
        let (stored, machine) = load_group::<Meta>(store, GroupId::META, &initial)?;
        let replica = Replica::new(replica_config(GroupId::META, me), machine, stored.restored)?;
        let build =
            move |notice: PersistedNotice| ReplicaShell::new(GroupId::META, replica, ways, notice);
        let parts = MetaParts {
            store: store.clone(),
            supervisor: supervisor.clone(),
            cluster: cluster.clone(),
            peers: peers.clone(),
            inbox: inbox.clone(),
            ready,
        };
        let meta = Arc::new(MetaActor::start_with(build, parts));
        link.meet(&meta);
        let ticks = Ticker::default().start();
        ticks.send(Follow(meta.tick_recipient())).await.context("start the meta group's ticks")?;
        let cut_off = inbox.clone();
        let unreachable = Arc::new(move |node| cut_off.cut_off(node));
        self.io.spawn(run_links(cluster.clone(), peers.clone(), outbox, unreachable));
        let (known, open) = (cluster.clone(), streams.clone());
        self.doors.open_to_peers(PeerDoor {
            cluster: known,
            inbox,
            meta: meta.clone(),
            streams: open,
            views: views.clone(),
            snapshots: Arc::new(Snapshots::new(store.clone())),
        });
        Ok(Parts { cluster, peers, streams, views, metrics, compiler, supervisor, meta })
    }

    fn finish(
        self,
        identity: NodeIdentity,
        parts: Parts,
        guard: Arc<Guard>,
    ) -> anyhow::Result<Started> {
        let Parts { cluster, peers, streams, views, metrics, compiler, supervisor, meta } = parts;
        let (config, store) = (self.config, self.store);
        let limits = IngestLimits {
            pending_bytes_max: usize::try_from(config.memory.append_bytes).unwrap_or(usize::MAX),
            tail_bytes_max: config.memory.tail_bytes,
        };
        let ingest = Ingest::new(streams.clone(), store.clone(), metrics.clone(), limits);
        let ingest = Arc::new(ingest);
        let statements: Arc<Statements> = Arc::default();
        let host = NodeHost::new(
            streams.clone(),
            views.clone(),
            ingest.clone(),
            meta.clone(),
            store.clone(),
            cluster.clone(),
            statements.clone(),
        );
        let door = Arc::new(NodeDoor::new(streams.clone(), views.clone(), compiler.clone()));
        let options = engine_options(config);
        let engine = Engine::with_compiler(Arc::new(host), compiler, options)?;
        let node = Arc::new(Node {
            name: config.name.clone(),
            identity,
            addresses: self.addresses,
            started: self.started,
            streams,
            views,
            ingest,
            meta,
            engine,
            guard,
            door,
            query_runtime: self.query.handle().clone(),
            statements,
            producers: Arc::default(),
            metrics,
            store,
            cluster,
            peers,
            tls: self.doors.tls().clone(),
            insecure: config.insecure.clone(),
            stopping: AtomicBool::new(false),
        });
        self.doors.open(node.clone());
        Ok(Started { node, supervisor })
    }
}

fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions {
        memory_bytes_max: usize::try_from(config.memory.query_bytes).unwrap_or(usize::MAX),
        ..EngineOptions::new(config.data_dir.join(SPILL_DIR))
    }
}

/// As many as there are cores: on a small machine, views of other partitions go on while one reads
/// a file.
fn view_threads() -> Vec<ViewThread> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (0..cores).map(|_| {
        let arbiter = Arbiter::new();
        let ticker = Ticker::start_in_arbiter(&arbiter.handle(), |_ctx| Ticker::default());
        ViewThread { arbiter: arbiter.handle(), ticker }
    });
    threads.collect()
}

fn seal_limits(config: &Config) -> SealLimits {
    SealLimits {
        policy: CutPolicy { bytes_max: config.segment_bytes, age_max: config.segment_age },
        pressure_bytes: config.memory.tail_bytes / 2,
        retention_interval: RETENTION_INTERVAL,
    }
}
