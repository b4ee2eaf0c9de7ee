//! HTTP: health and metrics, SQL, and events into streams.
//!
//! `/livez`, `/readyz`, `/restart-risk` and `/metrics` hold no data of streams. `/v1/` is for
//! programs without another way in; `/v1/openapi.json` describes it. `/console/` are pages for
//! people, which ask over `/v1/` like any other program. `origin` keeps pages of other sites away
//! from both.

mod access;
mod changes;
mod console;
mod events;
mod failure;
mod ipc;
mod listen;
mod origin;
mod sql;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_request};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use self::failure::Failure;
use crate::bootstrap::{Doors, Node};

/// The longest statement with its parameters.
const QUESTION_BYTES_MAX: usize = 2 << 20;

/// The longest batch of events, as everywhere: one append.
const EVENTS_BYTES_MAX: usize = 8 << 20;

/// The description of `/v1/`.
const OPENAPI: &str = include_str!("http/openapi.json");

/// The routes of one node.
pub fn router(doors: Arc<Doors>) -> Router {
    let sql = post(sql::sql).layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX));
    let events = post(events::events).layer(DefaultBodyLimit::max(EVENTS_BYTES_MAX));
    let for_own_pages = Router::new()
        .route("/v1/sql", sql)
        .route("/v1/streams/{name}/events", events)
        .route("/v1/views/{name}/changes", get(changes::changes))
        .merge(console::router())
        .route_layer(from_fn_with_state(doors.clone(), origin::check));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/restart-risk", get(restart_risk))
        .route("/metrics", get(metrics))
        .route("/v1/openapi.json", get(openapi))
        .merge(for_own_pages)
        .layer(from_fn_with_state(doors.clone(), access::admit))
        .layer(map_request(listen::show_caller))
        .with_state(doors)
}

/// The node, once it is there.
fn node(doors: &Doors) -> Result<&Arc<Node>, Failure> {
    doors.node().ok_or_else(|| {
        let reason = doors.readiness().err().unwrap_or_default();
        let message = format!("the node is not ready: it {reason}");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "57P03", message)
    })
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// Appends and queries are served.
async fn readyz(State(doors): State<Arc<Doors>>) -> impl IntoResponse {
    match doors.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_string()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Whether stopping this node now would make a group stand still or lose its only replica. The
/// catalogue and `system.partitions` tell what the groups are.
async fn restart_risk(State(doors): State<Arc<Doors>>) -> impl IntoResponse {
    let Some(node) = doors.node() else {
        let reason = doors.readiness().err().unwrap_or_default();
        let body = serde_json::json!({ "safe": false, "not_ready": reason });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    };
    let risks = node.restart_risk().await;
    let safe = risks.is_empty();
    let status = if safe { StatusCode::OK } else { StatusCode::CONFLICT };
    (status, Json(serde_json::json!({ "safe": safe, "risks": risks })))
}

/// The Prometheus text form.
async fn metrics(State(doors): State<Arc<Doors>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = doors.node().map(|node| node.metrics_text()).unwrap_or_default();
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
