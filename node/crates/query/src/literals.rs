//! Literals in the type of what they stand beside, where the engine underneath would round.
//!
//! `35.95` is a float to the parser. Beside a NUMERIC column both sides would become
//! `NUMERIC(30, 15)`, the literal 35.950000000000003, and `price = 35.95` would find nothing.
//! Beside a decimal it becomes the decimal that was written; everywhere else it stays a float.
//! `TIME '…'` is read in nanoseconds, which do not compare with the microseconds of a TIME column;
//! it becomes microseconds.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Between, Expr, ExprSchemable, Operator};

/// See the module. Registered with `state.register_function_rewrite(Arc::new(Literals))`, so it
/// runs before types are made to agree.
#[derive(Debug)]
pub(crate) struct Literals;

impl FunctionRewrite for Literals {
    fn name(&self) -> &str {
        "literals"
    }

    fn rewrite(
        &self,
        mut expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
                if is_decimal(left, schema) {
                    make_exact(right)
                } else {
                    is_decimal(right, schema) && make_exact(left)
                }
            }
            Expr::Between(Between { expr, low, high, .. }) if is_decimal(expr, schema) => {
                let low = make_exact(low);
                make_exact(high) || low
            }
            Expr::InList(InList { expr, list, .. }) if is_decimal(expr, schema) => {
                list.iter_mut().map(make_exact).filter(|changed| *changed).count() != 0
            }
            Expr::Case(Case { expr: Some(expr), when_then_expr, .. })
                if is_decimal(expr, schema) =>
            {
                let whens = when_then_expr.iter_mut();
                whens.fold(false, |changed, (when, _)| make_exact(when) || changed)
            }
            Expr::Cast(cast)
                if cast.field.data_type() == &DataType::Time64(TimeUnit::Nanosecond) =>
            {
                *cast = Cast::new(cast.expr.clone(), DataType::Time64(TimeUnit::Microsecond));
                true
            }
            _ => false,
        };
        Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_decimal(expr: &Expr, schema: &DFSchema) -> bool {
    // A column of an outer query is not in this schema: then nothing is known, and nothing is
    // changed.
    expr.get_type(schema).is_ok_and(|of| matches!(of, DataType::Decimal128(..)))
}

fn make_exact(expr: &mut Expr) -> bool {
    let Expr::Literal(ScalarValue::Float64(Some(value)), _) = expr else {
        return false;
    };
    let Some(exact) = decimal_of(*value) else {
        return false;
    };
    *expr = Expr::Literal(exact, None);
    true
}

/// The decimal with the digits that a float is written with: the shortest that read back as it.
fn decimal_of(value: f64) -> Option<ScalarValue> {
    let text = value.is_finite().then(|| value.to_string())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let digits = unscaled.unsigned_abs().to_string().len().max(fraction.len());
    let precision = u8::try_from(digits).ok().filter(|precision| *precision <= 38)?;
    let scale = i8::try_from(fraction.len()).ok()?;
    Some(ScalarValue::Decimal128(Some(unscaled), precision, scale))
}
