//! Aggregates over the different values: the set is kept, and aggregated when it is asked for.
//!
//! The set of a group is bounded: it is exact, or there is an error.

use std::collections::HashSet;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::item::{Item, TableState};
use super::rows::Rows;
use super::{AggregateCall, StateError, tag};

/// How many different values the set of one group may have.
pub const DISTINCT_VALUES_MAX: usize = 100_000;
/// How many bytes of text or of bytes they may have together.
pub const DISTINCT_BYTES_MAX: usize = 16 << 20;

const WHAT: &str = "an aggregate over DISTINCT values";
const INSTEAD: &str = "approx_distinct counts any number of them, with an error of about 1 %";

/// The different values of a group.
#[derive(Debug)]
pub(super) struct Set<I> {
    values: HashSet<I, TableState>,
    /// What the values own outside of themselves.
    bytes: usize,
}

impl<I> Default for Set<I> {
    fn default() -> Set<I> {
        Set { values: HashSet::default(), bytes: 0 }
    }
}

impl<I: Item> Set<I> {
    /// Adds a value and says by how much the set has grown.
    #[inline]
    fn insert(&mut self, value: &I::Ref) -> Result<usize, StateError> {
        if self.values.contains(value) {
            return Ok(0);
        }
        let value = I::own(value);
        let bytes = value.heap_bytes();
        if self.values.len() == DISTINCT_VALUES_MAX {
            let (max, unit) = (DISTINCT_VALUES_MAX, "values");
            return Err(StateError::TooLarge { what: WHAT, max, unit, instead: INSTEAD });
        }
        if DISTINCT_BYTES_MAX < self.bytes + bytes {
            let (max, unit) = (DISTINCT_BYTES_MAX, "bytes of values");
            return Err(StateError::TooLarge { what: WHAT, max, unit, instead: INSTEAD });
        }
        let before = self.heap_bytes();
        self.bytes += bytes;
        self.values.insert(value);
        Ok(self.heap_bytes() - before)
    }

    fn sorted(&self) -> Vec<&I> {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_unstable();
        values
    }

    fn heap_bytes(&self) -> usize {
        self.values.capacity() * (size_of::<I>() + 1) + self.bytes
    }
}

/// Keeps sets of `I`.
#[derive(Debug)]
pub(super) struct Distinct<I> {
    data_type: DataType,
    /// What is computed over the different values.
    over: AggregateCall,
    items: PhantomData<fn() -> I>,
}

impl<I> Distinct<I> {
    /// Of this call, over values of this type.
    pub fn new(call: &AggregateCall, data_type: &DataType) -> Distinct<I> {
        let over = AggregateCall {
            distinct: false,
            input: super::Form::Values,
            output: super::Form::Values,
            ..call.clone()
        };
        Distinct { data_type: data_type.clone(), over, items: PhantomData }
    }
}

impl<I: Item> Kernel for Distinct<I> {
    type Cell = Set<I>;

    const TAG: u8 =
        [tag::DISTINCT_WORDS, tag::DISTINCT_WIDES, tag::DISTINCT_BYTES][I::KIND as usize];
    const WHAT: &'static str = WHAT;

    fn update(
        &self,
        cells: &mut [Set<I>],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        I::each(rows, &arguments[0], |slot, value| {
            *heap += cells[slot].insert(value)?;
            Ok(())
        })
    }

    /// Only as many rows as there is room for values: the bytes of text are not looked at, so with
    /// text there is never certainty.
    fn has_room(&self, cells: &[Set<I>], slots: &[u32]) -> bool {
        let room = |slot: &u32| cells[*slot as usize].values.len() + slots.len();
        I::KIND != 2 && slots.iter().all(|slot| room(slot) <= DISTINCT_VALUES_MAX)
    }

    fn encode(&self, cell: &Set<I>, out: &mut Vec<u8>) {
        put_varint(cell.values.len() as u64, out);
        for value in cell.sorted() {
            I::put(value.borrow(), out);
        }
    }

    fn merge(
        &self,
        cell: &mut Set<I>,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        for _ in 0..bytes.count(1)? {
            *heap += cell.insert(I::read(bytes)?.borrow())?;
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Set<I>>) -> Result<ArrayRef, StateError> {
        let (mut values, mut slots): (Vec<&I::Ref>, Vec<u32>) = Default::default();
        for (slot, set) in cells.iter().enumerate() {
            let slot = u32::try_from(slot).expect("slots are numbered with 32 bits");
            values.extend(set.sorted().into_iter().map(|value| value.borrow()));
            slots.resize(values.len(), slot);
        }
        let malformed = |reason: &str| Reader::new(&[], WHAT).malformed(reason);
        let values = I::array(&self.data_type, &values)
            .ok_or_else(|| malformed("a value is not of its type"))?;
        let mut states = self.over.states().map_err(|error| malformed(&error.to_string()))?;
        let count = cells.iter().len();
        states.resize(count);
        states.update(&slots, &[values], None)?;
        let all: Vec<u32> = (0..count as u32).collect();
        states.finish(&all)
    }

    fn heap_bytes(&self, cell: &Set<I>) -> usize {
        cell.heap_bytes()
    }
}
