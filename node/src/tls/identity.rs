//! Who is at the other end of a connection, as far as its certificate proves it.
//!
//! A door hands this out with each call: gRPC in the extensions of the request, HTTP likewise, the
//! PostgreSQL protocol in its session. What a name may do is decided elsewhere. A name is taken
//! from the certificate of the connection itself, never from another hop's; a certificate of a
//! node names a node and never a user; and a revoked certificate names nobody, on connections that
//! are open already too.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of a user that a certificate proves: the common name of its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertifiedName(Arc<str>);

impl CertifiedName {
    /// Of a certificate that was verified.
    pub fn new(name: &str) -> CertifiedName {
        CertifiedName(name.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a verified certificate says, and whether it still counts.
#[derive(Debug, Default)]
pub struct Proof {
    /// The user it names.
    pub user: Option<CertifiedName>,
    /// The nodes it names.
    pub nodes: Vec<String>,
    is_revoked: AtomicBool,
}

impl Proof {
    /// Of a certificate that counts.
    pub fn new(user: Option<CertifiedName>, nodes: Vec<String>) -> Proof {
        Proof { user, nodes, is_revoked: AtomicBool::new(false) }
    }

    /// It does not count any more.
    pub fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    /// Whether it was revoked since the connection began.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed)
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether what it says cannot be read or changed on the way.
    pub is_encrypted: bool,
    proof: Option<Arc<Proof>>,
}

impl Caller {
    /// With what its certificate proves, where it showed one that was verified.
    pub fn new(remote: SocketAddr, is_encrypted: bool, proof: Option<Arc<Proof>>) -> Caller {
        Caller { remote, is_encrypted, proof }
    }

    /// The user that its certificate names. None without one, and once it is revoked.
    pub fn user(&self) -> Option<CertifiedName> {
        self.valid().and_then(|proof| proof.user.clone())
    }

    /// Whether its certificate, where it needs one, names this node.
    pub fn is_node(&self, name: &str) -> bool {
        self.valid().is_some_and(|proof| proof.nodes.iter().any(|node| node == name))
    }

    /// Whether its certificate names any node at all.
    pub fn is_some_node(&self) -> bool {
        self.valid().is_some_and(|proof| !proof.nodes.is_empty())
    }

    /// Whether it showed a certificate that was revoked since.
    pub fn is_revoked(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.is_revoked())
    }

    fn valid(&self) -> Option<&Proof> {
        self.proof.as_deref().filter(|proof| !proof.is_revoked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_certificate_names_nobody() {
        let proof = Arc::new(Proof::new(Some(CertifiedName::new("ann")), vec!["n1".into()]));
        let remote = "127.0.0.1:1".parse().unwrap();
        let caller = Caller::new(remote, true, Some(proof.clone()));
        assert_eq!(caller.user().unwrap().as_str(), "ann");
        assert!(caller.is_node("n1") && !caller.is_node("n2") && !caller.is_revoked());
        proof.revoke();
        assert!(caller.user().is_none() && !caller.is_node("n1") && caller.is_revoked());
        let nobody = Caller::new(remote, false, None);
        assert!(nobody.user().is_none() && !nobody.is_some_node());
    }
}
