//! A connection, encrypted or not, and who is at its other end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::gate::Place;
use super::identity::Caller;

/// See the module. Reading ends once the certificate of the other end is revoked: what was
/// accepted before may still be answered, nothing more is taken in.
#[derive(Debug)]
pub struct Conn {
    io: Io,
    caller: Caller,
    place: Option<Place>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Conn {
    /// One that can be read and changed on the way.
    pub fn plain(stream: TcpStream, caller: Caller, place: Option<Place>) -> Conn {
        Conn { io: Io::Plain(stream), caller, place }
    }

    /// One that cannot.
    pub fn tls(stream: TlsStream<TcpStream>, caller: Caller, place: Option<Place>) -> Conn {
        Conn { io: Io::Tls(Box::new(stream)), caller, place }
    }

    /// Who is at its other end.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The socket below, where nothing encrypts it yet.
    pub fn into_plain(self) -> Option<(TcpStream, Caller, Option<Place>)> {
        let Conn { io, caller, place } = self;
        match io {
            Io::Plain(stream) => Some((stream, caller, place)),
            Io::Tls(_) => None,
        }
    }

    /// Looks at the first byte without taking it.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        match &self.io {
            Io::Plain(stream) => {
                let mut first = [0];
                let count = stream.peek(&mut first).await?;
                Ok(Some(first[0]).filter(|_| 0 < count))
            }
            Io::Tls(_) => Ok(None),
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.caller.is_revoked() {
            let reason = "the certificate of the other end was revoked";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
        }
        Ok(())
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.io {
            Io::Plain(stream) => return Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        // After reading: what came after the certificate was revoked is not handed on.
        if let Err(revoked) = self.check() {
            buffer.set_filled(before);
            return Poll::Ready(Err(revoked));
        }
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
