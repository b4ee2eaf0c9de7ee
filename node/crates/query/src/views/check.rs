//! What a materialized view may not compute: anything that does not follow from the events alone.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::error::SqlError;

/// Refuses functions whose values change from one moment to the next, anywhere in a plan.
pub(crate) fn deterministic(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut volatile = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                volatile = volatile_name(expr);
                Ok(if volatile.is_some() {
                    TreeNodeRecursion::Stop
                } else {
                    TreeNodeRecursion::Continue
                })
            })
        })
    })?;
    match volatile {
        None => Ok(()),
        Some(name) => Err(SqlError::unsupported(format!(
            "{name}() gives another value each time, so a view that uses it could not be computed \
             again: {}",
            instead(&name)
        ))),
    }
}

/// Refuses the same functions in an expression that stands by itself.
pub(crate) fn deterministic_expression(expr: &Expr) -> Result<(), SqlError> {
    let mut volatile = None;
    expr.apply(|expr| {
        volatile = volatile_name(expr);
        Ok(if volatile.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match volatile {
        None => Ok(()),
        Some(name) => Err(SqlError::unsupported(format!(
            "{name}() gives another value each time, so a row that does not change could fulfil the \
             condition at one time and not at another"
        ))),
    }
}

fn volatile_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::ScalarFunction(function) => match function.func.signature().volatility {
            Volatility::Immutable => None,
            Volatility::Stable | Volatility::Volatile => Some(function.func.name().into()),
        },
        _ => None,
    }
}

fn instead(name: &str) -> &'static str {
    match name {
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" => {
            "time enters a view through its events only. Compare with the clock where you read the \
             view (SELECT … FROM v WHERE … now()), or in a CREATE VIEW over it"
        }
        "random" | "uuid" => "let the producer write the value into the event",
        _ => "use it where you read the view, or in a CREATE VIEW over it",
    }
}

/// Refuses, in the maintained part, expressions that read more than the event they are about.
pub(crate) fn about_one_event<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
) -> Result<(), SqlError> {
    for expr in exprs {
        let subquery = expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })?;
        if subquery {
            return Err(SqlError::unsupported(
                "a subquery below the aggregate would have to be asked for each event as it comes: \
                 aggregate the events in a materialized view and ask the subquery where you read \
                 it",
            ));
        }
    }
    Ok(())
}
