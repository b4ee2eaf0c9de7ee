//! `first_value`, `last_value`, `arg_min`, `arg_max`: the value of one row of the group.
//!
//! The row with the smallest order keys is chosen; for `last_value` and `arg_max` the orders are
//! turned around. Of rows with equal keys it is the one with the smallest value, nulls first, so
//! that the choice does not depend on the order of rows. Only where there are no keys at all it is
//! the first or the last row as they come.
//!
//! Keys and values are kept in the form of [`crate::group`]'s keys.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::is_null;
use arrow::datatypes::DataType;
use std::sync::Arc;

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::{Order, StateError, tag};
use crate::group::{KeyCodec, KeyColumn};

/// The chosen row of one group.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    is_some: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Chosen {
    fn heap_bytes(&self) -> usize {
        self.key.capacity() + self.value.capacity()
    }
}

/// How a row is chosen.
#[derive(Debug)]
pub(super) struct Choice {
    keys: KeyCodec,
    values: KeyCodec,
    /// Which keys have nulls at the end where they would not be: these have a column before them
    /// that says whether they are null.
    moved_nulls: Vec<bool>,
    /// Without keys the last row is taken.
    takes_last: bool,
    /// Rows where one of these arguments is null do not count.
    not_null: Vec<usize>,
}

impl Choice {
    /// By these keys, the smallest of them by these orders. `None` where the types have no order.
    pub fn new(
        arguments: &[DataType],
        orders: &[Order],
        takes_last: bool,
        not_null: Vec<usize>,
    ) -> Option<Choice> {
        let (value, keys) = arguments.split_first()?;
        if keys.len() != orders.len() {
            return None;
        }
        let mut columns = Vec::new();
        let mut moved_nulls = Vec::new();
        for (data_type, order) in keys.iter().zip(orders) {
            // Keys that descend have nulls last, those that ascend have them first.
            let is_moved = order.nulls_first == order.descending;
            if is_moved {
                let descending = order.nulls_first;
                columns.push(KeyColumn { data_type: DataType::Boolean, descending });
            }
            moved_nulls.push(is_moved);
            let descending = order.descending;
            columns.push(KeyColumn { data_type: data_type.clone(), descending });
        }
        let value = KeyColumn { data_type: value.clone(), descending: false };
        let (keys, values) = (KeyCodec::new(columns).ok()?, KeyCodec::new(vec![value]).ok()?);
        Some(Choice { keys, values, moved_nulls, takes_last, not_null })
    }

    fn keys(&self, arguments: &[ArrayRef]) -> Result<Forms, StateError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(arguments.len());
        for (argument, is_moved) in arguments[1..].iter().zip(&self.moved_nulls) {
            if *is_moved {
                let nulls: BooleanArray = is_null(argument).map_err(|error| malformed(&error))?;
                columns.push(Arc::new(nulls));
            }
            columns.push(Arc::clone(argument));
        }
        forms(&self.keys, &columns, arguments[0].len())
    }

    #[inline]
    fn offer(&self, cell: &mut Chosen, key: &[u8], value: &[u8], heap: &mut usize) {
        let is_before = match cell.is_some {
            false => true,
            true if key.is_empty() => self.takes_last,
            true => match key.cmp(&cell.key) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => value < cell.value.as_slice(),
                std::cmp::Ordering::Greater => false,
            },
        };
        if is_before {
            *heap -= cell.heap_bytes();
            cell.is_some = true;
            cell.key.clear();
            cell.key.extend_from_slice(key);
            cell.value.clear();
            cell.value.extend_from_slice(value);
            *heap += cell.heap_bytes();
        }
    }
}

/// The keys of rows, one after the other.
struct Forms {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Forms {
    #[inline]
    fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }
}

fn forms(codec: &KeyCodec, columns: &[ArrayRef], rows: usize) -> Result<Forms, StateError> {
    let (bytes, ends) = codec.encode_rows(columns, rows).map_err(|error| malformed(&error))?;
    Ok(Forms { bytes, ends })
}

#[cold]
fn malformed(reason: &dyn std::fmt::Display) -> StateError {
    Reader::new(&[], Choice::WHAT).malformed(reason.to_string())
}

impl Kernel for Choice {
    type Cell = Chosen;

    const TAG: u8 = tag::CHOICE;
    const WHAT: &'static str = "first_value, last_value, arg_min or arg_max";

    fn update(
        &self,
        cells: &mut [Chosen],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let keys = self.keys(arguments)?;
        let values = forms(&self.values, &arguments[..1], arguments[0].len())?;
        let not_null: Vec<_> =
            self.not_null.iter().map(|place| Arc::clone(&arguments[*place])).collect();
        rows.each(&not_null, |row, slot| {
            self.offer(&mut cells[slot], keys.get(row), values.get(row), heap);
        });
        Ok(())
    }

    fn encode(&self, cell: &Chosen, out: &mut Vec<u8>) {
        out.push(u8::from(cell.is_some));
        if cell.is_some {
            for part in [&cell.key, &cell.value] {
                put_varint(part.len() as u64, out);
                out.extend_from_slice(part);
            }
        }
    }

    fn merge(
        &self,
        cell: &mut Chosen,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        if bytes.flag()? {
            let count = bytes.count(1)?;
            let key = bytes.bytes(count)?;
            let count = bytes.count(1)?;
            self.offer(cell, key, bytes.bytes(count)?, heap);
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Chosen>) -> Result<ArrayRef, StateError> {
        /// What the codec writes for null in a column that ascends.
        const NULL: &[u8] = &[0];
        let values = cells.iter().map(|cell| if cell.is_some { &cell.value } else { NULL });
        let arrays = self.values.decode(values).map_err(|error| malformed(&error))?;
        Ok(arrays.into_iter().next().expect("there is one column"))
    }

    fn heap_bytes(&self, cell: &Chosen) -> usize {
        cell.heap_bytes()
    }
}
