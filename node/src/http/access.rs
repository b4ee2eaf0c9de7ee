//! Who a request is let in for.

use std::sync::Arc;

use alluvium_query::access::Caller;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::access::rules::{self, Rule};
use crate::access::{AuthError, Origin};
use crate::bootstrap::Doors;
use crate::sql::run::Asker;
use crate::tls::identity;

/// Every request passes here: one without a rule reaches no handler. Who asks goes with the request
/// as [`Asker`].
pub async fn admit(State(doors): State<Arc<Doors>>, mut request: Request, next: Next) -> Response {
    let rule = rules::of_route(request.method().as_str(), request.uri().path());
    let guard = match super::node(&doors) {
        Ok(node) => node.guard.clone(),
        Err(not_ready) => {
            return match rule {
                Some(Rule::Open) | None => next.run(request).await,
                Some(_) => not_ready.into_response(),
            };
        }
    };
    let connection = request.extensions().get::<identity::Caller>().cloned();
    let client = connection.as_ref().map(|connection| connection.remote);
    if !guard.is_required() {
        request.extensions_mut().insert(Asker { caller: Caller::Everybody, client });
        return next.run(request).await;
    }
    match rule {
        None => {
            let said = "permission denied: there is no rule for this path";
            Failure::new(StatusCode::FORBIDDEN, "42501", said).into_response()
        }
        Some(Rule::Open) => next.run(request).await,
        Some(Rule::User | Rule::Select | Rule::Insert | Rule::Statement | Rule::Operate) => {
            let said = request.headers().get(header::AUTHORIZATION);
            let said = said.map(|value| value.to_str().unwrap_or_default().to_owned());
            let origin = connection.as_ref().map(Origin::of).unwrap_or_default();
            match guard.admit(said.as_deref(), &origin).await {
                Ok(caller) => {
                    request.extensions_mut().insert(Asker { caller, client });
                    next.run(request).await
                }
                Err(error) => unauthenticated(&error, request.headers()),
            }
        }
    }
}

fn unauthenticated(error: &AuthError, headers: &HeaderMap) -> Response {
    let status = match error {
        AuthError::Busy => StatusCode::TOO_MANY_REQUESTS,
        AuthError::Missing
        | AuthError::Malformed
        | AuthError::Wrong
        | AuthError::Token
        | AuthError::Readable => StatusCode::UNAUTHORIZED,
    };
    let mut response = Failure::new(status, "28000", error.to_string()).into_response();
    // A browser that is told Basic asks people itself, before the page that sent the request can.
    let is_page = headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
    let how = if is_page { "Password" } else { "Basic realm=\"alluvium\", charset=\"UTF-8\"" };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
    response
}
