//! Arrow Flight SQL on the port of clients.
//!
//! Statements, prepared statements with parameters, what there is (`metadata`), and rows into
//! streams (`put`). Statements go the way of every door ([`crate::sql::run`]).
//!
//! The node keeps nothing between two calls: a ticket is the statement itself, and a prepared
//! statement's handle is its text with its values. So any node answers any of them, and a client
//! that never closes a statement costs nothing.

mod metadata;
mod put;
mod values;

use std::pin::Pin;
use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use alluvium_query::access::Caller;
use alluvium_query::pg_catalog::{column_type_of, oid_of};
use alluvium_query::{DescribedRows, Parameter};
use alluvium_views::columns;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, Ticket};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::status;
use crate::bootstrap::Node;
use crate::sql::run::{self, Asked, Asker, Door, RunError};

/// Bytes of one message: below the 4 MiB that gRPC libraries take unless told otherwise.
const MESSAGE_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct FlightSql {
    node: Arc<Node>,
}

type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// A statement with values for its parameters: what a handle says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Statement {
    sql: String,
    parameters: Vec<Parameter>,
}

impl Statement {
    fn to_handle(&self) -> Bytes {
        let parameters = self.parameters.iter();
        let parameters =
            parameters.map(|one| json!([oid_of(&one.column_type), one.text.as_deref()]));
        let handle = json!({ "sql": self.sql, "parameters": parameters.collect::<Vec<_>>() });
        Bytes::from(handle.to_string())
    }

    fn from_handle(handle: &[u8]) -> Result<Statement, Status> {
        let odd = || Status::invalid_argument("this handle or ticket was not given out by a node");
        let value: Value = serde_json::from_slice(handle).map_err(|_| odd())?;
        let sql = value["sql"].as_str().ok_or_else(odd)?.to_owned();
        let mut parameters = Vec::new();
        for one in value["parameters"].as_array().ok_or_else(odd)? {
            let oid = one[0].as_u64().and_then(|oid| u32::try_from(oid).ok()).ok_or_else(odd)?;
            let column_type = column_type_of(oid).ok_or_else(odd)?;
            parameters.push(Parameter { column_type, text: one[1].as_str().map(str::to_owned) });
        }
        Ok(Statement { sql, parameters })
    }
}

impl FlightSql {
    /// Over one node.
    pub fn new(node: Arc<Node>) -> FlightSql {
        FlightSql { node }
    }

    /// Where the answer of a statement is to be had.
    async fn info(
        &self,
        caller: &Caller,
        statement: Statement,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.told(caller, &statement).await?;
        let ticket = TicketStatementQuery { statement_handle: statement.to_handle() };
        Ok(Response::new(flight_info(schema, ticket.as_any().encode_to_vec(), descriptor)?))
    }

    /// The columns of a statement's answer; none where they are told with the rows, since nothing
    /// runs before rows are asked for.
    async fn told(
        &self,
        caller: &Caller,
        statement: &Statement,
    ) -> Result<Option<SchemaRef>, Status> {
        let known: Vec<Option<ColumnType>> =
            statement.parameters.iter().map(|one| Some(one.column_type.clone())).collect();
        let described = self.node.engine(caller).describe(&statement.sql, &known).await;
        let described = described.map_err(|error| status::sql_status(&error))?;
        Ok(match &described.rows {
            DescribedRows::Of(schema) => Some(run::nullable(schema)),
            DescribedRows::Some | DescribedRows::None => None,
        })
    }

    /// Runs a statement and sends its rows as they come.
    async fn rows(&self, asker: Asker, statement: Statement) -> Result<Response<Rows>, Status> {
        let told = self.told(&asker.caller, &statement).await?;
        let Statement { sql, parameters } = statement;
        let asked = Asked { parameters, told, ..Asked::new(sql, Door::Flight, asker) };
        let running = run::run(&self.node, asked).await.map_err(|error| run_status(&error))?;
        let batches = ReceiverStream::new(running.batches);
        let batches = batches.map_err(|error| FlightError::Tonic(Box::new(run_status(&error))));
        Ok(Response::new(encoded(running.schema, batches)))
    }

    /// Runs a statement for what it changes; says how many rows that were.
    async fn update(&self, asker: Asker, statement: Statement) -> Result<i64, Status> {
        let Statement { sql, parameters } = statement;
        let asked = Asked { parameters, ..Asked::new(sql, Door::Flight, asker) };
        let running = run::run(&self.node, asked).await.map_err(|error| run_status(&error))?;
        let mut batches = ReceiverStream::new(running.batches);
        let mut row_count = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| run_status(&error))?;
            row_count += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        }
        Ok(match running.tag.strip_prefix("INSERT 0 ") {
            Some(count) => count.parse().unwrap_or(-1),
            None => row_count,
        })
    }
}

/// An answer with one part, which any node gives.
fn flight_info(
    schema: Option<SchemaRef>,
    ticket: Vec<u8>,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new().with_endpoint(endpoint).with_descriptor(descriptor);
    match schema {
        Some(schema) => info.try_with_schema(&schema).map_err(internal),
        None => Ok(info),
    }
}

fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Rows {
    let rows = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MESSAGE_BYTES)
        .build(batches);
    Box::pin(rows.map_err(Status::from))
}

/// Rows that are there already.
fn one_batch(batch: RecordBatch) -> Response<Rows> {
    let schema = batch.schema();
    Response::new(encoded(schema, futures::stream::iter([Ok(batch)])))
}

/// A schema in Arrow's own form.
fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message = SchemaAsIpc::new(schema, &options);
    let message: arrow_flight::IpcMessage = message.try_into().map_err(internal)?;
    Ok(message.0)
}

/// Parameters as the columns a client binds.
fn parameter_schema(parameters: &[ColumnType]) -> Schema {
    let fields = parameters.iter().enumerate().map(|(place, column_type)| {
        Field::new(format!("${}", place + 1), columns::log_type(column_type), true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// A statement that was not answered.
fn run_status(error: &RunError) -> Status {
    match error {
        RunError::Sql(error) => status::sql_status(error),
        RunError::Deadline { .. } => Status::deadline_exceeded(error.to_string()),
        RunError::Full => Status::resource_exhausted(error.to_string()),
        RunError::Cancelled => Status::cancelled(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_the_statement() {
        let list = ColumnType::List(Box::new(ColumnType::BigInt));
        let statement = Statement {
            sql: "SELECT $1, $2".into(),
            parameters: vec![
                Parameter { column_type: list, text: Some("{150}".into()) },
                Parameter { column_type: ColumnType::Text, text: None },
            ],
        };
        assert_eq!(Statement::from_handle(&statement.to_handle()).unwrap(), statement);
        assert!(Statement::from_handle(b"{}").is_err());
        assert!(Statement::from_handle(b"\xff").is_err());
    }
}
