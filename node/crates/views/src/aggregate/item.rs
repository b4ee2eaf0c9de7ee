//! Values that states keep many of, or look up.
//!
//! Zero below zero is zero here, as in `GROUP BY`.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::DataType;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::StateError;
use super::codec::{Reader, put_varint};
use super::rows::Rows;
use super::words::{Word, from_bytes, from_wides, from_words, wides, words};
use crate::bytes_column::BytesColumn;

/// Part of the form of stored sketches: another one would make them those of other values.
const HASH_SEED: u64 = 0x616C_6C75_7669_756D;

/// A value that is kept: a word, a wide, or bytes.
pub(super) trait Item:
    Borrow<Self::Ref> + Ord + Hash + Debug + Send + Sync + 'static
{
    /// A value that is looked at.
    type Ref: Ord + Hash + ?Sized;

    /// Which of the three, in tags.
    const KIND: u8;

    fn own(value: &Self::Ref) -> Self;

    /// Bytes that it owns outside of itself.
    fn heap_bytes(&self) -> usize;

    fn put(value: &Self::Ref, out: &mut Vec<u8>);

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError>
    where
        Self: Sized;

    /// The hash that sketches go by.
    fn hash64(value: &Self::Ref) -> u64;

    /// Visits the slot and the value of each row that counts and has one.
    fn each(
        rows: Rows<'_>,
        column: &ArrayRef,
        visit: impl FnMut(usize, &Self::Ref) -> Result<(), StateError>,
    ) -> Result<(), StateError>;

    /// The array of such values; `None` where one is not of the type.
    fn array(data_type: &DataType, values: &[&Self::Ref]) -> Option<ArrayRef>;
}

/// Bytes that are kept.
pub(super) type ItemBytes = Box<[u8]>;

impl Item for u64 {
    type Ref = u64;

    const KIND: u8 = 0;

    fn own(value: &u64) -> u64 {
        *value
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn put(value: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(bytes.array()?))
    }

    #[inline]
    fn hash64(value: &u64) -> u64 {
        xxh3_64_with_seed(&value.to_le_bytes(), HASH_SEED)
    }

    #[inline]
    fn each(
        rows: Rows<'_>,
        column: &ArrayRef,
        mut visit: impl FnMut(usize, &u64) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let not_null = std::slice::from_ref(column);
        if *column.data_type() == DataType::Int64 {
            let values = column.as_primitive::<arrow::datatypes::Int64Type>().values();
            return rows.try_each(not_null, |row, slot| visit(slot, &values[row].word()));
        }
        let mut words = words(column);
        if column.data_type().is_floating() {
            let (below, zero) = ((-0.0_f64).word(), 0.0_f64.word());
            words.iter_mut().filter(|word| **word == below).for_each(|word| *word = zero);
        }
        rows.try_each(not_null, |row, slot| visit(slot, &words[row]))
    }

    fn array(data_type: &DataType, values: &[&u64]) -> Option<ArrayRef> {
        Some(from_words(data_type, values.iter().map(|value| Some(**value))))
    }
}

impl Item for u128 {
    type Ref = u128;

    const KIND: u8 = 1;

    fn own(value: &u128) -> u128 {
        *value
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn put(value: &u128, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<u128, StateError> {
        Ok(u128::from_le_bytes(bytes.array()?))
    }

    fn hash64(value: &u128) -> u64 {
        xxh3_64_with_seed(&value.to_le_bytes(), HASH_SEED)
    }

    fn each(
        rows: Rows<'_>,
        column: &ArrayRef,
        mut visit: impl FnMut(usize, &u128) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let wides = wides(column);
        rows.try_each(std::slice::from_ref(column), |row, slot| visit(slot, &wides[row]))
    }

    fn array(data_type: &DataType, values: &[&u128]) -> Option<ArrayRef> {
        Some(from_wides(data_type, values.iter().map(|value| Some(**value))))
    }
}

impl Item for ItemBytes {
    type Ref = [u8];

    const KIND: u8 = 2;

    fn own(value: &[u8]) -> ItemBytes {
        value.into()
    }

    fn heap_bytes(&self) -> usize {
        self.len()
    }

    fn put(value: &[u8], out: &mut Vec<u8>) {
        put_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<ItemBytes, StateError> {
        let count = bytes.count(1)?;
        Ok(bytes.bytes(count)?.into())
    }

    #[inline]
    fn hash64(value: &[u8]) -> u64 {
        xxh3_64_with_seed(value, HASH_SEED)
    }

    fn each(
        rows: Rows<'_>,
        column: &ArrayRef,
        mut visit: impl FnMut(usize, &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let values = BytesColumn::new(column);
        rows.try_each(std::slice::from_ref(column), |row, slot| visit(slot, values.value(row)))
    }

    fn array(data_type: &DataType, values: &[&[u8]]) -> Option<ArrayRef> {
        from_bytes(data_type, values.iter().map(|value| Some(*value)))
    }
}

/// For tables in memory only: nothing that is stored depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableHasher(u64);

/// Makes hashers for tables.
pub(super) type TableState = BuildHasherDefault<TableHasher>;

/// The golden ratio, in 64 bits.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

impl TableHasher {
    #[inline]
    fn mix(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ ODD) * u128::from(ODD);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for TableHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.mix(xxh3_64_with_seed(bytes, self.0));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
