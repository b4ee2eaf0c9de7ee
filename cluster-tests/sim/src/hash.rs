//! A small hash with the same value everywhere: to compare, not to protect.

/// A running hash: eight bytes at a time, multiplied and folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hash {
    /// A hash that begins where another ended.
    #[must_use]
    pub fn resume(value: u64) -> Hash {
        Hash(value)
    }

    /// Adds bytes. Their number counts too, so that `ab`, `c` differs from `a`, `bc`.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add_number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add_number(u64::from_le_bytes(last));
        self.add_number(bytes.len() as u64);
    }

    /// Adds a number.
    pub fn add_number(&mut self, number: u64) {
        let mixed = u128::from(self.0 ^ number).wrapping_mul(0xa076_1d64_78bd_642f_e703_7ed1);
        let [low, high] = [mixed as u64, (mixed >> 64) as u64];
        self.0 = low.rotate_left(29) ^ high;
    }

    /// The value so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut hash = Hash::default();
        parts.iter().for_each(|part| hash.add(part));
        hash.value()
    }

    #[test]
    fn different_bytes_differ() {
        let all: std::collections::BTreeSet<u64> =
            [of(&[]), of(&[b""]), of(&[b"ab", b"c"]), of(&[b"a", b"bc"]), of(&[b"abc\0"])]
                .into_iter()
                .collect();
        assert_eq!(all.len(), 5);
        assert_eq!(of(&[b"abc"]), of(&[b"abc"]));
    }
}
