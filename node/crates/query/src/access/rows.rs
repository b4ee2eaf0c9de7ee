//! Puts row policies before the rows of a table.

use std::sync::Arc;

use alluvium_core::meta::access::RowsVisible;
use alluvium_views::columns;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, lit};

use super::Rights;
use crate::catalog::{CATALOGUE, PUBLIC};
use crate::engine::Statements;
use crate::error::SqlError;
use crate::statement;
use crate::table::visible;

impl Statements {
    /// The table with only those of its rows that the caller sees.
    pub(crate) fn rows_for(
        &self,
        rights: &Rights,
        name: &str,
        table: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        let conditions = match rights.rows(name) {
            RowsVisible::All => return Ok(table),
            RowsVisible::Where(conditions) => conditions,
        };
        let reference = TableReference::full(CATALOGUE, PUBLIC, name);
        let scan = LogicalPlanBuilder::scan(reference, provider_as_source(table), None)?;
        let schema = Arc::clone(scan.schema());
        let mut passes: Option<Expr> = None;
        for condition in &conditions {
            let condition = self.condition(condition, &schema)?;
            passes = Some(match passes {
                None => condition,
                Some(before) => before.or(condition),
            });
        }
        let plan = scan.filter(passes.unwrap_or_else(|| lit(false)))?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }

    /// Reads the condition of a policy on a table, which must exist.
    pub(crate) fn check_condition(&self, table: &str, condition: &str) -> Result<(), SqlError> {
        let schema = match self.host.catalogue().get(table) {
            Some(stream) => visible(&columns::scan_schema(&stream.definition.schema)),
            None => Arc::clone(&self.compiled_view(table)?.schema),
        };
        let schema = DFSchema::try_from(schema)?;
        self.condition(condition, &schema).map(|_| ())
    }

    fn condition(&self, text: &str, schema: &DFSchema) -> Result<Expr, SqlError> {
        statement::check_expression(text)?;
        let expression = self.base.create_logical_expr(text, schema)?;
        let found = expression.get_type(schema)?;
        if found != DataType::Boolean {
            return Err(SqlError::invalid(format!(
                "the condition of a policy is true or false, not {found}"
            )));
        }
        Ok(expression)
    }
}
