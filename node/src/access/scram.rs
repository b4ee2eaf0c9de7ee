//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as the PostgreSQL protocol carries it:
//! without channel binding, and the user is the one named at the start of the connection.
//!
//! Of a user that does not exist, or has no password, the conversation is the same to its end.

use alluvium_core::meta::access::Verifiers;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::password::{hmac, is_same, sha256};

/// The name of the mechanism.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// A conversation after the client's first message.
#[derive(Debug)]
pub struct Exchange {
    verifiers: Verifiers,
    header: String,
    nonce: String,
    /// Both first messages, as they are signed.
    signed: String,
    server_first: String,
}

impl Exchange {
    /// Answers the client's first message. `nonce` was drawn for this conversation alone.
    pub fn begin(verifiers: Verifiers, client_first: &str, nonce: &str) -> Option<Exchange> {
        // `n,,` or `y,,`: the client cannot, or believes that the server cannot, bind channels.
        let (header, bare) = ["n,,", "y,,"]
            .into_iter()
            .find_map(|header| client_first.strip_prefix(header).map(|bare| (header, bare)))?;
        let theirs = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        if theirs.is_empty() || bare.starts_with("m=") {
            return None;
        }
        let nonce = format!("{theirs}{nonce}");
        let salt = BASE64.encode(&verifiers.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifiers.iterations);
        let signed = format!("{bare},{server_first}");
        Some(Exchange { verifiers, header: header.into(), nonce, signed, server_first })
    }

    /// What the client is told first.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Whether the client's last message proves that it knows the password; then, what proves that
    /// the server knows its verifiers.
    pub fn end(self, client_final: &str) -> Option<String> {
        let (without_proof, proof) = client_final.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = parts.next()?.strip_prefix("c=")?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if binding != BASE64.encode(&self.header) || nonce != self.nonce {
            return None;
        }
        let signed = format!("{},{without_proof}", self.signed);
        let signature = hmac(&self.verifiers.stored_key, signed.as_bytes());
        let proof = BASE64.decode(proof).ok()?;
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        if !is_same(&sha256(&client_key), &self.verifiers.stored_key) {
            return None;
        }
        let server = hmac(&self.verifiers.server_key, signed.as_bytes());
        Some(format!("v={}", BASE64.encode(server)))
    }
}

/// Verifiers that no password has: the salt is that of the user, nothing fits the keys.
pub fn of_nobody(salt: Vec<u8>, key: [u8; 32]) -> Verifiers {
    Verifiers {
        iterations: super::password::ITERATIONS,
        salt,
        stored_key: key,
        server_key: key,
        argon2: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::password::make;
    use alluvium_query::access::Secret;

    /// A client that says this password.
    fn talk(password: &str, verifiers: &Verifiers, spoil: impl Fn(String) -> String) -> bool {
        let first = "n,,n=,r=abc";
        let exchange = Exchange::begin(verifiers.clone(), first, "xyz").unwrap();
        let server_first = exchange.server_first().to_owned();
        let without = "c=biws,r=abcxyz";
        let signed = format!("n=,r=abc,{server_first},{without}");
        let keys = crate::access::password::client_key(
            &Secret::new(password),
            &verifiers.salt,
            verifiers.iterations,
        );
        let signature = hmac(&sha256(&keys), signed.as_bytes());
        let proof: Vec<u8> = keys.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let last = format!("{without},p={}", BASE64.encode(proof));
        exchange.end(&spoil(last)).is_some()
    }

    #[test]
    fn only_who_knows_the_password_proves_it() {
        let verifiers = make(&Secret::new("pencil")).unwrap();
        assert!(talk("pencil", &verifiers, |last| last));
        assert!(!talk("pen", &verifiers, |last| last));
        assert!(!talk("pencil", &verifiers, |last| last.replace("xyz", "xyy")));
        assert!(!talk("pencil", &verifiers, |last| last.replace("biws", "eSws")));
        assert!(!talk("pencil", &verifiers, |last| last.replace(",p=", ",p=AAAA")));
        let nobody = of_nobody(vec![1; 16], [7; 32]);
        assert!(!talk("pencil", &nobody, |last| last));
        for first in ["", "p=tls-unique,,n=,r=a", "n,,n=", "n,,m=x,r=a", "n,,n=,r="] {
            assert!(Exchange::begin(verifiers.clone(), first, "xyz").is_none(), "{first}");
        }
    }
}
