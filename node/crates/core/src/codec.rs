//! How commands and checkpoints become bytes, version 1.
//!
//! Everything is little-endian and of fixed width; there is no padding, no alignment and no
//! optional packing, so a layout can be read off the code that writes it:
//!
//! | form | bytes |
//! |---|---|
//! | `u8`, `u16`, `u32`, `u64`, `i64` | 1, 2, 4, 8, 8, little-endian |
//! | flag | one byte, 0 or 1; anything else is malformed |
//! | bytes, text | length `u32`, then the bytes; text is UTF-8 |
//! | optional | a flag, then the value if the flag is 1 |
//! | list | count `u32`, then the items |
//!
//! It is ours so that what lies on disk changes only when we change it, under a version number of
//! ours. It does not describe itself: reader and writer must agree on the order of the fields,
//! which is why each form starts with a version byte ([`Reader::version`]).
//!
//! Reading never panics and never allocates more than the bytes it was given could hold.

use bytes::Bytes;

/// Collects the bytes of one form.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// Why bytes are not the form they should be. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end in the middle of a value.
    #[error("the bytes end at {at}, {missing} more were expected")]
    Short {
        /// Where the value starts.
        at: usize,
        /// How many bytes of it are not there.
        missing: usize,
    },
    /// Bytes are left over behind the last value.
    #[error("{count} bytes are left over at {at}")]
    Trailing {
        /// Where they start.
        at: usize,
        /// How many.
        count: usize,
    },
    /// A number stands for nothing this version knows.
    #[error("unknown {what} {found} at byte {at}")]
    Unknown {
        /// What it should be.
        what: &'static str,
        /// The number.
        found: u64,
        /// Where it is.
        at: usize,
    },
    /// Text is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the text starts.
        at: usize,
    },
    /// The values can be read but contradict each other.
    #[error("{reason}")]
    Inconsistent {
        /// Which rule is broken.
        reason: String,
    },
}

impl Malformed {
    /// For a rule of a form that its values break.
    pub fn inconsistent(reason: impl Into<String>) -> Malformed {
        Malformed::Inconsistent { reason: reason.into() }
    }
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Nothing yet, with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(capacity) }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// Writes a byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Writes 2 bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes 4 bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes 8 bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes 8 bytes.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a byte, 0 or 1.
    pub fn flag(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// Writes how many items follow.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("no form holds 2^32 items"));
    }

    /// Writes bytes with their length before them.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// Writes text with its length before it.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Writes bytes as they are; the reader must know how many.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// Writes zeroes until the position is a multiple of `alignment`.
    pub fn pad(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

/// Takes one form apart, from front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Reads the version byte of a form, which must be `known`.
    pub fn version(&mut self, known: u8) -> Result<(), Malformed> {
        let at = self.at;
        let found = self.u8()?;
        if found != known {
            return Err(Malformed::Unknown { what: "version", found: u64::from(found), at });
        }
        Ok(())
    }

    /// Reads the version byte of a form that is known in versions 1 to `newest`.
    pub fn version_up_to(&mut self, newest: u8) -> Result<u8, Malformed> {
        let at = self.at;
        let found = self.u8()?;
        if found == 0 || newest < found {
            return Err(Malformed::Unknown { what: "version", found: u64::from(found), at });
        }
        Ok(found)
    }

    /// Reads a byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads 2 bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Reads 4 bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Reads 8 bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads 8 bytes.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Reads a byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        let at = self.at;
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Malformed::Unknown { what: "flag", found: u64::from(found), at }),
        }
    }

    /// Reads how many items follow. Each takes at least `item_bytes_min` bytes, so a count that the
    /// bytes left cannot hold is refused before anyone makes room for it.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        let needed = count.saturating_mul(item_bytes_min);
        if self.remaining() < needed {
            return Err(Malformed::Short { at: self.at, missing: needed - self.remaining() });
        }
        Ok(count)
    }

    /// Reads bytes with their length before them.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.raw(length)
    }

    /// Reads text with its length before it.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotUtf8 { at })
    }

    /// Reads `length` bytes as they are.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        if self.remaining() < length {
            return Err(Malformed::Short { at: self.at, missing: length - self.remaining() });
        }
        let value = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(value)
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { at: self.at, count }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let value = self.raw(N)?;
        Ok(value.try_into().expect("raw gives as many bytes as asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::new();
        writer.u8(1);
        writer.u16(2);
        writer.u32(3);
        writer.u64(4);
        writer.i64(-5);
        writer.flag(true);
        writer.text("grüße");
        writer.bytes(b"");
        writer.pad(16);
        let bytes = writer.finish();
        assert_eq!(bytes.len() % 16, 0);

        let mut reader = Reader::new(&bytes);
        reader.version(1).unwrap();
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.u64(), Ok(4));
        assert_eq!(reader.i64(), Ok(-5));
        assert_eq!(reader.flag(), Ok(true));
        assert_eq!(reader.text(), Ok("grüße"));
        assert_eq!(reader.bytes(), Ok(&b""[..]));
        assert!(reader.raw(reader.remaining()).unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn malformed_bytes_are_named() {
        assert_eq!(Reader::new(&[1, 2]).u32(), Err(Malformed::Short { at: 0, missing: 2 }));
        assert_eq!(Reader::new(&[0, 0]).end(), Err(Malformed::Trailing { at: 0, count: 2 }));
        let unknown = |what, found| Malformed::Unknown { what, found, at: 0 };
        assert_eq!(Reader::new(&[7]).flag(), Err(unknown("flag", 7)));
        assert_eq!(Reader::new(&[9]).version(1), Err(unknown("version", 9)));
        assert_eq!(Reader::new(&[1, 0, 0, 0, 255]).text(), Err(Malformed::NotUtf8 { at: 0 }));
    }

    #[test]
    fn a_count_that_cannot_be_true_is_refused_before_room_is_made() {
        let huge = [255, 255, 255, 255, 0];
        assert!(matches!(Reader::new(&huge).count(8), Err(Malformed::Short { .. })));
        assert!(matches!(Reader::new(&huge).bytes(), Err(Malformed::Short { .. })));
    }
}
