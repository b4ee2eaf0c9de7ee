//! The manifest: which segments a group has.
//!
//! Key:   `s` | group u64 BE | segment u64 BE
//! Row:   see [`crate::segment::manifest`]
//!
//! Ids grow, but a merged segment has a larger id than its right neighbour: the order of the keys
//! is not the order of the offsets.

use alluvium_core::ids::{GroupId, SegmentId};

const TAG: u8 = b's';
/// Length of a key.
pub(crate) const KEY_BYTES: usize = 17;

/// First key of the family.
pub(crate) const FIRST: [u8; 1] = [TAG];
/// After the last key of the family.
pub(crate) const AFTER: [u8; 1] = [TAG + 1];

pub(crate) fn encode(group: GroupId, segment: SegmentId) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[0] = TAG;
    key[1..9].copy_from_slice(&group.0.to_be_bytes());
    key[9..].copy_from_slice(&segment.0.to_be_bytes());
    key
}

pub(crate) fn decode(key: &[u8]) -> Option<(GroupId, SegmentId)> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[1..9].try_into().ok()?);
    let segment = u64::from_be_bytes(key[9..].try_into().ok()?);
    (key[0] == TAG).then_some((GroupId(group), SegmentId(segment)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_ordered(a: (u64, u64), b: (u64, u64)) {
            let one = encode(GroupId(a.0), SegmentId(a.1));
            let other = encode(GroupId(b.0), SegmentId(b.1));
            prop_assert_eq!(decode(&one), Some((GroupId(a.0), SegmentId(a.1))));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
            prop_assert!(FIRST[..] <= one[..] && one[..] < AFTER[..]);
        }
    }
}
