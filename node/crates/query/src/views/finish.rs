//! The finishing part of a view over rows of its groups, without a plan: for lookups and
//! subscriptions.

use std::collections::HashMap;

use alluvium_views::fold::Evaluate;
use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::SqlError;
use crate::output;
use crate::views::check;
use crate::views::flatten::flatten;
use crate::views::maintain::{Physical, unqualified};
use crate::views::placeholder::{StandsFor, stands_for};

/// Projections and filters over one group at a time.
#[derive(Debug)]
pub(crate) struct RowWise {
    filter: Option<Physical>,
    columns: Vec<Physical>,
    /// The output, in the engine's types and as it leaves.
    schema: SchemaRef,
    plain: SchemaRef,
    /// For each output column, the column of the groups that it shows unchanged.
    pub(crate) shows: Vec<Option<usize>>,
}

impl RowWise {
    /// `None`: the part needs more than one group at a time.
    pub(crate) fn of(
        state: &SessionState,
        plan: &LogicalPlan,
        groups: &SchemaRef,
    ) -> Result<Option<RowWise>, SqlError> {
        if !is_row_wise(plan) {
            return Ok(None);
        }
        let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let flat = flatten(plan, columns)?;
        let schema = DFSchema::try_from(SchemaRef::clone(groups))?;
        let places: HashMap<&str, usize> = (0..)
            .zip(groups.fields())
            .map(|(place, field)| (field.name().as_str(), place))
            .collect();
        let mut columns = Vec::new();
        let mut shows = Vec::new();
        for expr in flat.exprs {
            let expr = unqualified(expr)?.unalias();
            shows.push(match &expr {
                Expr::Column(column) => places.get(column.name.as_str()).copied(),
                _ => None,
            });
            columns.push(Physical::new(state, expr, &schema)?);
        }
        let filters = flat.filters.into_iter().map(unqualified).collect::<Result<Vec<_>, _>>()?;
        let filter = conjunction(filters).map(|filter| Physical::new(state, filter, &schema));
        let schema = SchemaRef::new(plan.schema().as_arrow().clone());
        let plain = output::plain_schema(&schema);
        Ok(Some(RowWise { filter: filter.transpose()?, columns, schema, plain, shows }))
    }

    /// The rows of the view for these groups; groups that its filters leave out give none.
    pub(crate) fn run(&self, groups: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let failed = |error: &dyn std::fmt::Display| SqlError::invalid(error.to_string());
        let mut kept = groups.clone();
        if let Some(filter) = &self.filter {
            let mask = filter.evaluate(groups).map_err(|error| failed(&error))?;
            kept = filter_record_batch(groups, mask.as_boolean())
                .map_err(|error| SqlError::internal(error.to_string()))?;
        }
        let columns = self.columns.iter().map(|column| column.evaluate(&kept));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| SqlError::internal(format!("finish rows of a view: {error}")))?;
        output::plain_batch(&self.plain, rows)
    }
}

fn is_row_wise(mut plan: &LogicalPlan) -> bool {
    loop {
        if check::about_one_event(&plan.expressions()).is_err() {
            return false;
        }
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::TableScan(scan) => {
                return matches!(stands_for(scan), Some((StandsFor::Groups, _)));
            }
            _ => return false,
        };
    }
}
