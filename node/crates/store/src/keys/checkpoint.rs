//! States of machines at a place of their log.
//!
//! Key:   `c` | group u64 BE | index u64 BE
//! Value: what [`alluvium_core::replica::Machine::checkpoint`] wrote
//!
//! The database has no log of its own: the value is durable after a flush, and only then does a
//! [`super::replica::ReplicaRow`] point to it, with its length and checksum. Keys that no row
//! points to are leftovers of a crash.

use alluvium_core::ids::{GroupId, Index};

const TAG: u8 = b'c';
/// Length of a key.
pub(crate) const KEY_BYTES: usize = 17;

/// First key of the family.
pub(crate) const FIRST: [u8; 1] = [TAG];
/// After the last key of the family.
pub(crate) const AFTER: [u8; 1] = [TAG + 1];

pub(crate) fn encode(group: GroupId, index: Index) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[0] = TAG;
    key[1..9].copy_from_slice(&group.0.to_be_bytes());
    key[9..].copy_from_slice(&index.0.to_be_bytes());
    key
}

pub(crate) fn decode(key: &[u8]) -> Option<(GroupId, Index)> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[1..9].try_into().ok()?);
    let index = u64::from_be_bytes(key[9..].try_into().ok()?);
    (key[0] == TAG).then_some((GroupId(group), Index(index)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_ordered(a: (u64, u64), b: (u64, u64)) {
            let one = encode(GroupId(a.0), Index(a.1));
            let other = encode(GroupId(b.0), Index(b.1));
            prop_assert_eq!(decode(&one), Some((GroupId(a.0), Index(a.1))));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
            prop_assert!(FIRST[..] <= one[..] && one[..] < AFTER[..]);
        }
    }
}
