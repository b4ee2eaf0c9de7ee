//! Which part of a query can be maintained.
//!
//! It is the one aggregate whose rows come straight from the events of a stream: through filters
//! and projections only. What stands above it is computed when the view is read. A query that reads
//! events in any other way is refused, with what to do instead.

use alluvium_core::stream::Stream;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, TableScan};

use crate::error::SqlError;
use crate::views::maintain::text;
use crate::views::placeholder::stream_of;

/// What between an aggregate and the events keeps it from being maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Join,
    WindowFunction,
    Limit,
    Union,
    Unnest,
    DistinctOn,
    Recursion,
    Other,
}

impl Obstacle {
    fn of(plan: &LogicalPlan) -> Option<Obstacle> {
        match plan {
            LogicalPlan::Join(_) => Some(Obstacle::Join),
            LogicalPlan::Window(_) => Some(Obstacle::WindowFunction),
            LogicalPlan::Limit(_) => Some(Obstacle::Limit),
            LogicalPlan::Union(_) => Some(Obstacle::Union),
            LogicalPlan::Unnest(_) => Some(Obstacle::Unnest),
            LogicalPlan::Distinct(Distinct::On(_)) => Some(Obstacle::DistinctOn),
            LogicalPlan::RecursiveQuery(_) => Some(Obstacle::Recursion),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::TableScan(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Values(_) => None,
            LogicalPlan::Repartition(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => Some(Obstacle::Other),
        }
    }

    /// Why it is one.
    fn reason(self) -> &'static str {
        match self {
            Obstacle::Join => {
                "joins events with something else, and joins below an aggregate are not \
                 maintained: aggregate the events in a materialized view of its own and join the \
                 view"
            }
            Obstacle::WindowFunction => {
                "runs a window function over events, and any later event may change all of its \
                 rows: aggregate first and rank the groups, or use session(ts, gap) for sessions"
            }
            Obstacle::Limit => {
                "takes a LIMIT of events, and which events those are is not determined: put the \
                 LIMIT above the aggregate"
            }
            Obstacle::Union => {
                "puts together the events of several queries: aggregate each in a materialized \
                 view of its own and read their UNION"
            }
            Obstacle::Unnest => "unnests lists of events, which is not maintained yet",
            Obstacle::DistinctOn => {
                "takes DISTINCT ON over events: use first_value or last_value with an ORDER BY, \
                 GROUP BY the same columns"
            }
            Obstacle::Recursion => "reads events in a recursive query, which is not maintained",
            Obstacle::Other => "reads events in a way that is not maintained",
        }
    }
}

/// The maintainable part of an analyzed plan: an [`LogicalPlan::Aggregate`], or a `DISTINCT` that
/// is one. `None`: it reads no events.
pub(crate) fn maintainable(plan: &LogicalPlan) -> Result<Option<LogicalPlan>, SqlError> {
    let mut found = Found::default();
    walk(plan, None, &mut found)?;
    let mut parts = found.parts;
    match (parts.pop(), parts.as_slice(), found.raw) {
        (Some(_), _, Some((stream, _))) => Err(beside(&stream)),
        (None, _, Some((stream, obstacle))) => Err(without_aggregate(&stream, obstacle)),
        (None, _, None) => Ok(None),
        (Some(only), [], None) => Ok(Some(only)),
        (Some(last), others, None) => Err(several(&last, others)),
    }
}

#[derive(Default)]
struct Found {
    parts: Vec<LogicalPlan>,
    /// A stream that is read otherwise, and what stands above it.
    raw: Option<(String, Option<Obstacle>)>,
}

impl Found {
    /// One that stands in several places, as a WITH does, is maintained once.
    fn add(&mut self, part: &LogicalPlan) {
        if !self.parts.contains(part) {
            self.parts.push(part.clone());
        }
    }
}

fn walk(plan: &LogicalPlan, obstacle: Option<Obstacle>, found: &mut Found) -> Result<(), SqlError> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            if let Some(stream) = stream_of(scan) {
                found.raw.get_or_insert((stream.definition.name.clone(), obstacle));
            }
        }
        LogicalPlan::Aggregate(aggregate) if scan_below(&aggregate.input).is_some() => {
            found.add(plan);
            return Ok(());
        }
        LogicalPlan::Distinct(Distinct::All(input)) if scan_below(input).is_some() => {
            found.add(plan);
            return Ok(());
        }
        _ => {}
    }
    let below = Obstacle::of(plan).or(obstacle);
    for input in plan.inputs() {
        walk(input, below, found)?;
    }
    let mut result = Ok(());
    plan.apply_subqueries(|subquery| {
        result = walk(subquery, below, found);
        Ok(if result.is_ok() { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Stop })
    })?;
    result
}

/// The scan of a stream at the end of a chain of filters and projections.
pub(crate) fn scan_below(mut plan: &LogicalPlan) -> Option<&TableScan> {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
            LogicalPlan::TableScan(scan) if stream_of(scan).is_some() => return Some(scan),
            _ => return None,
        };
    }
}

fn without_aggregate(stream: &str, obstacle: Option<Obstacle>) -> SqlError {
    let reason = match obstacle {
        Some(obstacle) => format!("this query {}", obstacle.reason()),
        None => "this query keeps no aggregate: a materialized view maintains GROUP BY, or SELECT \
                 DISTINCT, over the events of one stream"
            .into(),
    };
    SqlError::unsupported(format!(
        "nothing of this query over stream \"{stream}\" can be maintained: {reason}; or CREATE \
         VIEW (without MATERIALIZED), which computes it from the events at each read"
    ))
}

fn beside(stream: &str) -> SqlError {
    SqlError::unsupported(format!(
        "beside the aggregate that can be maintained, this query reads the events of stream \
         \"{stream}\" themselves: put the aggregate into a materialized view of its own, and \
         join it with the events in a CREATE VIEW (without MATERIALIZED)"
    ))
}

fn several(last: &LogicalPlan, others: &[LogicalPlan]) -> SqlError {
    let all: Vec<String> = others.iter().chain([last]).map(named).collect();
    SqlError::unsupported(format!(
        "one view maintains one aggregate, and this query has {}: {}; create a materialized view \
         for each, and this query over those views",
        all.len(),
        all.join(" and ")
    ))
}

/// A part as a person would find it in the text.
fn named(part: &LogicalPlan) -> String {
    let list = |exprs: &[Expr]| {
        let names: Vec<String> = exprs.iter().map(text).collect();
        names.join(", ")
    };
    let stream = |input: &LogicalPlan| {
        let stream = scan_below(input).and_then(stream_of);
        stream.map_or_else(String::new, |stream: std::sync::Arc<Stream>| {
            stream.definition.name.clone()
        })
    };
    match part {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            format!("[{} of \"{}\"]", list(&aggregate.aggr_expr), stream(&aggregate.input))
        }
        LogicalPlan::Aggregate(aggregate) => format!(
            "[{} of \"{}\" GROUP BY {}]",
            list(&aggregate.aggr_expr),
            stream(&aggregate.input),
            list(&aggregate.group_expr)
        ),
        LogicalPlan::Distinct(distinct) => {
            format!("[SELECT DISTINCT of \"{}\"]", stream(distinct.input()))
        }
        other => other.display().to_string(),
    }
}

/// Puts `groups` wherever `part` stands.
pub(crate) fn replace(
    plan: LogicalPlan,
    part: &LogicalPlan,
    groups: &LogicalPlan,
) -> Result<LogicalPlan, SqlError> {
    let replaced = plan.transform_down_with_subqueries(|node| {
        if node == *part {
            return Ok(Transformed::new(groups.clone(), true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(replaced.data)
}
