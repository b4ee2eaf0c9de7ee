//! Gives one column the type it has in the log, value by value the same or refused.

use std::sync::Arc;

use alluvium_core::schema::{Column, ColumnType};
use arrow::array::{
    Array, ArrayRef, AsArray as _, ListArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, FieldRef, Fields, Float64Type, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::conform::fit_columns;
use super::json::check_value;
use super::misfit::{Misfit, What};
use super::values::{Values, clip};
use crate::columns::log_type;

type Fit = Result<ArrayRef, Box<Misfit>>;

/// The column with its values as the log has them.
pub(super) fn fit(array: &ArrayRef, column_type: &ColumnType) -> Fit {
    let target = log_type(column_type);
    if *array.data_type() == DataType::Null {
        return Ok(new_null_array(&target, array.len()));
    }
    if let DataType::Dictionary(_, values) = array.data_type() {
        return fit(&cast(array, values, column_type)?, column_type);
    }
    match (column_type, &target) {
        (ColumnType::List(item), DataType::List(field)) => fit_list(array, item, field),
        (ColumnType::Struct(columns), DataType::Struct(fields)) => {
            fit_struct(array, columns, fields)
        }
        (ColumnType::Json, _) => {
            let texts = fit_scalar(array, column_type, &target)?;
            check_json(texts.as_string())?;
            Ok(texts)
        }
        (ColumnType::Numeric { precision, .. }, _) => {
            let fitted = fit_scalar(array, column_type, &target)?;
            // Arrow checks the precision of a decimal neither in casts nor in what it reads.
            let numbers = fitted.as_primitive::<Decimal128Type>();
            let checked = numbers.null_if_overflow_precision(*precision).with_data_type(target);
            let checked: ArrayRef = Arc::new(checked);
            check_lost(array, &checked, column_type)?;
            Ok(checked)
        }
        _other_scalar => fit_scalar(array, column_type, &target),
    }
}

fn fit_scalar(array: &ArrayRef, column_type: &ColumnType, target: &DataType) -> Fit {
    let found = array.data_type();
    if found == target {
        return Ok(Arc::clone(array));
    }
    if is_text(found) && *target != DataType::Utf8 {
        let texts = cast(array, &DataType::Utf8, column_type)?;
        return read_texts(texts.as_string(), column_type);
    }
    match (found, target) {
        (found, DataType::Utf8) if is_text(found) => cast(array, target, column_type),
        (found, DataType::Binary) if is_binary(found) => cast(array, target, column_type),
        // The nearest float, by PostgreSQL's rule.
        (found, DataType::Float32 | DataType::Float64) if found.is_numeric() => {
            cast(array, target, column_type)
        }
        (found, target) if found.is_numeric() && target.is_numeric() => {
            let fitted = cast(array, target, column_type)?;
            check_same(array, &fitted, column_type)?;
            Ok(fitted)
        }
        (DataType::Date32 | DataType::Date64, DataType::Date32 | DataType::Timestamp(_, _)) => {
            cast(array, target, column_type)
        }
        (DataType::Time32(_) | DataType::Time64(_), DataType::Time64(_)) => {
            cast(array, target, column_type)
        }
        (DataType::Timestamp(unit, _), DataType::Timestamp(_, zone)) => {
            // Arrow keeps timestamps with a zone in UTC, so changing the zone changes no number.
            let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
            let micros = match unit {
                TimeUnit::Nanosecond => floor_to_micros(array),
                TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond => {
                    let unzoned = unzoned(array, *unit);
                    cast(&unzoned, &plain, column_type)?
                }
            };
            let micros = micros.as_primitive::<TimestampMicrosecondType>().clone();
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        (DataType::Interval(_) | DataType::Duration(_), DataType::Interval(_)) => {
            cast(array, target, column_type)
        }
        (found, _) => Err(wrong_type(found, column_type)),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, DataType::Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

fn wrong_type(found: &DataType, column_type: &ColumnType) -> Box<Misfit> {
    let (found, expected) = (found.to_string(), column_type.to_string());
    Misfit::new(0, What::Type { found, expected })
}

/// Casts; a value that has no counterpart is a misfit.
fn cast(array: &ArrayRef, target: &DataType, column_type: &ColumnType) -> Fit {
    if !can_cast_types(array.data_type(), target) {
        return Err(wrong_type(array.data_type(), column_type));
    }
    // Values without counterpart become null, which tells the row; an error would not.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let fitted = cast_with_options(array, target, &options)
        .map_err(|error| Misfit::value(0, error.to_string()))?;
    check_lost(array, &fitted, column_type)?;
    Ok(fitted)
}

/// Refuses the first value that became null.
fn check_lost(
    array: &ArrayRef,
    fitted: &ArrayRef,
    column_type: &ColumnType,
) -> Result<(), Box<Misfit>> {
    if array.logical_null_count() == fitted.null_count() {
        return Ok(());
    }
    let nulls = array.logical_nulls();
    let is_lost = |&row: &usize| {
        fitted.is_null(row) && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    };
    match (0..array.len()).find(is_lost) {
        Some(row) => Err(does_not_fit(array, row, column_type)),
        None => Ok(()),
    }
}

fn does_not_fit(array: &ArrayRef, row: usize, column_type: &ColumnType) -> Box<Misfit> {
    let options = FormatOptions::default();
    let value = ArrayFormatter::try_new(array, &options)
        .and_then(|formatter| formatter.value(row).try_to_string())
        // A time out of all range, or in a zone whose name cannot be looked up.
        .unwrap_or_else(|_| "the value".into());
    Misfit::value(row, format!("{} does not fit {column_type}", clip(&value)))
}

/// Checks that casting back gives the same numbers.
fn check_same(
    array: &ArrayRef,
    fitted: &ArrayRef,
    column_type: &ColumnType,
) -> Result<(), Box<Misfit>> {
    let found = array.data_type();
    let can_differ = match (found, fitted.data_type()) {
        (found, target) if found.is_floating() || is_decimal(found) => found != target,
        // An integer that fits an integer or a decimal type is the same there.
        _ => false,
    };
    if !can_differ {
        return Ok(());
    }
    let back = cast(fitted, found, column_type)?;
    let different = if found.is_floating() {
        let (before, after) = (as_doubles(array, column_type)?, as_doubles(&back, column_type)?);
        let (before, after) =
            (before.as_primitive::<Float64Type>(), after.as_primitive::<Float64Type>());
        (0..before.len()).find(|&row| before.is_valid(row) && before.value(row) != after.value(row))
    } else {
        let is_different = arrow::compute::kernels::cmp::distinct(array, &back)
            .map_err(|error| Misfit::value(0, error.to_string()))?;
        (0..array.len()).find(|&row| is_different.value(row))
    };
    match different {
        Some(row) => Err(does_not_fit(array, row, column_type)),
        None => Ok(()),
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

fn as_doubles(array: &ArrayRef, column_type: &ColumnType) -> Fit {
    cast(array, &DataType::Float64, column_type)
}

/// Rounds down also before 1970; dividing would round towards 1970.
fn floor_to_micros(array: &ArrayRef) -> ArrayRef {
    let nanos = array.as_primitive::<TimestampNanosecondType>();
    let micros = nanos.unary::<_, TimestampMicrosecondType>(|nanos| nanos.div_euclid(1_000));
    Arc::new(micros)
}

fn unzoned(array: &ArrayRef, unit: TimeUnit) -> ArrayRef {
    let plain = DataType::Timestamp(unit, None);
    let data = array.to_data().into_builder().data_type(plain).build();
    arrow::array::make_array(data.expect("a zone is no part of the values"))
}

fn read_texts(texts: &StringArray, column_type: &ColumnType) -> Fit {
    let mut values = Values::new(column_type, texts.len()).expect("a scalar column");
    for (row, text) in texts.iter().enumerate() {
        match text {
            None => values.push_null(),
            Some(text) => {
                values.push_text(text).map_err(|reason| Misfit::value(row, reason))?;
            }
        }
    }
    Ok(values.finish())
}

fn check_json(texts: &StringArray) -> Result<(), Box<Misfit>> {
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text else { continue };
        if let Err(misfit) = check_value(text) {
            let reason = match misfit.what {
                What::Syntax(reason) => reason,
                other => format!("{other:?}"),
            };
            return Err(Misfit::value(row, format!("not JSON: {reason}")));
        }
    }
    Ok(())
}

fn fit_list(array: &ArrayRef, item: &ColumnType, field: &FieldRef) -> Fit {
    let list_type = ColumnType::List(Box::new(item.clone()));
    let item_sent = match array.data_type() {
        DataType::List(sent) | DataType::LargeList(sent) | DataType::FixedSizeList(sent, _) => sent,
        found => return Err(wrong_type(found, &list_type)),
    };
    let array = cast(array, &DataType::List(Arc::clone(item_sent)), &list_type)?;
    let list: &ListArray = array.as_list();
    let offsets = list.value_offsets();
    let (first, end) = (offsets[0], offsets[list.len()]);
    let sent = list.values().slice(first as usize, (end - first) as usize);
    let items = fit(&sent, item).map_err(|misfit| {
        // The list that holds this item: the last one that does not begin behind it.
        let item_at = misfit.row as i32 + first;
        let row = offsets[..list.len()].partition_point(|&offset| offset <= item_at) - 1;
        let place = (item_at - offsets[row]) as usize;
        misfit.item(place).at_row(row)
    })?;
    let offsets: ScalarBuffer<i32> = offsets.iter().map(|offset| offset - first).collect();
    let (field, nulls) = (Arc::clone(field), list.nulls().cloned());
    ListArray::try_new(field, OffsetBuffer::new(offsets), items, nulls)
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|error| Misfit::value(0, error.to_string()))
}

fn fit_struct(array: &ArrayRef, columns: &[Column], fields: &Fields) -> Fit {
    let DataType::Struct(sent) = array.data_type() else {
        return Err(wrong_type(array.data_type(), &ColumnType::Struct(columns.to_vec())));
    };
    let array: &StructArray = array.as_struct();
    let nulls = array.nulls();
    let fitted = fit_columns(columns, sent, array.columns(), array.len(), nulls)?;
    StructArray::try_new_with_length(fields.clone(), fitted, nulls.cloned(), array.len())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| Misfit::value(0, error.to_string()))
}
