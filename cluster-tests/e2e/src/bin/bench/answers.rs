//! Compares answers of engines that print numbers and times differently.

use anyhow::Result;
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use cluster_e2e::client::Answer;
use serde_json::Value;

/// Engines add floats in different orders: the last digits differ.
const TOLERANCE: f64 = 2e-5;

/// Sketches promise a few per cent.
const SKETCH_TOLERANCE: f64 = 0.1;

/// Our answer in the form of the peers': rows of JSON values.
pub fn rows(answer: &Answer) -> Result<Vec<Vec<Value>>> {
    let mut rows = vec![Vec::new(); answer.row_count()];
    let mut first = 0;
    for batch in &answer.batches {
        for column in batch.columns() {
            if is_number(column.data_type()) {
                let numbers = cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                for (row, number) in numbers.iter().enumerate() {
                    rows[first + row].push(number.map_or(Value::Null, Value::from));
                }
            } else {
                let texts = cast(column, &DataType::Utf8)?;
                for (row, text) in texts.as_string::<i32>().iter().enumerate() {
                    rows[first + row].push(text.map_or(Value::Null, Value::from));
                }
            }
        }
        first += batch.num_rows();
    }
    Ok(rows)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Whether two answers say the same; else the first place where they do not.
pub fn compare(
    ours: &[Vec<Value>],
    theirs: &[Vec<Value>],
    approximate: bool,
) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} rows, the peer has {}", ours.len(), theirs.len()));
    }
    let tolerance = if approximate { SKETCH_TOLERANCE } else { TOLERANCE };
    for (place, (left, right)) in ours.iter().zip(theirs).enumerate() {
        let same = left.len() == right.len()
            && left.iter().zip(right).all(|(left, right)| same_value(left, right, tolerance));
        if !same {
            return Err(format!("row {place} is {left:?}, the peer has {right:?}"));
        }
    }
    Ok(())
}

fn same_value(left: &Value, right: &Value, tolerance: f64) -> bool {
    if let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) {
        return (left - right).abs() <= tolerance * left.abs().max(right.abs());
    }
    match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => to_second(left) == to_second(right),
        _ => left == right,
    }
}

/// Times are compared as `YYYY-MM-DD HH:MM:SS`; other text of these answers has neither a `T` at
/// that place nor more characters.
fn to_second(text: &str) -> String {
    let is_time = text.len() >= 19 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':';
    if is_time { text[..19].replace('T', " ") } else { text.to_owned() }
}
