//! How far a view has folded a partition, and what else it keeps there beside its groups.
//!
//! Key:   `v` | view u64 BE | partition u32 BE
//! Row:   version 1 | what the fold wrote | CRC32, or
//!        255 | CRC32: the state of another node is being taken in
//!
//! Written in one batch with the groups it speaks of (see [`super::view_group`]), or after all of
//! them when they come from another node: until then the row says that what is there is not whole.

use alluvium_core::codec::{Malformed, Reader};

use super::{seal, unseal, view_key, view_of};
use crate::views::ViewPlace;

pub(crate) const TAG: u8 = b'v';
const VERSION: u8 = 1;
const IMPORTING: u8 = u8::MAX;

/// First key of the family.
pub(crate) const FIRST: [u8; 1] = [TAG];
/// After the last key of the family.
pub(crate) const AFTER: [u8; 1] = [TAG + 1];

pub(crate) fn key(place: ViewPlace) -> [u8; super::VIEW_KEY_BYTES] {
    view_key(TAG, place)
}

pub(crate) fn decode_key(key: &[u8]) -> Option<ViewPlace> {
    view_of(TAG, key).filter(|(_, rest)| rest.is_empty()).map(|(place, _)| place)
}

pub(crate) fn encode(row: &[u8]) -> Vec<u8> {
    seal(&[&[VERSION], row].concat())
}

/// Says that the groups that are there are not all.
pub(crate) fn encode_importing() -> Vec<u8> {
    seal(&[IMPORTING])
}

/// `None` as long as the groups are taken in from another node.
pub(crate) fn decode(sealed: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let row = unseal(sealed)?;
    if row == [IMPORTING] {
        return Ok(None);
    }
    Reader::new(row).version(VERSION)?;
    Ok(Some(&row[1..]))
}

#[cfg(test)]
mod tests {
    use alluvium_core::ids::{PartitionNumber, ViewId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_and_keys_are_read_back(
            view: u64, partition: u32, row: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let place = ViewPlace { view: ViewId(view), partition: PartitionNumber(partition) };
            prop_assert_eq!(decode_key(&key(place)), Some(place));
            let mut sealed = encode(&row);
            prop_assert_eq!(decode(&sealed).unwrap(), Some(&row[..]));
            let importing = encode_importing();
            prop_assert_eq!(decode(&importing).unwrap(), None);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(decode(&sealed).is_err());
        }
    }
}
