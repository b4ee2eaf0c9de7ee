//! Whose certificate it is: nodes by their names, users by theirs.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::der::Certificate;
use super::identity::{CertifiedName, Proof};
use super::material::provider;

/// How a certificate of a node begins to name it.
const NODE_URI: &str = "alluvium://";

/// The URI that names a node.
pub fn node_uri(cluster: &str, name: &str) -> String {
    format!("{NODE_URI}{cluster}/node/{name}")
}

/// The nodes that a certificate names: by URI, or by host name where it has no such URI.
fn nodes(certificate: &Certificate) -> Vec<String> {
    let named = certificate.uris.iter().filter_map(|uri| {
        let (_, path) = uri.strip_prefix(NODE_URI)?.split_once('/')?;
        path.strip_prefix("node/").map(str::to_owned)
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { certificate.hosts.clone() } else { named }
}

/// What a verified certificate proves. That of a node is nobody's name, whatever its subject says.
pub fn proof(certificate: &Certificate) -> Proof {
    let is_node = certificate.uris.iter().any(|uri| uri.starts_with(NODE_URI));
    let user = certificate.common_name.as_deref().filter(|_| !is_node).map(CertifiedName::new);
    Proof::new(user, nodes(certificate))
}

/// Takes every certificate that the authority of nodes signed for a server. Which node it is shows
/// once the connection stands: where a node listens says little about which one it is.
#[derive(Debug)]
pub struct AnyNode {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl AnyNode {
    /// Signed by one of these.
    pub fn of(roots: Arc<RootCertStore>) -> AnyNode {
        AnyNode { roots, provider: provider() }
    }
}

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_a_node_or_a_user() {
        let certificate = Certificate {
            common_name: Some("admin".into()),
            hosts: vec!["localhost".into()],
            uris: vec![node_uri("alluvium", "n1"), "https://n2".into()],
            ..Certificate::default()
        };
        let node = proof(&certificate);
        assert_eq!((node.user.as_ref(), &node.nodes), (None, &vec!["n1".to_owned()]));
        let user = proof(&Certificate { uris: Vec::new(), ..certificate });
        assert_eq!(user.user.unwrap().as_str(), "admin");
        assert_eq!(user.nodes, ["localhost"]);
    }
}
