//! One such function, as the engine sees it.

use std::sync::Arc;

use alluvium_views::aggregate::AggregateCall;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, GroupsAccumulator,
    Signature, Volatility,
};
use datafusion::physical_plan::PhysicalExpr;

use super::accumulate::{Groups, One};
use super::meaning::{any_meaning, coerce, meaning};

/// A function whose states are ours.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Maintained {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    /// The function that was there.
    plain: Option<Arc<AggregateUDF>>,
}

impl Maintained {
    pub fn new(name: &'static str, plain: Option<Arc<AggregateUDF>>) -> Maintained {
        let aliases: Vec<String> = match (&plain, name) {
            (Some(plain), _) => plain.aliases().to_vec(),
            (None, "arg_min") => vec!["min_by".into()],
            (None, "arg_max") => vec!["max_by".into()],
            (None, "top_k") => vec!["approx_top_k".into(), "frequent_items".into()],
            (None, _) => Vec::new(),
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        Maintained { name, aliases, signature, plain }
    }

    fn call(&self, args: &AccumulatorArgs<'_>) -> Result<(AggregateCall, usize)> {
        let constant = |place: usize| {
            let constant = args.exprs.get(place).and_then(constant)?;
            // The share of a descending order is counted from the other end.
            let is_descending = args.order_bys.first().is_some_and(|by| by.options.descending);
            match constant {
                ScalarValue::Float64(Some(share))
                    if is_descending && self.supports_within_group_clause() =>
                {
                    Some(ScalarValue::Float64(Some(1.0 - share)))
                }
                other => Some(other),
            }
        };
        let Some(meaning) = meaning(self.name, &constant, args.exprs.len())? else {
            return plan_err!("{} is not one of these aggregates", self.name);
        };
        let types = args.expr_fields.iter().take(meaning.values);
        let call = AggregateCall {
            aggregate: meaning.aggregate,
            distinct: args.is_distinct,
            arguments: types.map(|field| field.data_type().clone()).collect(),
            input: meaning.input,
            output: meaning.output,
            output_type: args.return_type().clone(),
        };
        Ok((call, meaning.values))
    }
}

/// What the expression is in every row; `None` where that depends on the row.
fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match expr.evaluate(&nothing).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

impl AggregateUDFImpl for Maintained {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(self.name, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match any_meaning(self.name, types.len())?.output_type(types) {
            Some(data_type) => Ok(data_type),
            None => plan_err!("{} has no value over such arguments", self.name),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (call, values) = self.call(&args)?;
        Ok(Box::new(One::new(&call, values)?))
    }

    /// Of frames that lose rows at their start: there the states of views are of no use.
    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        match &self.plain {
            Some(plain) if !self.name.starts_with("approx") => {
                plain.create_sliding_accumulator(args)
            }
            Some(_) | None => self.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "state");
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, true))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let (call, values) = self.call(&args)?;
        Ok(Box::new(Groups::new(call, values)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_within_group_clause(&self) -> bool {
        self.name == "approx_percentile_cont"
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match &self.plain {
            Some(plain) => plain.default_value(data_type),
            None => ScalarValue::try_from(data_type),
        }
    }

    fn is_nullable(&self) -> bool {
        self.plain.as_ref().is_none_or(|plain| plain.is_nullable())
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.plain.as_ref().and_then(|plain| plain.documentation())
    }
}

/// An error of the states, as the engine's.
pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}
