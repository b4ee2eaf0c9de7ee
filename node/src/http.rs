//! `/livez`, `/readyz` and `/metrics`. No data of streams, nothing to change.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::bootstrap::Doors;

/// The routes of one node.
pub fn router(doors: Arc<Doors>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(doors)
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

/// The Prometheus text form.
async fn metrics(State(doors): State<Arc<Doors>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = doors.node().map(|node| node.metrics_text()).unwrap_or_default();
    ([(header::CONTENT_TYPE, kind)], text)
}
