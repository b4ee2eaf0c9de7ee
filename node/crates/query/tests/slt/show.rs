//! Values as `slt/duckdb.py` shows them: one spelling for both engines, so that equal answers are
//! equal text.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use arrow::util::display::array_value_to_string;
use sqllogictest::DefaultColumnType;

/// The sqllogictest letter of a type.
pub fn letter(data_type: &DataType) -> DefaultColumnType {
    if data_type.is_integer() {
        DefaultColumnType::Integer
    } else if data_type.is_numeric() {
        DefaultColumnType::FloatingPoint
    } else {
        DefaultColumnType::Text
    }
}

/// The rows of a batch, each value as text.
pub fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let row = |row| batch.columns().iter().map(|column| value(column, row)).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn value(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Null => "NULL".into(),
        DataType::Float32 | DataType::Float64 => {
            let floats = cast(array, &DataType::Float64).expect("floats widen");
            number(floats.as_primitive::<arrow::datatypes::Float64Type>().value(row))
        }
        DataType::Timestamp(_, zone) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            let times = cast(array, &micros).expect("every unit becomes microseconds");
            let micros = times.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = timestamp_us_to_datetime(micros).expect("a year that a calendar has");
            let zone = if zone.is_some() { "Z" } else { "" };
            format!("{}{zone}", without_zeros(time.to_string()))
        }
        DataType::Time32(_) | DataType::Time64(_) => without_zeros(plain(array, row)),
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row)),
        _ => Some(plain(array, row)).filter(|text| !text.is_empty()).unwrap_or("(empty)".into()),
    }
}

fn plain(array: &dyn Array, row: usize) -> String {
    array_value_to_string(array, row).expect("a value that can be shown")
}

/// The shortest digits that read back as the same float; whole ones without a point, one zero.
fn number(value: f64) -> String {
    if value == 0.0 { "0".into() } else { value.to_string() }
}

/// Without the zeros at the end of a fraction.
fn without_zeros(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').into(),
        false => text,
    }
}

fn list(items: &dyn Array) -> String {
    let items: Vec<String> = (0..items.len()).map(|item| value(items, item)).collect();
    format!("[{}]", items.join(", "))
}
