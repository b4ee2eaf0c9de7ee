//! `POST /v1/streams/{name}/events`: events as NDJSON, CSV or an Arrow stream.
//!
//! One request is one batch, good as a whole or refused as a whole. With the headers
//! `alluvium-producer` and `alluvium-sequence` a request that is sent again appends nothing more.

use std::sync::Arc;

use alluvium_core::ids::Sequence;
use alluvium_core::meta::access::Privilege;
use alluvium_query::CopyRows;
use alluvium_query::access::Caller;
use alluvium_views::rows;
use arrow::record_batch::RecordBatch;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::failure::Failure;
use super::sql::ARROW;
use crate::bootstrap::{Doors, Node};
use crate::ingest::{AppendAck, AppendError};
use crate::sql::append::append;
use crate::sql::run::{Asker, RunError};
use crate::streams::ServedStream;

const PRODUCER: &str = "alluvium-producer";
const SEQUENCE: &str = "alluvium-sequence";

/// Appends one batch.
pub async fn events(
    State(doors): State<Arc<Doors>>,
    Path(name): Path<String>,
    Extension(Asker { caller, .. }): Extension<Asker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, Failure> {
    let node = super::node(&doors)?;
    let allowed = node.allowed(&caller, Privilege::Insert, &name).await;
    allowed.map_err(|refused| Failure::new(StatusCode::FORBIDDEN, "42501", refused.to_string()))?;
    let served = node.stream(&name).await.map_err(|error| Failure::of_append(&error))?;
    let batch = decode(node, &caller, &served, &headers, body)?;
    let ack = match producer(&headers)? {
        None => append(node, &name, None, batch).await.map_err(|e| Failure::of_append(&e))?,
        Some((producer, sequence)) => {
            let appended = node.producers.append(node, (producer, sequence), &name, batch).await;
            appended.map_err(|error| Failure::of_producer(&error))?
        }
    };
    Ok(axum::Json(acknowledged(&ack)))
}

/// Who sends it, and which batch of theirs it is.
fn producer(headers: &HeaderMap) -> Result<Option<(&str, Sequence)>, Failure> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let bad = |said: String| Failure::new(StatusCode::BAD_REQUEST, "22023", said);
    match (text(PRODUCER), text(SEQUENCE)) {
        (None, None) => Ok(None),
        (Some(producer), Some(sequence)) => {
            let sequence = sequence
                .parse()
                .map_err(|_| bad(format!("{SEQUENCE} is a number from 0, not \"{sequence}\"")))?;
            Ok(Some((producer, Sequence(sequence))))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(bad(format!("{PRODUCER} and {SEQUENCE} go together")))
        }
    }
}

fn decode(
    node: &Node,
    caller: &Caller,
    served: &ServedStream,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<RecordBatch, Failure> {
    let schema = &served.stream.definition.schema;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("application/x-ndjson");
    let invalid = |error| Failure::of_append(&AppendError::Invalid(error));
    match kind.split(';').next().unwrap_or_default().trim() {
        // The last is what curl says of everything it is not told the kind of.
        "application/x-ndjson"
        | "application/jsonl"
        | "application/json"
        | "application/x-www-form-urlencoded" => {
            rows::decode_json(schema, &served.log_schema, &body).map_err(invalid)
        }
        ARROW => rows::decode_ipc(schema, &served.log_schema, body).map_err(invalid),
        "text/csv" => csv(node, caller, served, &body),
        other => {
            let said = format!(
                "events are application/x-ndjson, application/json, text/csv or {ARROW}, not {other}"
            );
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "0A000", said))
        }
    }
}

/// CSV whose first line names the columns.
fn csv(
    node: &Node,
    caller: &Caller,
    served: &ServedStream,
    body: &[u8],
) -> Result<RecordBatch, Failure> {
    let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let names = String::from_utf8_lossy(&body[..end]);
    let names = names.trim_end_matches('\r').split(',').map(|name| {
        let name = name.trim().trim_matches('"');
        format!("\"{}\"", name.replace('"', "\"\""))
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let name = served.stream.definition.name.replace('"', "\"\"");
    let copy = format!("COPY \"{name}\" ({names}) FROM STDIN (FORMAT csv, HEADER)");
    let failed = |error| Failure::of_run("", &RunError::Sql(error));
    let mut rows = CopyRows::new(node.engine(caller).copy_in(&copy).map_err(failed)?);
    let mut batches = rows.push(body).map_err(failed)?;
    batches.extend(rows.finish().map_err(failed)?);
    arrow::compute::concat_batches(&served.log_schema, &batches).map_err(Failure::internal)
}

fn acknowledged(ack: &AppendAck) -> Value {
    let frontier = ack.frontier.0.iter();
    let frontier = frontier.map(|(number, offset)| (number.0.to_string(), json!(offset.0)));
    json!({
        "event_count": ack.event_count,
        "duplicate": ack.duplicate,
        "frontier": Value::Object(frontier.collect()),
    })
}
