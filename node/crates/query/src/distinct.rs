//! `count(DISTINCT x)` beside `GROUP BY`, counted in one flat set for all groups.
//!
//! The engine underneath would group by the group's columns and the value together, which builds a
//! row for each pair out of all columns. Here a logical rule puts a function of ours in its place,
//! under the name that the plan already knows, wherever the value fits 64 bits; without `GROUP BY`,
//! and for text, the engine's own way stays.

use std::sync::Arc;

use alluvium_views::distinct::{DistinctValues, is_supported};
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprSchemable,
    GroupsAccumulator, LogicalPlan, Signature, Volatility,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule; it has to run before the one that turns a distinct value into a group column.
#[derive(Debug)]
pub(crate) struct CountDistinctInGroups {
    function: Arc<AggregateUDF>,
}

impl CountDistinctInGroups {
    pub(crate) fn new() -> CountDistinctInGroups {
        let signature = Signature::any(1, Volatility::Immutable);
        CountDistinctInGroups {
            function: Arc::new(AggregateUDF::from(CountDistinct { signature })),
        }
    }

    fn replaced(&self, expr: &Expr, schema: &dyn ExprSchema) -> Option<Expr> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
            return None;
        };
        let [value] = params.args.as_slice() else {
            return None;
        };
        let is_ours = params.distinct
            && params.order_by.is_empty()
            && *func == count_udaf()
            && is_supported(&value.get_type(schema).ok()?);
        let params = AggregateFunctionParams { distinct: false, ..params.clone() };
        let func = Arc::clone(&self.function);
        is_ours.then_some(Expr::AggregateFunction(AggregateFunction { func, params }))
    }
}

impl OptimizerRule for CountDistinctInGroups {
    fn name(&self) -> &str {
        "count_distinct_in_groups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let groups = &aggregate.group_expr;
        if groups.is_empty() || groups.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
            return Ok(Transformed::no(plan));
        }
        let schema = aggregate.input.schema();
        let replaced: Vec<Option<Expr>> =
            aggregate.aggr_expr.iter().map(|expr| self.replaced(expr, schema.as_ref())).collect();
        if replaced.iter().all(Option::is_none) {
            return Ok(Transformed::no(plan));
        }
        let exprs = replaced.into_iter().zip(&aggregate.aggr_expr);
        let exprs = exprs.map(|(replaced, expr)| replaced.unwrap_or_else(|| expr.clone()));
        let aggregate = Aggregate::try_new_with_schema(
            Arc::clone(&aggregate.input),
            groups.clone(),
            exprs.collect(),
            Arc::clone(&aggregate.schema),
        )?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
    }
}

/// What the rule puts in: called `count`, and printed as what it replaces.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountDistinct {
    signature: Signature,
}

fn distinct(params: &AggregateFunctionParams) -> AggregateFunctionParams {
    AggregateFunctionParams { distinct: true, ..params.clone() }
}

impl AggregateUDFImpl for CountDistinct {
    fn name(&self) -> &str {
        "count"
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        count_udaf().schema_name(&distinct(params))
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        count_udaf().human_display(&distinct(params))
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        count_udaf().display_name(&distinct(params))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        count_udaf().state_fields(StateFieldsArgs { is_distinct: true, ..args })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        count_udaf().accumulator(AccumulatorArgs { is_distinct: true, ..args })
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let value_type = args.expr_fields[0].data_type();
        let values = DistinctValues::new(value_type).ok_or_else(|| {
            DataFusionError::Internal(format!("count distinct values of type {value_type}"))
        })?;
        Ok(Box::new(InGroups { values }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }
}

/// The set, as the engine underneath drives it.
struct InGroups {
    values: DistinctValues,
}

fn first(emit_to: EmitTo) -> Option<usize> {
    match emit_to {
        EmitTo::All => None,
        EmitTo::First(count) => Some(count),
    }
}

impl GroupsAccumulator for InGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        Ok(self.values.update(&values[0], group_indices, opt_filter, total_num_groups)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.values.counts(first(emit_to))))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.values.state(first(emit_to))?)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        Ok(self.values.merge(values[0].as_list::<i32>(), group_indices, total_num_groups)?)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.values.convert(&values[0], opt_filter)?)])
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}
