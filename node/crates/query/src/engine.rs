//! Runs one statement: reads it, pins what it names, plans, and hands out the rows as they come.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_core::meta::access::Privilege;
use alluvium_core::schema::ColumnType;
use alluvium_core::stream::{Frontier, Stream};
use alluvium_views::columns;
use arrow::array::RecordBatch;
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::datasource::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use crate::access::{Caller, Rights};
pub use crate::answer::Answer;
use crate::catalog::{CATALOGUE, PUBLIC, SYSTEM, TARGET, Tables};
use crate::copy::CopyIn;
use crate::cut::Cut;
use crate::describe::Described;
use crate::error::SqlError;
use crate::hidden;
use crate::host::{Catalogue, Freshness, Host, PartitionPin, ViewCatalogue};
use crate::output;
use crate::parameters::{Parameter, Placeholders};
use crate::segments::Footers;
use crate::session::{EngineError, EngineOptions};
use crate::statement::{self, Read, Statement};
use crate::system;
use crate::table::{Hidden, StreamTable};
use crate::views::ViewCompiler;
use crate::views::expand::{self, Named};
use crate::views::groups::GroupsTable;
use crate::views::kept::{Plans, Question};
use crate::views::windowed;

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
        parameters: &'a [Parameter],
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>>;

    fn describe<'a>(
        &'a self,
        sql: &'a str,
        known: &'a [Option<ColumnType>],
    ) -> BoxFuture<'a, Result<Described, SqlError>>;

    fn copy_in(&self, sql: &str) -> Result<CopyIn, SqlError>;

    fn asked_by(&self, caller: Caller) -> Arc<dyn Run>;

    fn host(&self) -> &Arc<dyn Host>;
}

/// What an engine is inside.
#[derive(Clone, Debug)]
pub(crate) struct Statements {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) caller: Caller,
    pub(crate) base: Arc<SessionState>,
    pub(crate) compiler: ViewCompiler,
    pub(crate) footers: Arc<Footers>,
    pub(crate) plans: Arc<Plans>,
    sql_bytes_max: usize,
}

/// The streams and views of one statement, each pinned once.
pub(crate) struct Pinned {
    pub(crate) catalogue: Catalogue,
    pub(crate) views: ViewCatalogue,
    pub(crate) freshness: Freshness,
    pub(crate) rights: Rights,
    /// The streams and views that the statement itself names, which its caller may read.
    pub(crate) direct: BTreeSet<String>,
    pub(crate) pins: Vec<(Arc<Stream>, Vec<PartitionPin>)>,
    /// Those below before those above.
    pub(crate) named: Vec<Named>,
}

/// Where one statement is planned and run.
pub(crate) struct Planning {
    pub(crate) state: SessionState,
    /// What is read of views: known when the statement is planned.
    pub(crate) groups: Vec<Arc<GroupsTable>>,
}

impl Engine {
    /// An engine over a host.
    pub fn new(host: Arc<dyn Host>, options: EngineOptions) -> Result<Engine, EngineError> {
        let compiler = ViewCompiler::new(&options)?;
        Engine::with_compiler(host, compiler, options)
    }

    /// An engine that shares what a compiler of views has, which was made with the same options.
    pub fn with_compiler(
        host: Arc<dyn Host>,
        compiler: ViewCompiler,
        options: EngineOptions,
    ) -> Result<Engine, EngineError> {
        let inner = Statements {
            host,
            caller: Caller::Everybody,
            base: Arc::new(compiler.base().clone()),
            compiler,
            footers: Arc::new(Footers::new(options.footer_bytes_max)),
            plans: Arc::default(),
            sql_bytes_max: options.sql_bytes_max,
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// The same engine for what this caller asks. One that was not told who asks lets everybody do
    /// everything.
    #[must_use]
    pub fn asked_by(&self, caller: Caller) -> Engine {
        Engine { inner: self.inner.asked_by(caller) }
    }

    /// Runs exactly one statement. The answer's rows are computed while they are taken.
    pub fn run<'a>(
        &'a self,
        sql: &'a str,
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        self.inner.run(sql, &[], freshness)
    }

    /// Runs one statement with values for its parameters.
    pub fn run_with<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter],
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        self.inner.run(sql, parameters, freshness)
    }

    /// What a statement takes and answers. `known`: the types of parameters as far as they are
    /// given.
    pub fn describe<'a>(
        &'a self,
        sql: &'a str,
        known: &'a [Option<ColumnType>],
    ) -> BoxFuture<'a, Result<Described, SqlError>> {
        self.inner.describe(sql, known)
    }

    /// Reads a `COPY … FROM STDIN`: where rows go and how they are written.
    pub fn copy_in(&self, sql: &str) -> Result<CopyIn, SqlError> {
        self.inner.copy_in(sql)
    }

    /// The node as the engine sees it.
    pub fn host(&self) -> &Arc<dyn Host> {
        self.inner.host()
    }
}

impl Run for Statements {
    fn run<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter],
        freshness: Freshness,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        self.run_known(sql, parameters, freshness).boxed()
    }

    fn describe<'a>(
        &'a self,
        sql: &'a str,
        known: &'a [Option<ColumnType>],
    ) -> BoxFuture<'a, Result<Described, SqlError>> {
        self.describe_known(sql, known).boxed()
    }

    fn copy_in(&self, sql: &str) -> Result<CopyIn, SqlError> {
        let (catalogue, rights) = (self.host.catalogue(), self.rights());
        CopyIn::parse(sql, &catalogue, &|stream| Ok(rights.on_table(Privilege::Insert, stream)?))
    }

    fn asked_by(&self, caller: Caller) -> Arc<dyn Run> {
        Arc::new(Statements { caller, ..self.clone() })
    }

    fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }
}

impl Statements {
    /// Refuses texts that are too long to be read.
    pub(crate) fn check_length(&self, sql: &str) -> Result<(), SqlError> {
        if self.sql_bytes_max < sql.len() {
            return Err(SqlError::invalid(format!(
                "the statement has {} bytes; at most {} are taken (append rows with the append call \
                 or the ingest command)",
                sql.len(),
                self.sql_bytes_max
            )));
        }
        Ok(())
    }

    /// Nothing is done before all names are found, so a statement can be run once more when this
    /// node has heard of what there is.
    async fn run_known(
        &self,
        sql: &str,
        parameters: &[Parameter],
        freshness: Freshness,
    ) -> Result<Answer, SqlError> {
        match self.run_one(sql, parameters, freshness.clone()).await {
            Err(SqlError::NotFound { .. } | SqlError::Denied { .. }) => {
                self.host.catch_up().await?;
                self.run_one(sql, parameters, freshness).await
            }
            answer => answer,
        }
    }

    async fn run_one(
        &self,
        sql: &str,
        parameters: &[Parameter],
        freshness: Freshness,
    ) -> Result<Answer, SqlError> {
        self.check_length(sql)?;
        let question = Question::new(sql, parameters, &self.caller);
        if let Some(question) = &question
            && let Some(answer) = Box::pin(self.ask_again(question, &freshness)).await?
        {
            return Ok(answer);
        }
        match statement::parse(sql, Placeholders::Values(parameters))? {
            Statement::Read(read) => Box::pin(self.read(read, &freshness, question)).await,
            Statement::Insert { insert, names_hidden } => {
                Box::pin(self.insert(*insert, names_hidden, &freshness)).await
            }
            Statement::CreateStream { definition, if_not_exists } => {
                self.check_made(&definition.name, false)?;
                let owner = self.caller.owner();
                self.host.create_stream(definition, if_not_exists, owner).await?;
                Ok(Answer::done("CREATE STREAM"))
            }
            Statement::DropStream { name, if_exists } => self.drop_stream(&name, if_exists).await,
            Statement::ShowStreams => {
                let catalogue = self.host.catalogue();
                let host = self.host.as_ref();
                let rows = system::table(host, &catalogue, &self.rights(), "streams").await?;
                Ok(Answer::of(rows, "SHOW STREAMS"))
            }
            Statement::Describe { name } => self.describe(&name),
            Statement::View(statement) => Box::pin(self.about_view(statement)).await,
            Statement::Access(statement) => Box::pin(self.about_access(statement)).await,
            Statement::KillQuery { id } => {
                let rights = self.rights();
                let is_operator = rights.on_cluster(Privilege::Operate).is_ok();
                let of = Some(rights.caller()).filter(|_| !is_operator);
                self.host.kill_query(&id, of)?;
                Ok(Answer::done("KILL QUERY"))
            }
        }
    }

    async fn drop_stream(&self, name: &str, if_exists: bool) -> Result<Answer, SqlError> {
        self.check_dropped(name, if_exists)?;
        let known = self.host.catalogue();
        if self.host.views().contains_key(name) {
            return Err(SqlError::invalid(format!("\"{name}\" is a view: use DROP VIEW")));
        }
        if !if_exists && !known.contains_key(name) {
            return Err(SqlError::unknown_stream(name, known.keys().map(String::as_str)));
        }
        self.host.drop_stream(name, if_exists).await?;
        Ok(Answer::done("DROP STREAM"))
    }

    fn describe(&self, name: &[String]) -> Result<Answer, SqlError> {
        let parts: Vec<&str> = name.iter().map(String::as_str).collect();
        let batch = match parts.as_slice() {
            [name] | [PUBLIC, name] => match self.readable(name)? {
                Some(stream) => system::describe_stream(&stream.definition)?,
                None => self.describe_view(name)?,
            },
            [SYSTEM, table] => system::describe_schema(&system::empty_table(table)?.schema())?,
            _ => {
                let reason = format!("table \"{}\" does not exist", name.join("."));
                return Err(SqlError::NotFound { reason });
            }
        };
        Ok(Answer::of(batch, "DESCRIBE"))
    }

    async fn read(
        &self,
        read: Read,
        freshness: &Freshness,
        question: Option<Question>,
    ) -> Result<Answer, SqlError> {
        let Read { mut statement, names_hidden, tag } = read;
        let references = self.base.resolve_table_references(&statement)?;
        let pinned = self.pin(&references, freshness).await?;
        let hidden = if names_hidden {
            hidden::rewrite(&mut statement, &|name| pinned.has(name))?;
            Hidden::Shown
        } else {
            Hidden::Left
        };
        let planning = self.state(&pinned, hidden, &references, Tables::new()).await?;
        let plan = self.plan(&planning.state, statement).await?;
        let plan = output::unions_to_text(plan)?;
        let question = question.filter(|_| matches!(hidden, Hidden::Left));
        self.answer(question, &pinned, &planning, &plan, tag).await
    }

    /// Pins every stream that is named, by the statement or by a view that it names, all at once.
    pub(crate) async fn pin(
        &self,
        references: &[TableReference],
        freshness: &Freshness,
    ) -> Result<Pinned, SqlError> {
        let (catalogue, views) = (self.host.catalogue(), self.host.views());
        let rights = self.rights();
        let mut direct = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut named = Vec::new();
        for reference in references {
            if !is_public(reference) {
                continue;
            }
            let name = reference.table();
            let is_there = catalogue.contains_key(name) || views.contains_key(name);
            // What is not there is refused like what is not granted.
            if is_there || !self.is_built_in(name) {
                rights.on_table(Privilege::Select, name)?;
            }
            if is_there {
                direct.insert(name.to_string());
            }
            if catalogue.contains_key(name) {
                names.insert(name.to_string());
            } else if views.contains_key(name) {
                self.name_view(name, &catalogue, &views, &mut named, &mut names)?;
            } else if !self.is_built_in(name) {
                let known = catalogue.keys().chain(views.keys()).map(String::as_str);
                return Err(SqlError::unknown_stream(name, known));
            }
        }
        let pins = names.iter().filter_map(|name| catalogue.get(name)).map(|stream| async {
            let pins = self.host.pin(stream, freshness).await?;
            Ok::<_, SqlError>((Arc::clone(stream), pins))
        });
        let pins = try_join_all(pins).await?;
        let freshness = freshness.clone();
        Ok(Pinned { catalogue, views, freshness, rights, direct, pins, named })
    }

    /// The state in which one statement is planned and run.
    pub(crate) async fn state(
        &self,
        pinned: &Pinned,
        hidden: Hidden,
        references: &[TableReference],
        target: Tables,
    ) -> Result<Planning, SqlError> {
        let mut public = Tables::new();
        let lists_all = references.iter().any(|name| name.schema() == Some("information_schema"));
        if lists_all {
            self.list(pinned, Hidden::Left, &mut public);
        }
        for (stream, pins) in &pinned.pins {
            let name = &stream.definition.name;
            let scan = columns::scan_schema(&stream.definition.schema);
            // What only a view below reads is not there to be named.
            if pinned.direct.contains(name) {
                let cut = Cut::of(pins);
                let table = StreamTable::new(name, scan, hidden, cut, self.footers());
                let table = self.rows_for(&pinned.rights, name, Arc::new(table))?;
                public.insert(name.clone(), table);
            }
        }
        let groups = self.add_views(pinned, &mut public)?;
        let mut system = Tables::new();
        for reference in references.iter().filter(|name| name.schema() == Some(SYSTEM)) {
            let name = reference.table();
            let (host, rights) = (self.host.as_ref(), &pinned.rights);
            let rows = system::table(host, &pinned.catalogue, rights, name).await?;
            system.insert(name.into(), in_memory(rows)?);
        }
        if lists_all {
            for name in system::TABLES {
                if !system.contains_key(name) {
                    system.insert(name.into(), in_memory(system::empty_table(name)?)?);
                }
            }
        }
        let pg_catalog = self.add_pg_catalog(pinned, references, &mut public)?;
        let mut state = self.state_over(public, system, target, pg_catalog);
        if pinned.pins.is_empty() && !groups.is_empty() {
            // How many groups there are is known about: a few do not need every core.
            let execution = &mut state.config_mut().options_mut().execution;
            execution.use_row_number_estimates_to_optimize_partitioning = true;
        }
        Ok(Planning { state, groups })
    }

    pub(crate) fn footers(&self) -> Arc<Footers> {
        Arc::clone(&self.footers)
    }

    pub(crate) async fn plan(
        &self,
        state: &SessionState,
        statement: Parsed,
    ) -> Result<LogicalPlan, SqlError> {
        let plan = windowed::rewrite(state.statement_to_plan(statement).await?)?;
        // The list of allowed statements decides already; this is the second lock on the same door.
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(matches!(plan, LogicalPlan::Dml(_)))
            .with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        Ok(plan)
    }
}

impl Planning {
    /// Plans how to run it; reads what it names of views.
    pub(crate) async fn physical(
        &self,
        plan: &LogicalPlan,
    ) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        if self.groups.is_empty() {
            return Ok(self.state.create_physical_plan(plan).await?);
        }
        let optimized = self.state.optimize(plan)?;
        expand::count_mentions(&optimized)?;
        let planner = self.state.query_planner();
        Ok(planner.create_physical_plan(&optimized, &self.state).await?)
    }
}

impl Pinned {
    /// Whether a table of this name is a stream.
    pub(crate) fn has(&self, name: &ast::ObjectName) -> bool {
        hidden::is_in(name, self.catalogue.as_ref())
    }

    pub(crate) fn as_of(&self) -> Vec<(String, Frontier)> {
        let cuts = self.pins.iter().map(|(stream, pins)| {
            let ends = pins.iter().map(|pin| (pin.partition, pin.end)).collect();
            (stream.definition.name.clone(), Frontier(ends))
        });
        cuts.collect()
    }
}

pub(crate) fn is_public(reference: &TableReference) -> bool {
    reference.catalog().is_none_or(|catalog| catalog == CATALOGUE)
        && reference.schema().is_none_or(|schema| schema == PUBLIC)
}

pub(crate) fn in_memory(rows: RecordBatch) -> Result<Arc<dyn TableProvider>, SqlError> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// Whether a reference is the stream of an `INSERT` under its inner name.
pub(crate) fn is_target(reference: &TableReference) -> bool {
    reference.schema() == Some(TARGET)
}
