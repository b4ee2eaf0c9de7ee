//! Aggregates whose states are ours, for queries over streams.
//!
//! A view and a query agree because the same code computes both: [`alluvium_views::aggregate`].
//! The engine's own functions stay where they are exact and give the same answer in any order
//! (`count`, `sum`, `min`, …). In the place of the others come these:
//!
//! | function | here |
//! |---|---|
//! | `approx_distinct` | HyperLogLog, standard error 0.81 % |
//! | `approx_percentile_cont`, `approx_median` | relative error at most 1 %, in any order |
//! | `var_*`, `stddev_*`, `covar_*`, `corr`, `regr_*` | states that are stored exactly |
//! | `arg_min`, `arg_max` (`min_by`, `max_by`) | new: a value where another is least or greatest |
//! | `top_k` (`approx_top_k`, `frequent_items`) | new: the values met most often |
//! | `histogram` | new: how many values lie between bounds |
//! | `approx_distinct_state`, `…_merge`, `…_value` and so on | new: sketches as values |
//!
//! [`meaning`] tells what a function of these names means, to queries and to views alike.

mod accumulate;
mod function;
mod meaning;
mod values;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) use meaning::meaning;

/// Puts these functions in the place of those of the same name.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in meaning::NAMES {
        let plain = state.udaf(name).ok();
        let function = function::Maintained::new(name, plain);
        state.register_udaf(Arc::new(AggregateUDF::new_from_impl(function)))?;
    }
    for name in values::NAMES {
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(values::StateValue::new(name))))?;
    }
    Ok(())
}
