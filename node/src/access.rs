//! Who may come in, and what they may touch: the one place where doors ask.
//!
//! [`Guard`] says who a caller is: by certificate, by password, or by a token that was given out
//! for a password. [`rules`] says what each call needs; [`Guard::rights`] what a caller has, as the
//! catalogue says it at that moment. Statements are checked where they are bound, in
//! `alluvium_query::access`. The decision itself is `alluvium_core::meta::access::decide`.
//!
//! Invariants: nothing that needs a rule is served without one; no password is logged, kept or
//! compared in time that depends on it; a role that was dropped or may not log in any more is let
//! in by nothing it had before.

pub mod audit;
mod kept;
mod password;
pub mod rules;
pub mod scram;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::meta::access::{ADMIN, Role, Verifiers};
use alluvium_query::access::{Caller, Rights, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::kept::{Given, Kept, Tokens};
use crate::cluster::Cluster;
use crate::tls::identity;

/// Passwords that are checked at one time: each takes some tens of milliseconds of a core and
/// 19 MiB.
static CHECKS: Semaphore = Semaphore::const_new(2);

/// Passwords that are made into verifiers at one time. Apart, so that strangers who try passwords
/// keep nobody from changing one.
static MAKES: Semaphore = Semaphore::const_new(1);

/// Checks that one address may wait for: those behind it come from somebody who tries passwords.
const CHECKS_OF_ONE_MAX: usize = 16;

/// A check that has waited this long behind others is given up.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(10);

/// How a call came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// From where.
    pub remote: Option<SocketAddr>,
    /// Whether nobody on the way could read it.
    pub encrypted: bool,
    /// The name in the client's certificate, which was verified.
    pub certificate: Option<String>,
}

impl Origin {
    /// Over plain TCP.
    pub fn plain(remote: Option<SocketAddr>) -> Origin {
        Origin { remote, encrypted: false, certificate: None }
    }

    /// As the connection proves it.
    pub fn of(caller: &identity::Caller) -> Origin {
        Origin {
            remote: Some(caller.remote),
            encrypted: caller.is_encrypted,
            certificate: caller.user().map(|name| name.as_str().to_owned()),
        }
    }

    /// Whether a password may be said over it.
    fn is_private(&self) -> bool {
        self.encrypted || self.remote.is_some_and(|remote| remote.ip().is_loopback())
    }

    /// As it is logged.
    pub fn text(&self) -> String {
        self.remote.map_or_else(|| "unknown".into(), |remote| remote.to_string())
    }
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It did not say who it is.
    #[error("say who you are: a user and a password, or a client certificate")]
    Missing,
    /// What it said is not a way to say it.
    #[error("the authorization is neither Basic nor Bearer")]
    Malformed,
    /// It is not who it says. The same for users that do not exist.
    #[error("the user or the password is wrong")]
    Wrong,
    /// The token was not given out by this node, or is too old.
    #[error("the token is unknown here or too old; shake hands again")]
    Token,
    /// A password over a connection that others can read.
    #[error("passwords are taken over TLS or from this machine only")]
    Readable,
    /// Too many passwords are checked.
    #[error("too many passwords are checked at once; try again")]
    Busy,
}

/// See the module.
#[derive(Debug)]
pub struct Guard {
    is_required: bool,
    cluster: Arc<Cluster>,
    checking: Mutex<BTreeMap<Option<IpAddr>, usize>>,
    kept: Kept,
    tokens: Tokens,
}

impl Guard {
    /// In front of a node. `is_required`: whether callers have to say who they are.
    pub fn new(is_required: bool, cluster: Arc<Cluster>) -> Guard {
        Guard {
            is_required,
            cluster,
            checking: Mutex::default(),
            kept: Kept::default(),
            tokens: Tokens::default(),
        }
    }

    /// Whether callers have to say who they are.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    /// What a caller may do now.
    pub fn rights(&self, caller: &Caller) -> Rights {
        Rights::new(caller.clone(), self.cluster.known().access.clone())
    }

    /// Who calls, by the header `authorization` and where the call comes from.
    pub async fn admit(
        &self,
        authorization: Option<&str>,
        origin: &Origin,
    ) -> Result<Caller, AuthError> {
        if !self.is_required {
            return Ok(Caller::Everybody);
        }
        let admitted = self.look(authorization, origin).await;
        if let Err(error) = &admitted {
            let user = authorization.and_then(basic).map(|(user, _)| user);
            audit::login_refused(user.as_deref().unwrap_or(""), origin, error);
        }
        admitted
    }

    async fn look(
        &self,
        authorization: Option<&str>,
        origin: &Origin,
    ) -> Result<Caller, AuthError> {
        let Some(authorization) = authorization else {
            let name = origin.certificate.as_deref().ok_or(AuthError::Missing)?;
            return self.user(name).ok_or(AuthError::Wrong);
        };
        if !origin.is_private() {
            return Err(AuthError::Readable);
        }
        if let Some(token) = authorization.strip_prefix("Bearer ") {
            let Given { user, hash } = self.tokens.given(token.trim()).ok_or(AuthError::Token)?;
            let is_same_user = self.hash_of(&user) == hash;
            return self.user(&user).filter(|_| is_same_user).ok_or(AuthError::Token);
        }
        let (user, password) = basic(authorization).ok_or(AuthError::Malformed)?;
        self.check_password(&user, password, origin).await
    }

    /// Who has this password.
    async fn check_password(
        &self,
        user: &str,
        password: Secret,
        origin: &Origin,
    ) -> Result<Caller, AuthError> {
        let verifiers = self.verifiers_of(user);
        let known = verifiers.as_ref().map(|verifiers| verifiers.argon2.clone());
        let mark = self.kept.mark(user, &password, known.as_deref().unwrap_or_default());
        if known.is_none() || !self.kept.has(&mark) {
            let _checking = self.checking(origin)?;
            let check = move || password::is_right(&password, known.as_deref());
            if !in_turn(&CHECKS, check).await? {
                return Err(AuthError::Wrong);
            }
            self.kept.keep(mark);
        }
        self.user(user).ok_or(AuthError::Wrong)
    }

    /// A place among the checks of one address.
    fn checking(&self, origin: &Origin) -> Result<Checking<'_>, AuthError> {
        let from = origin.remote.map(|remote| remote.ip());
        let mut checking = self.checking.lock();
        let count = checking.entry(from).or_default();
        if CHECKS_OF_ONE_MAX <= *count {
            return Err(AuthError::Busy);
        }
        *count += 1;
        Ok(Checking { guard: self, from })
    }

    /// A token by which the caller is known for a while.
    pub fn give_token(&self, caller: &Caller) -> Option<String> {
        match caller {
            Caller::Everybody => None,
            Caller::Role(role) => Some(self.tokens.give(role, self.hash_of(role))),
        }
    }

    /// A user as a caller; none where there is no such role or it may not log in.
    pub fn user(&self, name: &str) -> Option<Caller> {
        self.role(name).filter(|role| role.login).map(|_| Caller::Role(name.into()))
    }

    /// What a user's password is verified by.
    pub fn verifiers_of(&self, name: &str) -> Option<Verifiers> {
        self.role(name).filter(|role| role.login).and_then(|role| role.verifiers)
    }

    /// Salt for a user that does not exist, the same each time and at every node that it is asked
    /// for: users that do exist have such.
    pub fn salt_of_nobody(&self, name: &str) -> Vec<u8> {
        let admin = self.role(ADMIN).and_then(|role| role.verifiers);
        self.kept.salt(name, admin.as_ref().map(|verifiers| &verifiers.server_key))
    }

    /// What a token goes with: whoever comes later under the same name has another one.
    fn hash_of(&self, name: &str) -> String {
        let verifiers = self.role(name).and_then(|role| role.verifiers);
        verifiers.map(|verifiers| verifiers.argon2).unwrap_or_default()
    }

    fn role(&self, name: &str) -> Option<Role> {
        self.cluster.known().access.roles().get(name).cloned()
    }
}

/// A check that waits or is under way.
struct Checking<'a> {
    guard: &'a Guard,
    from: Option<IpAddr>,
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        let mut checking = self.guard.checking.lock();
        let left = checking.get(&self.from).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => drop(checking.remove(&self.from)),
            _ => drop(checking.insert(self.from, left)),
        }
    }
}

/// What a password is to be verified by, when it is its turn; none where it cannot be used.
pub async fn make_verifiers(password: Secret) -> Result<Option<Verifiers>, AuthError> {
    in_turn(&MAKES, move || password::make(&password)).await
}

/// Does what takes a core for a while, when there is a place.
async fn in_turn<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AuthError> {
    let place = tokio::time::timeout(CHECK_WAIT_MAX, places.acquire()).await;
    let Ok(Ok(place)) = place else { return Err(AuthError::Busy) };
    let done = tokio::task::spawn_blocking(move || {
        // Held until the work is done, also when the caller has left.
        let _place = place;
        work()
    });
    done.await.map_err(|_| AuthError::Busy)
}

/// User and password of `Basic …`.
fn basic(authorization: &str) -> Option<(String, Secret)> {
    let (kind, coded) = authorization.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(coded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}
