//! Intervals in segments: Parquet has no type for months, days and nanoseconds together, so a file keeps
//! each as 16 bytes, and a scan turns them back.
//!
//! Layout: months i32 LE | days i32 LE | nanoseconds i64 LE, in a `FIXED_LEN_BYTE_ARRAY(16)`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, IntervalMonthDayNanoArray, RecordBatch,
};
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Schema, SchemaRef,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

const BYTES: i32 = 16;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// The field as it lies in a file.
pub(crate) fn file_field(field: &FieldRef) -> FieldRef {
    if *field.data_type() != INTERVAL {
        return Arc::clone(field);
    }
    Arc::new(Field::clone(field).with_data_type(DataType::FixedSizeBinary(BYTES)))
}

/// Rows as they lie in a file.
pub(crate) fn to_file(batch: &RecordBatch) -> RecordBatch {
    let fields: Vec<FieldRef> = batch.schema().fields().iter().map(file_field).collect();
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        data_type if *data_type == INTERVAL => to_bytes(column),
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect())
        .expect("the columns keep their lengths and nulls")
}

fn to_bytes(column: &ArrayRef) -> ArrayRef {
    let intervals = column.as_primitive::<IntervalMonthDayNanoType>();
    let mut builder = FixedSizeBinaryBuilder::with_capacity(intervals.len(), BYTES);
    for interval in intervals {
        match interval {
            Some(interval) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&interval.months.to_le_bytes());
                bytes[4..8].copy_from_slice(&interval.days.to_le_bytes());
                bytes[8..].copy_from_slice(&interval.nanoseconds.to_le_bytes());
                builder.append_value(bytes).expect("the array has 16 bytes");
            }
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

fn from_bytes(column: &ArrayRef) -> ArrayRef {
    let intervals = column.as_fixed_size_binary().iter().map(|bytes| {
        let bytes = bytes?;
        Some(IntervalMonthDayNano {
            months: i32::from_le_bytes(bytes[..4].try_into().ok()?),
            days: i32::from_le_bytes(bytes[4..8].try_into().ok()?),
            nanoseconds: i64::from_le_bytes(bytes[8..16].try_into().ok()?),
        })
    });
    Arc::new(intervals.collect::<IntervalMonthDayNanoArray>())
}

/// Puts the intervals of a file scan back; `wanted` is the schema the scan should have.
pub(crate) fn restore(
    scan: Arc<dyn ExecutionPlan>,
    wanted: &SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>> {
    if !wanted.fields().iter().any(|field| *field.data_type() == INTERVAL) {
        return Ok(scan);
    }
    let function = Arc::new(ScalarUDF::new_from_impl(FromBytes::new()));
    let columns = wanted.fields().iter().enumerate().map(|(place, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
        let expr: Arc<dyn PhysicalExpr> = if *field.data_type() == INTERVAL {
            Arc::new(ScalarFunctionExpr::new(
                field.name(),
                Arc::clone(&function),
                vec![column],
                Arc::clone(field),
                Arc::default(),
            ))
        } else {
            column
        };
        ProjectionExpr::new(expr, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), scan)?))
}

/// The function that [`restore`] plans; SQL cannot name it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FromBytes {
    signature: Signature,
}

impl FromBytes {
    fn new() -> FromBytes {
        let bytes = vec![DataType::FixedSizeBinary(BYTES)];
        FromBytes { signature: Signature::exact(bytes, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromBytes {
    fn name(&self) -> &str {
        "interval_from_bytes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(bytes)] => Ok(ColumnarValue::Array(from_bytes(bytes))),
            [ColumnarValue::Scalar(bytes)] => {
                let array = from_bytes(&bytes.to_array()?);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            _ => Err(DataFusionError::Internal("interval_from_bytes takes one argument".into())),
        }
    }
}
