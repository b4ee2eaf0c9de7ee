//! The groups of a view as a table of one statement.
//!
//! Read when the statement is planned, since only then the keys it asks for are known; at most
//! once, so that a statement which names a view twice sees one state of it. What was read is not
//! part of the plan but of its run ([`super::kept`]), so that a plan can be run again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_core::stream::Frontier;
use alluvium_core::view::View;
use alluvium_views::fold::Selection;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;

use crate::error::SqlError;
use crate::host::{Freshness, Host, ViewRead};
use crate::views::compile::Maintained;
use crate::views::keys;
use crate::views::scan::GroupsExec;

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupsTable {
    host: Arc<dyn Host>,
    view: Arc<View>,
    maintained: Maintained,
    schema: SchemaRef,
    freshness: Freshness,
    /// How often the plan of the statement reads it.
    mentions: AtomicUsize,
    read: OnceCell<(Selection, ViewRead)>,
}

impl GroupsTable {
    pub(crate) fn new(
        host: Arc<dyn Host>,
        view: Arc<View>,
        maintained: Maintained,
        freshness: Freshness,
    ) -> GroupsTable {
        GroupsTable {
            host,
            view,
            schema: maintained.definition.group_schema(),
            maintained,
            freshness,
            mentions: AtomicUsize::new(0),
            read: OnceCell::new(),
        }
    }

    /// One more scan of it is in the plan.
    pub(crate) fn mention(&self) {
        self.mentions.fetch_add(1, Ordering::Relaxed);
    }

    /// The stream, and what of it was read; `None`: it was not read.
    pub(crate) fn as_of(&self) -> Option<(String, Frontier)> {
        let (_, read) = self.read.get()?;
        Some((self.stream().into(), read.frontier.clone()))
    }

    /// The stream whose events it has.
    pub(crate) fn stream(&self) -> &str {
        &self.maintained.stream.definition.name
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// What of it was asked for, and the rows.
    pub(crate) fn found(&self) -> Option<(&Selection, &Vec<RecordBatch>)> {
        self.read.get().map(|(selection, read)| (selection, &read.batches))
    }

    async fn read(&self, selection: Selection) -> Result<&ViewRead, SqlError> {
        let read = self.read.get_or_try_init(|| async {
            let read = self.host.read_view(&self.view, &self.freshness, &selection).await?;
            Ok::<_, SqlError>((selection, read))
        });
        Ok(&read.await?.1)
    }
}

#[async_trait]
impl TableProvider for GroupsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    // Inexact: conditions narrow what is read, and a filter above decides each group.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.mentions.load(Ordering::Relaxed) == 1 {
            let definition = &self.maintained.definition;
            let conditions = keys::asked(definition, filters);
            let places = keys::places(definition, projection);
            let selection = Selection::new(definition, &conditions);
            let selection = selection.map_err(|error| SqlError::internal(error.to_string()))?;
            let selection = selection.with_columns(places.clone());
            let read = self.read(selection.clone()).await?;
            if self.found().is_none_or(|(found, _)| *found != selection) {
                return Err(SqlError::internal("a view was read for another place").into());
            }
            let rows = read.batches.iter().map(RecordBatch::num_rows).sum();
            let schema = Arc::new(self.schema.project(&places)?);
            return Ok(Arc::new(GroupsExec::new(self.view.id, schema, rows)));
        }
        // Conditions are of one place in the plan; what is read serves all of them.
        let read = self.read(Selection::all()).await?;
        let source = MemorySourceConfig::try_new(
            std::slice::from_ref(&read.batches),
            Arc::clone(&self.schema),
            projection.cloned(),
        )?;
        let source = source.with_show_sizes(false).with_limit(limit);
        Ok(DataSourceExec::from_data_source(source))
    }
}
