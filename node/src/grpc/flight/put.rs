//! Rows from clients: values of parameters, and events into streams.
//!
//! A client that names a producer sends each of its batches exactly once: the first batch of a call
//! has the sequence the client says, each after it the next. The same call sent again is recognised
//! batch by batch.

use alluvium_core::ids::Sequence;
use alluvium_core::meta::access::Privilege;
use alluvium_core::partition::Stamp;
use alluvium_query::Parameter;
use alluvium_query::access::Caller;
use alluvium_views::{columns, rows};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption};
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::FlightSql;
use crate::grpc::status;
use crate::ingest::AppendError;
use crate::sql::append::append;
use crate::sql::producers;

/// Rows of one append. Part of the promise to recognise a call that is sent again: a longer batch
/// is cut in the same places each time.
const APPEND_ROWS: usize = 50_000;

/// Rows of values one call may bring.
const VALUE_ROWS_MAX: usize = 10_000;

/// Options of an ingest that name its producer.
const PRODUCER: &str = "producer";
const SEQUENCE: &str = "sequence";

fn batches(stream: PeekableFlightDataStream) -> FlightRecordBatchStream {
    let data = stream.map_err(|status| FlightError::Tonic(Box::new(status)));
    FlightRecordBatchStream::new_from_flight_data(data)
}

impl FlightSql {
    /// Rows of values for the parameters of a statement.
    pub(super) async fn values(
        &self,
        sql: &str,
        stream: PeekableFlightDataStream,
    ) -> Result<Vec<Vec<Parameter>>, Status> {
        let mut batches = batches(stream);
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(Status::from)?;
            if VALUE_ROWS_MAX < rows.len() + batch.num_rows() {
                let reason = format!("at most {VALUE_ROWS_MAX} rows of values; use ingest");
                return Err(Status::invalid_argument(reason));
            }
            for row in 0..batch.num_rows() {
                rows.push(super::values::parameters_of(&batch, row).map_err(|reason| {
                    Status::invalid_argument(format!("{reason} (values for {sql})"))
                })?);
            }
        }
        Ok(rows)
    }

    /// Appends rows to a stream; says how many.
    pub(super) async fn ingest(
        &self,
        caller: &Caller,
        command: CommandStatementIngest,
        stream: PeekableFlightDataStream,
    ) -> Result<i64, Status> {
        let name = command.table.as_str();
        if command.temporary {
            return Err(Status::unimplemented("there are no temporary streams"));
        }
        let options = command.table_definition_options.unwrap_or_default();
        let replaces = [TableExistsOption::Replace, TableExistsOption::Fail];
        if replaces.iter().any(|one| *one as i32 == options.if_exists) {
            let reason = "events are only appended; make the stream with CREATE STREAM and ingest \
                          with mode \"append\"";
            return Err(Status::unimplemented(reason));
        }
        let allowed = self.node.allowed(caller, Privilege::Insert, name).await;
        allowed.map_err(|refused| status::refused_status(&refused))?;
        let served = self.node.stream(name).await;
        let served = served.map_err(|error| status::append_status(&error))?;
        let mut stamp = self.stamp(name, &command.options).await?;
        let schema = &served.stream.definition.schema;
        let log = columns::log_schema(schema);
        let mut batches = batches(stream);
        let mut count = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(Status::from)?;
            for first in (0..batch.num_rows()).step_by(APPEND_ROWS) {
                let piece = batch.slice(first, APPEND_ROWS.min(batch.num_rows() - first));
                let piece = rows::conform(&log, schema, piece)
                    .map_err(|error| status::append_status(&AppendError::Invalid(error)))?;
                count += i64::try_from(piece.num_rows()).unwrap_or(i64::MAX);
                let appended = append(&self.node, name, stamp, piece).await;
                appended.map_err(|error| status::append_status(&error))?;
                if let Some(stamp) = &mut stamp {
                    stamp.sequence = Sequence(stamp.sequence.0 + 1);
                }
            }
        }
        Ok(count)
    }

    /// The first stamp of a call that names its producer.
    async fn stamp(
        &self,
        stream: &str,
        options: &std::collections::HashMap<String, String>,
    ) -> Result<Option<Stamp>, Status> {
        let Some(producer) = options.get(PRODUCER) else {
            return Ok(None);
        };
        let life = producers::open(&self.node, producer, stream).await;
        let life = life.map_err(|error| status::producer_status(&error))?;
        let sequence = match options.get(SEQUENCE) {
            None => life.next,
            Some(text) => Sequence(text.parse().map_err(|_| {
                Status::invalid_argument(format!("\"{text}\" is no sequence: it is a number"))
            })?),
        };
        let stamp = Stamp { producer: life.id, epoch: life.epoch, sequence, position: 0 };
        Ok(Some(stamp))
    }
}
