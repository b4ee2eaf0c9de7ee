//! `POST /v1/sql`: one statement, and its rows as JSON, NDJSON, CSV or an Arrow stream.
//!
//! JSON is one document and so has a longest length; the other forms go out as the rows come.

use std::sync::Arc;
use std::time::Duration;

use alluvium_query::Parameter;
use alluvium_query::print::{Format, Printer};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::ipc::StreamEncoder;
use crate::bootstrap::{Doors, Node};
use crate::sql::run::{self, Asked, Asker, Door, RunError, Running, TIMEOUT_MAX};

/// The longest JSON document. NDJSON, CSV and Arrow have no such limit.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// What is asked, where it is JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
    #[serde(default)]
    parameters: Vec<Value>,
    #[serde(default)]
    timeout_ms: u64,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    NdJson,
    Csv,
    Arrow,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Form, Failure> {
        let Some(accept) = headers.get(header::ACCEPT) else {
            return Ok(Form::Json);
        };
        let accept = accept.to_str().unwrap_or_default();
        for part in accept.split(',') {
            let kind = part.split(';').next().unwrap_or_default().trim();
            match kind {
                "application/json" | "application/*" | "*/*" | "" => return Ok(Form::Json),
                "application/x-ndjson" | "application/jsonl" => return Ok(Form::NdJson),
                "text/csv" | "text/*" => return Ok(Form::Csv),
                ARROW => return Ok(Form::Arrow),
                _ => {}
            }
        }
        let said = format!(
            "answers are application/json, application/x-ndjson, text/csv and {ARROW}, not {accept}"
        );
        Err(Failure::new(StatusCode::NOT_ACCEPTABLE, "0A000", said))
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::NdJson => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8",
            Form::Arrow => ARROW,
        }
    }
}

/// Arrow's own stream form.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Answers one statement.
pub async fn sql(
    State(doors): State<Arc<Doors>>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let node = super::node(&doors)?;
    let form = Form::of(&headers)?;
    let question = question(&headers, &body)?;
    let sql = question.sql.clone();
    let running = ask(node, asker, question).await;
    let running = running.map_err(|error| Failure::of_run(&sql, &error))?;
    match form {
        Form::Json => document(running, &sql).await,
        Form::NdJson | Form::Csv | Form::Arrow => Ok(stream(running, form)),
    }
}

fn question(headers: &HeaderMap, body: &[u8]) -> Result<Question, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let bad = |said: String| Failure::new(StatusCode::BAD_REQUEST, "08P01", said);
    if kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return serde_json::from_slice(body).map_err(|error| bad(format!("the question: {error}")));
    }
    let sql = std::str::from_utf8(body).map_err(|_| bad("the statement is not UTF-8".into()))?;
    Ok(Question { sql: sql.to_owned(), parameters: Vec::new(), timeout_ms: 0 })
}

async fn ask(node: &Arc<Node>, asker: Asker, question: Question) -> Result<Running, RunError> {
    let Question { sql, parameters, timeout_ms } = question;
    let mut values = Vec::with_capacity(parameters.len());
    if !parameters.is_empty() {
        let described = node.engine(&asker.caller).describe(&sql, &[]).await?;
        for (column_type, value) in described.parameters.into_iter().zip(parameters) {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            values.push(Parameter { column_type, text });
        }
    }
    let timeout = match timeout_ms {
        0 => TIMEOUT_MAX,
        milliseconds => Duration::from_millis(milliseconds),
    };
    let asked = Asked::new(sql, Door::Http, asker);
    run::run(node, Asked { parameters: values, timeout, ..asked }).await
}

/// The whole answer as one document.
async fn document(running: Running, sql: &str) -> Result<Response, Failure> {
    let Running { schema, as_of, tag, mut batches } = running;
    let columns: Vec<Value> = schema.fields().iter().map(|field| column(field)).collect();
    let mut rows = Vec::new();
    let mut printer = Printer::new(Format::NdJson, schema);
    while let Some(batch) = batches.recv().await {
        let batch = batch.map_err(|error| Failure::of_run(sql, &error))?;
        printer.batch(&batch, &mut rows).map_err(Failure::internal)?;
        if DOCUMENT_BYTES_MAX < rows.len() {
            let said = format!(
                "the answer is longer than {DOCUMENT_BYTES_MAX} bytes of JSON; ask for \
                 application/x-ndjson, text/csv or {ARROW}, or for fewer rows"
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "54000", said));
        }
    }
    let row_count = printer.row_count();
    let as_of = as_of.iter().map(|(stream, frontier)| {
        let offsets = frontier.0.iter();
        let offsets = offsets.map(|(number, offset)| (number.0.to_string(), json!(offset.0)));
        (stream.clone(), Value::Object(offsets.collect()))
    });
    let as_of = Value::Object(as_of.collect());
    let head = json!({ "tag": tag, "columns": columns, "row_count": row_count, "as_of": as_of });
    let mut text = head.to_string();
    // Rows are written already; they are put into the document as they stand.
    text.pop();
    text.push_str(",\"rows\":[");
    let rows = String::from_utf8(rows).map_err(Failure::internal)?;
    for (place, line) in rows.lines().enumerate() {
        if place != 0 {
            text.push(',');
        }
        text.push_str(line);
    }
    text.push_str("]}\n");
    Ok(([(header::CONTENT_TYPE, Form::Json.content_type())], text).into_response())
}

pub fn column(field: &arrow::datatypes::Field) -> Value {
    let column_type = alluvium_views::columns::column_type_of_field(field);
    let name = column_type.map_or_else(|| field.data_type().to_string(), |known| known.to_string());
    json!({ "name": field.name(), "type": name })
}

/// The rows as they come. An error behind the first rows is the last line of NDJSON; the other
/// forms are cut off, which a client sees as a broken answer.
fn stream(running: Running, form: Form) -> Response {
    let writer = Arc::new(Mutex::new(Writer::new(form, &running.schema)));
    let (begins, ends) = (writer.clone(), writer.clone());
    let head = futures::stream::once(async move { begins.lock().head() });
    let batches = ReceiverStream::new(running.batches);
    let rows = batches.map(move |batch| match batch {
        Ok(batch) => writer.lock().rows(&batch),
        Err(error) if form == Form::NdJson => {
            Ok(format!("{}\n", Failure::of_run("", &error).document()).into())
        }
        Err(error) => Err(std::io::Error::other(error.to_string())),
    });
    let tail = futures::stream::once(async move { ends.lock().tail() });
    let body = head.chain(rows).chain(tail);
    ([(header::CONTENT_TYPE, form.content_type())], Body::from_stream(body)).into_response()
}

/// Writes batches in one form.
#[derive(Debug)]
enum Writer {
    Text { printer: Printer, header_of: Option<SchemaRef> },
    Arrow(Box<StreamEncoder>),
}

impl Writer {
    fn new(form: Form, schema: &SchemaRef) -> Writer {
        let format = match form {
            Form::Arrow => return Writer::Arrow(Box::new(StreamEncoder::new(schema))),
            Form::Csv => Format::Csv,
            Form::Json | Form::NdJson => Format::NdJson,
        };
        let has_header = form == Form::Csv && !schema.fields().is_empty();
        Writer::Text {
            printer: Printer::new(format, schema.clone()),
            header_of: has_header.then(|| schema.clone()),
        }
    }

    /// What comes before all rows.
    fn head(&mut self) -> std::io::Result<Bytes> {
        let Writer::Text { header_of: Some(schema), .. } = self else {
            return Ok(Bytes::new());
        };
        let none = RecordBatch::new_empty(schema.clone());
        self.rows(&none)
    }

    fn rows(&mut self, batch: &RecordBatch) -> std::io::Result<Bytes> {
        match self {
            Writer::Arrow(encoder) => Ok(encoder.batch(batch)),
            Writer::Text { printer, .. } => {
                let mut out = Vec::new();
                printer.batch(batch, &mut out)?;
                Ok(out.into())
            }
        }
    }

    /// What comes behind all rows.
    fn tail(&mut self) -> std::io::Result<Bytes> {
        match self {
            Writer::Arrow(encoder) => Ok(encoder.finish()),
            Writer::Text { .. } => Ok(Bytes::new()),
        }
    }
}
