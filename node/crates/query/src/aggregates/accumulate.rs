//! States of ours behind the engine's two interfaces: one group, and many.

use std::sync::Arc;

use alluvium_views::aggregate::{AggregateCall, States};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::function::failed;

/// The states of many groups.
#[derive(Debug)]
pub(super) struct Groups {
    call: AggregateCall,
    states: Box<dyn States>,
    /// How many arguments are values of rows.
    values: usize,
    count: usize,
    slots: Vec<u32>,
}

impl Groups {
    pub fn new(call: AggregateCall, values: usize) -> Result<Groups> {
        let states = call.states().map_err(failed)?;
        Ok(Groups { call, states, values, count: 0, slots: Vec::new() })
    }

    fn resize(&mut self, count: usize) {
        if self.count < count {
            self.states.resize(count);
            self.count = count;
        }
    }

    fn emitted(&self, emit_to: EmitTo) -> Vec<u32> {
        let count = match emit_to {
            EmitTo::All => self.count,
            EmitTo::First(count) => count,
        };
        (0..number(count)).collect()
    }

    fn forget(&mut self, emitted: &[u32]) {
        let left: Vec<u32> = (number(emitted.len())..number(self.count)).collect();
        self.states.keep(&left);
        self.count = left.len();
    }
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("groups are numbered with 32 bits")
}

fn encoded(states: &dyn States, slots: impl Iterator<Item = u32>) -> ArrayRef {
    let mut column = BinaryBuilder::new();
    let mut state = Vec::new();
    for slot in slots {
        state.clear();
        states.encode(slot, &mut state);
        column.append_value(&state);
    }
    Arc::new(column.finish())
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        self.slots.clear();
        self.slots.extend(group_indices.iter().map(|group| *group as u32));
        self.states.update(&self.slots, &values[..self.values], opt_filter).map_err(failed)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let emitted = self.emitted(emit_to);
        let values = self.states.finish(&emitted).map_err(failed)?;
        self.forget(&emitted);
        Ok(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let emitted = self.emitted(emit_to);
        let states = encoded(&*self.states, emitted.iter().copied());
        self.forget(&emitted);
        Ok(vec![states])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let column = values[0].as_binary::<i32>();
        for (row, group) in group_indices.iter().enumerate() {
            if column.is_valid(row) {
                let mut state = column.value(row);
                self.states.merge(*group as u32, &mut state).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut states = self.call.states().map_err(failed)?;
        let count = values[0].len();
        states.resize(count);
        let slots: Vec<u32> = (0..number(count)).collect();
        states.update(&slots, &values[..self.values], opt_filter).map_err(failed)?;
        Ok(vec![encoded(&*states, slots.iter().copied())])
    }

    fn size(&self) -> usize {
        self.states.bytes() + self.slots.capacity() * size_of::<u32>()
    }
}

/// The state of one group.
#[derive(Debug)]
pub(super) struct One {
    states: Box<dyn States>,
    values: usize,
    /// As many zeros as there are rows.
    slots: Vec<u32>,
}

impl One {
    pub fn new(call: &AggregateCall, values: usize) -> Result<One> {
        let mut states = call.states().map_err(failed)?;
        states.resize(1);
        Ok(One { states, values, slots: Vec::new() })
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.slots.resize(values[0].len(), 0);
        self.states.update(&self.slots, &values[..self.values], None).map_err(failed)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.states.finish(&[0]).map_err(failed)?;
        ScalarValue::try_from_array(&value, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::new();
        self.states.encode(0, &mut state);
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let column = states[0].as_binary::<i32>();
        for mut state in column.iter().flatten() {
            self.states.merge(0, &mut state).map_err(failed)?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.states.bytes() + self.slots.capacity() * size_of::<u32>()
    }
}
