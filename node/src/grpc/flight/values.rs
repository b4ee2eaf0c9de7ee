//! Values of parameters out of the rows that a client binds.

use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use alluvium_query::Parameter;
use alluvium_views::columns;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

/// One row of a batch as values of `$1`, `$2`, …; the reason where a column cannot be one.
pub fn parameters_of(batch: &RecordBatch, row: usize) -> Result<Vec<Parameter>, String> {
    let columns = batch.columns().iter().enumerate();
    let parameters = columns.map(|(place, column)| {
        let odd = |reason: String| format!("${}: {reason}", place + 1);
        let mut column = Arc::clone(column);
        if let DataType::Dictionary(_, value) = column.data_type() {
            column = cast(&column, value).map_err(|error| odd(error.to_string()))?;
        }
        // A column that is all null says no type.
        let column_type = match column.data_type() {
            DataType::Null => Some(ColumnType::Text),
            other => columns::column_type_of(other),
        };
        let column_type =
            column_type.ok_or_else(|| odd(format!("{} is no type here", column.data_type())))?;
        let text = text_of(&column, row).map_err(odd)?;
        Ok(Parameter { column_type, text })
    });
    parameters.collect()
}

fn text_of(column: &ArrayRef, row: usize) -> Result<Option<String>, String> {
    if column.is_null(row) || *column.data_type() == DataType::Null {
        return Ok(None);
    }
    let items = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        other => {
            let text = array_value_to_string(column, row).map_err(|error| error.to_string())?;
            let is_bytes = matches!(
                other,
                DataType::Binary
                    | DataType::LargeBinary
                    | DataType::BinaryView
                    | DataType::FixedSizeBinary(_)
            );
            return Ok(Some(if is_bytes { format!("\\x{text}") } else { text }));
        }
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in 0..items.len() {
        texts.push(match text_of(&items, item)? {
            None => "NULL".into(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        });
    }
    Ok(Some(format!("{{{}}}", texts.join(","))))
}
