//! Opens the store, finds the node's place in a cluster, starts the actors, serves, and stops in
//! order.

mod actors;
mod first;
mod join;
mod presence;
mod servers;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::System;
use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::access::Privilege;
use alluvium_core::meta::access::decide::Refused;
use alluvium_core::time::Time;
use alluvium_query::Engine;
use alluvium_query::access::Caller;
use alluvium_store::{Clock, Store, StoreOptions, nice};
use anyhow::Context;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::access::{Guard, audit};
use crate::actors::meta::MetaHandle;
use crate::clock::{self, Stopwatch};
use crate::cluster::Cluster;
use crate::cluster::risk::{self, Reached, Risk};
use crate::config::{Config, size};
use crate::contain;
use crate::grpc::peer::Peers;
use crate::host::NodeDoor;
use crate::ingest::{AppendError, Ingest};
use crate::sql::producers::Producers;
use crate::sql::run::Statements;
use crate::streams::{ServedStream, Streams};
use crate::telemetry::{MemberLabels, Metrics};
use crate::tls::Tls;
use crate::views::Views;

pub use servers::Doors;

/// Calls under way get this long after the node was asked to stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often old segments are looked for: files go at most this long after their time.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether who follows a view still may.
const REVOKED_POLL: Duration = Duration::from_secs(1);

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
    /// The cluster's.
    pub cluster: u128,
    /// The same as text.
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
    /// Answers SQL, to whoever it is told asks.
    engine: Engine,
    /// Who may come in.
    pub guard: Arc<Guard>,
    /// Reads views without SQL.
    pub door: Arc<NodeDoor>,
    /// Where SQL runs.
    pub query_runtime: Handle,
    /// The statements that run now.
    pub statements: Arc<Statements>,
    /// Producers that say a name with each batch.
    pub producers: Arc<Producers>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is on disk.
    pub store: Arc<Store>,
    /// Who else is there, and where partitions live.
    pub cluster: Arc<Cluster>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// What connections are encrypted with.
    pub tls: Arc<Tls>,
    /// Keys of listeners that other machines can reach and that nothing encrypts.
    pub insecure: Vec<&'static str>,
    stopping: AtomicBool,
}

impl Node {
    /// What answers the statements of this caller.
    pub fn engine(&self, caller: &Caller) -> Engine {
        self.engine.asked_by(caller.clone())
    }

    /// Whether a caller has a privilege on a stream or view. Before it is refused, the catalogue is
    /// asked: it may have been granted a moment ago elsewhere.
    pub async fn allowed(
        &self,
        caller: &Caller,
        privilege: Privilege,
        table: &str,
    ) -> Result<(), Refused> {
        if *caller == Caller::Everybody {
            return Ok(());
        }
        let is_allowed = || self.guard.rights(caller).on_table(privilege, table);
        let Err(refused) = is_allowed() else { return Ok(()) };
        if let Err(error) = self.meta.catch_up().await {
            tracing::debug!(%error, "the catalogue cannot be asked");
            return Err(refused);
        }
        let refused = is_allowed();
        if let Err(refused) = &refused {
            audit::table_refused(caller, table, &refused.to_string());
        }
        refused
    }

    /// Whether a caller may have groups of a view without SQL, or why not: where a policy hides
    /// rows, only SQL can tell which.
    pub async fn allowed_whole(&self, caller: &Caller, view: &str) -> Result<(), String> {
        let allowed = self.allowed(caller, Privilege::Select, view).await;
        allowed.map_err(|refused| refused.to_string())?;
        if self.guard.rights(caller).sees_all(view) {
            return Ok(());
        }
        Err("permission denied: a policy hides rows of this view from you; ask for it by SQL"
            .into())
    }

    /// Ends when a caller may not have a view any more that it follows.
    pub async fn revoked(&self, caller: &Caller, view: &str) {
        if *caller == Caller::Everybody {
            return std::future::pending().await;
        }
        while self.guard.rights(caller).sees_all(view) {
            tokio::time::sleep(REVOKED_POLL).await;
        }
    }

    /// Whether appends and queries are served, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("stopping".into());
        }
        if self.cluster.owner(GroupId::META).is_none() {
            return Err("the meta group has no leader that can be reached".into());
        }
        Ok(())
    }

    /// What stopping this node now would put at risk.
    pub async fn restart_risk(&self) -> Vec<Risk> {
        let mut held = self.cluster.held_here();
        for stream in self.streams.all().values() {
            for partition in &stream.partitions {
                let Some(held) = held.iter_mut().find(|held| held.group == partition.group) else {
                    continue;
                };
                let inspected = partition.inspect().await;
                held.reached = inspected
                    .filter(|found| !found.progress.is_empty())
                    .map(|found| Reached { last: found.last_index, replicas: found.progress });
            }
        }
        risk::of_stopping(self.cluster.me(), &self.cluster.alive(), &held)
    }

    /// The stream of this name. One that is not known here may have been made a moment ago
    /// elsewhere, so the catalogue is asked before it is said not to exist.
    pub async fn stream(&self, name: &str) -> Result<Arc<ServedStream>, AppendError> {
        if let Some(stream) = self.streams.get(name) {
            return Ok(stream);
        }
        if let Err(error) = self.meta.catch_up().await {
            tracing::debug!(%error, "the catalogue cannot be asked");
            return Err(AppendError::NotOwner { owner: None });
        }
        let unknown = || AppendError::UnknownStream { name: name.to_owned() };
        self.streams.get(name).ok_or_else(unknown)
    }

    /// Whether it was asked to stop: what never ends by itself ends then.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// What a person should look at, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.insecure.is_empty() {
            warnings.push(insecure(&self.insecure));
        }
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
        self.metrics.certificates(&self.tls.seconds_left());
        gauges.streams.set(signed(self.streams.all().len() as u64));
        gauges.tail_bytes.set(signed(store.tail_bytes.get()));
        gauges.memory_bytes.set(signed(self.memory_bytes()));
        gauges.disk_bytes.set(signed(self.store.disk_bytes()));
        gauges.log_syncs.set(signed(store.sync_micros.count()));
        gauges.log_sync_seconds.set(store.sync_micros.sum() as f64 / 1e6);
        gauges.segments_cut.set(signed(store.segments_cut.get()));
        gauges.segments_merged.set(signed(store.merges.get()));
        gauges.ready.set(i64::from(self.readiness().is_ok()));
        gauges.partitions_at_risk.set(signed(self.cluster.partitions_at_risk()));
        gauges.partitions_without_owner.set(signed(self.cluster.partitions_without_owner()));
        let known = self.cluster.known();
        let moving = known.placements.values().filter(|placement| !placement.is_settled());
        gauges.moves.set(signed(moving.count() as u64));
        let mut counts: BTreeMap<MemberLabels, i64> = BTreeMap::new();
        for member in known.members.values().filter(|member| member.stands()) {
            let alive = if member.alive { "true" } else { "false" };
            let labels = MemberLabels { state: member.state.to_string(), alive };
            *counts.entry(labels).or_default() += 1;
        }
        // A kind of member that there was and is no more is not shown as if it still were.
        gauges.nodes.clear();
        for (labels, count) in &counts {
            gauges.nodes.get_or_create(labels).set(*count);
        }
        self.metrics.encode()
    }
}

/// The node has no place in its cluster any more, or never had: starting it again does not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Expelled(String);

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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = StoreOptions {
        log_memtable_bytes: config.memory.log_memtable_bytes(),
        flush_bytes_per_second: size::flush_bytes_per_second(cores),
        ..StoreOptions::new(Arc::new(NodeClock(Stopwatch::start())))
    };
    let store = Arc::new(Store::open(&config.data_dir, options)?);
    remove_spilled(&config.data_dir.join(SPILL_DIR));
    let io = runtime("io", IO_THREADS, 0)?;
    let query = runtime("query", cores, nice::QUERY)?;
    let served = System::new().block_on(serve(&config, store.clone(), &io, &query, started));
    query.shutdown_timeout(Duration::from_secs(1));
    io.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = store.close() {
        tracing::warn!(%error, "flush the state; the next start replays it");
    }
    tracing::info!("stopped");
    served
}

/// Said at each start and as long as the node runs.
fn insecure(keys: &[&str]) -> String {
    let keys = keys.join(", ");
    format!(
        "insecure: nothing encrypts what goes through {keys}, which other machines can reach; \
         docs/SECURITY.md says how to change that"
    )
}

/// What statements of an earlier life spilled is of no use to anybody.
fn remove_spilled(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, dir = %dir.display(), "remove what was spilled"),
    }
}

fn runtime(name: &'static str, threads: usize, nice: i32) -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .on_thread_start(move || nice::set(nice))
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

async fn serve(
    config: &Config,
    store: Arc<Store>,
    io: &Runtime,
    query: &Runtime,
    started: Stopwatch,
) -> anyhow::Result<()> {
    // Before the state is read back: a taken address should be told at once.
    let tls = Tls::load(config.tls.clone()).context("read the certificates")?;
    let listeners = servers::bind_on(io, config).await?;
    let addresses = listeners.addresses()?;
    if !config.insecure.is_empty() {
        tracing::warn!("{}", insecure(&config.insecure));
    }
    let (stop, stopped) = watch::channel(false);
    io.spawn(tls.clone().watch());
    let doors = Doors::new(config, addresses, tls);
    let (mut servers, mut peers) = servers::start(&doors, listeners, io, &stopped);
    let running = async {
        let starting =
            actors::Starting { config, store, addresses, query, started, io, doors: &doors };
        let node = starting.start().await?;
        if let Some(path) = &config.ready_file {
            write_ready_file(path, &addresses)?;
        }
        say_ready(config, &node.node, started);
        anyhow::Ok(node)
    };
    tokio::pin!(running);
    let mut signals = Box::pin(told_to_stop());
    let mut node: Option<actors::Started> = None;
    let expelled = loop {
        tokio::select! {
            signal = &mut signals => {
                tracing::info!(signal, "stopping");
                break None;
            }
            up = &mut running, if node.is_none() => node = Some(up?),
            reason = doors.expelled() => {
                tracing::warn!(reason, "stopping");
                break Some(Expelled(reason));
            }
            ended = async { tokio::select! {
                ended = servers.join_next() => ended,
                ended = peers.join_next() => ended,
            } } => {
                let why =
                    ended.map_or_else(|| "no server runs".into(), |ended| format!("{ended:?}"));
                anyhow::bail!("a server ended by itself: {why}");
            }
        }
    };
    service::stopping();
    if let Some(started) = &node {
        started.node.stopping.store(true, Ordering::Relaxed);
        // Who has no place any more leads nothing that another would take from it.
        if expelled.is_none() {
            started.step_down().await;
        }
    }
    // Nobody listens any more only if every server has ended.
    let _ = stop.send(true);
    drain(&mut servers).await;
    if let Some(started) = node {
        started.stop().await?;
    }
    expelled.map_or(Ok(()), |expelled| Err(expelled.into()))
}

fn say_ready(config: &Config, node: &Node, started: Stopwatch) {
    let addresses = node.addresses;
    tracing::info!(
        node = %node.identity.node_id, client = %addresses.client, http = %addresses.http,
        data_dir = %config.data_dir.display(), took_ms = started.elapsed().as_millis(), "ready"
    );
    service::ready();
}

/// Lets calls under way finish, for a moment.
async fn drain(servers: &mut servers::Servers) {
    let ended = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, ended).await.is_err() {
        tracing::warn!(waited = ?DRAIN_MAX, "calls under way are cut off");
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
