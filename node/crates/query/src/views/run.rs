//! Answers the statements about views, and puts the views that a statement names beside its
//! streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_core::view::{OnError, ViewDefinition};
use alluvium_views::columns;
use arrow::array::{ArrayRef, RecordBatch};
use datafusion::catalog::TableProvider;

use crate::access::Rights;
use crate::catalog::Tables;
use crate::create::retention_text;
use crate::cut::Cut;
use crate::engine::{Answer, Pinned, Statements};
use crate::error::SqlError;
use crate::host::{Catalogue, HostError, ViewCatalogue, ViewChange};
use crate::nearest;
use crate::system::{self, Rows, flag, maybe_text, text, time};
use crate::table::{Hidden, StreamTable};
use crate::views::compile::CompiledView;
use crate::views::ddl::ViewStatement;
use crate::views::expand::{self, Named, ViewTable};
use crate::views::groups::GroupsTable;

impl Statements {
    /// A view that a statement names, and those that it reads, each once; and the streams whose
    /// events they read at each question.
    pub(crate) fn name_view(
        &self,
        name: &str,
        catalogue: &Catalogue,
        views: &ViewCatalogue,
        named: &mut Vec<Named>,
        streams: &mut BTreeSet<String>,
    ) -> Result<(), SqlError> {
        let Some(entry) = views.get(name) else {
            return Err(unknown(name, views));
        };
        if named.iter().any(|known| known.view.definition.name == name) {
            return Ok(());
        }
        let view = Arc::clone(&entry.current);
        let compiled = self.compiler.compiled(&view, catalogue, views)?;
        for below in &compiled.reads {
            if views.contains_key(below) {
                self.name_view(below, catalogue, views, named, streams)?;
            } else if compiled.maintained.is_none() {
                streams.insert(below.clone());
            }
        }
        named.push(Named { view, compiled });
        Ok(())
    }

    /// Adds the views that a statement names to its tables; returns the groups they read.
    pub(crate) fn add_views(
        &self,
        pinned: &Pinned,
        public: &mut Tables,
    ) -> Result<Vec<Arc<GroupsTable>>, SqlError> {
        let stream = |name: &str, schema: &arrow::datatypes::SchemaRef| {
            let found = pinned.pins.iter().find(|(stream, _)| stream.definition.name == name);
            let Some((stream, pins)) = found else {
                return Err(SqlError::internal(format!("stream \"{name}\" was not pinned")));
            };
            let scan = columns::scan_schema(&stream.definition.schema);
            let hidden = if scan.fields().len() == schema.fields().len() {
                Hidden::Shown
            } else {
                Hidden::Left
            };
            let table = StreamTable::new(name, scan, hidden, Cut::of(pins), self.footers());
            let table: Arc<dyn TableProvider> = Arc::new(table);
            Ok(table)
        };
        let mut plans = BTreeMap::new();
        let mut all_groups = Vec::new();
        for Named { view, compiled } in &pinned.named {
            let groups = compiled.maintained.as_ref().map(|maintained| {
                let host = Arc::clone(&self.host);
                let (view, freshness) = (Arc::clone(view), pinned.freshness.clone());
                Arc::new(GroupsTable::new(host, view, maintained.clone(), freshness))
            });
            let tables = expand::Tables { stream: &stream, plans: &plans, groups: groups.as_ref() };
            let plan = expand::expand(compiled.plan.logical(), &tables)?;
            let name = &view.definition.name;
            if pinned.direct.contains(name) {
                let table = Arc::new(ViewTable::new(view, plan.clone()));
                public.insert(name.clone(), self.rows_for(&pinned.rights, name, table)?);
            }
            plans.insert(name.clone(), plan);
            all_groups.extend(groups);
        }
        Ok(all_groups)
    }

    /// Adds all views there are as tables that are only listed.
    pub(crate) fn list_views(&self, pinned: &Pinned, public: &mut Tables) {
        for (name, entry) in pinned.views.iter().filter(|(name, _)| pinned.rights.sees(name)) {
            let view = &entry.current;
            // One that cannot be read any more is not there for who asks what can be read.
            if let Ok(compiled) = self.compiler.compiled(view, &pinned.catalogue, &pinned.views) {
                let table = ViewTable::new(view, compiled.plan.logical().clone());
                public.insert(name.clone(), Arc::new(table));
            }
        }
    }

    pub(crate) async fn about_view(&self, statement: ViewStatement) -> Result<Answer, SqlError> {
        match statement {
            ViewStatement::Create { definition, if_not_exists, or_replace } => {
                self.create_view(*definition, if_not_exists, or_replace).await
            }
            ViewStatement::Drop { name, materialized, if_exists } => {
                self.drop_view(&name, materialized, if_exists).await
            }
            ViewStatement::Show => {
                let (views, rights) = (self.host.views(), self.rights());
                Ok(Answer::of(show(&views, &rights)?, "SHOW VIEWS"))
            }
            ViewStatement::Explain { name } => {
                self.check_read(&name)?;
                let compiled = self.compiled_view(&name)?;
                Ok(Answer::of(explain(&compiled)?, "EXPLAIN VIEW"))
            }
            ViewStatement::Audit { name } => {
                self.check_owned(&name)?;
                self.audit(&name).await
            }
            ViewStatement::Change { name, change } => self.change(&name, change).await,
        }
    }

    async fn create_view(
        &self,
        mut definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
    ) -> Result<Answer, SqlError> {
        let (catalogue, views) = (self.host.catalogue(), self.host.views());
        let tag = if definition.materialized { "CREATE MATERIALIZED VIEW" } else { "CREATE VIEW" };
        let name = definition.name.clone();
        self.check_made(&name, or_replace)?;
        if catalogue.contains_key(&name) {
            return Err(HostError::NameTaken { name, what: "stream" }.into());
        }
        let there = views.get(&name);
        if there.is_some() && !or_replace {
            if if_not_exists {
                return Ok(Answer::done(tag));
            }
            return Err(HostError::NameTaken { name, what: "view" }.into());
        }
        self.check_view_reads(&definition.query)?;
        let compiled = self.compiler.compile(&definition, &catalogue, &views)?;
        self.check_view_rows(&compiled.reads)?;
        definition.reads = compiled.reads.clone();
        definition.folds = compiled.maintained.as_ref().map(|part| part.stream.id);
        if let Some(entry) = there {
            let known = self.compiler.compiled(&entry.current, &catalogue, &views)?;
            let is_materialized = entry.current.definition.materialized;
            check_replaced(&definition, &compiled, &known, is_materialized, &views)?;
        }
        let owner = self.caller.owner();
        self.host.create_view(definition, if_not_exists, or_replace, owner).await?;
        Ok(Answer::done(tag))
    }

    async fn drop_view(
        &self,
        name: &str,
        materialized: bool,
        if_exists: bool,
    ) -> Result<Answer, SqlError> {
        self.check_dropped(name, if_exists)?;
        let views = self.host.views();
        match views.get(name) {
            None if self.host.catalogue().contains_key(name) => {
                return Err(SqlError::invalid(format!("\"{name}\" is a stream: use DROP STREAM")));
            }
            None if !if_exists => return Err(unknown(name, &views)),
            None => {}
            Some(entry) if entry.current.definition.materialized && !materialized => {
                return Err(SqlError::invalid(format!(
                    "\"{name}\" is a materialized view: use DROP MATERIALIZED VIEW"
                )));
            }
            Some(entry) if !entry.current.definition.materialized && materialized => {
                return Err(SqlError::invalid(format!(
                    "\"{name}\" is not materialized: use DROP VIEW"
                )));
            }
            Some(_) => {}
        }
        self.host.drop_view(name, if_exists).await?;
        let tag = if materialized { "DROP MATERIALIZED VIEW" } else { "DROP VIEW" };
        Ok(Answer::done(tag))
    }

    async fn change(&self, name: &str, change: ViewChange) -> Result<Answer, SqlError> {
        self.check_owned(name)?;
        let views = self.host.views();
        let Some(entry) = views.get(name) else {
            return Err(unknown(name, &views));
        };
        if entry.current.definition.folds.is_none() {
            return Err(SqlError::invalid(format!(
                "\"{name}\" keeps no state of its own: it is computed when it is read"
            )));
        }
        self.host.change_view(name, change).await?;
        Ok(Answer::done(match change {
            ViewChange::Rebuild => "REBUILD VIEW",
            ViewChange::Resume => "RESUME VIEW",
            ViewChange::Cancel => "CANCEL VIEW",
        }))
    }

    /// A view by its name, compiled.
    pub(crate) fn compiled_view(&self, name: &str) -> Result<Arc<CompiledView>, SqlError> {
        let (catalogue, views) = (self.host.catalogue(), self.host.views());
        match views.get(name) {
            Some(entry) => self.compiler.compiled(&entry.current, &catalogue, &views),
            None => Err(unknown(name, &views)),
        }
    }

    /// The columns of a view, one row each.
    pub(crate) fn describe_view(&self, name: &str) -> Result<RecordBatch, SqlError> {
        let (catalogue, views) = (self.host.catalogue(), self.host.views());
        if !views.contains_key(name) {
            let known = catalogue.keys().chain(views.keys()).map(String::as_str);
            return Err(SqlError::unknown_stream(name, known));
        }
        let compiled = self.compiled_view(name)?;
        let shows = compiled.shows();
        let window = compiled.maintained.as_ref().and_then(|part| part.definition.window);
        let role = |place: usize| {
            let group = shows.get(place).copied().flatten()?;
            let is_window = window.is_some_and(|window| window.group == group);
            Some(if is_window { "window start".into() } else { "group key".into() })
        };
        let roles: Vec<Option<String>> = (0..compiled.schema.fields().len()).map(role).collect();
        system::describe_columns(&compiled.schema, roles)
    }
}

/// Refuses a replacement that readers of the view would notice as something else.
fn check_replaced(
    definition: &ViewDefinition,
    compiled: &CompiledView,
    known: &CompiledView,
    is_materialized: bool,
    views: &ViewCatalogue,
) -> Result<(), SqlError> {
    let name = &definition.name;
    if is_materialized != definition.materialized {
        return Err(SqlError::invalid(format!(
            "\"{name}\" is {}: drop it first",
            if is_materialized { "a materialized view" } else { "a plain view" }
        )));
    }
    let mut below: Vec<&String> = compiled.reads.iter().collect();
    while let Some(read) = below.pop() {
        if read == name {
            return Err(SqlError::invalid(format!("view \"{name}\" would read itself")));
        }
        below.extend(views.get(read).into_iter().flat_map(|entry| &entry.current.definition.reads));
    }
    let columns = |view: &CompiledView| -> Vec<_> {
        let fields = view.schema.fields().iter();
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    if columns(compiled) == columns(known) {
        return Ok(());
    }
    let dependants: Vec<String> = views
        .values()
        .filter(|entry| entry.current.definition.reads.contains(name))
        .map(|entry| entry.current.definition.name.clone())
        .collect();
    if dependants.is_empty() {
        return Ok(());
    }
    Err(SqlError::invalid(format!(
        "the columns of \"{name}\" would change, and {} reads them; drop or replace the views that \
         read it first",
        dependants.join(", ")
    )))
}

fn unknown(name: &str, views: &ViewCatalogue) -> SqlError {
    let hint = nearest::hint(name, views.keys().map(String::as_str));
    SqlError::NotFound { reason: format!("view \"{name}\" does not exist{hint}") }
}

fn explain(compiled: &CompiledView) -> Result<RecordBatch, SqlError> {
    let rows = &compiled.explanation;
    Rows::default()
        .add("operator", text(rows.iter().map(|row| row.operator.clone())))
        .add("how", text(rows.iter().map(|row| row.how.text().into())))
        .add("why", text(rows.iter().map(|row| row.why.clone())))
        .build()
}

fn show(views: &ViewCatalogue, rights: &Rights) -> Result<RecordBatch, SqlError> {
    let seen = || views.iter().filter(move |(name, _)| rights.sees(name)).map(|(_, entry)| entry);
    let definitions = || seen().map(|entry| &entry.current.definition);
    let column =
        |value: &dyn Fn(&ViewDefinition) -> String| -> ArrayRef { text(definitions().map(value)) };
    let maybe = |value: &dyn Fn(&ViewDefinition) -> Option<String>| -> ArrayRef {
        maybe_text(definitions().map(value))
    };
    Rows::default()
        .add("name", column(&|definition| definition.name.clone()))
        .add("materialized", flag(definitions().map(|definition| definition.materialized)))
        .add("reads", column(&|definition| definition.reads.join(", ")))
        .add(
            "retention",
            maybe(&|definition| {
                definition.folds.map(|_| retention_text(definition.options.retention))
            }),
        )
        .add(
            "lateness",
            maybe(&|definition| {
                let lateness = definition.options.lateness;
                (!lateness.is_zero()).then(|| retention_text(Some(lateness)))
            }),
        )
        .add(
            "emit_final_after",
            maybe(&|definition| {
                definition.options.emit_final_after.map(|length| retention_text(Some(length)))
            }),
        )
        .add(
            "on_error",
            maybe(&|definition| {
                definition.folds.map(|_| match definition.options.on_error {
                    OnError::Quarantine => "quarantine".into(),
                    OnError::Park => "park".into(),
                })
            }),
        )
        .add("replacing", flag(seen().map(|entry| entry.next.is_some())))
        .add("created_at", time(seen().map(|entry| Some(entry.current.created_at))))
        .add("query", column(&|definition| definition.query.clone()))
        .build()
}
