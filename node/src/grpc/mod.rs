//! The gRPC front door and its other side. The only folder that names tonic.
//!
//! Wire types stop in [`convert`]; errors become codes in [`status`].

pub mod admin;
pub mod client;
pub mod convert;
pub mod flight;
mod front;
pub mod ingest;
pub mod peer;
pub mod query;
pub mod server;
pub mod status;
pub mod transport;
pub mod view;

use alluvium_query::access::Caller;
use tonic::Request;

use crate::sql::run::Asker;

/// Who calls, as the front door found out. A call that came around it is nobody's.
fn caller<T>(request: &Request<T>) -> Caller {
    let known = request.extensions().get::<Caller>().cloned();
    known.unwrap_or_else(|| Caller::Role("".into()))
}

/// The same with its address, for statements.
fn asker<T>(request: &Request<T>) -> Asker {
    Asker { caller: caller(request), client: transport::remote_of(request) }
}
