//! What a statement takes and answers, without running it.
//!
//! Plans over tables that hold nothing: nothing is pinned, no view is read.

use alluvium_core::schema::ColumnType;
use alluvium_views::columns;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast;

use crate::catalog::Tables;
use crate::engine::{Statements, is_target};
use crate::error::SqlError;
use crate::hidden;
use crate::output;
use crate::parameters::{Parameter, Placeholders};
use crate::statement::{self, Read, Statement};
use crate::table::Hidden;
use crate::views::arrow_schema;

/// What a statement takes and answers.
#[derive(Clone, Debug)]
pub struct Described {
    /// The type of each parameter.
    pub parameters: Vec<ColumnType>,
    /// What comes out.
    pub rows: DescribedRows,
}

/// What comes out of a statement.
#[derive(Clone, Debug)]
pub enum DescribedRows {
    /// Rows of these columns.
    Of(SchemaRef),
    /// Rows whose columns show when it runs: `DESCRIBE`, `SHOW`, `AUDIT VIEW` and the like.
    Some,
    /// None: it changes something and says how much.
    None,
}

impl Statements {
    /// `known`: the types of parameters as far as the caller has said them.
    /// As a statement is run: once more when this node has heard of what there is.
    pub(crate) async fn describe_known(
        &self,
        sql: &str,
        known: &[Option<ColumnType>],
    ) -> Result<Described, SqlError> {
        match self.describe_one(sql, known).await {
            Err(SqlError::NotFound { .. } | SqlError::Denied { .. }) => {
                self.host.catch_up().await?;
                self.describe_one(sql, known).await
            }
            described => described,
        }
    }

    async fn describe_one(
        &self,
        sql: &str,
        known: &[Option<ColumnType>],
    ) -> Result<Described, SqlError> {
        self.check_length(sql)?;
        let count = statement::parameter_count(sql)?;
        let parameters = self.parameter_types(sql, count, known).await?;
        let nulls: Vec<Parameter> = parameters
            .iter()
            .map(|column_type| Parameter { column_type: column_type.clone(), text: None })
            .collect();
        let rows = match statement::parse(sql, Placeholders::Values(&nulls))? {
            Statement::Read(read) => {
                let plan = self.unread(read).await?;
                DescribedRows::Of(output::plain_schema(&arrow_schema(plan.schema())))
            }
            Statement::Insert { .. }
            | Statement::CreateStream { .. }
            | Statement::DropStream { .. }
            | Statement::KillQuery { .. } => DescribedRows::None,
            Statement::Access(statement) if statement.has_rows() => DescribedRows::Some,
            Statement::Access(_) => DescribedRows::None,
            Statement::ShowStreams | Statement::Describe { .. } => DescribedRows::Some,
            Statement::View(statement) if statement.has_rows() => DescribedRows::Some,
            Statement::View(_) => DescribedRows::None,
        };
        Ok(Described { parameters, rows })
    }

    /// What is not known is found by the planner, and text where it finds nothing.
    async fn parameter_types(
        &self,
        sql: &str,
        count: usize,
        known: &[Option<ColumnType>],
    ) -> Result<Vec<ColumnType>, SqlError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let known_of = |place: usize| known.get(place).cloned().flatten();
        if (0..count).all(|place| known_of(place).is_some()) {
            return Ok((0..count).filter_map(known_of).collect());
        }
        let planned = match statement::parse(sql, Placeholders::Typed(known))? {
            Statement::Read(read) => self.unread(read).await,
            Statement::Insert { insert, names_hidden } => {
                self.unread_insert(*insert, names_hidden).await
            }
            Statement::CreateStream { .. }
            | Statement::DropStream { .. }
            | Statement::ShowStreams
            | Statement::Describe { .. }
            | Statement::KillQuery { .. }
            | Statement::View(_)
            | Statement::Access(_) => {
                return Err(SqlError::unsupported("only queries and INSERT have parameters"));
            }
        };
        // A plan that lacks a type says so in the engine's words; with text it may be whole.
        let found = planned.ok().and_then(|plan| plan.get_parameter_types().ok());
        let found_of = |place: usize| {
            let found = found.as_ref()?.get(&format!("${}", place + 1))?.as_ref()?;
            columns::column_type_of(found)
        };
        let type_of = |place| known_of(place).or_else(|| found_of(place));
        Ok((0..count).map(|place| type_of(place).unwrap_or(ColumnType::Text)).collect())
    }

    /// The plan of a query over tables that hold nothing.
    async fn unread(&self, read: Read) -> Result<LogicalPlan, SqlError> {
        let Read { mut statement, names_hidden, .. } = read;
        let references = self.base.resolve_table_references(&statement)?;
        let listed = self.listed();
        self.check_references(&references, &listed)?;
        let mut shown = Hidden::Left;
        if names_hidden {
            hidden::rewrite(&mut statement, &|name| listed.has(name))?;
            shown = Hidden::Shown;
        }
        let state = self.listing(&listed, shown, &references, Tables::new())?;
        let plan = self.plan(&state, statement).await?;
        output::unions_to_text(plan)
    }

    async fn unread_insert(
        &self,
        mut insert: ast::Insert,
        names_hidden: bool,
    ) -> Result<LogicalPlan, SqlError> {
        let (_, tables) = self.aim(&mut insert)?;
        let listed = self.listed();
        let mut shown = Hidden::Left;
        if names_hidden {
            hidden::rewrite_insert(&mut insert, &|name| listed.has(name))?;
            shown = Hidden::Shown;
        }
        let parsed = Parsed::Statement(Box::new(ast::Statement::Insert(insert)));
        let mut references = self.base.resolve_table_references(&parsed)?;
        references.retain(|reference| !is_target(reference));
        self.check_references(&references, &listed)?;
        let state = self.listing(&listed, shown, &references, tables)?;
        self.plan(&state, parsed).await
    }
}
