//! The transport's words for our connections: what comes in at a gate, and how others are called.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tonic::codegen::Service;
use tonic::codegen::http::{Extensions, Uri};
use tonic::transport::server::Connected;

use crate::tls::identity::Caller;
use crate::tls::{ClientTls, Conn, Gate, Tls};

impl Connected for Conn {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller().clone()
    }
}

/// The connections of a gate, until it is dropped.
pub(super) fn incoming(gate: Gate) -> impl Stream<Item = io::Result<Conn>> {
    futures::stream::unfold(gate, |mut gate| async move {
        let conn = gate.accept().await?;
        Some((Ok(conn), gate))
    })
}

/// Who is at the other end of the connection of a call. None in tests without one.
pub fn caller<T>(request: &tonic::Request<T>) -> Option<Caller> {
    request.extensions().get::<Caller>().cloned()
}

/// Where the other end of the connection of a call is.
pub fn remote_of<T>(request: &tonic::Request<T>) -> Option<SocketAddr> {
    caller_of(request.extensions()).map(|caller| caller.remote)
}

/// The same before the call is read.
pub fn caller_of(extensions: &Extensions) -> Option<&Caller> {
    extensions.get::<Caller>()
}

/// How a connection to a node is made.
#[derive(Clone, Debug)]
pub(super) enum Dialer {
    /// From another node; with its name where that is known.
    Peer(Arc<Tls>, Option<String>),
    /// From a command.
    Command(ClientTls),
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Conn>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Conn>>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let addr = uri.authority().map(ToString::to_string).unwrap_or_default();
            let conn = match dialer {
                Dialer::Peer(tls, name) => tls.connect_peer(&addr, name.as_deref()).await?,
                Dialer::Command(tls) => tls.connect(&addr).await?,
            };
            Ok(TokioIo::new(conn))
        })
    }
}
