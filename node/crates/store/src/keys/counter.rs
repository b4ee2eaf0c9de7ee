//! Counters of this node.
//!
//! Key:   `n` | counter u8 (0: next segment id)
//! Row:   u64 LE | CRC32

use alluvium_core::codec::{Malformed, Reader};
use alluvium_core::ids::SegmentId;

use super::{seal, unseal};

const TAG: u8 = b'n';

/// Key of the next segment id.
pub(crate) const NEXT_SEGMENT: [u8; 2] = [TAG, 0];

pub(crate) fn encode(next: SegmentId) -> Vec<u8> {
    seal(&next.0.to_le_bytes())
}

pub(crate) fn decode(sealed: &[u8]) -> Result<SegmentId, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    let next = SegmentId(row.u64()?);
    row.end()?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_read_back(next: u64) {
            prop_assert_eq!(decode(&encode(SegmentId(next))).unwrap(), SegmentId(next));
        }
    }
}
