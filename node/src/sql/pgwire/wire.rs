//! A connection as messages: what comes in, and what waits to go out.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::{self, Backend, Frontend, MESSAGE_BYTES_MAX};
use crate::tls::identity::Caller;
use crate::tls::{Conn, Door, Tls};

/// What waits to be sent is sent when it is this long.
pub const OUTPUT_BYTES: usize = 64 << 10;

/// What is read ahead while a statement runs.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// A client that takes nothing for this long while rows wait for it is let go.
const STALL_MAX: Duration = Duration::from_secs(120);

/// A message that has begun must end within this time.
const MESSAGE_MAX: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: Conn,
    input: BytesMut,
    /// Written, and not sent yet.
    pub out: Backend,
}

impl Wire {
    pub fn new(stream: Conn) -> Wire {
        Wire { stream, input: BytesMut::new(), out: Backend::default() }
    }

    /// Who is at the other end.
    pub fn caller(&self) -> &Caller {
        self.stream.caller()
    }

    /// Whether what goes over it cannot be read on the way.
    pub fn is_encrypted(&self) -> bool {
        self.caller().is_encrypted
    }

    /// Whether the client begins with a handshake without having asked whether it may.
    pub async fn begins_encrypted(&self) -> io::Result<bool> {
        const HANDSHAKE: u8 = 22;
        Ok(self.stream.first_byte().await? == Some(HANDSHAKE))
    }

    /// Does the handshake. Bytes that came before it were not sent by who is at the other end of
    /// it, or cannot be told from such.
    pub async fn encrypt(self, tls: &Tls) -> io::Result<Wire> {
        let plain = self.stream.into_plain().filter(|_| self.input.is_empty());
        let (stream, caller, place) = plain.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Wire::new(tls.encrypt(stream, caller.remote, place, Door::Postgres).await?))
    }

    /// The next message; none when the client has left.
    pub async fn next(&mut self) -> io::Result<Option<Frontend>> {
        self.next_within(MESSAGE_BYTES_MAX).await
    }

    /// The same where a message has at most so many bytes.
    pub async fn next_within(&mut self, bytes_max: usize) -> io::Result<Option<Frontend>> {
        loop {
            let taken = message::take(&mut self.input, bytes_max)
                .map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken))?;
            if let Some(message) = taken {
                return Ok(Some(message));
            }
            // Between messages a client may be silent as long as it likes.
            let count = if self.input.is_empty() {
                self.stream.read_buf(&mut self.input).await?
            } else {
                tokio::time::timeout(MESSAGE_MAX, self.stream.read_buf(&mut self.input)).await??
            };
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// Exactly so many bytes: before the first message there is no kind of message.
    pub async fn bytes(&mut self, count: usize) -> io::Result<BytesMut> {
        while self.input.len() < count {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.input.split_to(count))
    }

    /// Sends what is written.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.bytes.is_empty() {
            let written = self.stream.write_buf(&mut self.out.bytes);
            let count = tokio::time::timeout(STALL_MAX, written).await??;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        // What is encrypted may still wait for the socket.
        tokio::time::timeout(STALL_MAX, self.stream.flush()).await?
    }

    /// Sends what is written if it is long.
    pub async fn flush_if_long(&mut self) -> io::Result<()> {
        if self.out.bytes.len() < OUTPUT_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    /// Done when the client is gone. What it says meanwhile is kept.
    pub async fn gone(&mut self) -> io::Error {
        loop {
            if AHEAD_BYTES_MAX < self.input.len() {
                return std::future::pending().await;
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}
