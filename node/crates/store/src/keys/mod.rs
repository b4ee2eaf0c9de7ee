//! The keys and rows of both databases: one file for each key family.
//!
//! | tag | family | database |
//! |---|---|---|
//! | (none) | [`log`]: entries | `raft`, column family `log` |
//! | `h` | [`hard_state`] | `raft`, column family `meta` |
//! | `f` | [`forgotten`]: where the log of a removed replica ended | `raft`, `meta` |
//! | `r` | [`replica`]: where the log begins and what the checkpoint is | `raft`, `meta` |
//! | `s` | [`segment`]: the manifest | `raft`, `meta` |
//! | `n` | [`counter`] | `raft`, `meta` |
//! | `c` | [`checkpoint`] | `state` |
//! | `v` | [`view_row`]: how far a view has folded a partition, after its other rows | `state` |
//! | `g` | [`view_group`]: the groups of a view in a partition | `state` |
//! | `q` | [`view_quarantine`]: events that a view could not fold | `state` |
//!
//! Numbers in keys are big-endian, so that keys are in the order of the numbers. A tag is never
//! used again for something else. Rows start with a version and end with a CRC32 of what is before
//! it.

pub(crate) mod checkpoint;
pub(crate) mod counter;
pub(crate) mod forgotten;
pub(crate) mod hard_state;
pub(crate) mod log;
pub(crate) mod replica;
pub(crate) mod segment;
pub(crate) mod view_group;
pub(crate) mod view_quarantine;
pub(crate) mod view_row;

use alluvium_core::codec::Malformed;
use alluvium_core::ids::{GroupId, PartitionNumber, ViewId};

use crate::views::ViewPlace;

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

/// Length of a [`view_key`].
pub(crate) const VIEW_KEY_BYTES: usize = 13;

/// A key of a tag, a view and a partition: the whole key of a view's row, and what all keys of its
/// groups and of its quarantined events there begin with.
pub(crate) fn view_key(tag: u8, place: ViewPlace) -> [u8; VIEW_KEY_BYTES] {
    let mut key = [0; VIEW_KEY_BYTES];
    key[0] = tag;
    key[1..9].copy_from_slice(&place.view.0.to_be_bytes());
    key[9..].copy_from_slice(&place.partition.0.to_be_bytes());
    key
}

/// Undoes [`view_key`]; what the key goes on with comes along.
pub(crate) fn view_of(tag: u8, key: &[u8]) -> Option<(ViewPlace, &[u8])> {
    let (place, rest) = key.split_first_chunk::<VIEW_KEY_BYTES>()?;
    let view = ViewId(u64::from_be_bytes(place[1..9].try_into().ok()?));
    let partition = PartitionNumber(u32::from_be_bytes(place[9..].try_into().ok()?));
    (place[0] == tag).then_some((ViewPlace { view, partition }, rest))
}

/// What all keys of a family begin with that belong to a view.
pub(crate) fn view_prefix(tag: u8, view: ViewId) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = tag;
    key[1..].copy_from_slice(&view.0.to_be_bytes());
    key
}

/// The first key after all that begin with `prefix`, which begins with a tag.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff).expect("no tag is the last byte");
    let mut after = prefix[..=kept].to_vec();
    after[kept] += 1;
    after
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
        fn view_keys_are_read_back_and_ordered(
            a: (u64, u32), b: (u64, u32), one_rest: Vec<u8>, other_rest: Vec<u8>,
        ) {
            let place = |(view, partition): (u64, u32)| ViewPlace {
                view: ViewId(view), partition: PartitionNumber(partition)
            };
            let key = |of, rest: &[u8]| [&view_key(b'g', place(of))[..], rest].concat();
            let (one, other) = (key(a, &one_rest), key(b, &other_rest));
            prop_assert_eq!(view_of(b'g', &one), Some((place(a), &one_rest[..])));
            prop_assert_eq!(view_of(b'q', &one), None);
            prop_assert_eq!(one.cmp(&other), (a, &one_rest).cmp(&(b, &other_rest)));
            let prefix = view_prefix(b'g', ViewId(a.0));
            prop_assert!(prefix[..] <= one[..] && one < after_prefix(&prefix));
            let inside = one.starts_with(&view_key(b'g', place(b)));
            let range = view_key(b'g', place(b)).to_vec()..after_prefix(&view_key(b'g', place(b)));
            prop_assert_eq!(range.contains(&one), inside);
        }

        #[test]
        fn after_a_prefix_comes_nothing_of_it(
            tail in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..12),
            rest: Vec<u8>,
        ) {
            let prefix = [&[b'g'][..], &tail].concat();
            let after = after_prefix(&prefix);
            prop_assert!([&prefix[..], &rest].concat() < after);
            prop_assert!(!after.starts_with(&prefix));
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
