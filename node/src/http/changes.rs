//! `GET /v1/views/{name}/changes`: groups of a view as they change, as server-sent events.
//!
//! The subscription is the one of gRPC ([`crate::grpc::view`]); only the form differs. Events are
//! `columns` first (`key` says which tell groups apart), then `changes` with rows and the frontier
//! behind them, and `failure` where it ends with an error. What is wrong with the question is
//! answered before any event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::stream::Frontier;
use alluvium_query::access::Caller;
use alluvium_query::print::{Format, to_text};
use alluvium_query::wire;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::sql::column;
use crate::bootstrap::{Doors, Node};
use crate::grpc::view::{Begin, DoorError, Subscribe, Subscribed, ViewDoor, subscribe};
use crate::sql::run::Asker;

/// Parts between the view and the socket: a slow reader sees fewer, later states.
const PARTS_BUFFERED: usize = 2;

/// Silence is broken after this long, so that proxies do not take the connection for dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often a stream of changes looks whether the node stops, which waits for it.
const STOPPING_POLL: Duration = Duration::from_millis(250);

/// What is asked behind the question mark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// A condition in SQL over the view's columns.
    #[serde(default, rename = "where")]
    condition: String,
    /// `now`, `snapshot`, or a frontier: `rides=0:41230,1:41199`.
    #[serde(default)]
    from: String,
}

/// Follows a view until the client leaves.
pub async fn changes(
    State(doors): State<Arc<Doors>>,
    Extension(Asker { caller, .. }): Extension<Asker>,
    Path(view): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let node = super::node(&doors)?;
    let allowed = node.allowed_whole(&caller, &view).await;
    allowed.map_err(|reason| Failure::new(StatusCode::FORBIDDEN, "42501", reason))?;
    let from = begin(&asked.from)?;
    let asked = Subscribe { view, condition: asked.condition, from };
    let (name, condition) = (asked.view.clone(), asked.condition.clone());
    let (parts, mut told) = mpsc::channel(PARTS_BUFFERED);
    let door = node.door.clone();
    let groups = door.groups(&asked.view);
    let groups = groups.map_err(|error| Failure::of_door(&condition, error))?;
    // `_change` comes before the view's own columns.
    let keys: Vec<bool> =
        std::iter::once(false).chain(groups.shows.iter().map(Option::is_some)).collect();
    node.query_runtime.spawn(async move { subscribe(door.as_ref(), &asked, parts).await });
    let begun = match told.recv().await {
        Some(Ok(part)) => event(Ok(part), &keys, &condition),
        Some(Err(error)) => return Err(Failure::of_door(&condition, error)),
        None => return Err(Failure::internal("the subscription ended before it began")),
    };
    let rest = ReceiverStream::new(told).map(move |part| event(part, &keys, &condition));
    let events = futures::stream::once(async move { begun }).chain(rest);
    let events = events.take_until(over(node.clone(), caller, name));
    let events = Sse::new(events.map(Ok::<Event, Infallible>));
    let events = events.keep_alive(KeepAlive::new().interval(SILENCE_MAX));
    Ok(([(header::CACHE_CONTROL, "no-store")], events).into_response())
}

/// Ends when the node is to stop, or the caller may not follow the view any more.
async fn over(node: Arc<Node>, caller: Caller, view: String) {
    tokio::select! {
        () = stopping(&node) => {}
        () = node.revoked(&caller, &view) => {}
    }
}

async fn stopping(node: &Node) {
    while !node.is_stopping() {
        tokio::time::sleep(STOPPING_POLL).await;
    }
}

/// Where a subscription begins.
fn begin(from: &str) -> Result<Begin, Failure> {
    match from {
        "" | "now" => Ok(Begin::Now),
        "snapshot" => Ok(Begin::Snapshot),
        frontier => frontier_of(frontier).ok_or_else(|| {
            let said = format!(
                "from is now, snapshot or a frontier such as rides=0:41230,1:41199, not \
                 \"{frontier}\""
            );
            Failure::new(StatusCode::BAD_REQUEST, "22023", said)
        }),
    }
}

fn frontier_of(text: &str) -> Option<Begin> {
    let (stream, places) = text.split_once('=')?;
    let mut frontier = Frontier::default();
    for place in places.split(',') {
        let (partition, offset) = place.split_once(':')?;
        let partition = PartitionNumber(partition.parse().ok()?);
        frontier.0.insert(partition, Offset(offset.parse().ok()?));
    }
    Some(Begin::Frontier { stream: stream.into(), frontier })
}

fn event(part: Result<Subscribed, DoorError>, keys: &[bool], condition: &str) -> Event {
    let named = match part {
        Ok(Subscribed::Schema(schema)) => columns(schema, keys).map(|said| ("columns", said)),
        Ok(Subscribed::Changes { batch, frontier }) => {
            rows(batch, frontier).map(|said| ("changes", said))
        }
        Err(error) => Err(Failure::of_door(condition, error)),
    };
    let failed = |failure: Failure| ("failure", failure.document().to_string());
    let (name, said) = named.unwrap_or_else(failed);
    Event::default().event(name).data(said)
}

fn columns(schema: Bytes, keys: &[bool]) -> Result<String, Failure> {
    let (schema, _) = wire::decode_batches(schema).map_err(Failure::internal)?;
    let columns = schema.fields().iter().zip(keys.iter().chain(std::iter::repeat(&false)));
    let columns = columns.map(|(field, is_key)| {
        let mut column = column(field);
        column["key"] = json!(is_key);
        column
    });
    let columns: Vec<Value> = columns.collect();
    Ok(json!({ "columns": columns }).to_string())
}

fn rows(batch: Bytes, frontier: Option<(String, Frontier)>) -> Result<String, Failure> {
    let mut rows = String::new();
    if !batch.is_empty() {
        let (schema, batches) = wire::decode_batches(batch).map_err(Failure::internal)?;
        let text = to_text(Format::NdJson, &schema, &batches).map_err(Failure::internal)?;
        // Numbers stand as they were written: read and written again, some would lose digits.
        rows = text.lines().collect::<Vec<_>>().join(",");
    }
    Ok(format!("{{\"rows\":[{rows}],\"as_of\":{}}}", as_of(frontier)))
}

/// The same form as in an answer to a statement; null where more of the same change follow.
fn as_of(frontier: Option<(String, Frontier)>) -> Value {
    let Some((stream, frontier)) = frontier else {
        return Value::Null;
    };
    let offsets = frontier.0.iter();
    let offsets = offsets.map(|(number, offset)| (number.0.to_string(), json!(offset.0)));
    json!({ stream: Value::Object(offsets.collect()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_read() {
        assert_eq!(begin("").unwrap(), Begin::Now);
        assert_eq!(begin("now").unwrap(), Begin::Now);
        assert_eq!(begin("snapshot").unwrap(), Begin::Snapshot);
        let offsets = [(PartitionNumber(0), Offset(7)), (PartitionNumber(3), Offset(0))];
        let frontier = Frontier(offsets.into());
        let expected = Begin::Frontier { stream: "rides".into(), frontier };
        assert_eq!(begin("rides=0:7,3:0").unwrap(), expected);
        for bad in ["then", "rides=", "rides=0", "rides=0:x", "rides=0:1,"] {
            assert!(begin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_frontier_is_told_as_in_an_answer() {
        let frontier = Frontier([(PartitionNumber(1), Offset(9))].into());
        assert_eq!(as_of(Some(("rides".into(), frontier))), json!({ "rides": { "1": 9 } }));
        assert_eq!(as_of(None), Value::Null);
    }
}
