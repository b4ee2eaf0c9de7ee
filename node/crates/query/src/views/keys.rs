//! From the filters over a view to conditions on what its groups are told apart by.
//!
//! A condition is made only where it holds for every group that passes the filter; what it lets
//! pass too, the filter above decides.

use std::sync::Arc;

use alluvium_views::fold::{Comparison, Condition, Definition};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

/// Each condition with the place of its group column.
pub(crate) fn asked(definition: &Definition, filters: &[Expr]) -> Vec<(usize, Condition)> {
    let filters = filters.iter().flat_map(split_conjunction);
    filters.filter_map(|filter| condition(definition, filter)).collect()
}

fn condition(definition: &Definition, filter: &Expr) -> Option<(usize, Condition)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            both(definition, left, right, Condition::Any)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            both(definition, left, right, Condition::All)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (name, op, value) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => (&column.name, *op, value),
                (Expr::Literal(value, _), Expr::Column(column)) => {
                    (&column.name, op.swap()?, value)
                }
                _ => return None,
            };
            let place = group(definition, name)?;
            Some((place, compared(&definition.groups[place].data_type, op, value)?))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let place = column(definition, expr)?;
            let data_type = &definition.groups[place].data_type;
            let mut any = Vec::new();
            for item in list {
                let Expr::Literal(value, _) = item else { return None };
                // Nothing equals a null.
                if !value.is_null() {
                    any.push(compared(data_type, Operator::Eq, value)?);
                }
            }
            Some((place, Condition::Any(any)))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let place = column(definition, expr)?;
            let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low.as_ref(), high.as_ref())
            else {
                return None;
            };
            let data_type = &definition.groups[place].data_type;
            let low = compared(data_type, Operator::GtEq, low)?;
            let high = compared(data_type, Operator::LtEq, high)?;
            Some((place, Condition::All(vec![low, high])))
        }
        Expr::IsNull(expr) => Some((column(definition, expr)?, Condition::Null(true))),
        Expr::IsNotNull(expr) => Some((column(definition, expr)?, Condition::Null(false))),
        // The planner writes `flag = true` so.
        Expr::Column(_) => truth(definition, filter, true),
        Expr::Not(expr) => truth(definition, expr, false),
        _ => None,
    }
}

/// Two conditions on one column as one.
fn both(
    definition: &Definition,
    left: &Expr,
    right: &Expr,
    together: impl Fn(Vec<Condition>) -> Condition,
) -> Option<(usize, Condition)> {
    let (place, one) = condition(definition, left)?;
    let (other, two) = condition(definition, right)?;
    (place == other).then(|| (place, together(vec![one, two])))
}

fn truth(definition: &Definition, expr: &Expr, value: bool) -> Option<(usize, Condition)> {
    let place = column(definition, expr)?;
    let value = ScalarValue::Boolean(Some(value));
    Some((place, compared(&definition.groups[place].data_type, Operator::Eq, &value)?))
}

fn column(definition: &Definition, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => group(definition, &column.name),
        _ => None,
    }
}

fn group(definition: &Definition, name: &str) -> Option<usize> {
    definition.groups.iter().position(|group| group.name == name)
}

fn compared(data_type: &DataType, op: Operator, value: &ScalarValue) -> Option<Condition> {
    let comparison = match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    let value = value_of(data_type, value)?;
    // How long a month is, depends on who compares.
    let is_interval = matches!(data_type, DataType::Interval(_));
    (!is_interval || comparison == Comparison::Equal).then_some(Condition::Is(comparison, value))
}

/// A literal as a value of the column; `None` where that would be another value, or one that keys
/// and filters do not put at the same place.
fn value_of(data_type: &DataType, literal: &ScalarValue) -> Option<ArrayRef> {
    if literal.is_null() {
        return None;
    }
    // A key takes the zeros for one, and all that is no number.
    let is_same = match literal {
        ScalarValue::Float64(Some(value)) => !value.is_nan() && value.to_bits() != 1 << 63,
        ScalarValue::Float32(Some(value)) => !value.is_nan() && value.to_bits() != 1 << 31,
        _ => true,
    };
    if !is_same {
        return None;
    }
    let value = literal.cast_to(data_type).ok().filter(|value| !value.is_null())?;
    if literal.data_type() != *data_type {
        let back = value.cast_to(&literal.data_type()).ok()?;
        if back != *literal {
            return None;
        }
    }
    value.to_array().ok().filter(|value| value.is_valid(0))
}

/// The group columns and aggregates that a scan takes, as places in the columns of the groups.
pub(crate) fn places(definition: &Arc<Definition>, projection: Option<&Vec<usize>>) -> Vec<usize> {
    let all = definition.groups.len() + definition.aggregates.len();
    projection.cloned().unwrap_or_else(|| (0..all).collect())
}
