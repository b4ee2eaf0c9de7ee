//! Puts the tables of one statement into the plans of the views it names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::stream::Frontier;
use alluvium_core::view::View;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{TableType, provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::SqlError;
use crate::views::compile::{CompiledView, arrow_schema};
use crate::views::groups::GroupsTable;
use crate::views::placeholder::{StandsFor, stands_for};

/// A view that a statement names, or that such a view reads.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) view: Arc<View>,
    pub(crate) compiled: Arc<CompiledView>,
}

/// A view as a table: its plan is put in where it is named.
#[derive(Debug)]
pub(crate) struct ViewTable {
    plan: LogicalPlan,
    schema: SchemaRef,
    query: String,
}

impl ViewTable {
    /// `plan` may be one over placeholders when the table is only listed.
    pub(crate) fn new(view: &View, plan: LogicalPlan) -> ViewTable {
        let schema = arrow_schema(plan.schema());
        ViewTable { plan, schema, query: view.definition.query.clone() }
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.query)
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(SqlError::internal("a view was scanned before its plan was put in").into())
    }
}

/// Finds the table of a stream by its name and the columns that are wanted of it.
pub(crate) type FindStream<'a> =
    dyn Fn(&str, &SchemaRef) -> Result<Arc<dyn TableProvider>, SqlError> + 'a;

/// The tables of one statement.
pub(crate) struct Tables<'a> {
    /// A stream, with or without its hidden columns.
    pub(crate) stream: &'a FindStream<'a>,
    /// The plans of views, those below before those above.
    pub(crate) plans: &'a BTreeMap<String, LogicalPlan>,
    /// The groups of the view whose plan it is.
    pub(crate) groups: Option<&'a Arc<GroupsTable>>,
}

/// The plan of a view over the tables of a statement.
pub(crate) fn expand(plan: &LogicalPlan, tables: &Tables<'_>) -> Result<LogicalPlan, SqlError> {
    let expanded = plan.clone().transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else {
            return Ok(Transformed::no(node));
        };
        match stands_for(scan) {
            None => Ok(Transformed::no(node)),
            Some((place, schema)) => Ok(Transformed::yes(put_in(scan, place, &schema, tables)?)),
        }
    })?;
    Ok(expanded.data)
}

fn put_in(
    scan: &TableScan,
    place: StandsFor,
    schema: &SchemaRef,
    tables: &Tables<'_>,
) -> Result<LogicalPlan, DataFusionError> {
    let table: Arc<dyn TableProvider> = match place {
        StandsFor::View(name) => {
            let plan = tables.plans.get(&name).cloned();
            let plan = plan.ok_or_else(|| {
                SqlError::internal(format!("view \"{name}\" was not put in before those above it"))
            })?;
            return LogicalPlanBuilder::from(plan).alias(scan.table_name.clone())?.build();
        }
        StandsFor::Stream(stream) => (tables.stream)(&stream.definition.name, schema)?,
        StandsFor::Groups => {
            let groups = tables.groups.map(Arc::clone);
            groups.ok_or_else(|| SqlError::internal("a view has no groups to be read"))?
        }
    };
    Ok(LogicalPlan::TableScan(TableScan { source: provider_as_source(table), ..scan.clone() }))
}

/// Tells each table of groups how often an optimized plan reads it.
pub(crate) fn count_mentions(plan: &LogicalPlan) -> Result<(), SqlError> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(groups) = provider.downcast_ref::<GroupsTable>()
        {
            groups.mention();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Adds what was read of a stream through a view. Of a stream that was read in two ways, the answer
/// holds all events before the smaller offset.
pub(crate) fn add_as_of(as_of: &mut Vec<(String, Frontier)>, stream: String, frontier: Frontier) {
    let Some((_, there)) = as_of.iter_mut().find(|(name, _)| *name == stream) else {
        as_of.push((stream, frontier));
        return;
    };
    for (partition, offset) in frontier.0 {
        there.0.entry(partition).and_modify(|known| *known = offset.min(*known)).or_insert(offset);
    }
}
