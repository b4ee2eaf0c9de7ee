//! What the states of all aggregates have in common: a flat vector of cells, one for each slot.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray};
use arrow::datatypes::DataType;

use super::codec::Reader;
use super::rows::Rows;
use super::{AggregateCall, Form, StateError, States};

/// One aggregate: what it does with a cell, which holds the state of one group.
pub(super) trait Kernel: Send + Sync + Debug {
    /// The state of one group. The default is the empty state.
    type Cell: Default + Send + Sync + Debug;

    /// The first byte of each encoded state: which aggregate, and which version of its form.
    const TAG: u8;
    /// The aggregate, for errors.
    const WHAT: &'static str;

    /// Takes in rows. `heap` counts bytes that cells own outside of themselves.
    fn update(
        &self,
        cells: &mut [Self::Cell],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError>;

    /// Appends the state, without the tag.
    fn encode(&self, cell: &Self::Cell, out: &mut Vec<u8>);

    /// Reads a state, without the tag, and merges it into the cell.
    fn merge(
        &self,
        cell: &mut Self::Cell,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError>;

    /// Merges another state into the cell, as [`Kernel::merge`] does with its encoded form.
    fn absorb(
        &self,
        cell: &mut Self::Cell,
        other: &Self::Cell,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let mut bytes = Vec::new();
        self.encode(other, &mut bytes);
        self.merge(cell, &mut Reader::new(&bytes, Self::WHAT), heap)
    }

    /// The values of these cells.
    fn finish(&self, cells: &Picked<'_, Self::Cell>) -> Result<ArrayRef, StateError>;

    /// Whether rows of these slots are certain to find room.
    fn has_room(&self, cells: &[Self::Cell], slots: &[u32]) -> bool {
        let _ = (cells, slots);
        true
    }

    /// Bytes that the cell owns outside of itself.
    fn heap_bytes(&self, cell: &Self::Cell) -> usize {
        let _ = cell;
        0
    }
}

/// The cells of some slots, in their order.
pub(super) struct Picked<'a, C> {
    cells: &'a [C],
    slots: &'a [u32],
}

impl<'a, C> Picked<'a, C> {
    /// The cells.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a C> + use<'a, C> {
        let cells = self.cells;
        self.slots.iter().map(move |slot| &cells[*slot as usize])
    }
}

/// The states of one aggregate.
#[derive(Debug)]
pub(super) struct Grouped<K: Kernel> {
    kernel: K,
    cells: Vec<K::Cell>,
    heap: usize,
    input: Form,
    output: Form,
}

impl<K: Kernel + 'static> Grouped<K> {
    /// No slots yet.
    pub fn states(kernel: K, call: &AggregateCall) -> Box<dyn States> {
        let (input, output) = (call.input, call.output);
        Box::new(Grouped { kernel, cells: Vec::new(), heap: 0, input, output })
    }

    fn merge_rows(&mut self, rows: Rows<'_>, states: &ArrayRef) -> Result<(), StateError> {
        let (kernel, cells, heap) = (&self.kernel, &mut self.cells, &mut self.heap);
        let mut merge = |slot: usize, bytes: &[u8]| {
            let mut bytes = bytes;
            merge_tagged(kernel, &mut cells[slot], &mut bytes, heap)?;
            if !bytes.is_empty() {
                return Err(Reader::new(bytes, K::WHAT).malformed("bytes follow it"));
            }
            Ok(())
        };
        let not_null = std::slice::from_ref(states);
        match states.data_type() {
            DataType::Binary => {
                let states = states.as_binary::<i32>();
                rows.try_each(not_null, |row, slot| merge(slot, states.value(row)))
            }
            DataType::LargeBinary => {
                let states = states.as_binary::<i64>();
                rows.try_each(not_null, |row, slot| merge(slot, states.value(row)))
            }
            DataType::BinaryView => {
                let states = states.as_binary_view();
                rows.try_each(not_null, |row, slot| merge(slot, states.value(row)))
            }
            other => Err(Reader::new(&[], K::WHAT).malformed(format!("it is of type {other}"))),
        }
    }
}

fn merge_tagged<K: Kernel>(
    kernel: &K,
    cell: &mut K::Cell,
    bytes: &mut &[u8],
    heap: &mut usize,
) -> Result<(), StateError> {
    let mut reader = Reader::new(bytes, K::WHAT);
    if reader.byte()? != K::TAG {
        return Err(reader.malformed("it is of another aggregate, or of another version"));
    }
    kernel.merge(cell, &mut reader, heap)?;
    *bytes = reader.rest();
    Ok(())
}

impl<K: Kernel> Grouped<K> {
    fn put(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(K::TAG);
        self.kernel.encode(&self.cells[slot as usize], out);
    }
}

impl<K: Kernel + 'static> States for Grouped<K> {
    fn resize(&mut self, slots: usize) {
        for cell in self.cells.get(slots..).unwrap_or_default() {
            self.heap -= self.kernel.heap_bytes(cell);
        }
        self.cells.resize_with(slots, K::Cell::default);
    }

    fn update(
        &mut self,
        slots: &[u32],
        arguments: &[ArrayRef],
        keep: Option<&BooleanArray>,
    ) -> Result<(), StateError> {
        let rows = Rows::new(slots, keep);
        match self.input {
            Form::Values => self.kernel.update(&mut self.cells, rows, arguments, &mut self.heap),
            Form::State => self.merge_rows(rows, &arguments[0]),
        }
    }

    fn has_room(
        &self,
        slots: &[u32],
        _arguments: &[ArrayRef],
        _keep: Option<&BooleanArray>,
    ) -> bool {
        match self.input {
            Form::Values => self.kernel.has_room(&self.cells, slots),
            // Any of the states may be malformed.
            Form::State => false,
        }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.put(slot, out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), StateError> {
        merge_tagged(&self.kernel, &mut self.cells[slot as usize], bytes, &mut self.heap)
    }

    fn skip(&self, bytes: &mut &[u8]) -> Result<(), StateError> {
        merge_tagged(&self.kernel, &mut K::Cell::default(), bytes, &mut 0)
    }

    fn absorb(
        &mut self,
        slots: &[u32],
        from: &dyn States,
        numbers: &[u32],
    ) -> Result<(), StateError> {
        let from: &dyn Any = from;
        let other: &Grouped<K> = from.downcast_ref().expect("states of one aggregate are alike");
        for (&slot, &number) in slots.iter().zip(numbers) {
            let (cell, other) = (&mut self.cells[slot as usize], &other.cells[number as usize]);
            self.kernel.absorb(cell, other, &mut self.heap)?;
        }
        Ok(())
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef, StateError> {
        match self.output {
            Form::Values => self.kernel.finish(&Picked { cells: &self.cells, slots }),
            Form::State => {
                let mut states = BinaryBuilder::with_capacity(slots.len(), 16 * slots.len());
                let mut state = Vec::new();
                for slot in slots {
                    state.clear();
                    self.put(*slot, &mut state);
                    states.append_value(&state);
                }
                Ok(Arc::new(states.finish()))
            }
        }
    }

    fn keep(&mut self, slots: &[u32]) {
        let kept = slots.iter().map(|slot| std::mem::take(&mut self.cells[*slot as usize]));
        self.cells = kept.collect();
        self.heap = self.cells.iter().map(|cell| self.kernel.heap_bytes(cell)).sum();
    }

    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<K::Cell>() + self.heap
    }
}
