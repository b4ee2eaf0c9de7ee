//! The first words of a connection: encryption, who it is, or a request to cancel.

use std::io;

use bytes::Buf;

use super::wire::Wire;
use crate::tls::{Door, Tls};

/// Asks for TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// Asks for GSSAPI encryption.
const GSS_REQUEST: u32 = 80_877_104;
/// Asks for a statement of another connection to be stopped.
const CANCEL_REQUEST: u32 = 80_877_102;

/// A start-up message is a few names and values.
const STARTUP_BYTES_MAX: usize = 10_000;

/// What a client said first.
pub enum Begun {
    /// It wants to ask.
    Session(Box<Wire>, Asked),
    /// It wants another one's statement to be stopped.
    Cancel((i32, i32)),
    /// Nothing that makes sense.
    Left,
}

/// What a client said of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Names and values, such as `user`.
    pub options: Vec<(String, String)>,
    /// Whether the client speaks a newer version than this side.
    pub is_newer: bool,
}

/// Reads up to the start-up message. A client that asks for encryption gets it where the node has a
/// certificate; else it is told no and goes on without.
pub async fn begin(mut wire: Wire, tls: &Tls) -> io::Result<Begun> {
    /// A client asks for each kind of encryption once.
    const TRIES_MAX: usize = 3;
    let encrypts = tls.encrypts(Door::Postgres);
    if encrypts && wire.begins_encrypted().await? {
        wire = wire.encrypt(tls).await?;
    }
    for _ in 0..TRIES_MAX {
        let mut head = wire.bytes(8).await?;
        let (length, kind) = (head.get_u32(), head.get_u32());
        let Ok(length) = usize::try_from(length) else { return Ok(Begun::Left) };
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Ok(Begun::Left);
        }
        let mut body = wire.bytes(length - 8).await?;
        match kind {
            SSL_REQUEST if encrypts && !wire.is_encrypted() => {
                wire.out.bytes.extend_from_slice(b"S");
                wire.flush().await?;
                wire = wire.encrypt(tls).await?;
            }
            SSL_REQUEST | GSS_REQUEST => {
                wire.out.bytes.extend_from_slice(b"N");
                wire.flush().await?;
            }
            CANCEL_REQUEST if body.len() == 8 => {
                return Ok(Begun::Cancel((body.get_i32(), body.get_i32())));
            }
            _ if kind >> 16 == 3 => {
                let options = options(&body);
                let asked = Asked { options, is_newer: kind & 0xffff != 0 };
                return Ok(Begun::Session(Box::new(wire), asked));
            }
            _ => return Ok(Begun::Left),
        }
    }
    Ok(Begun::Left)
}

/// Names and values, each ended by a zero.
fn options(body: &[u8]) -> Vec<(String, String)> {
    let texts =
        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let texts: Vec<String> = texts.collect();
    let pairs = texts.chunks_exact(2).filter(|pair| !pair[0].is_empty());
    pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
