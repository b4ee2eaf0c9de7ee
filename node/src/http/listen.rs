//! Connections of the gate as the HTTP library takes them, and the caller as handlers find it.

use std::io;

use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::{IncomingStream, Listener};

use crate::tls::identity::Caller;
use crate::tls::{Conn, Gate};

impl Listener for Gate {
    type Io = Conn;
    type Addr = Caller;

    async fn accept(&mut self) -> (Conn, Caller) {
        match Gate::accept(self).await {
            Some(conn) => {
                let caller = conn.caller().clone();
                (conn, caller)
            }
            // The runtime is being shut down.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Gate>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Caller {
        stream.remote_addr().clone()
    }
}

/// Handlers find the [`Caller`] in the extensions of the request, as on every other door.
pub(super) async fn show_caller(mut request: Request) -> Request {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().cloned();
    if let Some(ConnectInfo(caller)) = caller {
        request.extensions_mut().insert(caller);
    }
    request
}
