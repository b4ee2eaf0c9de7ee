//! The calls of Flight SQL: statements, and what there is.

use alluvium_query::{Described, DescribedRows};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt,
    SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse};
use arrow_flight::{Ticket, sql};
use futures::Stream;
use prost::Message;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::{FlightSql, Rows, Statement, flight_info, internal, one_batch, run_status};
use crate::grpc::{asker, caller};
use crate::sql::run::{self, Asked, Asker, Door};

const CATALOGUE: &str = "alluvium";
const SCHEMAS: [&str; 2] = ["public", "system"];
const TABLE_TYPES: [&str; 4] = ["MATERIALIZED VIEW", "SYSTEM TABLE", "TABLE", "VIEW"];

/// What there is, by schema and name.
const TABLES: &str = "SELECT n.nspname, c.relname, CASE WHEN n.nspname = 'system' \
    THEN 'SYSTEM TABLE' WHEN c.relkind = 'r' THEN 'TABLE' WHEN c.relkind = 'm' \
    THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2";

static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Alluvium");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    // No transactions and no requests to cancel; a call that is given up stops its statement.
    info.append(SqlInfo::FlightSqlServerTransaction, 0_i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build().expect("each value has the type of its row")
});

/// A ticket that is the command itself.
fn ticket_of(command: &impl ProstMessageExt) -> Vec<u8> {
    command.as_any().encode_to_vec()
}

/// Keys there are none.
fn key_schema() -> Schema {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

impl FlightSql {
    async fn tables(&self, asker: Asker, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let include_schema = command.include_schema;
        let mut tables = command.into_builder();
        let asked = Asked::new(TABLES, Door::Flight, asker.clone());
        let mut running = run::run(&self.node, asked).await.map_err(|error| run_status(&error))?;
        while let Some(batch) = running.batches.recv().await {
            let batch = batch.map_err(|error| run_status(&error))?;
            let text = |column: usize, row: usize| {
                arrow::util::display::array_value_to_string(batch.column(column), row)
            };
            for row in 0..batch.num_rows() {
                let schema_name = text(0, row).map_err(internal)?;
                let name = text(1, row).map_err(internal)?;
                let kind = text(2, row).map_err(internal)?;
                let mut schema = Schema::empty();
                if include_schema {
                    let quoted = name.replace('"', "\"\"");
                    let all = format!("SELECT * FROM {schema_name}.\"{quoted}\"");
                    // One that was dropped meanwhile is listed without its columns.
                    let described = self.node.engine(&asker.caller).describe(&all, &[]).await;
                    if let Ok(Described { rows: DescribedRows::Of(found), .. }) = described {
                        schema = Schema::clone(&found);
                    }
                }
                let appended = tables.append(CATALOGUE, schema_name, name, kind, &schema);
                appended.map_err(internal)?;
            }
        }
        tables.build().map_err(internal)
    }
}

type Handshakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    /// Who gets here was let in. Who said a password is given a token to say instead.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        let hello = HandshakeResponse { protocol_version: 0, payload: bytes::Bytes::new() };
        let mut response: Response<Handshakes> =
            Response::new(Box::pin(futures::stream::iter([Ok(hello)])));
        if let Some(token) = self.node.guard.give_token(&caller(&request)) {
            let bearer: MetadataValue<Ascii> =
                format!("Bearer {token}").parse().map_err(internal)?;
            response.metadata_mut().insert("authorization", bearer);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let statement = Statement { sql: query.query, parameters: Vec::new() };
        self.info(&caller(&request), statement, request.into_inner()).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let statement = Statement::from_handle(&query.prepared_statement_handle)?;
        self.info(&caller(&request), statement, request.into_inner()).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = ticket_of(&query);
        let schema = query.into_builder().schema();
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = ticket_of(&query);
        let schema = query.into_builder().schema();
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = ticket_of(&query);
        let schema = query.into_builder().schema();
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = ticket_of(&query);
        let schema = query.into_builder().schema();
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = ticket_of(&query);
        let schema = query.into_builder(&SQL_INFO).schema();
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = Arc::new(key_schema());
        let ticket = ticket_of(&query);
        Ok(Response::new(flight_info(Some(schema), ticket, request.into_inner())?))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.rows(asker(&request), Statement::from_handle(&ticket.statement_handle)?).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.rows(asker(&request), Statement::from_handle(&query.prepared_statement_handle)?).await
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let mut catalogs = query.into_builder();
        catalogs.append(CATALOGUE);
        Ok(one_batch(catalogs.build().map_err(internal)?))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let mut schemas = query.into_builder();
        SCHEMAS.iter().for_each(|name| schemas.append(CATALOGUE, name));
        Ok(one_batch(schemas.build().map_err(internal)?))
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(one_batch(self.tables(asker(&request), query).await?))
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let mut types = query.into_builder();
        TABLE_TYPES.iter().for_each(|name| types.append(name));
        Ok(one_batch(types.build().map_err(internal)?))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(one_batch(query.into_builder(&SQL_INFO).build().map_err(internal)?))
    }

    async fn do_get_primary_keys(
        &self,
        _query: CommandGetPrimaryKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        Ok(one_batch(RecordBatch::new_empty(Arc::new(key_schema()))))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let statement = Statement { sql: command.query, parameters: Vec::new() };
        self.update(asker(&request), statement).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.ingest(&caller(&request), command, request.into_inner()).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let statement = Statement::from_handle(&query.prepared_statement_handle)?;
        let mut rows = self.values(&statement.sql, request.into_inner()).await?;
        if 1 < rows.len() {
            let reason = "a query takes one row of values at a time";
            return Err(Status::invalid_argument(reason));
        }
        let parameters = rows.pop().unwrap_or_default();
        let handle = Statement { parameters, ..statement }.to_handle();
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let asker = asker(&request);
        let statement = Statement::from_handle(&query.prepared_statement_handle)?;
        let rows = self.values(&statement.sql, request.into_inner()).await?;
        if rows.is_empty() {
            return self.update(asker, statement).await;
        }
        let mut count = 0;
        for parameters in rows {
            let statement = Statement { sql: statement.sql.clone(), parameters };
            count += self.update(asker.clone(), statement).await?;
        }
        Ok(count)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let engine = self.node.engine(&caller(&request));
        let described = engine.describe(&query.query, &[]).await;
        let described = described.map_err(|error| crate::grpc::status::sql_status(&error))?;
        let dataset_schema = match &described.rows {
            DescribedRows::Of(schema) => super::schema_bytes(&run::nullable(schema))?,
            DescribedRows::Some | DescribedRows::None => bytes::Bytes::new(),
        };
        let parameters = super::parameter_schema(&described.parameters);
        let statement = Statement { sql: query.query, parameters: Vec::new() };
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: statement.to_handle(),
            dataset_schema,
            parameter_schema: super::schema_bytes(&parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn register_sql_info(&self, _id: i32, _result: &sql::SqlInfo) {}
}
