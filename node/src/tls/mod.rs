//! Certificates and encrypted connections: what every door and every link between nodes uses.
//!
//! [`Tls`] holds what the files say at this moment; [`material`] reads them, [`der`] and
//! [`verify`] tell whose a certificate is, [`gate`] is where connections come in, [`conn`] is one
//! of them, [`identity`] who is at its other end, and [`authority`] makes certificates.
//!
//! Files that change are read again. Files that cannot be used change nothing: the node goes on
//! with what it has, and says so.

pub mod authority;
pub mod conn;
pub mod der;
pub mod gate;
pub mod identity;
pub mod material;
pub mod verify;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use self::conn::Conn;
pub use self::gate::{Gate, Place};
pub use self::material::{Pair, TlsError, TlsFiles};

use self::der::Certificate;
use self::gate::HANDSHAKE_MAX;
use self::identity::{Caller, Proof};
use self::material::Material;
use crate::clock;

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Where connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC for clients.
    Clients,
    /// gRPC for nodes.
    Peers,
    /// HTTP.
    Http,
    /// The PostgreSQL protocol.
    Postgres,
}

/// A certificate that the other end of an open connection has shown.
#[derive(Debug)]
struct Shown {
    issuer_and_serial: (Vec<u8>, Vec<u8>),
    proof: Weak<Proof>,
}

/// See the module.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    material: ArcSwap<Material>,
    shown: Mutex<Vec<Shown>>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Arc<Tls>, TlsError> {
        let material = ArcSwap::from_pointee(Material::load(&files)?);
        Ok(Arc::new(Tls { files, material, shown: Mutex::default() }))
    }

    /// What a door encrypts with, if it does.
    fn server(&self, door: Door) -> Option<Arc<ServerConfig>> {
        let material = self.material.load();
        let clients = |place: usize| Some(material.clients.as_ref()?[place].clone());
        match door {
            Door::Clients => clients(0),
            Door::Http => clients(1),
            Door::Postgres => clients(2),
            Door::Peers => material.peers.as_ref().map(|(server, _)| server.clone()),
        }
    }

    /// Whether a door takes encrypted connections only.
    pub fn encrypts(&self, door: Door) -> bool {
        self.server(door).is_some()
    }

    /// How many seconds each certificate has left, by file.
    pub fn seconds_left(&self) -> Vec<(String, i64)> {
        let now = clock::now().0 / 1_000_000;
        let material = self.material.load();
        material.ends.iter().map(|(file, end)| (file.clone(), end - now)).collect()
    }

    /// Does the handshake of a connection that came in.
    pub async fn encrypt(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        place: Option<Place>,
        door: Door,
    ) -> io::Result<Conn> {
        let config = self.server(door).ok_or(io::ErrorKind::Unsupported)?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_MAX, handshake).await??;
        let caller = self.caller(remote, stream.get_ref().1.peer_certificates())?;
        if door == Door::Peers && !caller.is_some_node() {
            return Err(refused("the certificate is not that of a node".into()));
        }
        Ok(Conn::tls(TlsStream::Server(stream), caller, place))
    }

    /// Connects to another node, `name` where it is known who listens there.
    pub async fn connect_peer(&self, addr: &str, name: Option<&str>) -> io::Result<Conn> {
        let client = self.material.load().peers.as_ref().map(|(_, client)| client.clone());
        let Some(client) = client else {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            let remote = stream.peer_addr()?;
            return Ok(Conn::plain(stream, Caller::new(remote, false, None), None));
        };
        let (stream, remote) = shake_hands(client, addr).await?;
        let caller = self.caller(remote, stream.get_ref().1.peer_certificates())?;
        if !caller.is_some_node() {
            return Err(refused(format!("the certificate of {addr} is not that of a node")));
        }
        if let Some(name) = name.filter(|name| !caller.is_node(name)) {
            return Err(refused(format!("the certificate of {addr} is not that of node {name}")));
        }
        Ok(Conn::tls(stream, caller, None))
    }

    /// Whether links between nodes are encrypted, and each end proves which node it is.
    pub fn proves_nodes(&self) -> bool {
        self.material.load().peers.is_some()
    }

    fn caller(
        &self,
        remote: SocketAddr,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> io::Result<Caller> {
        let Some(certificate) = certificates.and_then(<[_]>::first) else {
            return Ok(Caller::new(remote, true, None));
        };
        let certificate = Certificate::read(certificate)
            .ok_or_else(|| refused("the certificate cannot be read".into()))?;
        let proof = Arc::new(verify::proof(&certificate));
        let issuer_and_serial = (certificate.issuer, certificate.serial);
        {
            let mut shown = self.shown.lock();
            // Not before there is something to gain, so that each connection pays the same.
            if shown.len() == shown.capacity() {
                shown.retain(|shown| shown.proof.strong_count() != 0);
            }
            let issuer_and_serial = issuer_and_serial.clone();
            shown.push(Shown { issuer_and_serial, proof: Arc::downgrade(&proof) });
        }
        // Looked up when it can be found by who revokes: what is revoked meanwhile is seen by one
        // of the two.
        if self.material.load().revoked.contains(&issuer_and_serial) {
            return Err(refused("the certificate was revoked".into()));
        }
        Ok(Caller::new(remote, true, Some(proof)))
    }

    /// Reads the files again and puts what they say in place.
    fn reload(&self) -> Result<(), TlsError> {
        let material = Material::load(&self.files)?;
        let had_list = !self.material.load().revoked.is_empty();
        if let Some(path) = self.files.revoked.as_ref().filter(|path| had_list && !path.is_file()) {
            let reason = "it is gone; what it revoked stays revoked".to_owned();
            return Err(TlsError::Unfit { path: path.clone(), reason });
        }
        self.material.store(Arc::new(material));
        let material = self.material.load();
        for shown in self.shown.lock().iter() {
            if material.revoked.contains(&shown.issuer_and_serial)
                && let Some(proof) = shown.proof.upgrade()
            {
                proof.revoke();
            }
        }
        Ok(())
    }

    /// Reads the files again whenever they change, and when the process is told to by SIGHUP.
    pub async fn watch(self: Arc<Tls>) {
        use tokio::signal::unix::{SignalKind, signal};
        if self.files.is_empty() {
            return;
        }
        let mut told = match signal(SignalKind::hangup()) {
            Ok(told) => told,
            Err(error) => {
                return tracing::error!(%error, "changed certificates are not looked for");
            }
        };
        let mut seen = self.look();
        loop {
            let is_told = tokio::select! {
                _ = told.recv() => true,
                () = tokio::time::sleep(LOOK_AGAIN) => false,
            };
            let look = self.look();
            if !is_told && look == seen {
                continue;
            }
            seen = look;
            match self.reload() {
                Ok(()) => tracing::info!("certificates are read again"),
                Err(error) => tracing::error!(
                    %error, "changed certificates cannot be used; the ones before stay in use"
                ),
            }
        }
    }

    /// Ages and lengths of the files.
    fn look(&self) -> Vec<Option<(SystemTime, u64)>> {
        let look = |path: &std::path::Path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        self.files.all().into_iter().map(look).collect()
    }
}

/// How a command of this program meets a node: encrypted, and sure of which host it is.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts who this authority signed; shows its own certificate where it has one.
    pub fn load(ca: &Path, pair: Option<&Pair>) -> Result<ClientTls, TlsError> {
        Ok(ClientTls(material::for_commands(ca, pair)?))
    }

    /// Connects to a node.
    pub async fn connect(&self, addr: &str) -> io::Result<Conn> {
        let (stream, remote) = shake_hands(self.0.clone(), addr).await?;
        Ok(Conn::tls(stream, Caller::new(remote, true, None), None))
    }
}

async fn shake_hands(
    config: Arc<ClientConfig>,
    addr: &str,
) -> io::Result<(TlsStream<TcpStream>, SocketAddr)> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let host = ServerName::try_from(host).map_err(|error| refused(error.to_string()))?;
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let remote = stream.peer_addr()?;
    let handshake = TlsConnector::from(config).connect(host, stream);
    let stream = tokio::time::timeout(HANDSHAKE_MAX, handshake).await??;
    Ok((TlsStream::Client(stream), remote))
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}
