//! Who a client is, where it has to prove it: by its certificate, or by SCRAM-SHA-256.

use std::io;

use alluvium_core::meta::access::Verifiers;
use alluvium_query::access::Caller;
use bytes::{Buf, Bytes};

use super::message::{Fault, Frontend};
use super::startup::Asked;
use super::wire::Wire;
use crate::access::scram::{self, Exchange, MECHANISM};
use crate::access::{AuthError, Guard, Origin, audit};
use crate::clock;

/// Kinds of the message that asks for authentication.
const MECHANISMS: i32 = 10;
const GO_ON: i32 = 11;
const DONE: i32 = 12;

/// A stranger's message is as long as a name, a nonce and a proof need.
const PROOF_BYTES_MAX: usize = 4 << 10;

/// The caller, or what the client is told instead. A refusal says the same whatever was wrong.
pub async fn login(
    wire: &mut Wire,
    guard: &Guard,
    asked: &Asked,
    origin: &Origin,
) -> io::Result<Result<Caller, Fault>> {
    if !guard.is_required() {
        return Ok(Ok(Caller::Everybody));
    }
    let user = asked.options.iter().find(|(name, _)| name == "user");
    let user = user.map(|(_, value)| value.as_str()).unwrap_or_default();
    let refused = |error: AuthError| {
        audit::login_refused(user, origin, &error);
        Fault::fatal("28P01", format!("password authentication failed for user \"{user}\""))
    };
    if origin.certificate.as_deref() == Some(user)
        && let Some(caller) = guard.user(user)
    {
        return Ok(Ok(caller));
    }
    let verifiers = guard.verifiers_of(user);
    let is_known = verifiers.is_some();
    let proved = prove(wire, verifiers.unwrap_or_else(|| nobody(guard, user))).await?;
    // Asked anew: the role may have gone meanwhile.
    Ok(match guard.user(user).filter(|_| proved && is_known) {
        Some(caller) => Ok(caller),
        None => Err(refused(AuthError::Wrong)),
    })
}

/// The conversation; whether the client proved that it knows the password.
async fn prove(wire: &mut Wire, verifiers: Verifiers) -> io::Result<bool> {
    let mut mechanisms = MECHANISM.as_bytes().to_vec();
    mechanisms.extend_from_slice(&[0, 0]);
    wire.out.authentication(MECHANISMS, &mechanisms);
    wire.flush().await?;
    let Some(first) = proof(wire).await? else { return Ok(false) };
    let Some(first) = client_first(first) else { return Ok(false) };
    let nonce = format!("{:032x}", clock::random_wide());
    let Some(exchange) = Exchange::begin(verifiers, &first, &nonce) else { return Ok(false) };
    wire.out.authentication(GO_ON, exchange.server_first().as_bytes());
    wire.flush().await?;
    let Some(last) = proof(wire).await? else { return Ok(false) };
    let Ok(last) = std::str::from_utf8(&last) else { return Ok(false) };
    let Some(server_final) = exchange.end(last) else { return Ok(false) };
    // Sent with the message that lets the client in.
    wire.out.authentication(DONE, server_final.as_bytes());
    Ok(true)
}

/// The next message, where it is one that proves something.
async fn proof(wire: &mut Wire) -> io::Result<Option<Bytes>> {
    match wire.next_within(PROOF_BYTES_MAX).await? {
        Some(Frontend::Proof(said)) => Ok(Some(said)),
        Some(_) | None => Ok(None),
    }
}

/// The first message of the mechanism, in its frame: the mechanism's name and a length.
fn client_first(mut frame: Bytes) -> Option<String> {
    let end = frame.iter().position(|byte| *byte == 0)?;
    if frame.split_to(end) != MECHANISM.as_bytes() {
        return None;
    }
    frame.advance(1);
    let length = usize::try_from(frame.try_get_i32().ok()?).ok()?;
    if length != frame.len() {
        return None;
    }
    String::from_utf8(frame.to_vec()).ok()
}

fn nobody(guard: &Guard, user: &str) -> Verifiers {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&clock::random_wide().to_be_bytes());
    scram::of_nobody(guard.salt_of_nobody(user), key)
}
