//! From the text of a view's query to what is folded and what is left to do at read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_core::ids::ViewId;
use alluvium_core::stream::Stream;
use alluvium_core::view::{View, ViewDefinition};
use alluvium_views::columns;
use alluvium_views::fold::Definition;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::FutureExt;

use crate::catalog::{CATALOGUE, Catalog, OneCatalog, PUBLIC, Tables};
use crate::error::SqlError;
use crate::hidden;
use crate::host::{Catalogue, ViewCatalogue};
use crate::output;
use crate::parameters::Placeholders;
use crate::session::{self, EngineError, EngineOptions};
use crate::statement::{self, Read, Statement};
use crate::table::visible;
use crate::views::explain::{self, Explained};
use crate::views::finish::RowWise;
use crate::views::maintain::{self, Built};
use crate::views::placeholder::{Placeholder, StandsFor};
use crate::views::{check, find};

/// Views that read views that read views …: so many at most, one above the other.
const DEPTH_MAX: usize = 16;

/// What the groups of a view are called inside its plan.
const GROUPS: &str = "_groups";

/// Compiles definitions of views. Cheap to clone.
///
/// Needs no running engine, so a node can start folding before it answers questions.
#[derive(Clone, Debug)]
pub struct ViewCompiler {
    inner: Arc<dyn Compile>,
}

trait Compile: Send + Sync + Debug {
    fn compile(&self, task: &Task<'_>) -> Result<Arc<CompiledView>, SqlError>;
    fn cached(&self, view: &View, task: &Task<'_>) -> Result<Arc<CompiledView>, SqlError>;
    fn base(&self) -> &SessionState;
}

/// A table and what it is called.
type Named = (String, Arc<dyn TableProvider>);

/// What is compiled, and among which other tables.
struct Task<'a> {
    definition: &'a ViewDefinition,
    catalogue: &'a Catalogue,
    views: &'a ViewCatalogue,
    depth: usize,
}

#[derive(Debug)]
struct Base {
    state: SessionState,
    compiled: Mutex<BTreeMap<ViewId, Arc<CompiledView>>>,
}

/// A view, ready to be folded and read.
#[derive(Clone, Debug)]
pub struct CompiledView {
    /// What is folded. `None`: it is computed from other tables when it is read.
    pub maintained: Option<Maintained>,
    /// Its columns, as they leave.
    pub schema: SchemaRef,
    /// Names of the streams and views it reads, in order, each once.
    pub reads: Vec<String>,
    /// What `EXPLAIN VIEW` says.
    pub explanation: Vec<Explained>,
    pub(crate) plan: Arc<dyn Plan>,
}

/// The part of a view that is folded.
#[derive(Clone, Debug)]
pub struct Maintained {
    /// The stream whose events it folds.
    pub stream: Arc<Stream>,
    /// How.
    pub definition: Arc<Definition>,
    /// The columns of the stream's scan schema that the fold reads: those of
    /// [`Definition::input`].
    pub columns: SchemaRef,
    /// No group has events in two partitions, because the columns of the partition key are among
    /// the group columns.
    pub disjoint: bool,
}

/// What is left to do at read. Behind a trait, so that crates that hold a view do not compile
/// plans once more.
pub(crate) trait Plan: Send + Sync + Debug {
    /// The plan, over placeholders, in the engine's types.
    fn logical(&self) -> &LogicalPlan;
    /// The same over rows of the groups, where each stands for itself.
    fn rows(&self) -> Option<&RowWise>;
    /// The maintained part, as the query has it.
    fn part(&self) -> Option<&LogicalPlan>;
}

#[derive(Debug)]
struct Finishing {
    plan: LogicalPlan,
    rows: Option<RowWise>,
    part: Option<LogicalPlan>,
}

impl Plan for Finishing {
    fn logical(&self) -> &LogicalPlan {
        &self.plan
    }

    fn rows(&self) -> Option<&RowWise> {
        self.rows.as_ref()
    }

    fn part(&self) -> Option<&LogicalPlan> {
        self.part.as_ref()
    }
}

impl CompiledView {
    /// Whether each row of the view follows from one group alone: then it can be looked up and
    /// subscribed to.
    pub fn is_row_wise(&self) -> bool {
        self.plan.rows().is_some()
    }

    /// For each column of the view, the group column that it shows unchanged, as a place in
    /// [`Definition::groups`]. Empty where [`CompiledView::is_row_wise`] is not so.
    pub fn shows(&self) -> Vec<Option<usize>> {
        let groups = self.maintained.as_ref().map_or(0, |part| part.definition.groups.len());
        let shows = self.plan.rows().map(|rows| rows.shows.clone()).unwrap_or_default();
        shows.into_iter().map(|place| place.filter(|place| *place < groups)).collect()
    }

    /// The rows of the view for these rows of `group_schema`, in the columns of `schema`. Groups
    /// that the view leaves out give no row.
    ///
    /// # Errors
    /// When an expression fails, or rows do not follow from single groups.
    pub fn finish_rows(&self, groups: &RecordBatch) -> Result<RecordBatch, SqlError> {
        match self.plan.rows() {
            Some(rows) => rows.run(groups),
            None => Err(SqlError::unsupported(
                "the rows of this view do not follow from single groups (EXPLAIN VIEW says why): \
                 read it with SELECT",
            )),
        }
    }
}

impl ViewCompiler {
    /// A compiler with the functions and types of an engine of these options.
    ///
    /// # Errors
    /// When the engine underneath does not start.
    pub fn new(options: &EngineOptions) -> Result<ViewCompiler, EngineError> {
        let base = Base { state: session::base(options)?, compiled: Mutex::default() };
        Ok(ViewCompiler { inner: Arc::new(base) })
    }

    /// Compiles a definition. Of `definition`, its name, `reads` and `folds` are not looked at.
    ///
    /// # Errors
    /// When it is no query, names what is not there, or cannot be a view; then the reason says what
    /// to do instead.
    pub fn compile(
        &self,
        definition: &ViewDefinition,
        catalogue: &Catalogue,
        views: &ViewCatalogue,
    ) -> Result<Arc<CompiledView>, SqlError> {
        self.inner.compile(&Task { definition, catalogue, views, depth: 0 })
    }

    /// A view of the catalogue, compiled once.
    ///
    /// # Errors
    /// As [`ViewCompiler::compile`].
    pub fn compiled(
        &self,
        view: &View,
        catalogue: &Catalogue,
        views: &ViewCatalogue,
    ) -> Result<Arc<CompiledView>, SqlError> {
        let task = Task { definition: &view.definition, catalogue, views, depth: 0 };
        self.inner.cached(view, &task)
    }

    pub(crate) fn base(&self) -> &SessionState {
        self.inner.base()
    }
}

impl Compile for Base {
    fn compile(&self, task: &Task<'_>) -> Result<Arc<CompiledView>, SqlError> {
        let Statement::Read(read) = statement::parse(&task.definition.query, Placeholders::NONE)?
        else {
            return Err(SqlError::syntax("a view is a query: SELECT or WITH after AS"));
        };
        if read.tag != "SELECT" {
            return Err(SqlError::syntax("a view is a query: SELECT or WITH after AS"));
        }
        let Planned { plan, reads } = self.plan(read, task)?;
        unique_columns(&plan)?;
        if !task.definition.materialized {
            return Ok(Arc::new(at_read(plan, reads)));
        }
        check::deterministic(&plan)?;
        match find::maintainable(&plan)? {
            Some(part) => {
                let built = maintain::build(&self.state, &part, &task.definition.options)?;
                Ok(Arc::new(self.finishing(plan, &part, built, reads)?))
            }
            None if reads.is_empty() => Err(SqlError::unsupported(
                "this query reads no stream and no view, so there is nothing to maintain: CREATE \
                 VIEW (without MATERIALIZED)",
            )),
            None => {
                without_options(task.definition)?;
                Ok(Arc::new(at_read(plan, reads)))
            }
        }
    }

    fn cached(&self, view: &View, task: &Task<'_>) -> Result<Arc<CompiledView>, SqlError> {
        let lock = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = lock().get(&view.id) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = self.compile(task)?;
        let mut all = lock();
        let is_known = |id: &ViewId| {
            let mut entries = task.views.values();
            entries.any(|entry| {
                entry.current.id == *id || entry.next.as_ref().is_some_and(|next| next.id == *id)
            })
        };
        all.retain(|id, _| is_known(id));
        all.insert(view.id, Arc::clone(&compiled));
        Ok(compiled)
    }

    fn base(&self) -> &SessionState {
        &self.state
    }
}

/// An analyzed plan over placeholders.
struct Planned {
    plan: LogicalPlan,
    reads: Vec<String>,
}

impl Base {
    fn plan(&self, read: Read, task: &Task<'_>) -> Result<Planned, SqlError> {
        let Read { mut statement, names_hidden, .. } = read;
        if names_hidden {
            hidden::rewrite(&mut statement, &|name| hidden::is_in(name, task.catalogue.as_ref()))?;
        }
        let references = self.state.resolve_table_references(&statement)?;
        let mut tables = Tables::new();
        for reference in &references {
            if let Some((name, table)) = self.table(reference, names_hidden, task)? {
                tables.insert(name, table);
            }
        }
        let reads: Vec<String> = tables.keys().cloned().collect();
        let mut state = self.state.clone();
        let catalog = Arc::new(Catalog::new(tables, Tables::new(), Tables::new(), Tables::new()));
        state.register_catalog_list(Arc::new(OneCatalog(catalog)));
        // All tables are in memory, so nothing is ever waited for.
        let plan = state
            .statement_to_plan(statement)
            .now_or_never()
            .ok_or_else(|| SqlError::internal("planning a view waited for something"))??;
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        let plan = output::unions_to_text(plan)?;
        let config = state.config_options();
        let plan = state.analyzer().execute_and_check(plan, config, |_, _| {})?;
        Ok(Planned { plan, reads })
    }

    fn table(
        &self,
        reference: &TableReference,
        names_hidden: bool,
        task: &Task<'_>,
    ) -> Result<Option<Named>, SqlError> {
        let name = reference.table();
        let is_public = reference.catalog().is_none_or(|catalog| catalog == CATALOGUE)
            && reference.schema().is_none_or(|schema| schema == PUBLIC);
        if !is_public {
            return Err(SqlError::unsupported(format!(
                "a view reads streams and views, and \"{reference}\" is neither"
            )));
        }
        if let Some(stream) = task.catalogue.get(name) {
            let mut scan = columns::scan_schema(&stream.definition.schema);
            if !names_hidden {
                scan = visible(&scan);
            }
            let table = Placeholder::new(StandsFor::Stream(Arc::clone(stream)), scan);
            return Ok(Some((name.into(), Arc::new(table))));
        }
        if let Some(entry) = task.views.get(name) {
            if DEPTH_MAX <= task.depth {
                return Err(SqlError::invalid(format!(
                    "more than {DEPTH_MAX} views read each other, one above the other"
                )));
            }
            let view = &entry.current;
            let below = Task { definition: &view.definition, depth: task.depth + 1, ..*task };
            let compiled = self.cached(view, &below)?;
            let schema = arrow_schema(compiled.plan.logical().schema());
            let table = Placeholder::new(StandsFor::View(name.into()), schema);
            return Ok(Some((name.into(), Arc::new(table))));
        }
        if self.state.table_functions().contains_key(name) {
            return Ok(None);
        }
        let known = task.catalogue.keys().chain(task.views.keys()).map(String::as_str);
        Err(SqlError::unknown_stream(name, known))
    }

    /// Puts the plan together around the groups of its maintained part.
    fn finishing(
        &self,
        plan: LogicalPlan,
        part: &LogicalPlan,
        built: Built,
        reads: Vec<String>,
    ) -> Result<CompiledView, SqlError> {
        let definition = Arc::new(built.definition.clone());
        // Columns that groups cannot be told apart by are found here, not when it runs.
        definition.key_order().map_err(|error| SqlError::unsupported(error.to_string()))?;
        let group_schema = definition.group_schema();
        let groups = groups_scan(&built.schema, &group_schema)?;
        let plan = find::replace(plan, part, &groups)?;
        let rows = RowWise::of(&self.state, &plan, &group_schema)?;
        let mut explanation = explain::maintained(&built);
        explanation.extend(explain::finishing(&plan));
        let schema = output::plain_schema(&arrow_schema(plan.schema()));
        let maintained = Maintained {
            stream: built.stream,
            columns: Arc::clone(&definition.input),
            definition,
            disjoint: built.disjoint,
        };
        Ok(CompiledView {
            maintained: Some(maintained),
            schema,
            reads,
            explanation,
            plan: Arc::new(Finishing { plan, rows, part: Some(part.clone()) }),
        })
    }
}

fn at_read(plan: LogicalPlan, reads: Vec<String>) -> CompiledView {
    CompiledView {
        maintained: None,
        schema: output::plain_schema(&arrow_schema(plan.schema())),
        reads,
        explanation: explain::finishing(&plan),
        plan: Arc::new(Finishing { plan, rows: None, part: None }),
    }
}

/// The columns of a plan without the names of their tables.
pub(crate) fn arrow_schema(schema: &DFSchema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().clone()))
}

/// A scan of the groups that has the columns of the part it stands for.
fn groups_scan(part: &DFSchema, groups: &SchemaRef) -> Result<LogicalPlan, SqlError> {
    let table = Placeholder::new(StandsFor::Groups, Arc::clone(groups));
    let source = provider_as_source(Arc::new(table));
    let scan = LogicalPlanBuilder::scan(GROUPS, source, None)?;
    let mut columns = Vec::new();
    for ((qualifier, field), group) in part.iter().zip(groups.fields()) {
        let column = Expr::Column(Column::new(Some(GROUPS), group.name()));
        let column = if group.data_type() == field.data_type() {
            column
        } else {
            datafusion::logical_expr::cast(column, field.data_type().clone())
        };
        columns.push(column.alias_qualified(qualifier.cloned(), field.name()));
    }
    Ok(scan.project(columns)?.build()?)
}

fn unique_columns(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut seen = std::collections::BTreeSet::new();
    for field in plan.schema().fields() {
        if !seen.insert(field.name()) {
            return Err(SqlError::invalid(format!(
                "column \"{}\" comes out twice; give one of them another name with AS",
                field.name()
            )));
        }
    }
    Ok(())
}

fn without_options(definition: &ViewDefinition) -> Result<(), SqlError> {
    let options = &definition.options;
    if options.retention.is_some() || options.emit_final_after.is_some() {
        return Err(SqlError::invalid(
            "this view keeps no state of its own: retention and EMIT FINAL AFTER belong to the \
             views that it reads",
        ));
    }
    Ok(())
}
