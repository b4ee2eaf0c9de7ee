//! The groups of a view in a partition.
//!
//! Key:   `g` | view u64 BE | partition u32 BE | group, as the fold orders and writes it
//! Value: version 1 | what the fold wrote | CRC32 of the key and of what is before
//!
//! The checksum takes the key in, so that a value is not believed under another key: a byte of
//! either that is not as written is seen.

use alluvium_core::codec::{Malformed, Reader};

use super::{VIEW_KEY_BYTES, view_key};
use crate::views::ViewPlace;

pub(crate) const TAG: u8 = b'g';
const VERSION: u8 = 1;

pub(crate) fn key(place: ViewPlace, group: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(VIEW_KEY_BYTES + group.len());
    key.extend_from_slice(&view_key(TAG, place));
    key.extend_from_slice(group);
    key
}

/// Puts the value of the group under `key` in place of what `value` held.
pub(crate) fn encode(key: &[u8], state: &[u8], value: &mut Vec<u8>) {
    value.clear();
    value.push(VERSION);
    value.extend_from_slice(state);
    let checksum = checksum(key, value);
    value.extend_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn decode<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let Some((row, expected)) = value.split_last_chunk::<4>() else {
        return Err(Malformed::Short { at: 0, missing: 4 - value.len() });
    };
    let (found, expected) = (checksum(key, row), u32::from_le_bytes(*expected));
    if found != expected {
        let reason = format!("checksum is {found:08x}, expected {expected:08x}");
        return Err(Malformed::inconsistent(reason));
    }
    Reader::new(row).version(VERSION)?;
    Ok(&row[1..])
}

fn checksum(key: &[u8], row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(row);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use alluvium_core::ids::{PartitionNumber, ViewId};
    use proptest::prelude::*;

    use super::super::view_of;
    use super::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_ordered(a: (u64, u32, Vec<u8>), b: (u64, u32, Vec<u8>)) {
            let key_of = |(view, partition, group): &(u64, u32, Vec<u8>)| {
                let (view, partition) = (ViewId(*view), PartitionNumber(*partition));
                key(ViewPlace { view, partition }, group)
            };
            let place = ViewPlace { view: ViewId(a.0), partition: PartitionNumber(a.1) };
            let one = key_of(&a);
            prop_assert_eq!(view_of(TAG, &one), Some((place, &a.2[..])));
            prop_assert_eq!(one.cmp(&key_of(&b)), a.cmp(&b));
        }

        #[test]
        fn a_flipped_bit_of_key_or_value_is_seen(
            group: Vec<u8>, state: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let place = ViewPlace { view: ViewId(3), partition: PartitionNumber(1) };
            let mut key = key(place, &group);
            let mut value = vec![9; 3];
            encode(&key, &state, &mut value);
            prop_assert_eq!(decode(&key, &value).unwrap(), &state[..]);
            let at = at.index(key.len() + value.len());
            match at.checked_sub(key.len()) {
                Some(at) => value[at] ^= 1 << bit,
                None => key[at] ^= 1 << bit,
            }
            prop_assert!(decode(&key, &value).is_err());
        }
    }
}
