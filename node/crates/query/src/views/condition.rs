//! A condition over the rows of a view, for those who follow it.

use std::sync::Arc;

use alluvium_views::fold::Evaluate;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::ExprSchemable;

use super::check;
use super::compile::ViewCompiler;
use super::maintain::Physical;
use crate::error::SqlError;
use crate::statement::check_expression;

/// Length of one condition: more than anybody writes, and far below what the stack takes.
const CONDITION_BYTES_MAX: usize = 64 << 10;

impl ViewCompiler {
    /// A condition in SQL, such as `total > 10 AND carrier = 'UA'`, over these columns.
    ///
    /// # Errors
    /// When it cannot be read, names what is not there, or is about more than one row.
    pub fn condition(&self, columns: &SchemaRef, sql: &str) -> Result<Arc<dyn Evaluate>, SqlError> {
        if CONDITION_BYTES_MAX < sql.len() {
            let bytes = sql.len();
            return Err(SqlError::invalid(format!(
                "the condition has {bytes} bytes; at most {CONDITION_BYTES_MAX} are taken"
            )));
        }
        check_expression(sql)?;
        let schema = DFSchema::try_from(SchemaRef::clone(columns))?;
        let condition = self.base().create_logical_expr(sql, &schema)?;
        check::about_one_event([&condition])?;
        check::deterministic_expression(&condition)?;
        let found = condition.get_type(&schema)?;
        if !matches!(found, DataType::Boolean | DataType::Null) {
            return Err(SqlError::invalid(format!(
                "a condition is true or false; {condition} is {found}"
            )));
        }
        Ok(Arc::new(Physical::new(self.base(), condition, &schema)?))
    }
}
