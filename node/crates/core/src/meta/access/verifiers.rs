//! What a password is verified by. It is made where the password came in, with salt from the
//! operating system; from it the password cannot be had back, and it is not shown to anybody.

use std::fmt;

/// Bytes of the keys SCRAM-SHA-256 keeps.
pub const KEY_BYTES: usize = 32;

/// Bytes of the longest salt.
pub const SALT_BYTES_MAX: usize = 64;

/// The fewest rounds a password may be stretched by, as RFC 7677 has it.
pub const ITERATIONS_MIN: u32 = 4_096;

/// The most: more would keep a client busy for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Bytes of the longest argon2id text.
pub const ARGON2_BYTES_MAX: usize = 512;

/// What one password is verified by: SCRAM-SHA-256 (RFC 5802, RFC 7677) where the client does not
/// say it, argon2id where it does.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifiers {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Its salt.
    pub salt: Vec<u8>,
    /// What the client's proof is checked by.
    pub stored_key: [u8; KEY_BYTES],
    /// What the server proves itself by.
    pub server_key: [u8; KEY_BYTES],
    /// The argon2id hash with its salt and parameters, as PHC text.
    pub argon2: String,
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifiers(…)")
    }
}
