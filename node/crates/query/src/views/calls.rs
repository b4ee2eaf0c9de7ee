//! From an aggregate function of a plan to the one that is maintained, or why there is none.

use alluvium_views::aggregate::{Aggregate, AggregateCall, Form, Order};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};

use crate::aggregates;
use crate::error::SqlError;

/// A call, and the expressions that are its arguments.
pub(crate) struct Call {
    pub(crate) call: AggregateCall,
    pub(crate) arguments: Vec<Expr>,
}

/// The maintained form of an aggregate function. `type_of` tells the type of an argument.
pub(crate) fn call_of(
    function: &AggregateFunction,
    output_type: &DataType,
    type_of: &dyn Fn(&Expr) -> Result<DataType, SqlError>,
) -> Result<Call, SqlError> {
    let params = &function.params;
    let name = function.func.name();
    let mut arguments = params.args.clone();
    let (mut input, mut output) = (Form::Values, Form::Values);
    let meaning = aggregates::meaning(name, &|place| constant(params, place), arguments.len())?;
    let aggregate = match name {
        "count" => {
            if arguments
                .iter()
                .all(|argument| matches!(argument, Expr::Literal(value, _) if !value.is_null()))
            {
                arguments.clear();
            }
            Aggregate::Count
        }
        "first_value" | "last_value" => {
            if params.order_by.is_empty() {
                return Err(SqlError::unsupported(format!(
                    "{name} without an order depends on the order in which events came: write \
                     {name}(x ORDER BY …), with columns that tell all events apart"
                )));
            }
            arguments.extend(params.order_by.iter().map(|sort| sort.expr.clone()));
            let orders = params.order_by.iter();
            let orders = orders
                .map(|sort| Order { descending: !sort.asc, nulls_first: sort.nulls_first })
                .collect();
            let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
            match name {
                "first_value" => Aggregate::First { orders, ignore_nulls },
                _ => Aggregate::Last { orders, ignore_nulls },
            }
        }
        _ => match meaning {
            Some(meaning) => {
                arguments.truncate(meaning.values);
                (input, output) = (meaning.input, meaning.output);
                meaning.aggregate
            }
            None => plain(name).ok_or_else(|| refusal(name))?,
        },
    };
    let is_ordered = matches!(
        aggregate,
        Aggregate::First { .. } | Aggregate::Last { .. } | Aggregate::ApproxQuantile { .. }
    );
    if !is_ordered && !params.order_by.is_empty() {
        return Err(SqlError::unsupported(format!(
            "{name} does not depend on an order in a view: leave out its ORDER BY"
        )));
    }
    let types = arguments.iter().map(type_of).collect::<Result<Vec<_>, _>>()?;
    let call = AggregateCall {
        aggregate,
        distinct: params.distinct,
        arguments: types,
        input,
        output,
        output_type: output_type.clone(),
    };
    call.states().map_err(|error| SqlError::unsupported(error.to_string()))?;
    Ok(Call { call, arguments })
}

/// An argument that is the same for all rows.
fn constant(params: &AggregateFunctionParams, place: usize) -> Option<ScalarValue> {
    let value = match params.args.get(place)? {
        Expr::Literal(value, _) => value.clone(),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).ok()?,
            _ => return None,
        },
        _ => return None,
    };
    // The share of a descending order is counted from the other end.
    match (value, params.order_by.first()) {
        (ScalarValue::Float64(Some(share)), Some(sort)) if !sort.asc => {
            Some(ScalarValue::Float64(Some(1.0 - share)))
        }
        (value, _) => Some(value),
    }
}

/// Those of the engine itself.
fn plain(name: &str) -> Option<Aggregate> {
    Some(match name {
        "sum" => Aggregate::Sum,
        "avg" | "mean" => Aggregate::Avg,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "bool_and" => Aggregate::BoolAnd,
        "bool_or" => Aggregate::BoolOr,
        "bit_and" => Aggregate::BitAnd,
        "bit_or" => Aggregate::BitOr,
        "bit_xor" => Aggregate::BitXor,
        _ => return None,
    })
}

/// Why an aggregate is not maintained, and the one to use in its place.
fn refusal(name: &str) -> SqlError {
    SqlError::unsupported(match name {
        "array_agg" | "string_agg" | "listagg" | "group_concat" => format!(
            "{name} keeps every value, so its state has no bound: keep the first and last with \
             first_value and last_value, the most frequent with approx_top_k, or how many there \
             are with count(DISTINCT …) or approx_distinct"
        ),
        "median" => {
            "median keeps every value, so its state has no bound: use approx_median, whose \
                     relative error is bounded"
                .into()
        }
        "percentile_cont" | "quantile_cont" => format!(
            "{name} keeps every value, so its state has no bound: use approx_percentile_cont, \
             whose relative error is bounded"
        ),
        "nth_value" => "nth_value keeps all values up to the nth in order: use first_value or \
                        last_value"
            .into(),
        "grouping" => "GROUPING SETS, ROLLUP and CUBE are not maintained: maintain the finest \
                       groups, and roll them up where you read the view"
            .into(),
        _ => format!(
            "{name} is not maintained; aggregates of materialized views are count, sum, avg, min, \
             max, var, stddev, covar_samp, corr, regr_…, bool_and, bool_or, bit_and, bit_or, \
             bit_xor, arg_min, arg_max, first_value and last_value with an order, \
             approx_distinct, approx_percentile_cont, top_k, histogram"
        ),
    })
}
