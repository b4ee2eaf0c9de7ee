//! The form in which rows leave: plain Arrow types that every client reads.
//!
//! Inside, text is `Utf8View` because it is fastest to compare; outside it is `Utf8`, and JSON
//! picked out of JSON is text.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::{Stream, StreamExt};

use crate::error::SqlError;

/// Rows as they come. Dropping it stops the statement.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, SqlError>> + Send>>;

/// A type as it leaves.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = plain(field.data_type());
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// A schema as it leaves.
pub(crate) fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// A batch as it leaves, in the schema that [`plain_schema`] gave.
pub(crate) fn plain_batch(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch, SqlError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<Vec<_>, _>>();
    columns
        .and_then(|columns| {
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        })
        .map_err(|error| SqlError::internal(format!("bring an answer into its form: {error}")))
}

/// The rows of a plan as they leave.
pub(crate) fn plain_stream(stream: SendableRecordBatchStream) -> (SchemaRef, BatchStream) {
    let schema = plain_schema(&stream.schema());
    let form = Arc::clone(&schema);
    let batches = stream.filter_map(move |batch| {
        let batch = match batch {
            Ok(batch) if batch.num_rows() == 0 => None,
            Ok(batch) => Some(plain_batch(&form, batch)),
            Err(error) => Some(Err(SqlError::from(error))),
        };
        futures::future::ready(batch)
    });
    (schema, Box::pin(batches))
}

/// Rows that are there already.
pub(crate) fn ready(batches: Vec<RecordBatch>) -> BatchStream {
    Box::pin(futures::stream::iter(batches.into_iter().map(Ok)))
}

/// Turns picked-out JSON values, which are unions inside the engine, into text.
pub(crate) fn unions_to_text(plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
        return Ok(plan);
    }
    let is_union = |field: &FieldRef| matches!(field.data_type(), DataType::Union(..));
    if !plan.schema().fields().iter().any(is_union) {
        return Ok(plan);
    }
    let to_text = datafusion_functions_json::udfs::json_union_to_text_udf();
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::from((qualifier, field));
            if is_union(field) { to_text.call(vec![column]).alias(field.name()) } else { column }
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}
