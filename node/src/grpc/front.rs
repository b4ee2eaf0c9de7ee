//! Which service a call goes to.
//!
//! Appends and lookups come by the ten thousand a second and go to their service at once;
//! everything else goes through the router, whose search and copies cost about as much as reading
//! one row.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use alluvium_proto::v1::ingest_server::IngestServer;
use alluvium_proto::v1::query_server::QueryServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::ingest::IngestService;
use super::query::QueryService;

/// See the module.
#[derive(Clone)]
pub(super) struct Front {
    ingest: IngestServer<IngestService>,
    query: QueryServer<QueryService>,
    others: Routes,
}

impl Front {
    /// In front of these services.
    pub fn new(
        ingest: IngestServer<IngestService>,
        query: QueryServer<QueryService>,
        others: Routes,
    ) -> Front {
        Front { ingest, query, others: others.prepare() }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither the service nor the router ever makes a call wait here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = service_name(request.uri().path());
        if service == IngestServer::<IngestService>::NAME {
            self.ingest.call(request)
        } else if service == QueryServer::<QueryService>::NAME {
            self.query.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}

/// Paths are `/package.Service/Method`.
fn service_name(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}
