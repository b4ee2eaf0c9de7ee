//! Keeps `_partition`, `_offset` and `_appended_at` out of `*`.
//!
//! A statement that names none of them gets tables without them, so `*` needs no care. Only a
//! statement that names one gets tables that have them, and its wildcards are rewritten here: `*`
//! over one stream becomes `* EXCEPT (hidden)`, `*` over a join becomes one wildcard for each
//! table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use alluvium_core::schema::HIDDEN_COLUMNS;
use alluvium_core::stream::Stream;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    ExceptSelectItem, ExcludeSelectItem, Ident, Insert, Join, JoinConstraint, JoinOperator,
    ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::catalog::{CATALOGUE, PUBLIC};
use crate::error::SqlError;

/// Rewrites the wildcards of a statement. `is_stream` says whether a table of this name has hidden
/// columns.
pub(crate) fn rewrite(
    statement: &mut Parsed,
    is_stream: &dyn Fn(&ObjectName) -> bool,
) -> Result<(), SqlError> {
    match statement {
        Parsed::Statement(inner) => walk(inner.as_mut(), is_stream),
        Parsed::Explain(explain) => rewrite(&mut explain.statement, is_stream),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => Ok(()),
    }
}

/// Rewrites the wildcards of what is inserted.
pub(crate) fn rewrite_insert(
    insert: &mut Insert,
    is_stream: &dyn Fn(&ObjectName) -> bool,
) -> Result<(), SqlError> {
    match &mut insert.source {
        Some(source) => walk(source.as_mut(), is_stream),
        None => Ok(()),
    }
}

fn walk(tree: &mut dyn Walk, is_stream: &dyn Fn(&ObjectName) -> bool) -> Result<(), SqlError> {
    let mut names = CteNames::default();
    let _ = tree.walk_names(&mut names);
    let mut wildcards = Wildcards { ctes: names.0, is_stream };
    match tree.walk_wildcards(&mut wildcards) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// What can be walked: a statement or a query.
trait Walk {
    fn walk_names(&mut self, names: &mut CteNames) -> ControlFlow<()>;
    fn walk_wildcards(&mut self, wildcards: &mut Wildcards<'_>) -> ControlFlow<SqlError>;
}

impl<T: VisitMut> Walk for T {
    fn walk_names(&mut self, names: &mut CteNames) -> ControlFlow<()> {
        self.visit(names)
    }

    fn walk_wildcards(&mut self, wildcards: &mut Wildcards<'_>) -> ControlFlow<SqlError> {
        self.visit(wildcards)
    }
}

/// Names given by `WITH`, anywhere in the statement: a table of such a name is not the stream.
#[derive(Default)]
struct CteNames(BTreeSet<String>);

impl VisitorMut for CteNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.0.extend(with.cte_tables.iter().map(|cte| folded(&cte.alias.name)));
        }
        ControlFlow::Continue(())
    }
}

struct Wildcards<'a> {
    ctes: BTreeSet<String>,
    is_stream: &'a dyn Fn(&ObjectName) -> bool,
}

impl VisitorMut for Wildcards<'_> {
    type Break = SqlError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        match self.rewrite(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A table in a `FROM`.
struct Source {
    /// What its columns are qualified with, if it has a name.
    qualifier: Option<ObjectName>,
    is_stream: bool,
    /// Columns of `USING`, which `*` shows once: with the table on the left.
    merged: Vec<Ident>,
}

impl Wildcards<'_> {
    fn rewrite(&self, select: &mut Select) -> Result<(), SqlError> {
        let mut sources = Vec::new();
        for table in &select.from {
            self.collect(table, &mut sources)?;
        }
        if !sources.iter().any(|source| source.is_stream) {
            return Ok(());
        }
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) => expand(options, &sources, &mut items)?,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    mut options,
                ) => {
                    if sources.iter().any(|source| source.is_stream && source.is_called(&name)) {
                        leave_out(&mut options, &hidden());
                    }
                    items.push(qualified(name, options));
                }
                other => items.push(other),
            }
        }
        select.projection = items;
        Ok(())
    }

    fn collect(&self, table: &TableWithJoins, sources: &mut Vec<Source>) -> Result<(), SqlError> {
        self.collect_factor(&table.relation, Vec::new(), sources)?;
        for join in &table.joins {
            self.collect_join(join, sources)?;
        }
        Ok(())
    }

    fn collect_join(&self, join: &Join, sources: &mut Vec<Source>) -> Result<(), SqlError> {
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            // The right table of these gives no columns.
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_) => return Ok(()),
            _ => {
                return Err(SqlError::unsupported(
                    "this kind of join, in a statement that names _partition, _offset or \
                     _appended_at",
                ));
            }
        };
        let merged = match constraint {
            JoinConstraint::Using(columns) => columns
                .iter()
                .filter_map(|column| column.0.last().and_then(|part| part.as_ident()).cloned())
                .collect(),
            JoinConstraint::Natural => {
                return Err(SqlError::unsupported(
                    "NATURAL JOIN would join on the hidden columns that this statement names; say \
                     the columns with USING (…)",
                ));
            }
            JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
        };
        self.collect_factor(&join.relation, merged, sources)
    }

    fn collect_factor(
        &self,
        factor: &TableFactor,
        merged: Vec<Ident>,
        sources: &mut Vec<Source>,
    ) -> Result<(), SqlError> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let qualifier = match alias {
                    Some(alias) => ObjectName::from(vec![alias.name.clone()]),
                    None => name.clone(),
                };
                let is_cte = match name.0.as_slice() {
                    [only] => only.as_ident().is_some_and(|name| self.ctes.contains(&folded(name))),
                    _ => false,
                };
                let is_stream = !is_cte && (self.is_stream)(name);
                sources.push(Source { qualifier: Some(qualifier), is_stream, merged });
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.collect(table_with_joins, sources)?;
            }
            TableFactor::Derived { alias, .. } | TableFactor::Table { alias, .. } => {
                let qualifier =
                    alias.as_ref().map(|alias| ObjectName::from(vec![alias.name.clone()]));
                sources.push(Source { qualifier, is_stream: false, merged });
            }
            _ => sources.push(Source { qualifier: None, is_stream: false, merged }),
        }
        Ok(())
    }
}

impl Source {
    fn is_called(&self, name: &ObjectName) -> bool {
        let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(folded);
        self.qualifier.as_ref().is_some_and(|qualifier| last(qualifier) == last(name))
    }
}

/// Replaces `*`.
fn expand(
    mut options: WildcardAdditionalOptions,
    sources: &[Source],
    items: &mut Vec<SelectItem>,
) -> Result<(), SqlError> {
    if sources.len() == 1 {
        leave_out(&mut options, &hidden());
        items.push(SelectItem::Wildcard(options));
        return Ok(());
    }
    if options.opt_except.is_some()
        || options.opt_exclude.is_some()
        || options.opt_replace.is_some()
    {
        return Err(SqlError::unsupported(
            "* EXCLUDE or REPLACE over a join, in a statement that names _partition, _offset or \
             _appended_at: write t.* EXCLUDE (…) for each table",
        ));
    }
    for source in sources {
        let Some(qualifier) = &source.qualifier else {
            return Err(SqlError::unsupported(
                "* over a join with a table that has no name, in a statement that names _partition, \
                 _offset or _appended_at: give each table a name with AS",
            ));
        };
        let mut options = WildcardAdditionalOptions::default();
        let mut left = source.merged.clone();
        if source.is_stream {
            left.extend(hidden());
        }
        leave_out(&mut options, &left);
        items.push(qualified(qualifier.clone(), options));
    }
    Ok(())
}

fn qualified(name: ObjectName, options: WildcardAdditionalOptions) -> SelectItem {
    SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
}

fn hidden() -> Vec<Ident> {
    HIDDEN_COLUMNS.iter().map(|name| Ident::new(*name)).collect()
}

/// Adds columns to what a wildcard leaves out, each once.
fn leave_out(options: &mut WildcardAdditionalOptions, columns: &[Ident]) {
    let mut left: Vec<Ident> = Vec::new();
    if let Some(except) = options.opt_except.take() {
        left.push(except.first_element);
        left.extend(except.additional_elements);
    }
    let excluded: Vec<&Ident> = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => last_ident(name).into_iter().collect(),
        Some(ExcludeSelectItem::Multiple(names)) => names.iter().filter_map(last_ident).collect(),
        None => Vec::new(),
    };
    for column in columns {
        let is_there = left
            .iter()
            .chain(excluded.iter().copied())
            .any(|there| folded(there) == folded(column));
        if !is_there {
            left.push(column.clone());
        }
    }
    let mut left = left.into_iter();
    options.opt_except = left.next().map(|first_element| ExceptSelectItem {
        first_element,
        additional_elements: left.collect(),
    });
}

fn last_ident(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

/// Whether a table of this name is a stream.
pub(crate) fn is_in(name: &ObjectName, catalogue: &BTreeMap<String, Arc<Stream>>) -> bool {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [table] | [PUBLIC, table] | [CATALOGUE, PUBLIC, table] => catalogue.contains_key(*table),
        _ => false,
    }
}

/// A name as the planner compares it: in small letters unless it was quoted.
pub(crate) fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}
