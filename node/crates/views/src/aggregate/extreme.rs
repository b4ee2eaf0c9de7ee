//! `min` and `max`, by the order of [`super::words`].

use std::fmt::Debug;
use std::marker::PhantomData;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::DataType;

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::words::{Word, from_bytes, from_wides, from_words, wides};
use super::{StateError, tag};
use crate::bytes_column::BytesColumn;

/// Which end, and of which type the values are.
#[derive(Debug)]
pub(super) struct End {
    pub is_max: bool,
    pub data_type: DataType,
}

impl End {
    /// The value goes before the one that is kept.
    #[inline]
    fn is_before<V: Ord + ?Sized>(&self, value: &V, kept: &V) -> bool {
        if self.is_max { kept < value } else { value < kept }
    }

    #[inline]
    fn offer<V: Ord + Copy>(&self, cell: &mut Option<V>, value: V) {
        if cell.is_none_or(|kept| self.is_before(&value, &kept)) {
            *cell = Some(value);
        }
    }
}

/// Values of a fixed size.
pub(super) trait Fixed: Debug + Send + Sync + 'static {
    type Value: Ord + Copy + Debug + Send + Sync;
    const TAG: u8;
    fn each(rows: Rows<'_>, column: &ArrayRef, visit: impl FnMut(usize, Self::Value));
    fn put(value: Self::Value, out: &mut Vec<u8>);
    fn read(bytes: &mut Reader<'_>) -> Result<Self::Value, StateError>;
    fn array(data_type: &DataType, values: impl Iterator<Item = Option<Self::Value>>) -> ArrayRef;
}

/// Values of an Arrow type that are words.
#[derive(Debug)]
pub(super) struct Words<T>(PhantomData<fn() -> T>);

/// Booleans.
#[derive(Debug)]
pub(super) struct Booleans;

/// Values that are wides.
#[derive(Debug)]
pub(super) struct Wides;

impl<T: ArrowPrimitiveType<Native: Word> + Debug> Fixed for Words<T> {
    type Value = u64;
    const TAG: u8 = tag::EXTREME_WORD;

    #[inline]
    fn each(rows: Rows<'_>, column: &ArrayRef, mut visit: impl FnMut(usize, u64)) {
        let values = column.as_primitive::<T>().values();
        rows.each(std::slice::from_ref(column), |row, slot| visit(slot, values[row].word()));
    }

    fn put(value: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(bytes.array()?))
    }

    fn array(data_type: &DataType, values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
        from_words(data_type, values)
    }
}

impl Fixed for Booleans {
    type Value = u64;
    const TAG: u8 = tag::EXTREME_WORD;

    fn each(rows: Rows<'_>, column: &ArrayRef, mut visit: impl FnMut(usize, u64)) {
        let values = column.as_boolean().values();
        let not_null = std::slice::from_ref(column);
        rows.each(not_null, |row, slot| visit(slot, u64::from(values.value(row))));
    }

    fn put(value: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(bytes.array()?))
    }

    fn array(data_type: &DataType, values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
        from_words(data_type, values)
    }
}

impl Fixed for Wides {
    type Value = u128;
    const TAG: u8 = tag::EXTREME_WIDE;

    fn each(rows: Rows<'_>, column: &ArrayRef, mut visit: impl FnMut(usize, u128)) {
        let values = wides(column);
        rows.each(std::slice::from_ref(column), |row, slot| visit(slot, values[row]));
    }

    fn put(value: u128, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<u128, StateError> {
        Ok(u128::from_le_bytes(bytes.array()?))
    }

    fn array(data_type: &DataType, values: impl Iterator<Item = Option<u128>>) -> ArrayRef {
        from_wides(data_type, values)
    }
}

/// The first or last of values of a fixed size.
#[derive(Debug)]
pub(super) struct ExtremeFixed<F> {
    pub end: End,
    pub values: PhantomData<fn() -> F>,
}

impl<F: Fixed> Kernel for ExtremeFixed<F> {
    type Cell = Option<F::Value>;

    const TAG: u8 = F::TAG;
    const WHAT: &'static str = "min or max";

    fn update(
        &self,
        cells: &mut [Self::Cell],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        // One loop for each end: which it is is not asked for each row.
        let column = &arguments[0];
        match self.end.is_max {
            true => F::each(rows, column, |slot, value| {
                let cell = &mut cells[slot];
                if cell.is_none_or(|kept| kept < value) {
                    *cell = Some(value);
                }
            }),
            false => F::each(rows, column, |slot, value| {
                let cell = &mut cells[slot];
                if cell.is_none_or(|kept| value < kept) {
                    *cell = Some(value);
                }
            }),
        }
        Ok(())
    }

    fn encode(&self, cell: &Self::Cell, out: &mut Vec<u8>) {
        out.push(u8::from(cell.is_some()));
        if let Some(value) = *cell {
            F::put(value, out);
        }
    }

    fn merge(
        &self,
        cell: &mut Self::Cell,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        if bytes.flag()? {
            self.end.offer(cell, F::read(bytes)?);
        }
        Ok(())
    }

    fn absorb(
        &self,
        cell: &mut Self::Cell,
        other: &Self::Cell,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        if let Some(value) = *other {
            self.end.offer(cell, value);
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Self::Cell>) -> Result<ArrayRef, StateError> {
        Ok(F::array(&self.end.data_type, cells.iter().copied()))
    }
}

/// The first or last of values that are bytes.
#[derive(Debug)]
pub(super) struct ExtremeBytes {
    pub end: End,
}

impl ExtremeBytes {
    #[inline]
    fn offer(&self, cell: &mut Option<Vec<u8>>, value: &[u8], heap: &mut usize) {
        match cell {
            Some(kept) if !self.end.is_before(value, kept.as_slice()) => {}
            Some(kept) => {
                *heap -= kept.capacity();
                kept.clear();
                kept.extend_from_slice(value);
                *heap += kept.capacity();
            }
            None => *heap += cell.insert(value.to_vec()).capacity(),
        }
    }
}

impl Kernel for ExtremeBytes {
    type Cell = Option<Vec<u8>>;

    const TAG: u8 = tag::EXTREME_BYTES;
    const WHAT: &'static str = "min or max";

    fn update(
        &self,
        cells: &mut [Self::Cell],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let column = BytesColumn::new(&arguments[0]);
        rows.each(arguments, |row, slot| self.offer(&mut cells[slot], column.value(row), heap));
        Ok(())
    }

    fn encode(&self, cell: &Self::Cell, out: &mut Vec<u8>) {
        out.push(u8::from(cell.is_some()));
        if let Some(value) = cell {
            put_varint(value.len() as u64, out);
            out.extend_from_slice(value);
        }
    }

    fn merge(
        &self,
        cell: &mut Self::Cell,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        if bytes.flag()? {
            let count = bytes.count(1)?;
            self.offer(cell, bytes.bytes(count)?, heap);
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Self::Cell>) -> Result<ArrayRef, StateError> {
        let values = cells.iter().map(Option::as_deref).collect::<Vec<_>>();
        from_bytes(&self.end.data_type, values.into_iter())
            .ok_or_else(|| Reader::new(&[], Self::WHAT).malformed("its value is not UTF-8"))
    }

    fn heap_bytes(&self, cell: &Self::Cell) -> usize {
        cell.as_ref().map_or(0, Vec::capacity)
    }
}
