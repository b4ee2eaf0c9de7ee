//! `histogram`: how many values lie between bounds.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder};
use arrow::datatypes::{DataType, Field};

use super::codec::{Reader, put_varint};
use super::grouped::{Kernel, Picked};
use super::moments::doubles;
use super::rows::Rows;
use super::{StateError, tag};

/// How many bounds there may be.
pub const BOUNDS_MAX: usize = 1024;

/// Counts values below the first bound, and from each bound on. NaN is above every bound.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Ascending.
    pub bounds: Vec<f64>,
}

impl Histogram {
    /// The type of its values.
    pub fn output_type() -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Int64, false)))
    }

    /// There are bounds, not too many, and they ascend.
    pub fn are_bounds(bounds: &[f64]) -> bool {
        (1..=BOUNDS_MAX).contains(&bounds.len())
            && !bounds[0].is_nan()
            && bounds.windows(2).all(|two| two[0] < two[1])
    }

    /// The counts of a group, which has none before its first value.
    fn counts<'a>(&self, cell: &'a mut Vec<u64>, heap: &mut usize) -> &'a mut [u64] {
        if cell.is_empty() {
            *cell = vec![0; self.bounds.len() + 1];
            *heap += self.heap_bytes(cell);
        }
        cell
    }
}

impl Kernel for Histogram {
    type Cell = Vec<u64>;

    const TAG: u8 = tag::HISTOGRAM;
    const WHAT: &'static str = "histogram";

    fn update(
        &self,
        cells: &mut [Vec<u64>],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let values = doubles(&arguments[0])?;
        let values = values.values();
        rows.each(&arguments[..1], |row, slot| {
            let value = values[row];
            let place = self.bounds.partition_point(|bound| value.is_nan() || *bound <= value);
            let count = &mut self.counts(&mut cells[slot], heap)[place];
            *count = count.wrapping_add(1);
        });
        Ok(())
    }

    fn encode(&self, cell: &Vec<u64>, out: &mut Vec<u8>) {
        put_varint(cell.len() as u64, out);
        for count in cell {
            put_varint(*count, out);
        }
        if !cell.is_empty() {
            for bound in &self.bounds {
                out.extend_from_slice(&bound.to_le_bytes());
            }
        }
    }

    fn merge(
        &self,
        cell: &mut Vec<u64>,
        bytes: &mut Reader<'_>,
        heap: &mut usize,
    ) -> Result<(), StateError> {
        let count = bytes.count(1)?;
        if count == 0 {
            return Ok(());
        }
        if count != self.bounds.len() + 1 {
            return Err(bytes.malformed("it has other bounds"));
        }
        for sum in self.counts(cell, heap) {
            let total = sum.checked_add(bytes.varint()?);
            *sum = total.ok_or_else(|| bytes.malformed("it counts more than 2^64 rows"))?;
        }
        for bound in &self.bounds {
            if bytes.f64()? != *bound {
                return Err(bytes.malformed("it has other bounds"));
            }
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Vec<u64>>) -> Result<ArrayRef, StateError> {
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        let mut lists = ListBuilder::new(Int64Builder::new()).with_field(item);
        for cell in cells.iter() {
            match cell.is_empty() {
                true => lists.values().append_value_n(0, self.bounds.len() + 1),
                false => {
                    for count in cell {
                        lists.values().append_value(i64::try_from(*count).unwrap_or(i64::MAX));
                    }
                }
            }
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }

    fn heap_bytes(&self, cell: &Vec<u64>) -> usize {
        size_of_val(cell.as_slice())
    }
}
