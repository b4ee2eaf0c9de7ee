//! Which partition an event belongs to, version 1.
//!
//! The values of the key columns, in the order of `PARTITION BY`, are written one behind the other
//! as bytes; the bytes are hashed by XXH64 with seed 0; the hash modulo the number of partitions is
//! the partition. Where events lie depends on this for as long as a stream lives, so it is written
//! down byte by byte, tested against fixed vectors, and owes nothing to a library's row format or
//! hash trait. A change needs a new [`ROUTING_VERSION`] beside this one.
//!
//! Each value is a tag byte and, little-endian:
//!
//! | tag | value | bytes after the tag |
//! |---|---|---|
//! | 0 | null of any type | none |
//! | 1 | boolean | one: 0 or 1 |
//! | 2 | integer of any width; date (days), time, timestamp (microseconds) | 8: `i64` |
//! | 3 | float of any width, widened | 8: IEEE 754 bits; -0.0 as 0.0, every NaN as `7ff8…0` |
//! | 4 | text, JSON | length `u32`, UTF-8 |
//! | 5 | bytes | length `u32`, the bytes |
//! | 6 | numeric | 16: unscaled `i128`; 1: scale |
//! | 7 | anything else | 1: kind; length `u32`; the bytes, as the kind says |
//!
//! Kinds under tag 7: [`INTERVAL`] is months `i32`, days `i32`, nanoseconds `i64`; [`LIST`] and
//! [`STRUCT`] are their items or fields in order, each written as a value of this table.
//!
//! A type is widened before hashing so that a later `ALTER` from INTEGER to BIGINT moves nothing.

use xxhash_rust::xxh64::xxh64;

use crate::ids::PartitionNumber;

/// The version this page describes.
pub const ROUTING_VERSION: u8 = 1;

/// Kind of an interval under tag 7.
pub const INTERVAL: u8 = 1;
/// Kind of a list under tag 7.
pub const LIST: u8 = 2;
/// Kind of a struct under tag 7.
pub const STRUCT: u8 = 3;

const TAG_NULL: u8 = 0;
const TAG_BOOL: u8 = 1;
const TAG_INTEGER: u8 = 2;
const TAG_FLOAT: u8 = 3;
const TAG_TEXT: u8 = 4;
const TAG_BYTES: u8 = 5;
const TAG_NUMERIC: u8 = 6;
const TAG_OTHER: u8 = 7;

const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;
const SEED: u64 = 0;

/// The canonical bytes of one key. Meant to be cleared and filled again for the next event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    /// No value yet.
    #[must_use]
    pub fn new() -> KeyBytes {
        KeyBytes::default()
    }

    /// Forgets all values, keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Adds a null of any type.
    pub fn push_null(&mut self) {
        self.0.push(TAG_NULL);
    }

    /// Adds a boolean.
    pub fn push_bool(&mut self, value: bool) {
        self.0.extend_from_slice(&[TAG_BOOL, u8::from(value)]);
    }

    /// Adds an integer of any width, a date, a time or a timestamp.
    pub fn push_i64(&mut self, value: i64) {
        let mut bytes = [TAG_INTEGER; 9];
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        self.0.extend_from_slice(&bytes);
    }

    /// Adds a float of any width. Values that compare equal in SQL give equal bytes.
    pub fn push_f64(&mut self, value: f64) {
        let bits = if value.is_nan() {
            CANONICAL_NAN
        } else if value == 0.0 {
            0
        } else {
            value.to_bits()
        };
        let mut bytes = [TAG_FLOAT; 9];
        bytes[1..].copy_from_slice(&bits.to_le_bytes());
        self.0.extend_from_slice(&bytes);
    }

    /// Adds text.
    pub fn push_text(&mut self, value: &str) {
        self.0.push(TAG_TEXT);
        self.push_with_length(value.as_bytes());
    }

    /// Adds bytes.
    pub fn push_bytes(&mut self, value: &[u8]) {
        self.0.push(TAG_BYTES);
        self.push_with_length(value);
    }

    /// Adds a numeric: `unscaled` divided by ten to the power of `scale`.
    pub fn push_i128(&mut self, unscaled: i128, scale: u8) {
        self.0.push(TAG_NUMERIC);
        self.0.extend_from_slice(&unscaled.to_le_bytes());
        self.0.push(scale);
    }

    /// Adds a value of another kind, written as that kind says.
    pub fn push_other(&mut self, kind: u8, value: &[u8]) {
        self.0.extend_from_slice(&[TAG_OTHER, kind]);
        self.push_with_length(value);
    }

    /// The partition of this key.
    #[must_use]
    pub fn partition(&self, partition_count: u32) -> PartitionNumber {
        partition_of(&self.0, partition_count)
    }

    fn push_with_length(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("a batch is smaller than 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value);
    }
}

/// The partition of a key, given its canonical bytes.
#[must_use]
pub fn partition_of(key: &[u8], partition_count: u32) -> PartitionNumber {
    assert!(partition_count != 0, "every stream has a partition");
    let remainder = hash(key) % u64::from(partition_count);
    PartitionNumber(u32::try_from(remainder).expect("a remainder is smaller than its divisor"))
}

/// The hash of a key, given its canonical bytes.
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    xxh64(key, SEED)
}
