//! Who a request is let in for.

use std::net::SocketAddr;
use std::sync::Arc;

use alluvium_query::access::Caller;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::access::rules::{self, Rule};
use crate::access::{AuthError, Origin};
use crate::bootstrap::Doors;
use crate::tls::identity;

/// Every request passes here: one without a rule reaches no handler. Who asks goes with the request
/// as [`Caller`].
pub async fn admit(State(doors): State<Arc<Doors>>, mut request: Request, next: Next) -> Response {
    let Some(gate) = doors.node().map(|node| node.gate.clone()) else {
        // The node may be there before the handler looks for it: until then who asks is nobody.
        request.extensions_mut().insert(Caller::Role("".into()));
        return next.run(request).await;
    };
    if !gate.is_required() {
        request.extensions_mut().insert(Caller::Everybody);
        return next.run(request).await;
    }
    match rules::of_route(request.method().as_str(), request.uri().path()) {
        None => {
            let said = "permission denied: there is no rule for this path";
            Failure::new(StatusCode::FORBIDDEN, "42501", said).into_response()
        }
        Some(Rule::Open) => next.run(request).await,
        Some(Rule::User | Rule::Select | Rule::Insert | Rule::Statement | Rule::Operate) => {
            let said = request.headers().get(header::AUTHORIZATION);
            let said = said.map(|value| value.to_str().unwrap_or_default().to_owned());
            let origin = origin(&request);
            match gate.admit(said.as_deref(), &origin).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    next.run(request).await
                }
                Err(error) => unauthenticated(&error),
            }
        }
    }
}

fn origin(request: &Request) -> Origin {
    match request.extensions().get::<identity::Caller>() {
        Some(caller) => Origin::of(caller),
        None => {
            let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
            Origin::plain(remote.map(|ConnectInfo(remote)| *remote))
        }
    }
}

fn unauthenticated(error: &AuthError) -> Response {
    let failure = Failure::new(StatusCode::UNAUTHORIZED, "28000", error.to_string());
    let mut response = failure.into_response();
    let how = HeaderValue::from_static("Basic realm=\"alluvium\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}
