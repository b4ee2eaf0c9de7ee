//! Whether the doors of a node may be opened as they were asked for.
//!
//! What other machines can reach is encrypted, or somebody has said that the network is trusted.

use std::net::SocketAddr;

use crate::tls::TlsFiles;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Clients, whatever they speak.
    Clients,
    /// Other nodes.
    Peers,
}

/// A listener as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// Its key.
    pub key: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Who comes there.
    pub clients: For,
}

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key to blame.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// The listeners that anybody in the network can read along at, which must have been said to be
/// meant; or why the node does not start.
pub fn decide(
    listeners: &[Listener],
    tls: &TlsFiles,
    is_insecure_meant: bool,
) -> Result<Vec<&'static str>, Refusal> {
    let is_open = |listener: &&Listener| {
        let encrypts = match listener.clients {
            For::Clients => tls.clients.is_some(),
            For::Peers => tls.peers.is_some(),
        };
        !listener.address.ip().is_loopback() && !encrypts
    };
    let open: Vec<&Listener> = listeners.iter().filter(is_open).collect();
    match open.first() {
        Some(first) if !is_insecure_meant => {
            let keys = match first.clients {
                For::Clients => "tls_cert and tls_key",
                For::Peers => "tls_peer_cert, tls_peer_key and tls_peer_ca",
            };
            let reason = format!(
                "this address can be reached from other machines, and there is no certificate \
                 for it: make some with `alluvium cert ca` and `alluvium cert node NAME`, and \
                 say where they are with --certs-dir DIR (or {keys}); or listen on 127.0.0.1; \
                 or add --insecure (insecure = true) where the network itself is trusted"
            );
            Err(Refusal { key: first.key, reason })
        }
        Some(_) | None => Ok(open.iter().map(|listener| listener.key).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn listeners(client: &str, peer: &str) -> [Listener; 2] {
        let at = |key, address: &str, clients| Listener {
            key,
            address: address.parse().unwrap(),
            clients,
        };
        [at("listen", client, For::Clients), at("peer_listen", peer, For::Peers)]
    }

    #[test]
    fn what_others_can_reach_is_encrypted_or_meant() {
        let none = TlsFiles::default();
        let all = TlsFiles::of_dir(Path::new("certs"));
        let clients_only = TlsFiles { peers: None, peer_ca: None, ..all.clone() };
        let (here, far) = ("127.0.0.1:1", "0.0.0.0:1");
        /// Client, peer, files, whether it is meant; the outcome.
        type Case<'a> = (&'a str, &'a str, &'a TlsFiles, bool, Result<&'a [&'a str], &'a str>);
        let cases: [Case; 10] = [
            (here, "[::1]:1", &none, false, Ok(&[])),
            (here, here, &none, true, Ok(&[])),
            (far, here, &none, false, Err("listen")),
            (here, "192.0.2.1:1", &none, false, Err("peer_listen")),
            (far, far, &none, true, Ok(&["listen", "peer_listen"])),
            (far, far, &all, false, Ok(&[])),
            (far, "[::]:1", &all, true, Ok(&[])),
            (far, here, &clients_only, false, Ok(&[])),
            (far, far, &clients_only, false, Err("peer_listen")),
            (far, far, &clients_only, true, Ok(&["peer_listen"])),
        ];
        for (client, peer, files, insecure, expected) in cases {
            let found = decide(&listeners(client, peer), files, insecure);
            let found = found.as_deref().map_err(|refusal| refusal.key);
            assert_eq!(found, expected, "{client} {peer} {insecure}");
        }
        let refusal = decide(&listeners(far, far), &none, false).unwrap_err();
        for word in ["alluvium cert", "--certs-dir", "127.0.0.1", "--insecure"] {
            assert!(refusal.reason.contains(word), "{}", refusal.reason);
        }
    }
}
