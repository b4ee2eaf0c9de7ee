//! From the filters over a view to the keys of the groups that may pass them.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_views::fold::{Definition, KeyRange, Keys, WindowKind};
use arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Keys that are asked for one by one. For more, all groups are read.
const KEYS_MAX: usize = 1_000;

/// The keys outside which no group passes the filters.
pub(crate) fn asked(definition: &Arc<Definition>, filters: &[Expr]) -> Keys {
    let values = values(definition, filters);
    let Ok(order) = definition.key_order() else {
        return Keys::All;
    };
    // Values of the first columns of the key, each combination once.
    let mut prefixes: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    let mut length = 0;
    for group in &order {
        // A session's start may change when the partitions are put together.
        let is_plain = definition.window.is_none_or(|window| {
            window.group != *group || !matches!(window.kind, WindowKind::Session { .. })
        });
        let Some(values) = values.get(group).filter(|_| is_plain) else {
            break;
        };
        if KEYS_MAX < prefixes.len() * values.len() {
            break;
        }
        let longer = prefixes.iter().flat_map(|prefix| {
            values.iter().map(|value| [prefix.as_slice(), &[Arc::clone(value)]].concat())
        });
        prefixes = longer.collect();
        length += 1;
    }
    if length == 0 {
        return Keys::All;
    }
    let keys = prefixes.iter().map(|prefix| definition.key_of(prefix));
    let Ok(mut keys) = keys.collect::<Result<Vec<_>, _>>() else {
        return Keys::All;
    };
    keys.sort_unstable();
    keys.dedup();
    if length == order.len() {
        return Keys::These(keys);
    }
    match keys.as_slice() {
        [only] => Keys::Range(KeyRange::prefix(only)),
        // One range from the first to the last holds them all.
        [first, .., last] => {
            Keys::Range(KeyRange { start: first.clone(), end: KeyRange::prefix(last).end })
        }
        [] => Keys::These(Vec::new()),
    }
}

/// The values that filters allow, by the place of the group column.
fn values(definition: &Definition, filters: &[Expr]) -> BTreeMap<usize, Vec<ArrayRef>> {
    let mut values: BTreeMap<usize, Vec<ArrayRef>> = BTreeMap::new();
    for filter in filters.iter().flat_map(split_conjunction) {
        let Some((name, literals)) = equalities(filter) else {
            continue;
        };
        let Some(place) = definition.groups.iter().position(|group| group.name == name) else {
            continue;
        };
        let data_type = &definition.groups[place].data_type;
        let arrays = literals.into_iter().filter(|literal| !literal.is_null());
        let arrays = arrays.map(|literal| literal.cast_to(data_type)?.to_array());
        // Of two filters over one column either is right; the first is taken.
        if let Ok(arrays) = arrays.collect::<Result<Vec<_>, _>>() {
            values.entry(place).or_insert(arrays);
        }
    }
    values
}

/// The column and the values of `column = value` and `column IN (values)`.
fn equalities(filter: &Expr) -> Option<(&str, Vec<&ScalarValue>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _))
                | (Expr::Literal(value, _), Expr::Column(column)) => {
                    Some((&column.name, vec![value]))
                }
                _ => None,
            }
        }
        // The planner writes short lists as `a = 1 OR a = 2`.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (name, mut values) = equalities(left)?;
            let (other, more) = equalities(right)?;
            values.extend(more);
            (name == other).then_some((name, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else {
                return None;
            };
            let values = list.iter().map(|item| match item {
                Expr::Literal(value, _) => Some(value),
                _ => None,
            });
            Some((&column.name, values.collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    }
}
