//! `INSERT INTO stream [(columns)] VALUES … | SELECT …`.
//!
//! The rows are computed by the engine, brought into the stream's types as SQL casts do, checked
//! like every other append, and appended through the host. Up to [`APPEND_ROWS_MAX`] rows are one
//! append, all or nothing for each partition; more are several, and an error says how many rows
//! stand.

use std::sync::Arc;

use alluvium_core::meta::access::Privilege;
use alluvium_core::stream::{Frontier, Stream};
use alluvium_views::{columns, rows};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::datasource::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;

use crate::catalog::{CATALOGUE, PUBLIC, TARGET, Tables};
use crate::engine::{Answer, Statements, is_target};
use crate::error::SqlError;
use crate::hidden;
use crate::host::Freshness;
use crate::output;
use crate::table::{Hidden, visible};

/// Rows of one append.
pub(crate) const APPEND_ROWS_MAX: usize = 100_000;

/// Bytes of one append: below what the wire takes in one call.
const APPEND_BYTES_MAX: usize = 4 << 20;

impl Statements {
    pub(crate) async fn insert(
        &self,
        mut insert: ast::Insert,
        names_hidden: bool,
        freshness: &Freshness,
    ) -> Result<Answer, SqlError> {
        let (stream, tables) = self.aim(&mut insert)?;
        let parsed = Parsed::Statement(Box::new(ast::Statement::Insert(insert.clone())));
        let mut references = self.base.resolve_table_references(&parsed)?;
        references.retain(|reference| !is_target(reference));
        let pinned = self.pin(&references, freshness).await?;
        let mut shown = Hidden::Left;
        if names_hidden {
            hidden::rewrite_insert(&mut insert, &|name| pinned.has(name))?;
            shown = Hidden::Shown;
        }
        let planning = self.state(&pinned, shown, &references, tables).await?;
        let parsed = Parsed::Statement(Box::new(ast::Statement::Insert(insert)));
        let LogicalPlan::Dml(statement) = self.plan(&planning.state, parsed).await? else {
            return Err(SqlError::internal("an INSERT was planned as something else"));
        };
        let plan = planning.physical(&statement.input).await?;
        let mut batches = execute_stream(plan, planning.context())?;
        let plain = output::plain_schema(&batches.schema());
        let mut appends = Appends {
            engine: self,
            stream: &stream,
            waiting: Vec::new(),
            done: 0,
            frontier: Frontier::default(),
        };
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| appends.explain(error.into()))?;
            let batch = output::plain_batch(&plain, batch)?;
            appends.push(batch).await?;
        }
        appends.flush().await?;
        let as_of = vec![(stream.definition.name.clone(), appends.frontier)];
        Answer::inserted(appends.done, as_of)
    }

    /// Finds the stream and puts it under a name of its own: there it has no hidden columns,
    /// whatever is selected.
    pub(crate) fn aim(&self, insert: &mut ast::Insert) -> Result<(Arc<Stream>, Tables), SqlError> {
        let stream = self.target(insert)?;
        let scan = columns::scan_schema(&stream.definition.schema);
        let shape = insert_schema(&visible(&scan));
        let target: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(shape));
        let inner = [CATALOGUE, TARGET, stream.definition.name.as_str()];
        let inner = inner.map(ast::Ident::new).to_vec();
        insert.table = ast::TableObject::TableName(ast::ObjectName::from(inner));
        let tables = Tables::from([(stream.definition.name.clone(), target)]);
        Ok((stream, tables))
    }

    fn target(&self, insert: &ast::Insert) -> Result<Arc<Stream>, SqlError> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT goes into a stream, by its name"));
        };
        let parts: Vec<String> =
            name.0.iter().filter_map(|part| part.as_ident()).map(hidden::folded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if let [name] | [PUBLIC, name] | [CATALOGUE, PUBLIC, name] = parts.as_slice() {
            self.rights().on_table(Privilege::Insert, name)?;
        }
        let known = self.host.catalogue();
        match parts.as_slice() {
            [view] | [PUBLIC, view] | [CATALOGUE, PUBLIC, view]
                if self.host.views().contains_key(*view) =>
            {
                Err(SqlError::invalid(format!(
                    "\"{view}\" is a view: events go into the streams that it reads"
                )))
            }
            [stream] | [PUBLIC, stream] | [CATALOGUE, PUBLIC, stream] => match known.get(*stream) {
                Some(found) => Ok(Arc::clone(found)),
                None => Err(SqlError::unknown_stream(stream, known.keys().map(String::as_str))),
            },
            _ => {
                Err(SqlError::invalid(format!("\"{name}\" is no stream: INSERT goes into streams")))
            }
        }
    }
}

/// The visible columns, all of them nullable: a null is found and named by its row when the rows
/// are checked, not by the engine as a broken promise of the plan.
fn insert_schema(visible: &SchemaRef) -> SchemaRef {
    let fields = visible.fields().iter();
    let fields: Vec<FieldRef> =
        fields.map(|field| Arc::new(Field::clone(field).with_nullable(true))).collect();
    Arc::new(Schema::new(fields))
}

struct Appends<'a> {
    engine: &'a Statements,
    stream: &'a Stream,
    waiting: Vec<RecordBatch>,
    done: u64,
    frontier: Frontier,
}

impl Appends<'_> {
    async fn push(&mut self, batch: RecordBatch) -> Result<(), SqlError> {
        let rows: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        let bytes: usize = self.waiting.iter().map(RecordBatch::get_array_memory_size).sum();
        let is_full = APPEND_ROWS_MAX < rows + batch.num_rows()
            || APPEND_BYTES_MAX < bytes + batch.get_array_memory_size();
        if is_full {
            self.flush().await?;
        }
        self.waiting.push(batch);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SqlError> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(first) = waiting.first() else {
            return Ok(());
        };
        let schema = &self.stream.definition.schema;
        let batch = arrow::compute::concat_batches(&first.schema(), &waiting)
            .map_err(|error| SqlError::internal(error.to_string()))?;
        let log = columns::log_schema(schema);
        let batch = rows::conform(&log, schema, batch)
            .map_err(|error| self.explain(SqlError::invalid(error.to_string())))?;
        let count = batch.num_rows();
        let appended = self.engine.host.append(self.stream, batch).await;
        let frontier = appended.map_err(|error| self.explain(error.into()))?;
        self.frontier.merge(&frontier);
        self.done += u64::try_from(count).expect("a usize has at most 64 bits");
        Ok(())
    }

    /// Adds what stands already, where something does.
    fn explain(&self, error: SqlError) -> SqlError {
        if self.done == 0 {
            return error;
        }
        let suffix = format!(" ({} rows before it are appended and stay)", self.done);
        error.with_suffix(&suffix)
    }
}
