//! Aggregates before a join instead of after it, where that is the same and cheaper.
//!
//! Events joined with a small table and grouped by that table's columns need not be joined one by
//! one: they are aggregated by the join's key first, the few partial results are joined, and those
//! are aggregated on. A match that repeats a partial result repeats what repeating its rows would
//! have given, so the answer is the same.
//!
//! It pays when the keys are few. The rule therefore asks that the other side is much smaller, and
//! that its bounds hold all keys of the events, as those of a table that is referred to do. Where
//! the keys turn out to be many in spite of it, the engine stops aggregating early by itself.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{ColumnStatistics, JoinType};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// How many times more rows the side of the events must have.
const ROWS_RATIO_MIN: usize = 8;

/// Functions whose partial results may be repeated and merged in any order.
const FUNCTIONS: [&str; 5] = ["count", "sum", "min", "max", "avg"];

/// See the module.
#[derive(Debug)]
pub(crate) struct AggregateBeforeJoin;

impl PhysicalOptimizerRule for AggregateBeforeJoin {
    fn name(&self) -> &str {
        "AggregateBeforeJoin"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            let aggregate = plan.downcast_ref::<AggregateExec>();
            match aggregate.map(before_join).transpose()?.flatten() {
                Some(changed) => Ok(Transformed::yes(changed)),
                None => Ok(Transformed::no(plan)),
            }
        })
        .data()
    }
}

fn before_join(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(join) = aggregate.input().downcast_ref::<HashJoinExec>() else {
        return Ok(None);
    };
    let fits = *aggregate.mode() == AggregateMode::Partial
        && aggregate.limit_options().is_none()
        && aggregate.group_expr().is_single()
        && !aggregate.group_expr().is_empty()
        && *join.join_type() == JoinType::Inner
        && *join.partition_mode() == PartitionMode::CollectLeft
        && join.filter().is_none()
        && join.fetch().is_none();
    if !fits {
        return Ok(None);
    }
    let Some(sides) = Sides::of(join) else {
        return Ok(None);
    };
    let Some(groups) = sides.groups(aggregate.group_expr()) else {
        return Ok(None);
    };
    let Some((functions, filters)) = sides.functions(aggregate)? else {
        return Ok(None);
    };
    if !sides.keys_are_few(join)? {
        return Ok(None);
    }
    let early = sides.early(join, functions, filters)?;
    let joined = sides.join(join, early, &groups)?;
    let schema = joined.schema();
    let groups = aggregate.group_expr().expr().iter().enumerate();
    let groups = groups.map(|(place, (_, alias))| (column(&schema, place), alias.clone()));
    let functions = aggregate.aggr_expr().to_vec();
    let filters = vec![None; functions.len()];
    let reduced = AggregateExec::try_new(
        AggregateMode::PartialReduce,
        PhysicalGroupBy::new_single(groups.collect()),
        functions,
        filters,
        joined,
        aggregate.input_schema(),
    )?;
    Ok(Some(Arc::new(reduced)))
}

fn column(schema: &Schema, place: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(place).name(), place))
}

/// Where the columns of a join come from.
struct Sides {
    left_len: usize,
    /// Places in the join of all columns, by place in what it gives out.
    shown: Vec<usize>,
    /// For each pair of keys the left column's place and that of the right one in `keys`.
    on: Vec<(usize, usize)>,
    /// Right columns that are keys, each once.
    keys: Vec<usize>,
}

impl Sides {
    fn of(join: &HashJoinExec) -> Option<Sides> {
        let left_len = join.left().schema().fields().len();
        let all = left_len + join.right().schema().fields().len();
        let shown = match join.projection.as_deref() {
            Some(places) => places.to_vec(),
            None => (0..all).collect(),
        };
        let mut sides = Sides { left_len, shown, on: Vec::new(), keys: Vec::new() };
        for (left, right) in join.on() {
            let left = left.downcast_ref::<Column>()?.index();
            let right = right.downcast_ref::<Column>()?.index();
            let known = sides.keys.iter().position(|key| *key == right);
            let place = known.unwrap_or(sides.keys.len());
            if known.is_none() {
                sides.keys.push(right);
            }
            sides.on.push((left, place));
        }
        Some(sides)
    }

    /// Where the group columns are once the right side is aggregated by its keys: columns of the
    /// left side, or keys. `None` where one is something else.
    fn groups(&self, groups: &PhysicalGroupBy) -> Option<Vec<usize>> {
        let place = |expr: &Arc<dyn PhysicalExpr>| {
            let place = self.shown[expr.downcast_ref::<Column>()?.index()];
            match place.checked_sub(self.left_len) {
                None => Some(place),
                Some(right) => {
                    let key = self.keys.iter().position(|key| *key == right)?;
                    Some(self.left_len + key)
                }
            }
        };
        groups.expr().iter().map(|(expr, _)| place(expr)).collect()
    }

    /// The functions and their filters over the right side alone; `None` where one needs more.
    fn functions(&self, aggregate: &AggregateExec) -> Result<Option<Functions>> {
        let mut functions = Vec::new();
        let mut filters = Vec::new();
        for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
            let fits = FUNCTIONS.contains(&function.fun().name())
                && !function.is_distinct()
                && function.order_bys().is_empty();
            let args = function.expressions();
            let all_right = args.iter().chain(filter).all(|expr| self.is_right(expr));
            if !fits || !all_right {
                return Ok(None);
            }
            let args = args.into_iter().map(|arg| self.to_right(arg)).collect::<Result<_>>()?;
            let Some(function) = function.with_new_expressions(args, Vec::new()) else {
                return Ok(None);
            };
            functions.push(Arc::new(function));
            filters.push(filter.clone().map(|filter| self.to_right(filter)).transpose()?);
        }
        Ok(Some((functions, filters)))
    }

    fn is_right(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        collect_columns(expr).iter().all(|column| self.left_len <= self.shown[column.index()])
    }

    fn to_right(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            let place = self.shown[column.index()] - self.left_len;
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), place))))
        })
        .data()
    }

    /// Whether what is known of both sides makes few keys likely.
    fn keys_are_few(&self, join: &HashJoinExec) -> Result<bool> {
        let (context, args) = (StatisticsContext::new(), StatisticsArgs::new());
        let left = context.compute(join.left().as_ref(), &args)?;
        let right = context.compute(join.right().as_ref(), &args)?;
        let rows = left.num_rows.get_value().zip(right.num_rows.get_value());
        let Some((left_rows, right_rows)) = rows else {
            return Ok(false);
        };
        let much_smaller = left_rows.saturating_mul(ROWS_RATIO_MIN) <= *right_rows;
        let holds_all = self.on.iter().all(|&(left_place, key)| {
            let left = left.column_statistics.get(left_place);
            let right = right.column_statistics.get(self.keys[key]);
            left.zip(right).is_some_and(|(left, right)| holds(left, right))
        });
        Ok(much_smaller && holds_all)
    }

    /// The right side, aggregated by its keys.
    fn early(
        &self,
        join: &HashJoinExec,
        functions: Vec<Arc<AggregateFunctionExpr>>,
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = join.right().schema();
        let keys = self.keys.iter();
        let keys = keys.map(|&key| (column(&schema, key), schema.field(key).name().clone()));
        let early = AggregateExec::try_new(
            AggregateMode::Partial,
            PhysicalGroupBy::new_single(keys.collect()),
            functions,
            filters,
            Arc::clone(join.right()),
            schema,
        )?;
        Ok(Arc::new(early))
    }

    /// The join of what was aggregated: the group columns, then the partial results.
    fn join(
        &self,
        join: &HashJoinExec,
        early: Arc<dyn ExecutionPlan>,
        groups: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (left_schema, right_schema) = (join.left().schema(), early.schema());
        let on = self.on.iter();
        let on = on.map(|&(left, key)| (column(&left_schema, left), column(&right_schema, key)));
        let states = self.keys.len()..right_schema.fields().len();
        let shown = groups.iter().copied().chain(states.map(|place| self.left_len + place));
        let (on, shown) = (on.collect(), shown.collect());
        HashJoinExecBuilder::new(Arc::clone(join.left()), early, on, JoinType::Inner)
            .with_partition_mode(PartitionMode::CollectLeft)
            .with_null_equality(join.null_equality())
            .with_projection(Some(shown))
            .build_exec()
    }
}

type Functions = (Vec<Arc<AggregateFunctionExpr>>, Vec<Option<Arc<dyn PhysicalExpr>>>);

/// Whether every value of `inner` lies within the bounds of `outer`.
fn holds(outer: &ColumnStatistics, inner: &ColumnStatistics) -> bool {
    let low = outer.min_value.get_value().zip(inner.min_value.get_value());
    let high = outer.max_value.get_value().zip(inner.max_value.get_value());
    low.is_some_and(|(outer, inner)| outer <= inner)
        && high.is_some_and(|(outer, inner)| inner <= outer)
}
