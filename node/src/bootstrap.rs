//! Opens the store, starts the actors, serves, and stops in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, System};
use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::Meta;
use alluvium_core::partition::cut::CutPolicy;
use alluvium_core::replica::Replica;
use alluvium_core::time::Time;
use alluvium_query::views::ViewCompiler;
use alluvium_query::{Engine, EngineOptions};
use alluvium_store::{Clock, Identity, Store, StoreOptions};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{oneshot, watch};

use crate::actors::effects::ReplicaShell;
use crate::actors::meta::{MetaActor, MetaHandle};
use crate::actors::partition::SealLimits;
use crate::actors::supervisor::{
    Meet, RunningViews, StopViews, Supervisor, ViewThread, load_group, replica_config,
};
use crate::actors::ticker::{Follow, Ticker};
use crate::clock::{self, Stopwatch};
use crate::config::Config;
use crate::host::{NodeDoor, NodeHost};
use crate::ingest::{Ingest, IngestLimits};
use crate::streams::Streams;
use crate::telemetry::Metrics;
use crate::views::Views;
use crate::{contain, grpc, http, sql};

/// Calls under way get this long after the node was asked to stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often old segments are looked for: files go at most this long after their time.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// Threads for sockets. Decoding and splitting appends happens there too, so they are as many as
/// two producers that send as fast as they can will keep busy.
const IO_THREADS: usize = 2;

/// Where statements that need more than their memory spill, inside the data directory.
const SPILL_DIR: &str = "tmp";

/// Where a node answers.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC for clients.
    pub client: SocketAddr,
    /// gRPC for nodes.
    pub peer: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
    /// PostgreSQL protocol.
    pub pg: SocketAddr,
}

/// Which node of which cluster this is.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// Given out by the meta group.
    pub node_id: NodeId,
    /// The cluster's, as text.
    pub cluster_id: String,
}

/// A running node, as its front doors see it.
#[derive(Debug)]
pub struct Node {
    /// What people call it.
    pub name: String,
    /// Who it is.
    pub identity: NodeIdentity,
    /// Where it answers.
    pub addresses: Addresses,
    /// Since when.
    pub started: Stopwatch,
    /// What it serves.
    pub streams: Arc<Streams>,
    /// What it maintains.
    pub views: Arc<Views>,
    /// Takes appends in.
    pub ingest: Arc<Ingest>,
    /// Changes the catalogue.
    pub meta: Arc<MetaHandle>,
    /// Answers SQL.
    pub engine: Engine,
    /// Reads views without SQL.
    pub door: Arc<NodeDoor>,
    /// Where SQL runs.
    pub query_runtime: Handle,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is on disk.
    pub store: Arc<Store>,
    stopping: AtomicBool,
}

impl Node {
    /// Whether appends and queries are served, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".into());
        }
        Ok(())
    }

    /// What a person should look at, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.store.has_room() {
            warnings.push("the disk is full: appends are refused, queries go on".into());
        }
        for stream in self.streams.all().values() {
            for partition in &stream.partitions {
                if partition.damage().is_some() {
                    warnings.push(format!(
                        "partition {} of stream \"{}\" is damaged and not served; \
                         system.partitions says what was found",
                        partition.number, partition.stream
                    ));
                }
            }
        }
        warnings
    }

    /// Resident memory of this process.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    }

    /// The Prometheus text form of everything that is counted.
    pub fn metrics_text(&self) -> String {
        let gauges = self.metrics.gauges();
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let store = self.store.metrics();
        gauges.streams.set(signed(self.streams.all().len() as u64));
        gauges.tail_bytes.set(signed(store.tail_bytes.get()));
        gauges.memory_bytes.set(signed(self.memory_bytes()));
        gauges.disk_bytes.set(signed(self.store.disk_bytes()));
        gauges.log_syncs.set(signed(store.sync_micros.count()));
        gauges.log_sync_seconds.set(store.sync_micros.sum() as f64 / 1e6);
        gauges.segments_cut.set(signed(store.segments_cut.get()));
        gauges.segments_merged.set(signed(store.merges.get()));
        self.metrics.encode()
    }
}

/// The store's clock.
#[derive(Debug)]
struct NodeClock(Stopwatch);

impl Clock for NodeClock {
    fn now(&self) -> Time {
        clock::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Runs a node until it is told to stop by SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<()> {
    let started = Stopwatch::start();
    abort_on_panic();
    let options = StoreOptions::new(Arc::new(NodeClock(Stopwatch::start())));
    let store = Arc::new(Store::open(&config.data_dir, options)?);
    remove_spilled(&config.data_dir.join(SPILL_DIR));
    let identity = identity(&store, &config.name)?;
    let io = runtime("io", IO_THREADS)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let query = runtime("query", cores)?;
    let served =
        System::new().block_on(serve(&config, store.clone(), identity, &io, &query, started));
    query.shutdown_timeout(Duration::from_secs(1));
    io.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = store.close() {
        tracing::warn!(%error, "flush the state; the next start replays it");
    }
    tracing::info!("stopped");
    served
}

/// What statements of an earlier life spilled is of no use to anybody.
fn remove_spilled(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, dir = %dir.display(), "remove what was spilled"),
    }
}

fn runtime(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("start the {name} threads"))
}

/// A panic of an actor would only close its mailbox, and the node would go on without the
/// partition. What owns state ends the process instead; calls and queries fail alone.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = std::thread::current();
        let alone = matches!(thread.name(), Some("io" | "query")) || contain::is_contained();
        if !alone {
            std::process::abort();
        }
    }));
}

fn identity(store: &Store, name: &str) -> anyhow::Result<NodeIdentity> {
    let identity = match store.identity()? {
        Some(identity) => identity,
        None => {
            let cluster_id = u128::from(clock::random_id()) << 64 | u128::from(clock::random_id());
            let identity = Identity { cluster_id, node_id: NodeId(1), name: name.to_string() };
            store.set_identity(&identity)?;
            identity
        }
    };
    let cluster_id = format!("{:032x}", identity.cluster_id);
    Ok(NodeIdentity { node_id: identity.node_id, cluster_id })
}

struct Listeners {
    client: TcpListener,
    peer: TcpListener,
    http: TcpListener,
    pg: TcpListener,
}

impl Listeners {
    async fn bind(config: Config) -> anyhow::Result<Listeners> {
        Ok(Listeners {
            client: bind("listen", config.listen).await?,
            peer: bind("peer_listen", config.peer_listen).await?,
            http: bind("http_listen", config.http_listen).await?,
            pg: bind("pg_listen", config.pg_listen).await?,
        })
    }

    fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            client: self.client.local_addr()?,
            peer: self.peer.local_addr()?,
            http: self.http.local_addr()?,
            pg: self.pg.local_addr()?,
        })
    }
}

/// A socket belongs to the runtime it was bound on.
async fn bind_on(io: &Runtime, config: &Config) -> anyhow::Result<Listeners> {
    io.spawn(Listeners::bind(config.clone())).await.context("bind the addresses")?
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("listen on {address}; choose another address with the key {key}"))
}

async fn serve(
    config: &Config,
    store: Arc<Store>,
    identity: NodeIdentity,
    io: &Runtime,
    query: &Runtime,
    started: Stopwatch,
) -> anyhow::Result<()> {
    // Before the state is read back: a taken address should be told at once.
    let listeners = bind_on(io, config).await?;
    let addresses = listeners.addresses()?;
    let (node, supervisor) =
        start_actors(config, store, identity, addresses, query, started).await?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = start_servers(&node, listeners, io, &stopped);
    if let Some(path) = &config.ready_file {
        write_ready_file(path, &addresses)?;
    }
    tracing::info!(
        client = %addresses.client, http = %addresses.http, data_dir = %config.data_dir.display(),
        took_ms = started.elapsed().as_millis(), "ready"
    );
    tokio::select! {
        signal = told_to_stop() => tracing::info!(signal, "stopping"),
        ended = servers.join_next() => {
            let why = ended.map_or_else(|| "no server runs".into(), |ended| format!("{ended:?}"));
            anyhow::bail!("a server ended by itself: {why}");
        }
    }
    node.stopping.store(true, Ordering::Relaxed);
    // Nobody listens any more only if every server has ended.
    let _ = stop.send(true);
    let drained =
        tokio::time::timeout(DRAIN_MAX, async { while servers.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(waited = ?DRAIN_MAX, "calls under way are cut off");
    }
    supervisor.send(StopViews).await.context("stop the views")?;
    stop_partitions(&node).await;
    Ok(())
}

async fn start_actors(
    config: &Config,
    store: Arc<Store>,
    identity: NodeIdentity,
    addresses: Addresses,
    query: &Runtime,
    started: Stopwatch,
) -> anyhow::Result<(Arc<Node>, Addr<Supervisor>)> {
    let metrics = Arc::new(Metrics::new());
    let streams = Arc::new(Streams::default());
    let node_id = identity.node_id;
    let views = Arc::new(Views::default());
    let options = engine_options(config);
    let compiler = ViewCompiler::new(&options)?;
    let arbiter = Arbiter::new();
    let ticker = Ticker::start_in_arbiter(&arbiter.handle(), |_ctx| Ticker::default());
    let supervisor = Supervisor {
        node: node_id,
        store: store.clone(),
        writer: store.log_writer(),
        segments: store.segment_writer(),
        limits: seal_limits(config),
        arbiter: arbiter.handle(),
        ticker,
        streams: streams.clone(),
        metrics: metrics.clone(),
        views: RunningViews::new(compiler.clone(), views.clone(), view_threads()),
        own: None,
    };
    let supervisor = supervisor.start();
    let (stored, machine) = load_group::<Meta>(&store, GroupId::META, node_id)?;
    let replica = Replica::new(replica_config(GroupId::META, node_id), machine, stored.restored)?;
    let writer = store.log_writer();
    let (ready, is_ready) = oneshot::channel();
    let build = move |notice: crate::actors::effects::PersistedNotice| {
        ReplicaShell::new(replica, writer, notice)
    };
    let meta = MetaActor::start_with(build, store.segment_writer(), supervisor.clone(), ready);
    supervisor.send(Meet(meta.change_recipient())).await.context("start the supervisor")?;
    let own_ticker = Ticker::default().start();
    own_ticker.send(Follow(meta.tick_recipient())).await.context("start the meta group's ticks")?;
    is_ready.await.context("start the streams of the catalogue")?;
    let meta = Arc::new(meta);
    let limits = IngestLimits {
        pending_bytes_max: usize::try_from(config.memory.append_bytes).unwrap_or(usize::MAX),
        tail_bytes_max: config.memory.tail_bytes,
    };
    let ingest = Arc::new(Ingest::new(streams.clone(), store.clone(), metrics.clone(), limits));
    let host =
        NodeHost::new(streams.clone(), views.clone(), ingest.clone(), meta.clone(), store.clone());
    let door = Arc::new(NodeDoor::new(streams.clone(), views.clone(), compiler.clone()));
    let engine = Engine::with_compiler(Arc::new(host), compiler, options)?;
    let node = Arc::new(Node {
        name: config.name.clone(),
        identity,
        addresses,
        started,
        streams,
        views,
        ingest,
        meta,
        engine,
        door,
        query_runtime: query.handle().clone(),
        metrics,
        store,
        stopping: AtomicBool::new(false),
    });
    Ok((node, supervisor))
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

fn start_servers(
    node: &Arc<Node>,
    listeners: Listeners,
    io: &Runtime,
    stopped: &watch::Receiver<bool>,
) -> tokio::task::JoinSet<anyhow::Result<()>> {
    let mut servers = tokio::task::JoinSet::new();
    let io = io.handle();
    let clients = grpc::server::serve_clients(node.clone(), listeners.client, until(stopped));
    servers.spawn_on(async move { Ok(clients.await?) }, io);
    let peers = grpc::server::serve_peers(listeners.peer, until(stopped));
    servers.spawn_on(async move { Ok(peers.await?) }, io);
    let router = http::router(node.clone());
    let http = axum::serve(listeners.http, router).with_graceful_shutdown(until(stopped));
    servers.spawn_on(async move { http.await.context("serve http") }, io);
    let pg = sql::pgwire::serve(listeners.pg, until(stopped));
    servers.spawn_on(async move { pg.await.context("serve the PostgreSQL protocol") }, io);
    servers
}

fn until(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender going away means the same.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

async fn told_to_stop() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        tracing::error!("signals cannot be received; the node can only be killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

async fn stop_partitions(node: &Node) {
    for stream in node.streams.all().values() {
        for partition in &stream.partitions {
            partition.stop().await;
        }
    }
}

/// Written beside and renamed, so that who waits for the file finds it whole.
fn write_ready_file(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let ready = serde_json::json!({
        "client": addresses.client.to_string(),
        "peer": addresses.peer.to_string(),
        "http": addresses.http.to_string(),
        "pg": addresses.pg.to_string(),
    });
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{ready}\n"))
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("write the ready file {}", path.display()))
}
