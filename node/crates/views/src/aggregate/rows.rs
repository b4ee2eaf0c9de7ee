//! Which rows count.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;

/// Rows with the slots they belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    slots: &'a [u32],
    keep: Option<&'a BooleanArray>,
}

impl<'a> Rows<'a> {
    /// Row `i` belongs to `slots[i]` and counts if `keep` is true there.
    pub fn new(slots: &'a [u32], keep: Option<&'a BooleanArray>) -> Rows<'a> {
        Rows { slots, keep }
    }

    /// Visits row and slot of each row that counts and has a value in each of these columns.
    #[inline]
    pub fn each(&self, not_null: &[ArrayRef], mut visit: impl FnMut(usize, usize)) {
        match self.counted(not_null) {
            None => {
                for (row, slot) in self.slots.iter().enumerate() {
                    visit(row, *slot as usize);
                }
            }
            Some(counted) => {
                for row in counted.set_indices() {
                    visit(row, self.slots[row] as usize);
                }
            }
        }
    }

    /// As [`Rows::each`], and ends with the first error.
    #[inline]
    pub fn try_each<E>(
        &self,
        not_null: &[ArrayRef],
        mut visit: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.counted(not_null) {
            None => {
                for (row, slot) in self.slots.iter().enumerate() {
                    visit(row, *slot as usize)?;
                }
            }
            Some(counted) => {
                for row in counted.set_indices() {
                    visit(row, self.slots[row] as usize)?;
                }
            }
        }
        Ok(())
    }

    /// The rows that count; `None` if all do.
    fn counted(&self, not_null: &[ArrayRef]) -> Option<BooleanBuffer> {
        let kept = self.keep.map(|keep| match keep.nulls() {
            None => keep.values().clone(),
            Some(nulls) => keep.values() & nulls.inner(),
        });
        not_null.iter().fold(kept, |counted, array| {
            let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() != 0);
            match (counted, nulls) {
                (counted, None) => counted,
                (None, Some(nulls)) => Some(nulls.into_inner()),
                (Some(counted), Some(nulls)) => Some(&counted & nulls.inner()),
            }
        })
    }
}
