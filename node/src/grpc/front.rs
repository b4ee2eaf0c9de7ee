//! Who a call is let in for, and which service it goes to.
//!
//! Every call passes here: one without a rule ([`rules::CALLS`]) reaches no service. Who calls is
//! found out once and goes with the request as [`Caller`]; services ask for what they were asked.
//!
//! Appends and lookups come by the ten thousand a second and go to their service at once;
//! everything else goes through the router, whose search and copies cost about as much as reading
//! one row.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_core::meta::access::Privilege;
use alluvium_proto::v1::ingest_server::IngestServer;
use alluvium_proto::v1::query_server::QueryServer;
use alluvium_query::access::Caller;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::ingest::IngestService;
use super::query::QueryService;
use super::{status, transport};
use crate::access::rules::{self, Rule};
use crate::access::{Guard, Origin, audit};

/// See the module.
#[derive(Clone)]
pub(super) struct Front {
    guard: Arc<Guard>,
    ingest: IngestServer<IngestService>,
    query: QueryServer<QueryService>,
    others: Routes,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Front {
    /// In front of these services.
    pub fn new(
        guard: Arc<Guard>,
        ingest: IngestServer<IngestService>,
        query: QueryServer<QueryService>,
        others: Routes,
    ) -> Front {
        Front { guard, ingest, query, others: others.prepare() }
    }

    fn dispatch(&mut self, request: Request<Body>) -> Answer {
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

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither the service nor the router ever makes a call wait here.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(rule) = rules::of_call(request.uri().path()) else {
            // As a service says of a method that it has not.
            return refused(Status::unimplemented("there is no such call"));
        };
        if !self.guard.is_required() {
            request.extensions_mut().insert(Caller::Everybody);
            return self.dispatch(request);
        }
        let mut front = self.clone();
        let asked = Asked::of(&request);
        Box::pin(async move {
            match admit(&front.guard, rule, &asked).await {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    front.dispatch(request).await
                }
                Err(status) => refused(status).await,
            }
        })
    }
}

/// What a request says of who sends it.
struct Asked {
    path: String,
    authorization: Option<String>,
    origin: Origin,
}

impl Asked {
    fn of(request: &Request<Body>) -> Asked {
        let header = request.headers().get("authorization");
        let header = header.map(|value| value.to_str().unwrap_or_default().to_owned());
        Asked {
            path: request.uri().path().to_owned(),
            authorization: header,
            origin: origin(request),
        }
    }
}

/// Who calls, where the rule asks for it.
async fn admit(guard: &Guard, rule: Rule, asked: &Asked) -> Result<Option<Caller>, Status> {
    let needs_operate = match rule {
        Rule::Open => return Ok(None),
        Rule::User | Rule::Select | Rule::Insert | Rule::Statement => false,
        Rule::Operate => true,
    };
    let caller = guard.admit(asked.authorization.as_deref(), &asked.origin).await;
    let caller = caller.map_err(|error| status::auth_status(&error))?;
    if needs_operate && let Err(error) = guard.rights(&caller).on_cluster(Privilege::Operate) {
        audit::call_refused(&caller, &asked.origin, &asked.path, &error.to_string());
        return Err(status::refused_status(&error));
    }
    Ok(Some(caller))
}

fn origin(request: &Request<Body>) -> Origin {
    let caller = transport::caller_of(request.extensions());
    caller.map(Origin::of).unwrap_or_default()
}

fn refused(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// Paths are `/package.Service/Method`.
fn service_name(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use arrow_flight::flight_service_server::FlightServiceServer;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::flight::FlightSql;

    /// Every call of every service that is served to clients, from their descriptors. Flight brings
    /// none: its calls are counted.
    #[test]
    fn every_call_has_a_rule() {
        let mut calls = Vec::new();
        for bytes in [alluvium_proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(bytes).unwrap().file {
                for service in &file.service {
                    let methods = service.method.iter();
                    let named = |method: &prost_types::MethodDescriptorProto| {
                        format!("/{}.{}/{}", file.package(), service.name(), method.name())
                    };
                    calls.extend(methods.map(named));
                }
            }
        }
        calls.retain(|call| !call.starts_with("/alluvium.peer."));
        assert!(calls.iter().any(|call| call == "/alluvium.v1.Query/Query"), "{calls:?}");
        for call in &calls {
            assert!(rules::of_call(call).is_some(), "{call} has no rule");
        }
        let others = rules::CALLS.iter().filter(|(call, _)| !calls.iter().any(|one| one == call));
        let flight = format!("/{}/", FlightServiceServer::<FlightSql>::NAME);
        for (call, _) in others {
            let known = call.starts_with(&flight)
                || call.starts_with("/grpc.reflection.v1.ServerReflection/");
            assert!(known, "{call} is a rule for nothing");
        }
        let flight = rules::CALLS.iter().filter(|(call, _)| call.starts_with(&flight));
        assert_eq!(flight.count(), 10, "the calls of Flight");
    }
}
