//! `bit_and`, `bit_or`, `bit_xor`, `bool_and`, `bool_or`.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::codec::Reader;
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::words::{from_words, words};
use super::{StateError, tag};

/// How two values become one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bitwise {
    And,
    Or,
    Xor,
}

/// Joins the bits of integers or booleans.
#[derive(Debug)]
pub(super) struct Bits {
    bitwise: Bitwise,
    data_type: DataType,
    /// What turns a word into the bits of the value.
    turned: u64,
}

impl Bits {
    /// Over values of this type.
    pub fn new(bitwise: Bitwise, data_type: DataType) -> Bits {
        let turned = if data_type.is_signed_integer() { 1 << 63 } else { 0 };
        Bits { bitwise, data_type, turned }
    }

    #[inline]
    fn join(&self, cell: &mut Option<u64>, bits: u64) {
        *cell = Some(match (*cell, self.bitwise) {
            (None, _) => bits,
            (Some(kept), Bitwise::And) => kept & bits,
            (Some(kept), Bitwise::Or) => kept | bits,
            (Some(kept), Bitwise::Xor) => kept ^ bits,
        });
    }
}

impl Kernel for Bits {
    type Cell = Option<u64>;

    const TAG: u8 = tag::BITS;
    const WHAT: &'static str = "bits";

    fn update(
        &self,
        cells: &mut [Option<u64>],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let words = words(&arguments[0]);
        rows.each(arguments, |row, slot| self.join(&mut cells[slot], words[row] ^ self.turned));
        Ok(())
    }

    fn encode(&self, cell: &Option<u64>, out: &mut Vec<u8>) {
        out.push(u8::from(cell.is_some()));
        if let Some(bits) = cell {
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }

    fn merge(
        &self,
        cell: &mut Option<u64>,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        if bytes.flag()? {
            self.join(cell, u64::from_le_bytes(bytes.array()?));
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Option<u64>>) -> Result<ArrayRef, StateError> {
        let words = cells.iter().map(|cell| cell.map(|bits| bits ^ self.turned));
        Ok(from_words(&self.data_type, words))
    }
}
