//! From an aggregate function of a plan to the one that is maintained, or why there is none.

use alluvium_views::aggregate::{Aggregate, AggregateCall, Form, Order, Regression};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};

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
        _ => plain(name).ok_or_else(|| refusal(name))?,
    };
    let is_ordered = matches!(aggregate, Aggregate::First { .. } | Aggregate::Last { .. });
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
        input: Form::Values,
        output: Form::Values,
        output_type: output_type.clone(),
    };
    call.states().map_err(|error| SqlError::unsupported(error.to_string()))?;
    Ok(Call { call, arguments })
}

/// Those that take their arguments as they are.
fn plain(name: &str) -> Option<Aggregate> {
    let regression = Aggregate::Regression;
    Some(match name {
        "sum" => Aggregate::Sum,
        "avg" | "mean" => Aggregate::Avg,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "var" | "var_samp" => Aggregate::Variance { sample: true },
        "var_pop" => Aggregate::Variance { sample: false },
        "stddev" | "stddev_samp" => Aggregate::Deviation { sample: true },
        "stddev_pop" => Aggregate::Deviation { sample: false },
        "regr_count" => regression(Regression::Count),
        "regr_avgx" => regression(Regression::AvgX),
        "regr_avgy" => regression(Regression::AvgY),
        "regr_sxx" => regression(Regression::Sxx),
        "regr_syy" => regression(Regression::Syy),
        "bool_and" => Aggregate::BoolAnd,
        "bool_or" => Aggregate::BoolOr,
        "bit_and" => Aggregate::BitAnd,
        "bit_or" => Aggregate::BitOr,
        "bit_xor" => Aggregate::BitXor,
        "approx_distinct" => Aggregate::ApproxDistinct,
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
        "corr" | "covar" | "covar_samp" | "covar_pop" | "regr_slope" | "regr_intercept"
        | "regr_r2" | "regr_sxy" => format!(
            "{name} is not maintained: maintain count, and the sums of its arguments and of their \
             product, and compute it from them where you read the view"
        ),
        "grouping" => "GROUPING SETS, ROLLUP and CUBE are not maintained: maintain the finest \
                       groups, and roll them up where you read the view"
            .into(),
        _ => format!(
            "{name} is not maintained; aggregates of materialized views are count, sum, avg, min, \
             max, var, stddev, bool_and, bool_or, bit_and, bit_or, bit_xor, \
             first_value and last_value with an order, approx_distinct, approx_percentile_cont"
        ),
    })
}
