//! Entries of all Raft logs.
//!
//! Key:   group u64 BE | index u64 BE
//! Value: see [`crate::entry`]
//!
//! Alone in its column family, so there is no tag.

use alluvium_core::ids::{GroupId, Index};

/// Length of a key.
pub(crate) const KEY_BYTES: usize = 16;

pub(crate) fn encode(group: GroupId, index: Index) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&group.0.to_be_bytes());
    key[8..].copy_from_slice(&index.0.to_be_bytes());
    key
}

pub(crate) fn decode(key: &[u8]) -> Option<(GroupId, Index)> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[..8].try_into().ok()?);
    let index = u64::from_be_bytes(key[8..].try_into().ok()?);
    Some((GroupId(group), Index(index)))
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
            prop_assert_eq!(decode(&one[1..]), None);
        }
    }
}
