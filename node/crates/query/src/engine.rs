//! Runs one statement: reads it, pins what it names, plans, and hands out the rows as they come.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_core::stream::{Frontier, Stream};
use alluvium_views::columns;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::datasource::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast;
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt, TryStreamExt};

use crate::catalog::{CATALOGUE, Catalog, OneCatalog, PUBLIC, SYSTEM, TARGET, Tables};
use crate::cut::Cut;
use crate::error::SqlError;
use crate::hidden;
use crate::host::{Catalogue, Freshness, Host, PartitionPin};
use crate::output::{self, BatchStream};
use crate::segments::Footers;
use crate::session::{self, EngineError, EngineOptions};
use crate::statement::{self, Read, Statement};
use crate::system;
use crate::table::{Hidden, StreamTable, visible};

/// The SQL engine of a node. Cheap to clone and share: statements run beside each other.
///
/// Behind a trait object, so that crates that hold one do not compile DataFusion's types once more.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<dyn Run>,
}

trait Run: Send + Sync + std::fmt::Debug {
    fn run<'a>(
        &'a self,
        sql: &'a str,
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>>;
}

/// What an engine is inside.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) base: SessionState,
    pub(crate) footers: Arc<Footers>,
    sql_bytes_max: usize,
}

/// What a statement answers.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows. Dropping it stops the statement.
    pub batches: BatchStream,
    /// The cut of each stream that was read, or the frontier after what was inserted; by stream
    /// name.
    pub as_of: Vec<(String, Frontier)>,
    /// What was done, as PostgreSQL says it: `SELECT`, `INSERT 0 3`, `CREATE STREAM`.
    pub tag: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .field("as_of", &self.as_of)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Waits for all rows.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, SqlError> {
        self.batches.try_collect().await
    }

    /// An answer without columns.
    fn done(tag: &str) -> Answer {
        Answer {
            schema: Arc::new(Schema::empty()),
            batches: output::ready(Vec::new()),
            as_of: Vec::new(),
            tag: tag.into(),
        }
    }

    fn of(batch: RecordBatch, tag: &str) -> Answer {
        Answer {
            schema: batch.schema(),
            batches: output::ready(vec![batch]),
            as_of: Vec::new(),
            tag: tag.into(),
        }
    }

    pub(crate) fn inserted(count: u64, as_of: Vec<(String, Frontier)>) -> Result<Answer, SqlError> {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, false)]));
        let rows = Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(rows)])
            .map_err(|error| SqlError::internal(error.to_string()))?;
        Ok(Answer { as_of, ..Answer::of(batch, &format!("INSERT 0 {count}")) })
    }
}

/// The streams of one statement, each pinned once.
pub(crate) struct Pinned {
    pub(crate) catalogue: Catalogue,
    pins: Vec<(Arc<Stream>, Vec<PartitionPin>)>,
}

impl Engine {
    /// An engine over a host.
    pub fn new(host: Arc<dyn Host>, options: EngineOptions) -> Result<Engine, EngineError> {
        let inner = Statements {
            host,
            base: session::base(&options)?,
            footers: Arc::new(Footers::new(options.footer_bytes_max)),
            sql_bytes_max: options.sql_bytes_max,
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Runs exactly one statement. The answer's rows are computed while they are taken.
    pub fn run<'a>(
        &'a self,
        sql: &'a str,
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        self.inner.run(sql, freshness)
    }
}

impl Run for Statements {
    fn run<'a>(
        &'a self,
        sql: &'a str,
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        self.run_one(sql, freshness).boxed()
    }
}

impl Statements {
    async fn run_one(&self, sql: &str, freshness: Freshness) -> Result<Answer, SqlError> {
        if self.sql_bytes_max < sql.len() {
            return Err(SqlError::invalid(format!(
                "the statement has {} bytes; at most {} are taken (append rows with the append call \
                 or the ingest command)",
                sql.len(),
                self.sql_bytes_max
            )));
        }
        match statement::parse(sql)? {
            Statement::Read(read) => Box::pin(self.read(read, &freshness)).await,
            Statement::Insert { insert, names_hidden } => {
                Box::pin(self.insert(*insert, names_hidden, &freshness)).await
            }
            Statement::CreateStream { definition, if_not_exists } => {
                self.host.create_stream(definition, if_not_exists).await?;
                Ok(Answer::done("CREATE STREAM"))
            }
            Statement::DropStream { name, if_exists } => {
                let known = self.host.catalogue();
                if !if_exists && !known.contains_key(&name) {
                    return Err(SqlError::unknown_stream(&name, known.keys().map(String::as_str)));
                }
                self.host.drop_stream(&name, if_exists).await?;
                Ok(Answer::done("DROP STREAM"))
            }
            Statement::ShowStreams => {
                let catalogue = self.host.catalogue();
                let rows = system::table(self.host.as_ref(), &catalogue, "streams").await?;
                Ok(Answer::of(rows, "SHOW STREAMS"))
            }
            Statement::Describe { name } => self.describe(&name),
        }
    }

    fn describe(&self, name: &[String]) -> Result<Answer, SqlError> {
        let parts: Vec<&str> = name.iter().map(String::as_str).collect();
        let batch = match parts.as_slice() {
            [stream] | [PUBLIC, stream] => {
                let known = self.host.catalogue();
                let Some(stream) = known.get(*stream) else {
                    return Err(SqlError::unknown_stream(stream, known.keys().map(String::as_str)));
                };
                system::describe_stream(&stream.definition)?
            }
            [SYSTEM, table] => system::describe_schema(&system::empty_table(table)?.schema())?,
            _ => {
                let reason = format!("table \"{}\" does not exist", name.join("."));
                return Err(SqlError::NotFound { reason });
            }
        };
        Ok(Answer::of(batch, "DESCRIBE"))
    }

    async fn read(&self, read: Read, freshness: &Freshness) -> Result<Answer, SqlError> {
        let Read { mut statement, names_hidden, tag } = read;
        let references = self.base.resolve_table_references(&statement)?;
        let pinned = self.pin(&references, freshness).await?;
        let hidden = if names_hidden {
            hidden::rewrite(&mut statement, &|name| pinned.has(name))?;
            Hidden::Shown
        } else {
            Hidden::Left
        };
        let state = self.state(&pinned, hidden, &references, Tables::new()).await?;
        let plan = self.plan(&state, statement).await?;
        let plan = output::unions_to_text(plan)?;
        self.execute(&state, &plan, pinned.as_of(), tag).await
    }

    /// Pins every stream that is named, all at once.
    pub(crate) async fn pin(
        &self,
        references: &[TableReference],
        freshness: &Freshness,
    ) -> Result<Pinned, SqlError> {
        let catalogue = self.host.catalogue();
        let mut names = BTreeSet::new();
        for reference in references {
            if !is_public(reference) {
                continue;
            }
            let name = reference.table();
            if catalogue.contains_key(name) {
                names.insert(name);
            } else if !self.base.table_functions().contains_key(name) {
                let known = catalogue.keys().map(String::as_str);
                return Err(SqlError::unknown_stream(name, known));
            }
        }
        let pins = names.into_iter().filter_map(|name| catalogue.get(name)).map(|stream| async {
            let pins = self.host.pin(stream, freshness).await?;
            Ok::<_, SqlError>((Arc::clone(stream), pins))
        });
        let pins = try_join_all(pins).await?;
        Ok(Pinned { catalogue, pins })
    }

    /// The state in which one statement is planned and run.
    pub(crate) async fn state(
        &self,
        pinned: &Pinned,
        hidden: Hidden,
        references: &[TableReference],
        target: Tables,
    ) -> Result<SessionState, SqlError> {
        let mut public = Tables::new();
        let lists_all = references.iter().any(|name| name.schema() == Some("information_schema"));
        if lists_all {
            for (name, stream) in pinned.catalogue.iter() {
                let scan = visible(&columns::scan_schema(&stream.definition.schema));
                let listed =
                    StreamTable::new(name, scan, Hidden::Left, Cut::default(), self.footers());
                public.insert(name.clone(), Arc::new(listed));
            }
        }
        for (stream, pins) in &pinned.pins {
            let name = &stream.definition.name;
            let scan = columns::scan_schema(&stream.definition.schema);
            let table = StreamTable::new(name, scan, hidden, Cut::of(pins), self.footers());
            public.insert(name.clone(), Arc::new(table));
        }
        let mut system = Tables::new();
        for reference in references.iter().filter(|name| name.schema() == Some(SYSTEM)) {
            let name = reference.table();
            let rows = system::table(self.host.as_ref(), &pinned.catalogue, name).await?;
            system.insert(name.into(), in_memory(rows)?);
        }
        if lists_all {
            for name in system::TABLES {
                if !system.contains_key(name) {
                    system.insert(name.into(), in_memory(system::empty_table(name)?)?);
                }
            }
        }
        let mut state = self.base.clone();
        let catalog = Arc::new(Catalog::new(public, system, target));
        state.register_catalog_list(Arc::new(OneCatalog(catalog)));
        state.mark_start_execution();
        Ok(state)
    }

    fn footers(&self) -> Arc<Footers> {
        Arc::clone(&self.footers)
    }

    pub(crate) async fn plan(
        &self,
        state: &SessionState,
        statement: Parsed,
    ) -> Result<LogicalPlan, SqlError> {
        let plan = state.statement_to_plan(statement).await?;
        // The list of allowed statements decides already; this is the second lock on the same door.
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(matches!(plan, LogicalPlan::Dml(_)))
            .with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        Ok(plan)
    }

    async fn execute(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        as_of: Vec<(String, Frontier)>,
        tag: &str,
    ) -> Result<Answer, SqlError> {
        let plan = state.create_physical_plan(plan).await?;
        let stream = execute_stream(plan, state.task_ctx())?;
        let (schema, batches) = output::plain_stream(stream);
        Ok(Answer { schema, batches, as_of, tag: tag.into() })
    }
}

impl Pinned {
    /// Whether a table of this name is a stream.
    pub(crate) fn has(&self, name: &ast::ObjectName) -> bool {
        let parts: Vec<String> =
            name.0.iter().filter_map(|part| part.as_ident()).map(hidden::folded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [table] | [PUBLIC, table] | [CATALOGUE, PUBLIC, table] => {
                self.catalogue.contains_key(*table)
            }
            _ => false,
        }
    }

    pub(crate) fn as_of(&self) -> Vec<(String, Frontier)> {
        let cuts = self.pins.iter().map(|(stream, pins)| {
            let ends = pins.iter().map(|pin| (pin.partition, pin.end)).collect();
            (stream.definition.name.clone(), Frontier(ends))
        });
        cuts.collect()
    }
}

fn is_public(reference: &TableReference) -> bool {
    reference.catalog().is_none_or(|catalog| catalog == CATALOGUE)
        && reference.schema().is_none_or(|schema| schema == PUBLIC)
}

fn in_memory(rows: RecordBatch) -> Result<Arc<dyn TableProvider>, SqlError> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// Whether a reference is the stream of an `INSERT` under its inner name.
pub(crate) fn is_target(reference: &TableReference) -> bool {
    reference.schema() == Some(TARGET)
}
