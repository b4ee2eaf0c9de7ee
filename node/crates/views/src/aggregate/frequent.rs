//! `top_k`: the values met most often, after Misra and Gries.
//!
//! Counters are kept for at most `2 * capacity` values, `capacity` being [`COUNTERS_FOR_EACH`]
//! times `k`, at least [`COUNTERS_MIN`]. When one more value comes, the count of the counter that
//! is number `capacity + 1` from the top is taken from all of them, and those that are left with
//! nothing go. What was taken so is remembered as the *error*. So:
//!
//! - as long as there are no more than `2 * capacity` values, everything is exact;
//! - a value was met at least as often as its count says, and at most `error` times more;
//! - of `n` rows, `error` is at most `n / (capacity + 1)`: a value met more often is not lost.
//!
//! Which counters go depends on counts alone, and values with the same count come in the order of
//! the values: the same rows in the same order give the same state, whatever they are cut into. A
//! merge adds counts and errors, then takes away in the same way.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::item::{Item, TableState};
use super::rows::Rows;
use super::{StateError, tag};

/// How many values may be asked for.
pub const K_MAX: usize = 1000;
/// Counters that survive, for each value that is asked for.
pub const COUNTERS_FOR_EACH: usize = 16;
/// Counters that survive, at least.
pub const COUNTERS_MIN: usize = 256;

/// Counters of one group.
#[derive(Debug)]
pub(super) struct Counters<I> {
    counts: HashMap<I, u64, TableState>,
    /// How much was taken from a count, at most.
    error: u64,
    /// What the values own outside of themselves.
    bytes: usize,
}

impl<I> Default for Counters<I> {
    fn default() -> Counters<I> {
        Counters { counts: HashMap::default(), error: 0, bytes: 0 }
    }
}

impl<I: Item> Counters<I> {
    #[inline]
    fn add(&mut self, value: &I::Ref, count: u64) {
        match self.counts.get_mut(value) {
            Some(counted) => *counted = counted.saturating_add(count),
            None => {
                let value = I::own(value);
                self.bytes += value.heap_bytes();
                self.counts.insert(value, count);
            }
        }
    }

    /// Takes away until at most `capacity` counters are left, if there are more than twice as many.
    fn shrink(&mut self, capacity: usize) {
        if self.counts.len() <= 2 * capacity {
            return;
        }
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, taken, _) = counts.select_nth_unstable_by(capacity, |a, b| b.cmp(a));
        let taken = *taken;
        self.error = self.error.saturating_add(taken);
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(taken);
            *count != 0
        });
        self.bytes = self.counts.keys().map(Item::heap_bytes).sum();
    }

    fn heap_bytes(&self) -> usize {
        self.counts.capacity() * (size_of::<(I, u64)>() + 1) + self.bytes
    }

    /// Those met most often.
    fn top(&self, k: usize) -> Vec<(&I, u64)> {
        let mut top: Vec<_> = self.counts.iter().map(|(value, count)| (value, *count)).collect();
        top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        top.truncate(k);
        top
    }
}

/// `top_k` of `I`.
#[derive(Debug)]
pub(super) struct FrequentItems<I> {
    pub k: usize,
    pub data_type: DataType,
    pub items: PhantomData<fn() -> I>,
}

impl<I> FrequentItems<I> {
    fn capacity(&self) -> usize {
        (self.k * COUNTERS_FOR_EACH).max(COUNTERS_MIN)
    }
}

/// The type of what `top_k` gives for values of a type.
pub(super) fn output_type(data_type: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields(data_type)), false)))
}

fn fields(data_type: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("value", data_type.clone(), false),
        Field::new("count", DataType::Int64, false),
        Field::new("error", DataType::Int64, false),
    ])
}

impl<I: Item> Kernel for FrequentItems<I> {
    type Cell = Counters<I>;

    const TAG: u8 =
        [tag::FREQUENT_WORDS, tag::FREQUENT_WIDES, tag::FREQUENT_BYTES][I::KIND as usize];
    const WHAT: &'static str = "top_k";

    fn update(
        &self,
        cells: &mut [Counters<I>],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let capacity = self.capacity();
        I::each(rows, &arguments[0], |slot, value| {
            let cell = &mut cells[slot];
            let before = cell.counts.len();
            let heap_before = cell.heap_bytes();
            cell.add(value, 1);
            if cell.counts.len() != before {
                cell.shrink(capacity);
                *heap = *heap - heap_before + cell.heap_bytes();
            }
            Ok(())
        })
    }

    fn encode(&self, cell: &Counters<I>, out: &mut Vec<u8>) {
        put_varint(cell.counts.len() as u64, out);
        put_varint(cell.error, out);
        let mut sorted: Vec<_> = cell.counts.iter().collect();
        sorted.sort_unstable();
        for (value, count) in sorted {
            I::put(value.borrow(), out);
            put_varint(*count, out);
        }
    }

    fn merge(
        &self,
        cell: &mut Counters<I>,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let used = bytes.count(2)?;
        let heap_before = cell.heap_bytes();
        cell.error = cell.error.saturating_add(bytes.varint()?);
        for _ in 0..used {
            let value = I::read(bytes)?;
            match bytes.varint()? {
                0 => return Err(bytes.malformed("a counter is at zero")),
                count => cell.add(value.borrow(), count),
            }
        }
        cell.shrink(self.capacity());
        *heap = *heap - heap_before + cell.heap_bytes();
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Counters<I>>) -> Result<ArrayRef, StateError> {
        let (mut values, mut counts): (Vec<&I::Ref>, Vec<i64>) = Default::default();
        let mut errors: Vec<i64> = Vec::new();
        let mut lengths = Vec::with_capacity(cells.iter().len());
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for cell in cells.iter() {
            let top = cell.top(self.k);
            lengths.push(top.len());
            errors.resize(errors.len() + top.len(), signed(cell.error));
            values.extend(top.iter().map(|(value, _)| (*value).borrow()));
            counts.extend(top.iter().map(|(_, count)| signed(*count)));
        }
        let values = I::array(&self.data_type, &values)
            .ok_or_else(|| Reader::new(&[], Self::WHAT).malformed("a value is not of its type"))?;
        let columns: Vec<ArrayRef> =
            vec![values, Arc::new(Int64Array::from(counts)), Arc::new(Int64Array::from(errors))];
        let fields = fields(&self.data_type);
        let items = StructArray::new(fields.clone(), columns, None);
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), false));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::new(item, offsets, Arc::new(items), None)))
    }

    fn heap_bytes(&self, cell: &Counters<I>) -> usize {
        cell.heap_bytes()
    }
}
