//! From files to what connections are encrypted with: read once, checked whole, never changed.
//!
//! New files make new material; [`super::Tls`] puts it in place of the old.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::der::{Certificate, RevocationList};
use super::verify::AnyNode;

/// Which files a node reads. All of them are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// What clients are shown. None: they are spoken to in the clear.
    pub clients: Option<Pair>,
    /// Who signed the certificates of clients, the first of them that is there. None: clients
    /// are asked for no certificate.
    pub client_ca: Vec<PathBuf>,
    /// What other nodes are shown. None: they are spoken to in the clear.
    pub peers: Option<Pair>,
    /// Who signed the certificates of nodes.
    pub peer_ca: Option<PathBuf>,
    /// The certificates that were taken back. It need not be there.
    pub revoked: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Those of a directory as `alluvium cert` writes it.
    pub fn of_dir(dir: &Path) -> TlsFiles {
        let pair = Pair { certificate: dir.join("node.crt"), key: dir.join("node.key") };
        TlsFiles {
            clients: Some(pair.clone()),
            client_ca: vec![dir.join("client-ca.crt"), dir.join("ca.crt")],
            peers: Some(pair),
            peer_ca: Some(dir.join("ca.crt")),
            revoked: Some(dir.join("crl.pem")),
        }
    }

    /// Whether there is anything to read.
    pub fn is_empty(&self) -> bool {
        self.clients.is_none() && self.peers.is_none()
    }

    /// Every file.
    pub fn all(&self) -> Vec<&Path> {
        let pairs = self.clients.iter().chain(&self.peers);
        let mut all: Vec<&Path> =
            pairs.flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]).collect();
        let others = self.client_ca.iter().chain(&self.peer_ca).chain(&self.revoked);
        all.extend(others.map(PathBuf::as_path));
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or may not be read.
    #[error("read {}: {reason}; `alluvium cert` makes certificates", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What connections are encrypted with.
#[derive(Debug)]
pub struct Material {
    /// What clients meet: gRPC, HTTP, the PostgreSQL protocol.
    pub clients: Option<[Arc<ServerConfig>; 3]>,
    /// What nodes meet, and how they are met.
    pub peers: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    /// Issuers and numbers of certificates that were taken back.
    pub revoked: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Files of certificates, and when the first in each ends.
    pub ends: Vec<(String, i64)>,
}

/// The cryptography in use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Material {
    /// Reads and checks all of it.
    pub fn load(files: &TlsFiles) -> Result<Material, TlsError> {
        let client_ca = files.client_ca.iter().find(|path| path.is_file());
        let client_ca = client_ca.or(files.client_ca.last()).filter(|_| files.clients.is_some());
        let authorities: Vec<&PathBuf> = client_ca.into_iter().chain(&files.peer_ca).collect();
        let lists = match &files.revoked {
            Some(path) if path.is_file() => read_lists(path, &authorities)?,
            Some(_) | None => Lists::default(),
        };
        let mut ends = Vec::new();
        let shown = files.clients.iter().chain(&files.peers).map(|pair| &pair.certificate);
        for path in shown.chain(authorities) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let first = certificates(path)?.into_iter().next();
            let read = first.and_then(|der| Certificate::read(&der));
            let read = read.ok_or_else(|| unfit(path, "its first certificate cannot be read"))?;
            ends.push((name, read.ends));
        }
        ends.sort();
        ends.dedup();
        let clients = match &files.clients {
            Some(pair) => Some(for_clients(pair, client_ca, &lists)?),
            None => None,
        };
        let peers = match (&files.peers, &files.peer_ca) {
            (Some(pair), Some(ca)) => Some(for_peers(pair, ca, &lists)?),
            (Some(_) | None, _) => None,
        };
        Ok(Material { clients, peers, revoked: lists.revoked, ends })
    }
}

/// Revocation lists, as they stand and as they are looked up.
#[derive(Default)]
struct Lists {
    signed: Vec<CertificateRevocationListDer<'static>>,
    revoked: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

fn unfit(path: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::Unfit { path: path.into(), reason: reason.into() }
}

fn read<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, TlsError> {
    let bytes = std::fs::read(path)
        .map_err(|error| TlsError::Read { path: path.into(), reason: error.to_string() })?;
    let items: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    let items = items.map_err(|error| unfit(path, format!("not PEM: {error}")))?;
    if items.is_empty() {
        return Err(unfit(path, format!("there is no {what} in it")));
    }
    Ok(items)
}

/// The certificates of a file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    read(path, "certificate")
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    Ok(read(path, "private key")?.swap_remove(0))
}

/// Who is trusted to sign.
pub fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unfit(path, error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Takes the lists of a file that one of these authorities signed. One that nobody signed would
/// shut everybody out, so the file is refused as a whole.
fn read_lists(path: &Path, signers: &[&PathBuf]) -> Result<Lists, TlsError> {
    let mut known = Vec::new();
    for signer in signers {
        known.extend(certificates(signer)?.iter().filter_map(|der| Certificate::read(der)));
    }
    let mut lists = Lists::default();
    for der in read::<CertificateRevocationListDer<'static>>(path, "revocation list")? {
        let list = RevocationList::read(&der)
            .ok_or_else(|| unfit(path, "a revocation list in it cannot be read"))?;
        if !known.iter().any(|signer| is_signed_by(&list, signer)) {
            return Err(unfit(path, "a revocation list in it is signed by no authority in use"));
        }
        let serials = list.serials.into_iter();
        lists.revoked.extend(serials.map(|serial| (list.issuer.clone(), serial)));
        lists.signed.push(der);
    }
    Ok(lists)
}

fn is_signed_by(list: &RevocationList, signer: &Certificate) -> bool {
    let provider = provider();
    let mut ways = provider.signature_verification_algorithms.all.iter().filter(|way| {
        way.public_key_alg_id().as_ref() == signer.key_kind.as_slice()
            && way.signature_alg_id().as_ref() == list.signature_kind.as_slice()
    });
    list.issuer == signer.subject
        && ways.any(|way| way.verify_signature(&signer.key, &list.signed, &list.signature).is_ok())
}

/// Verifies certificates that are shown to this side.
fn verifier(
    path: &Path,
    lists: &Lists,
    is_needed: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(authorities(path)?, provider());
    let builder = if is_needed { builder } else { builder.allow_unauthenticated() };
    let builder = builder
        .with_crls(lists.signed.iter().cloned())
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
    builder.build().map_err(|error| unfit(path, error.to_string()))
}

fn for_clients(
    pair: &Pair,
    ca: Option<&PathBuf>,
    lists: &Lists,
) -> Result<[Arc<ServerConfig>; 3], TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    let builder = match ca {
        Some(ca) => builder.with_client_cert_verifier(verifier(ca, lists, false)?),
        None => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(certificates(&pair.certificate)?, key(&pair.key)?)
        .map_err(|error| unfit(&pair.certificate, error.to_string()))?;
    Ok([b"h2".as_slice(), b"http/1.1", b"postgresql"].map(|protocol| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }))
}

fn for_peers(
    pair: &Pair,
    ca: &Path,
    lists: &Lists,
) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), TlsError> {
    let unfit = |error: tokio_rustls::rustls::Error| unfit(&pair.certificate, error.to_string());
    let protocols = vec![b"h2".to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows TLS 1.3")
        .with_client_cert_verifier(verifier(ca, lists, true)?)
        .with_single_cert(certificates(&pair.certificate)?, key(&pair.key)?)
        .map_err(unfit)?;
    server.alpn_protocols.clone_from(&protocols);
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyNode::of(authorities(ca)?)))
        .with_client_auth_cert(certificates(&pair.certificate)?, key(&pair.key)?)
        .map_err(unfit)?;
    client.alpn_protocols = protocols;
    // Names are checked after each handshake, which a resumed session would have to repeat.
    client.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    Ok((Arc::new(server), Arc::new(client)))
}

/// How a client of ours meets a node: it checks the node's certificate for the host it asked for.
pub fn for_commands(ca: &Path, pair: Option<&Pair>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(authorities(ca)?);
    let mut config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(certificates(&pair.certificate)?, key(&pair.key)?)
            .map_err(|error| unfit(&pair.certificate, error.to_string()))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
