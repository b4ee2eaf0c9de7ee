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

    /// As long as salts are; by a key that other nodes have too, where there is one.
    pub fn salt(&self, name: &str, shared: Option<&[u8; KEY_BYTES]>) -> Vec<u8> {
        let name = format!("salt of {name}");
        hmac(shared.unwrap_or(&self.key.0), name.as_bytes())[..16].to_vec()
    }
}

/// Tokens that one user has; past that, their oldest is forgotten.
const OF_ONE_MAX: usize = 100;

/// Whom a token was given to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The name.
    pub user: String,
    /// The hash of their password at that time; empty without one.
    pub hash: String,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({})", self.user)
    }
}

/// Tokens that were given out.
#[derive(Debug)]
pub(super) struct Tokens {
    key: Key,
    given: Mutex<BTreeMap<Mark, (Given, Stopwatch)>>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens { key: drawn(), given: Mutex::default() }
    }
}

impl Tokens {
    pub fn give(&self, user: &str, hash: String) -> String {
        let token = format!("{:032x}{:032x}", clock::random_wide(), clock::random_wide());
        let mut given = self.given.lock();
        given.retain(|_, (_, since)| since.elapsed() < TOKEN_FOR);
        let mut theirs: Vec<(Duration, Mark)> = given
            .iter()
            .filter(|(_, (to, _))| to.user == user)
            .map(|(mark, (_, since))| (since.elapsed(), *mark))
            .collect();
        if OF_ONE_MAX <= theirs.len() {
            theirs.sort_unstable();
            theirs.last().map(|(_, oldest)| given.remove(oldest));
        }
        if KEPT_MAX <= given.len() {
            given.clear();
        }
        let to = Given { user: user.to_owned(), hash };
        given.insert(hmac(&self.key.0, token.as_bytes()), (to, Stopwatch::start()));
        token
    }

    pub fn given(&self, token: &str) -> Option<Given> {
        let mark = hmac(&self.key.0, token.as_bytes());
        let given = self.given.lock();
        let (to, since) = given.get(&mark)?;
        (since.elapsed() < TOKEN_FOR).then(|| to.clone())
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
        let token = tokens.give("ann", "h".into());
        let ann = Given { user: "ann".into(), hash: "h".into() };
        assert_eq!(tokens.given(&token), Some(ann));
        assert_eq!(tokens.given(&token[1..]), None);
        assert_eq!(Tokens::default().given(&token), None);
        // Who takes many tokens takes nobody else's away.
        let last = (0..2 * OF_ONE_MAX).map(|_| tokens.give("ben", String::new())).last().unwrap();
        assert!(tokens.given(&token).is_some() && tokens.given(&last).is_some());
        assert!(tokens.given.lock().len() <= OF_ONE_MAX + 1);
    }
}
