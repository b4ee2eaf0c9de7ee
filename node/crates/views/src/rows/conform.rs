//! Fits Arrow columns, however they were named, ordered and typed, to those of a stream.

use std::collections::HashMap;

use alluvium_core::schema::{Column, StreamSchema};
use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Fields, SchemaRef};
use arrow::record_batch::RecordBatchOptions;

use super::cast::fit;
use super::error::nearest;
use super::misfit::{Misfit, What};
use super::{BATCH_EVENTS_MAX, InvalidRows, UNPACKED_BYTES_MAX};
use crate::columns::log_type;

/// Gives a batch the columns of the log: found by name (exactly, else but for case), each value of
/// the column's type or refused, missing columns null.
///
/// A value may change its type, never what it says, with two exceptions that PostgreSQL makes too:
/// a float column takes the nearest float, and digits of time behind the microseconds are dropped.
pub fn conform(
    log: &SchemaRef,
    schema: &StreamSchema,
    batch: RecordBatch,
) -> Result<RecordBatch, InvalidRows> {
    let row_count = batch.num_rows();
    if BATCH_EVENTS_MAX < row_count {
        return Err(InvalidRows::TooManyEvents { count: row_count });
    }
    // Columns that were not sent cost as much as others.
    let bytes = row_count as u64 * row_bytes_min(log) as u64;
    if UNPACKED_BYTES_MAX as u64 <= bytes {
        return Err(InvalidRows::TooManyUnpackedBytes { bytes });
    }
    let sent = batch.schema_ref().fields();
    let columns = fit_columns(schema.columns(), sent, batch.columns(), row_count, None)
        .map_err(|misfit| misfit.into_invalid(false))?;
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(SchemaRef::clone(log), columns, &options)
        .map_err(|error| InvalidRows::malformed(error.to_string()))
}

/// Bytes one row takes at least in the columns of the log; at least 1.
pub(super) fn row_bytes_min(log: &SchemaRef) -> usize {
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(4);
    log.fields().iter().map(|field| width(field.data_type())).sum::<usize>().max(1)
}

/// Fits the columns of a batch, or the fields of a struct whose nulls are `parents`.
pub(super) fn fit_columns(
    columns: &[Column],
    sent: &Fields,
    arrays: &[ArrayRef],
    row_count: usize,
    parents: Option<&NullBuffer>,
) -> Result<Vec<ArrayRef>, Box<Misfit>> {
    let places = places(columns, sent)?;
    let mut fitted = Vec::with_capacity(columns.len());
    for (column, place) in columns.iter().zip(places) {
        let Some(place) = place else {
            if !column.nullable {
                return Err(Misfit::new(0, What::Missing).inside(&column.name));
            }
            fitted.push(new_null_array(&log_type(&column.column_type), row_count));
            continue;
        };
        let array = fit(&arrays[place], &column.column_type)
            .and_then(|array| check_nulls(column, array, parents))
            .map_err(|misfit| misfit.inside(&column.name))?;
        fitted.push(array);
    }
    Ok(fitted)
}

/// For each column the place where it was sent.
fn places(columns: &[Column], sent: &Fields) -> Result<Vec<Option<usize>>, Box<Misfit>> {
    let mut exact = HashMap::new();
    let mut lower: HashMap<String, Option<usize>> = HashMap::new();
    for (number, column) in columns.iter().enumerate() {
        exact.insert(column.name.as_str(), number);
        lower
            .entry(column.name.to_lowercase())
            .and_modify(|known| *known = None)
            .or_insert(Some(number));
    }
    let mut places = vec![None; columns.len()];
    for (place, field) in sent.iter().enumerate() {
        let name = field.name().as_str();
        let number = exact
            .get(name)
            .copied()
            .or_else(|| lower.get(&name.to_lowercase()).copied().flatten())
            .ok_or_else(|| {
                let nearest = nearest(name, columns.iter().map(|column| column.name.as_str()));
                Misfit::new(0, What::Unknown { nearest }).inside(name)
            })?;
        if places[number].replace(place).is_some() {
            return Err(Misfit::new(0, What::Twice).inside(&columns[number].name));
        }
    }
    Ok(places)
}

/// Refuses null in a NOT NULL column, unless the struct around it is null itself.
fn check_nulls(
    column: &Column,
    array: ArrayRef,
    parents: Option<&NullBuffer>,
) -> Result<ArrayRef, Box<Misfit>> {
    if column.nullable || array.null_count() == 0 {
        return Ok(array);
    }
    let is_misfit =
        |&row: &usize| array.is_null(row) && parents.is_none_or(|parents| parents.is_valid(row));
    match (0..array.len()).find(is_misfit) {
        Some(row) => Err(Misfit::new(row, What::Null)),
        None => Ok(array),
    }
}
