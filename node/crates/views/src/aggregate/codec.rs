//! How states become bytes, and bytes states.
//!
//! Little-endian, with no padding. Numbers that are mostly small are written in as few bytes as
//! they need. A reader never panics, whatever the bytes.

use arrow::datatypes::i256;

use super::StateError;

/// Bytes of a state, read from the front.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Of a state of this aggregate.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { bytes, what }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The error that says why these bytes are not a state.
    #[cold]
    pub fn malformed(&self, reason: impl Into<String>) -> StateError {
        StateError::Malformed { what: self.what, reason: reason.into() }
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.malformed("it ends too early"));
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// So many bytes, as many as the type says.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let taken = self.bytes(N)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, StateError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, StateError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag is neither 0 nor 1")),
        }
    }

    /// What [`put_varint`] wrote.
    pub fn varint(&mut self) -> Result<u64, StateError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            if (part << shift) >> shift != part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number has more than 64 bits"))
    }

    /// A count of things of which each takes at least `item_bytes_min` of what follows.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, StateError> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count.saturating_mul(item_bytes_min) <= self.bytes.len() => Ok(count),
            Ok(_) | Err(_) => Err(self.malformed("it ends too early")),
        }
    }

    /// What [`put_f64`] wrote.
    pub fn f64(&mut self) -> Result<f64, StateError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// What [`put_i128`] wrote.
    pub fn i128(&mut self) -> Result<i128, StateError> {
        Ok(i128::from_le_bytes(self.extended()?))
    }

    /// What [`put_i256`] wrote.
    pub fn i256(&mut self) -> Result<i256, StateError> {
        Ok(i256::from_le_bytes(self.extended()?))
    }

    fn extended<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let count = usize::from(self.byte()?);
        if N < count {
            return Err(self.malformed("a number has too many bytes"));
        }
        let taken = self.bytes(count)?;
        let is_negative = taken.last().is_some_and(|last| 0x80 <= *last);
        let mut bytes = [if is_negative { 0xFF } else { 0 }; N];
        bytes[..count].copy_from_slice(taken);
        Ok(bytes)
    }
}

/// Seven bits a byte, the lowest first.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// All its bits.
pub(super) fn put_f64(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// How many bytes, then those that are not only the sign.
pub(super) fn put_i128(value: i128, out: &mut Vec<u8>) {
    put_trimmed(&value.to_le_bytes(), out);
}

/// As [`put_i128`].
pub(super) fn put_i256(value: i256, out: &mut Vec<u8>) {
    put_trimmed(&value.to_le_bytes(), out);
}

fn put_trimmed(bytes: &[u8], out: &mut Vec<u8>) {
    let sign = if bytes.last().is_some_and(|last| 0x80 <= *last) { 0xFF } else { 0 };
    let mut count = bytes.len();
    // A byte is needed where it differs from the sign, or where the one below it looks like the
    // other sign.
    while 0 < count && bytes[count - 1] == sign {
        let below = if count == 1 { 0 } else { bytes[count - 2] };
        if (below ^ sign) & 0x80 != 0 {
            break;
        }
        count -= 1;
    }
    out.push(count as u8);
    out.extend_from_slice(&bytes[..count]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut numbers = vec![0, 1, -1, 127, 128, -128, -129, 255, 256, i128::MAX, i128::MIN];
        numbers.extend((0..127).flat_map(|bit| [1_i128 << bit, -(1 << bit), (1 << bit) - 1]));
        for number in numbers {
            let mut bytes = Vec::new();
            put_i128(number, &mut bytes);
            put_i256(i256::from_i128(number), &mut bytes);
            put_varint(number as u64, &mut bytes);
            let mut reader = Reader::new(&bytes, "test");
            assert_eq!(reader.i128(), Ok(number));
            assert_eq!(reader.i256(), Ok(i256::from_i128(number)));
            assert_eq!(reader.varint(), Ok(number as u64));
            assert!(reader.rest().is_empty());
        }
        for bytes in [&[0xFF; 11][..], &[0x80], &[], &[0xFF; 9]] {
            assert!(Reader::new(bytes, "test").varint().is_err(), "{bytes:?}");
        }
    }
}
