//! Brings the expressions of an aggregate down to the columns of the stream: what projections
//! below it compute is put in where it is named.

use std::collections::HashMap;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use crate::error::SqlError;

/// Expressions over the columns of a scan.
pub(crate) struct Flat<'a> {
    /// As they were given, in that order.
    pub(crate) exprs: Vec<Expr>,
    /// Of the filters on the way. A row is taken when all are true.
    pub(crate) filters: Vec<Expr>,
    pub(crate) scan: &'a TableScan,
}

/// Brings expressions over the output of `plan` down to its scan. The plan is what
/// [`super::find::scan_below`] takes.
pub(crate) fn flatten(plan: &LogicalPlan, exprs: Vec<Expr>) -> Result<Flat<'_>, SqlError> {
    let mut plan = plan;
    let mut exprs = exprs;
    let mut filters: Vec<Expr> = Vec::new();
    loop {
        let mut meaning = HashMap::new();
        match plan {
            LogicalPlan::Projection(projection) => {
                for (column, expr) in projection.schema.columns().into_iter().zip(&projection.expr)
                {
                    meaning.insert(column, expr.clone().unalias());
                }
                plan = &projection.input;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let below = alias.input.schema().columns();
                for (column, below) in alias.schema.columns().into_iter().zip(below) {
                    meaning.insert(column, Expr::Column(below));
                }
                plan = &alias.input;
            }
            LogicalPlan::Filter(filter) => {
                filters.push(filter.predicate.clone());
                plan = &filter.input;
            }
            LogicalPlan::Sort(sort) => plan = &sort.input,
            LogicalPlan::TableScan(scan) => {
                filters.extend(scan.filters.iter().cloned());
                return Ok(Flat { exprs, filters, scan });
            }
            other => {
                let found = other.display();
                return Err(SqlError::internal(format!("{found} is not in a maintained part")));
            }
        }
        for expr in exprs.iter_mut().chain(&mut filters) {
            *expr = substitute(std::mem::take(expr), &meaning)?;
        }
    }
}

/// Puts in for each column what it means.
pub(crate) fn substitute(expr: Expr, meaning: &HashMap<Column, Expr>) -> Result<Expr, SqlError> {
    if meaning.is_empty() {
        return Ok(expr);
    }
    // From below, so that what was put in is not looked at again.
    let substituted = expr.transform_up(|expr| match &expr {
        Expr::Column(column) => match meaning.get(column) {
            Some(meant) => Ok(Transformed::yes(meant.clone())),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(substituted.data)
}
