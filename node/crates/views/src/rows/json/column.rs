//! Values of one column.

use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use arrow::array::{Array as _, ArrayRef, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::super::misfit::Misfit;
use super::super::values::{Values, clip};
use super::object::Object;
use super::scan::Scanner;
use crate::columns::log_type;

/// Reads the values of one column.
pub(super) enum ColumnReader {
    Scalar(Values),
    /// Any JSON value, as text.
    Json(Values),
    List {
        field: FieldRef,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
        items: Box<ColumnReader>,
    },
    Struct {
        fields: Fields,
        nulls: NullBufferBuilder,
        object: Box<Object>,
    },
}

impl ColumnReader {
    /// For a column of this type, with room for about so many values.
    pub fn new(column_type: &ColumnType, capacity: usize) -> ColumnReader {
        let nulls = NullBufferBuilder::new(0);
        match (column_type, log_type(column_type)) {
            (ColumnType::List(item), DataType::List(field)) => {
                let items = Box::new(ColumnReader::new(item, capacity));
                ColumnReader::List { field, offsets: vec![0], nulls, items }
            }
            (ColumnType::Struct(columns), DataType::Struct(fields)) => ColumnReader::Struct {
                fields,
                nulls,
                object: Box::new(Object::new(columns, capacity)),
            },
            (column_type, _) => {
                let values =
                    Values::new(column_type, capacity).expect("lists and structs are above");
                match *column_type == ColumnType::Json {
                    true => ColumnReader::Json(values),
                    false => ColumnReader::Scalar(values),
                }
            }
        }
    }

    /// Adds null.
    pub fn push_null(&mut self) {
        match self {
            ColumnReader::Scalar(values) | ColumnReader::Json(values) => values.push_null(),
            ColumnReader::List { offsets, nulls, .. } => {
                offsets.push(offsets[offsets.len() - 1]);
                nulls.append_null();
            }
            ColumnReader::Struct { nulls, object, .. } => {
                object.push_null();
                nulls.append_null();
            }
        }
    }

    /// Reads a value that is not null.
    #[inline]
    pub fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Box<Misfit>> {
        match self {
            ColumnReader::Scalar(values) => read_scalar(values, scanner),
            ColumnReader::Json(values) => {
                let text = scanner.value()?;
                values.push_text(text).map_err(|reason| Misfit::value(0, reason))
            }
            ColumnReader::List { offsets, nulls, items, .. } => {
                let count = read_items(items, scanner)?;
                let end = offsets[offsets.len() - 1].checked_add(count);
                offsets.push(end.expect("a batch is smaller than 2 GiB"));
                nulls.append_non_null();
                Ok(())
            }
            ColumnReader::Struct { nulls, object, .. } => {
                nulls.append_non_null();
                match scanner.peek() {
                    Some(b'{') => object.read(scanner),
                    Some(_) | None => Err(wrong_kind(scanner, "an object")),
                }
            }
        }
    }

    /// The column.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnReader::Scalar(values) | ColumnReader::Json(values) => values.finish(),
            ColumnReader::List { field, offsets, nulls, items } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(offsets)));
                let (field, nulls) = (Arc::clone(field), nulls.finish());
                Arc::new(ListArray::new(field, offsets, items.finish(), nulls))
            }
            ColumnReader::Struct { fields, nulls, object } => {
                let (len, columns) = (object.len(), object.finish());
                let nulls = nulls.finish();
                let array = StructArray::try_new_with_length(fields.clone(), columns, nulls, len);
                let array = array.expect("columns of one length, without null where NOT NULL");
                debug_assert_eq!(array.len(), len);
                Arc::new(array)
            }
        }
    }
}

#[inline]
fn read_scalar(values: &mut Values, scanner: &mut Scanner<'_>) -> Result<(), Box<Misfit>> {
    let pushed = match scanner.peek() {
        Some(b'"') => values.push_text(&scanner.string()?),
        Some(b'-' | b'0'..=b'9') => values.push_number(scanner.number()?),
        Some(b't') if scanner.take_word("true") => values.push_bool(true),
        Some(b'f') if scanner.take_word("false") => values.push_bool(false),
        Some(_) | None => return Err(wrong_kind(scanner, "a single value")),
    };
    pushed.map_err(|reason| Misfit::value(0, reason))
}

fn read_items(items: &mut ColumnReader, scanner: &mut Scanner<'_>) -> Result<i32, Box<Misfit>> {
    if scanner.peek() != Some(b'[') {
        return Err(wrong_kind(scanner, "an array"));
    }
    scanner.expect(b'[')?;
    scanner.space();
    let mut count = 0;
    if scanner.take(b']') {
        return Ok(count);
    }
    loop {
        scanner.space();
        match scanner.take_word("null") {
            true => items.push_null(),
            false => items.read(scanner).map_err(|misfit| misfit.item(count as usize))?,
        }
        count += 1;
        scanner.space();
        if !scanner.take(b',') {
            scanner.expect(b']')?;
            return Ok(count);
        }
    }
}

/// A value that is JSON, but of the wrong kind, or no JSON at all.
#[cold]
fn wrong_kind(scanner: &mut Scanner<'_>, expected: &str) -> Box<Misfit> {
    match scanner.value() {
        Ok(found) => Misfit::value(0, format!("expected {expected}, found {}", clip(found))),
        Err(misfit) => misfit,
    }
}
