//! Passwords and what they are verified by: SCRAM-SHA-256 (RFC 5802, RFC 7677) and argon2id.
//!
//! HMAC and PBKDF2 are written here over SHA-256: thirty lines, checked by the examples of the
//! RFCs, against two more libraries.

use std::sync::LazyLock;

use alluvium_core::meta::access::{KEY_BYTES, Verifiers};
use alluvium_query::access::Secret;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use sha2::{Digest, Sha256};

use crate::clock;

/// Rounds of PBKDF2. A client does as many at each connection.
pub(super) const ITERATIONS: u32 = 15_000;

/// Bytes of SHA-256's block.
const BLOCK_BYTES: usize = 64;

/// What a password is verified by, with salt of its own. Takes some tens of milliseconds.
#[must_use]
pub fn make(password: &Secret) -> Option<Verifiers> {
    let salt = clock::random_wide().to_be_bytes();
    let argon2_salt = SaltString::encode_b64(&clock::random_wide().to_be_bytes()).ok()?;
    let hash = Argon2::default().hash_password(password.expose().as_bytes(), &argon2_salt).ok()?;
    let (stored_key, server_key) = scram_keys(password, &salt, ITERATIONS);
    Some(Verifiers {
        iterations: ITERATIONS,
        salt: salt.to_vec(),
        stored_key,
        server_key,
        argon2: hash.to_string(),
    })
}

/// Whether the password is the one of this hash. Without a hash it takes as long, and it is not.
pub fn is_right(password: &Secret, hash: Option<&str>) -> bool {
    static NOBODY: LazyLock<Option<String>> =
        LazyLock::new(|| make(&Secret::new("nobody")).map(|verifiers| verifiers.argon2));
    let Some(text) = hash.or(NOBODY.as_deref()) else { return false };
    let Ok(parsed) = PasswordHash::new(text) else { return false };
    let fits = Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok();
    fits && hash.is_some()
}

/// StoredKey and ServerKey of RFC 5802.
fn scram_keys(
    password: &Secret,
    salt: &[u8],
    iterations: u32,
) -> ([u8; KEY_BYTES], [u8; KEY_BYTES]) {
    let salted = pbkdf2(password.expose().as_bytes(), salt, iterations);
    let client_key = hmac(&salted, b"Client Key");
    (sha256(&client_key), hmac(&salted, b"Server Key"))
}

/// What a client proves that it has.
#[cfg(test)]
pub(super) fn client_key(password: &Secret, salt: &[u8], iterations: u32) -> [u8; KEY_BYTES] {
    hmac(&pbkdf2(password.expose().as_bytes(), salt, iterations), b"Client Key")
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    Sha256::digest(bytes).into()
}

/// HMAC-SHA-256, RFC 2104.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    match key.len() <= BLOCK_BYTES {
        true => block[..key.len()].copy_from_slice(key),
        false => block[..KEY_BYTES].copy_from_slice(&sha256(key)),
    }
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    inner.update(message);
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// The first block of PBKDF2-HMAC-SHA-256, which is all that SCRAM takes.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; KEY_BYTES] {
    let mut first = salt.to_vec();
    first.extend_from_slice(&1_u32.to_be_bytes());
    let mut last = hmac(password, &first);
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac(password, &last);
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// Whether two keys are the same, in time that does not depend on where they differ.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, and RFC 7677, section 3.
    #[test]
    fn the_examples_of_the_rfcs() {
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        let salt = [
            0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36,
            0xfa, 0x81,
        ];
        let (stored_key, server_key) = scram_keys(&Secret::new("pencil"), &salt, 4_096);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                       s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let signature = STANDARD.encode(hmac(&server_key, message.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let key = hmac(&stored_key, message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(key).map(|(a, b)| a ^ b).collect();
        assert_eq!(sha256(&client_key), stored_key);
    }

    #[test]
    fn a_password_is_known_by_its_hash() {
        let verifiers = make(&Secret::new("correct horse")).unwrap();
        assert!(is_right(&Secret::new("correct horse"), Some(&verifiers.argon2)));
        assert!(!is_right(&Secret::new("correct horses"), Some(&verifiers.argon2)));
        assert!(!is_right(&Secret::new("nobody"), None));
        assert!(!is_right(&Secret::new("x"), Some("no hash")));
    }
}
