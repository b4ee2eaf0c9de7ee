//! Takes out of a statement what can hold no row, since it joins a table that is always empty.
//!
//! Done on the statement as it was parsed, because much of what stands in such queries (arrays of
//! subqueries, subqueries that look outside) is not planned by the engine underneath, rows or not.
//! What is left of a `SELECT` without rows is its columns, each null.
//!
//! One more thing PostgreSQL does and the engine does not: a subquery that stands for one value and
//! looks outside itself without computing an aggregate. In a statement over `pg_catalog` it has at
//! most one row, whose greatest value is that value.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, Join, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr,
    Statement, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
};

use super::tables;
use crate::catalog::PG_CATALOG;

/// See the module. A statement that names nothing of `pg_catalog` stays as it is.
pub(super) fn simplify(mut statement: Parsed) -> Parsed {
    if let Parsed::Statement(inner) = &mut statement {
        simplify_one(inner);
    }
    statement
}

fn simplify_one(statement: &mut Statement) {
    let mut names = Names { found: false };
    let _: ControlFlow<()> = statement.visit(&mut names);
    if names.found {
        let _: ControlFlow<()> = statement.visit(&mut Emptied);
    }
}

/// Whether a table of `pg_catalog` is named.
struct Names {
    found: bool,
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if table_of(relation).is_some_and(|name| tables::is_table(&name)) {
            self.found = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// The name of a table in `pg_catalog`, or of one without a schema.
fn table_of(name: &ObjectName) -> Option<String> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts?.as_slice() {
        [table] => Some(table.value.to_lowercase()),
        [.., schema, table] if schema.value.eq_ignore_ascii_case(PG_CATALOG) => {
            Some(table.value.to_lowercase())
        }
        _ => None,
    }
}

/// Takes out, from the inside to the outside.
struct Emptied;

impl VisitorMut for Emptied {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let empty_names: Vec<String> = query
            .with
            .iter()
            .flat_map(|with| &with.cte_tables)
            .filter(|cte| is_emptied(&cte.query))
            .map(|cte| cte.alias.name.value.to_lowercase())
            .collect();
        empty_body(&mut query.body, &empty_names);
        if is_emptied(query) {
            // It may be by columns of tables that are gone.
            query.order_by = None;
        } else if let SetExpr::Select(select) = query.body.as_mut() {
            name_nulls(select);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(value) = value_of(expr) {
            *expr = value;
        }
        ControlFlow::Continue(())
    }
}

fn empty_body(body: &mut SetExpr, empty_names: &[String]) {
    match body {
        SetExpr::Select(select) if holds_nothing(select, empty_names) => empty_select(select),
        SetExpr::SetOperation { left, right, .. } => {
            empty_body(left, empty_names);
            empty_body(right, empty_names);
        }
        _ => {}
    }
}

/// Two columns of one name are not planned: nulls that stand for something get names of their own.
fn name_nulls(select: &mut Select) {
    for (place, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && matches!(expr, Expr::Value(value) if value.value == Value::Null)
        {
            let alias = Ident::with_quote('"', name_of(expr, place));
            *item = SelectItem::ExprWithAlias { expr: null(), alias };
        }
    }
}

fn holds_nothing(select: &Select, empty_names: &[String]) -> bool {
    let has_empty = select.from.iter().any(|table| is_empty_join(table, empty_names));
    let is_listed = select
        .projection
        .iter()
        .all(|item| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }));
    has_empty && is_listed && !is_one_group(select)
}

/// Whether the select answers one row even over nothing.
fn is_one_group(select: &Select) -> bool {
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    !is_grouped
        && select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                is_aggregate(expr)
            }
            _ => false,
        })
}

fn is_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 12] = [
        "array_agg",
        "avg",
        "bool_and",
        "bool_or",
        "count",
        "every",
        "json_agg",
        "max",
        "min",
        "string_agg",
        "sum",
        "jsonb_agg",
    ];
    match expr {
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let name = name.rsplit('.').next().unwrap_or_default();
            AGGREGATES.contains(&name)
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_aggregate(expr),
        _ => false,
    }
}

fn is_empty_join(table: &TableWithJoins, empty_names: &[String]) -> bool {
    let mut is_empty = is_empty_table(&table.relation, empty_names);
    for Join { relation, join_operator, .. } in &table.joins {
        let right = || is_empty_table(relation, empty_names);
        is_empty = match join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
                is_empty || right()
            }
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => is_empty,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right(),
            _ => is_empty && right(),
        };
    }
    is_empty
}

fn is_empty_table(table: &TableFactor, empty_names: &[String]) -> bool {
    match table {
        TableFactor::Table { name, args: None, .. } => table_of(name)
            .is_some_and(|name| tables::is_empty(&name) || empty_names.contains(&name)),
        TableFactor::Derived { subquery, .. } => is_emptied(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => {
            is_empty_join(table_with_joins, empty_names)
        }
        _ => false,
    }
}

/// `SELECT NULL AS a, … WHERE FALSE` in its place.
fn empty_select(select: &mut Select) {
    let mut names = BTreeSet::new();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let mut alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            SelectItem::UnnamedExpr(expr) => Ident::with_quote('"', name_of(expr, place)),
            _ => continue,
        };
        if !names.insert(alias.value.clone()) {
            alias.value = unnamed(place);
        }
        *item = SelectItem::ExprWithAlias { expr: null(), alias };
    }
    select.distinct = None;
    select.from = Vec::new();
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.sort_by = Vec::new();
}

fn is_emptied(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let is_false = matches!(
        &select.selection,
        Some(Expr::Value(value)) if value.value == Value::Boolean(false)
    );
    is_false && select.from.is_empty()
}

/// What PostgreSQL would call the column.
fn name_of(expr: &Expr, place: usize) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => {
            names.last().map_or_else(String::new, |name| name.value.clone())
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => name_of(expr, place),
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            name.rsplit('.').next().unwrap_or_default().to_string()
        }
        _ => unnamed(place),
    }
}

/// Two columns of one name are not planned, and nobody looks for these by name.
fn unnamed(place: usize) -> String {
    format!("?column{place}?")
}

/// What a subquery over nothing is, where it stands for a value.
fn value_of(expr: &mut Expr) -> Option<Expr> {
    match expr {
        Expr::Subquery(query) if is_emptied(query) => Some(null()),
        Expr::Subquery(query) => {
            greatest(query);
            None
        }
        Expr::Exists { subquery, negated } if is_emptied(subquery) => {
            Some(Expr::Value(Value::Boolean(*negated).into()))
        }
        Expr::InSubquery { subquery, negated, .. } if is_emptied(subquery) => {
            Some(Expr::Value(Value::Boolean(*negated).into()))
        }
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("array") => {
            let FunctionArguments::Subquery(query) = &mut function.args else {
                return None;
            };
            if is_emptied(query) {
                return Some(null());
            }
            aggregate(query, "array_agg");
            Some(Expr::Subquery(query.clone()))
        }
        _ => None,
    }
}

/// Takes the greatest value of a subquery that has one at most.
fn greatest(query: &mut Query) {
    if let SetExpr::Select(select) = query.body.as_ref()
        && !select.from.is_empty()
        && !is_one_group(select)
    {
        aggregate(query, "max");
    }
}

fn aggregate(query: &mut Query, name: &str) {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
    let list = FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![argument],
        clauses: Vec::new(),
    };
    *expr = Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    });
    query.order_by = None;
    query.limit_clause = None;
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}
