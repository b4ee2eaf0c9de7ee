//! `count`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::{StateError, tag};

/// Counts rows.
#[derive(Debug)]
pub(super) struct Count;

impl Kernel for Count {
    type Cell = u64;

    const TAG: u8 = tag::COUNT;
    const WHAT: &'static str = "count";

    fn update(
        &self,
        cells: &mut [u64],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        rows.each(arguments, |_row, slot| cells[slot] = cells[slot].wrapping_add(1));
        Ok(())
    }

    fn encode(&self, cell: &u64, out: &mut Vec<u8>) {
        put_varint(*cell, out);
    }

    fn merge(
        &self,
        cell: &mut u64,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        *cell = add_counts(*cell, bytes)?;
        Ok(())
    }

    fn absorb(&self, cell: &mut u64, other: &u64, _heap: &mut usize) -> Result<(), StateError> {
        *cell = join_counts(*cell, *other, Self::WHAT)?;
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, u64>) -> Result<ArrayRef, StateError> {
        let counts = cells.iter().map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }
}

/// A count, and the one that is read added to it.
pub(super) fn add_counts(count: u64, bytes: &mut Reader<'_>) -> Result<u64, StateError> {
    let more = bytes.varint()?;
    count.checked_add(more).ok_or_else(|| bytes.malformed("it counts more than 2^64 rows"))
}

/// Both counts together; `what` has them.
pub(super) fn join_counts(count: u64, more: u64, what: &'static str) -> Result<u64, StateError> {
    count
        .checked_add(more)
        .ok_or_else(|| Reader::new(&[], what).malformed("it counts more than 2^64 rows"))
}
