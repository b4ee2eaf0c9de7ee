//! Where a node answers, from its first moment on: other nodes and health checks at once, clients
//! when there is something to answer with.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use alluvium_core::meta::Addresses as Advertised;
use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Addresses, Node};
use crate::config::Config;
use crate::grpc::peer::{PeerDoor, Standing};
use crate::tls::identity::Caller;
use crate::tls::{Door, Gate, Tls};
use crate::{clock, grpc, http, sql};

/// Servers that run.
pub(super) type Servers = JoinSet<anyhow::Result<()>>;

/// The sockets of a node.
pub(super) struct Listeners {
    client: TcpListener,
    peer: TcpListener,
    http: TcpListener,
    pg: TcpListener,
}

/// What a node shows by now, and to whom.
#[derive(Debug)]
pub struct Doors {
    advertised: Advertised,
    tls: Arc<Tls>,
    standing: Arc<Standing>,
    waits_for: ArcSwap<String>,
    node: OnceLock<Arc<Node>>,
    is_open: watch::Sender<bool>,
    expelled: watch::Sender<Option<String>>,
}

impl Doors {
    pub(super) fn new(config: &Config, addresses: Addresses, tls: Arc<Tls>) -> Arc<Doors> {
        let standing = Standing {
            process: clock::random_id(),
            seed_hash: seed_hash(&config.seeds),
            door: OnceLock::new(),
        };
        Arc::new(Doors {
            advertised: advertised(config, addresses),
            tls,
            standing: Arc::new(standing),
            waits_for: ArcSwap::from_pointee("its data directory".into()),
            node: OnceLock::new(),
            is_open: watch::Sender::new(false),
            expelled: watch::Sender::new(None),
        })
    }

    /// Where others reach this node.
    pub(super) fn advertised(&self) -> &Advertised {
        &self.advertised
    }

    /// What connections are encrypted with.
    pub fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Says what keeps the node from being ready.
    pub(super) fn waits_for(&self, what: &str) {
        self.waits_for.store(Arc::new(what.to_owned()));
    }

    pub(super) fn open_to_peers(&self, door: PeerDoor) {
        // Once in the life of a node.
        let _ = self.standing.door.set(door);
    }

    pub(super) fn open(&self, node: Arc<Node>) {
        let _ = self.node.set(node);
        self.is_open.send_replace(true);
    }

    /// The node has no place in its cluster any more, or never had.
    pub(super) fn expel(&self, reason: String) {
        self.expelled.send_replace(Some(reason));
    }

    /// Waits until the node is told that it has no place.
    pub(super) async fn expelled(&self) -> String {
        let mut expelled = self.expelled.subscribe();
        match expelled.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The node, once it is there.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    /// Whether appends and queries are served, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        match self.node.get() {
            Some(node) => node.readiness(),
            None => Err(format!("waits for {}", self.waits_for.load())),
        }
    }
}

/// The same for the same set of seeds on every machine and in every version: FNV-1a over the sorted
/// list with a zero after each.
fn seed_hash(seeds: &[String]) -> u64 {
    let bytes = seeds.iter().flat_map(|seed| seed.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn advertised(config: &Config, addresses: Addresses) -> Advertised {
    let reached = |addr: SocketAddr| match &config.advertise {
        Some(host) => format!("{host}:{}", addr.port()),
        None if addr.ip().is_unspecified() => format!("{}:{}", host_name(), addr.port()),
        None => addr.to_string(),
    };
    Advertised {
        client: reached(addresses.client),
        peer: reached(addresses.peer),
        http: reached(addresses.http),
        pg: reached(addresses.pg),
    }
}

/// What the machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
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

    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            client: self.client.local_addr()?,
            peer: self.peer.local_addr()?,
            http: self.http.local_addr()?,
            pg: self.pg.local_addr()?,
        })
    }
}

/// A socket belongs to the runtime it was bound on.
pub(super) async fn bind_on(io: &Runtime, config: &Config) -> anyhow::Result<Listeners> {
    io.spawn(Listeners::bind(config.clone())).await.context("bind the addresses")?
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("listen on {address}; choose another address with the key {key}"))
}

/// Starts all servers: first those that end when they are told to, then the one for other nodes,
/// which runs until the process ends: they may need this node until then.
pub(super) fn start(
    doors: &Arc<Doors>,
    listeners: Listeners,
    io: &Runtime,
    stopped: &watch::Receiver<bool>,
) -> (Servers, Servers) {
    let Listeners { client, peer, http, pg } = listeners;
    let (mut servers, mut to_the_end) = (JoinSet::new(), JoinSet::new());
    let io = io.handle();
    // Gates accept where they are opened.
    let _on_io = io.enter();
    let open = |listener, door| Gate::open(listener, door, doors.tls.clone());
    let (client, peer) = (open(client, Door::Clients), open(peer, Door::Peers));
    let (http, pg) = (open(http, Door::Http), open(pg, Door::Postgres));
    servers.spawn_on(serve_clients(doors.clone(), client, stopped.clone()), io);
    let peers = grpc::server::serve_peers(doors.standing.clone(), peer, std::future::pending());
    to_the_end.spawn_on(async move { Ok(peers.await?) }, io);
    let router = http::router(doors.clone()).into_make_service_with_connect_info::<Caller>();
    let http = axum::serve(http, router).with_graceful_shutdown(until(stopped));
    servers.spawn_on(async move { http.await.context("serve http") }, io);
    let pg = sql::pgwire::serve(doors.clone(), pg, until(stopped));
    servers.spawn_on(async move { pg.await.context("serve the PostgreSQL protocol") }, io);
    (servers, to_the_end)
}

/// Who comes before the node is ready is turned away at once instead of being kept waiting.
async fn serve_clients(
    doors: Arc<Doors>,
    mut gate: Gate,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut is_open = doors.is_open.subscribe();
    let told_to_stop = until(&stopped);
    tokio::pin!(told_to_stop);
    while doors.node().is_none() {
        tokio::select! {
            biased;
            () = &mut told_to_stop => return Ok(()),
            _ = is_open.wait_for(|open| *open) => {}
            accepted = gate.accept() => drop(accepted),
        }
    }
    let node = doors.node().expect("looked at above").clone();
    Ok(grpc::server::serve_clients(node, gate, until(&stopped)).await?)
}

fn until(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender going away means the same.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}
