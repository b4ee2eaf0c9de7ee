//! Groups: their keys as bytes, and the table that numbers them.
//!
//! [`KeyCodec`] turns the values that tell groups apart into bytes and back. The bytes are stored,
//! so the form is ours and written down here; its version is [`KEY_VERSION`], which each view's row
//! names. [`GroupTable`] gives each key that is met a slot, from 0 on: states are kept by slot.
//!
//! # The form
//!
//! The parts of a key follow each other, one for each column, and each says where it ends:
//!
//! | value | bytes |
//! |---|---|
//! | null | `00` |
//! | any other | `01`, then the value |
//! | boolean | `00` or `01` |
//! | signed number, decimal, date, time, timestamp, duration | big endian, highest bit flipped |
//! | unsigned number | big endian |
//! | float | its bits, big endian; all flipped when negative, else the highest one |
//! | interval | its fields as signed numbers, months first |
//! | text, bytes | each `00` as `00 FF`; then `00 01` |
//!
//! Two values that SQL takes for one have one form: `-0.0` is written as `0.0`, and every NaN as
//! the positive quiet one. In a descending column every byte is flipped.
//!
//! Invariants: bytes compare as the rows do, column by column, nulls first; different rows have
//! different bytes, none the beginning of another's; the key of some leading columns is the
//! beginning of the keys of all rows that start with these values.

mod codec;
mod table;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use codec::Encoded;
pub use codec::{KeyCodec, KeyColumn, KeyError};
pub(crate) use table::GroupTable;

/// Of the form of keys.
pub const KEY_VERSION: u8 = 1;
