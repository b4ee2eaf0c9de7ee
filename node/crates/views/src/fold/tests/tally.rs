//! An aggregate that keeps every value in order, up to a bound: any change in what reaches a state,
//! in which order and how often, shows. When it has no room it leaves a mess behind, as an
//! aggregate may.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::Int64Type;

use crate::aggregate::{StateError, States};

/// Of the names of its columns; the bound follows.
pub(super) const PREFIX: &str = "tally:";

#[derive(Debug)]
pub(super) struct Tally {
    max: usize,
    values: Vec<Vec<i64>>,
}

impl Tally {
    pub(super) fn new(max: usize) -> Tally {
        Tally { max, values: Vec::new() }
    }

    fn check(&self, slot: u32) -> Result<(), StateError> {
        if self.max < self.values[slot as usize].len() {
            let (what, unit, instead) = ("tally", "values", "count");
            return Err(StateError::TooLarge { what, max: self.max, unit, instead });
        }
        Ok(())
    }
}

impl States for Tally {
    fn resize(&mut self, slots: usize) {
        self.values.resize(slots, Vec::new());
    }

    fn update(
        &mut self,
        slots: &[u32],
        arguments: &[ArrayRef],
        keep: Option<&BooleanArray>,
    ) -> Result<(), StateError> {
        let values = arguments[0].as_primitive::<Int64Type>();
        assert_eq!(slots.len(), values.len());
        for (row, &slot) in slots.iter().enumerate() {
            if keep.is_none_or(|keep| keep.is_valid(row) && keep.value(row)) && values.is_valid(row)
            {
                self.values[slot as usize].push(values.value(row));
            }
            self.check(slot)?;
        }
        Ok(())
    }

    fn has_room(&self, slots: &[u32], _: &[ArrayRef], _: Option<&BooleanArray>) -> bool {
        slots.iter().all(|&slot| self.values[slot as usize].len() + slots.len() <= self.max)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let values = &self.values[slot as usize];
        out.push(u8::try_from(values.len()).unwrap());
        for value in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), StateError> {
        let malformed = || StateError::Malformed { what: "tally", reason: "short".into() };
        let (&len, rest) = bytes.split_first().ok_or_else(malformed)?;
        let (values, rest) = rest.split_at_checked(usize::from(len) * 8).ok_or_else(malformed)?;
        let values = values.chunks(8).map(|value| i64::from_le_bytes(value.try_into().unwrap()));
        self.values[slot as usize].extend(values);
        *bytes = rest;
        self.check(slot)
    }

    fn skip(&self, bytes: &mut &[u8]) -> Result<(), StateError> {
        Tally { max: usize::MAX, values: vec![Vec::new()] }.merge(0, bytes)
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let texts = slots.iter().map(|&slot| text(&self.values[slot as usize]));
        Ok(Arc::new(texts.map(Some).collect::<StringArray>()))
    }

    fn keep(&mut self, slots: &[u32]) {
        self.values = slots.iter().map(|&slot| self.values[slot as usize].clone()).collect();
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(|values| values.len() * 8 + 24).sum()
    }
}

/// What it amounts to.
pub(super) fn text(values: &[i64]) -> String {
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}
