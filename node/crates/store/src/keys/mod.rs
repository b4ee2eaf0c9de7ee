//! The keys and rows of both databases: one file for each key family.
//!
//! | tag | family | database |
//! |---|---|---|
//! | (none) | [`log`]: entries | `raft`, column family `log` |
//! | `h` | [`hard_state`] | `raft`, column family `meta` |
//! | `r` | [`replica`]: where the log begins and what the checkpoint is | `raft`, `meta` |
//! | `s` | [`segment`]: the manifest | `raft`, `meta` |
//! | `n` | [`counter`] | `raft`, `meta` |
//! | `c` | [`checkpoint`] | `state` |
//!
//! Numbers in keys are big-endian, so that keys are in the order of the numbers. A tag is never
//! used again for something else. Rows start with a version and end with a CRC32 of what is before
//! it.

pub(crate) mod checkpoint;
pub(crate) mod counter;
pub(crate) mod hard_state;
pub(crate) mod log;
pub(crate) mod replica;
pub(crate) mod segment;

use alluvium_core::codec::Malformed;
use alluvium_core::ids::GroupId;

/// A key of a tag and a group.
pub(crate) fn group_key(tag: u8, group: GroupId) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = tag;
    key[1..].copy_from_slice(&group.0.to_be_bytes());
    key
}

/// Undoes [`group_key`].
pub(crate) fn group_of(tag: u8, key: &[u8]) -> Option<GroupId> {
    let (&found, group) = key.split_first()?;
    let group = GroupId(u64::from_be_bytes(group.try_into().ok()?));
    (found == tag).then_some(group)
}

/// Appends the checksum that [`unseal`] checks.
pub(crate) fn seal(row: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(row.len() + 4);
    sealed.extend_from_slice(row);
    sealed.extend_from_slice(&crc32fast::hash(row).to_le_bytes());
    sealed
}

/// The row without its checksum, which must be right.
pub(crate) fn unseal(sealed: &[u8]) -> Result<&[u8], Malformed> {
    let Some((row, checksum)) = sealed.split_last_chunk::<4>() else {
        return Err(Malformed::Short { at: 0, missing: 4 - sealed.len() });
    };
    let found = crc32fast::hash(row);
    let expected = u32::from_le_bytes(*checksum);
    if found != expected {
        let reason = format!("checksum is {found:08x}, expected {expected:08x}");
        return Err(Malformed::inconsistent(reason));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn group_keys_are_read_back_and_ordered(a: u64, b: u64) {
            let (one, other) = (group_key(b'h', GroupId(a)), group_key(b'h', GroupId(b)));
            prop_assert_eq!(group_of(b'h', &one), Some(GroupId(a)));
            prop_assert_eq!(group_of(b'r', &one), None);
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }

        #[test]
        fn a_flipped_bit_is_seen(row: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
            let mut sealed = seal(&row);
            prop_assert_eq!(unseal(&sealed).unwrap(), &row[..]);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(unseal(&sealed).is_err());
        }
    }
}
