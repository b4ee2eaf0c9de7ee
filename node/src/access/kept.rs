//! What is remembered of those who were let in, in memory and for a short while: that a password
//! was right, and who was given which token. Neither passwords nor tokens are kept, only marks of
//! them under a key that this process drew.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use alluvium_core::meta::access::KEY_BYTES;
use alluvium_query::access::Secret;
use parking_lot::Mutex;

use super::password::hmac;
use crate::clock::{self, Stopwatch};

type Mark = [u8; KEY_BYTES];

/// What marks are made under. Shown by nothing.
struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A password that was right is not checked again for this long. One that was changed is checked at
/// once: the mark has the hash in it.
const RIGHT_FOR: Duration = Duration::from_secs(60);

/// A token is good for this long: clients of Flight shake hands again.
const TOKEN_FOR: Duration = Duration::from_secs(3_600);

/// Marks and tokens kept; past that, all are forgotten.
const KEPT_MAX: usize = 10_000;

/// Passwords that were right.
#[derive(Debug)]
pub(super) struct Kept {
    key: Key,
    right: Mutex<BTreeMap<Mark, Stopwatch>>,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { key: drawn(), right: Mutex::default() }
    }
}

impl Kept {
    /// Stands for a user with this password and this hash.
    pub fn mark(&self, user: &str, password: &Secret, hash: &str) -> Mark {
        let mut text = Vec::new();
        for part in [user, password.expose(), hash] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        hmac(&self.key.0, &text)
    }

    pub fn has(&self, mark: &Mark) -> bool {
        self.right.lock().get(mark).is_some_and(|since| since.elapsed() < RIGHT_FOR)
    }

    pub fn keep(&self, mark: Mark) {
        let mut right = self.right.lock();
        if KEPT_MAX <= right.len() {
            right.clear();
        }
        right.insert(mark, Stopwatch::start());
    }

    /// As long as salts are.
    pub fn salt(&self, name: &str) -> Vec<u8> {
        hmac(&self.key.0, name.as_bytes())[..16].to_vec()
    }
}

/// Tokens that were given out.
#[derive(Debug)]
pub(super) struct Tokens {
    key: Key,
    given: Mutex<BTreeMap<Mark, (String, Stopwatch)>>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens { key: drawn(), given: Mutex::default() }
    }
}

impl Tokens {
    pub fn give(&self, user: &str) -> String {
        let token = format!("{:032x}{:032x}", clock::random_wide(), clock::random_wide());
        let mut given = self.given.lock();
        given.retain(|_, (_, since)| since.elapsed() < TOKEN_FOR);
        if KEPT_MAX <= given.len() {
            given.clear();
        }
        given.insert(hmac(&self.key.0, token.as_bytes()), (user.to_owned(), Stopwatch::start()));
        token
    }

    pub fn user(&self, token: &str) -> Option<String> {
        let mark = hmac(&self.key.0, token.as_bytes());
        let given = self.given.lock();
        let (user, since) = given.get(&mark)?;
        (since.elapsed() < TOKEN_FOR).then(|| user.clone())
    }
}

fn drawn() -> Key {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(&clock::random_wide().to_be_bytes());
    key[16..].copy_from_slice(&clock::random_wide().to_be_bytes());
    Key(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_user_password_and_hash() {
        let kept = Kept::default();
        let mark = kept.mark("ab", &Secret::new("c"), "h");
        kept.keep(mark);
        assert!(kept.has(&kept.mark("ab", &Secret::new("c"), "h")));
        for other in [("a", "bc", "h"), ("ab", "d", "h"), ("ab", "c", "g")] {
            assert!(!kept.has(&kept.mark(other.0, &Secret::new(other.1), other.2)), "{other:?}");
        }
    }

    #[test]
    fn a_token_is_known_by_whom_it_was_given_to() {
        let tokens = Tokens::default();
        let token = tokens.give("ann");
        assert_eq!(tokens.user(&token).as_deref(), Some("ann"));
        assert_eq!(tokens.user(&token[1..]), None);
        assert_eq!(Tokens::default().user(&token), None);
    }
}
