//! Events that a view could not fold.
//!
//! Key:   `q` | view u64 BE | partition u32 BE | offset u64 BE
//! Row:   version 1 | reason: text | event: bytes | CRC32
//!
//! A row goes when newer ones take its place; how many there were at all is in the view's row.

use alluvium_core::codec::{Malformed, Reader, Writer};
use alluvium_core::ids::Offset;

use super::{VIEW_KEY_BYTES, seal, unseal, view_key, view_of};
use crate::views::{QuarantinedEvent, ViewPlace};

pub(crate) const TAG: u8 = b'q';
const VERSION: u8 = 1;
/// Length of a key.
pub(crate) const KEY_BYTES: usize = VIEW_KEY_BYTES + 8;

pub(crate) fn key(place: ViewPlace, offset: Offset) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..VIEW_KEY_BYTES].copy_from_slice(&view_key(TAG, place));
    key[VIEW_KEY_BYTES..].copy_from_slice(&offset.0.to_be_bytes());
    key
}

pub(crate) fn decode_key(key: &[u8]) -> Option<(ViewPlace, Offset)> {
    let (place, offset) = view_of(TAG, key)?;
    Some((place, Offset(u64::from_be_bytes(offset.try_into().ok()?))))
}

pub(crate) fn encode(event: &QuarantinedEvent) -> Vec<u8> {
    let mut row = Writer::with_capacity(16 + event.reason.len() + event.event.len());
    row.u8(VERSION);
    row.text(&event.reason);
    row.bytes(&event.event);
    seal(&row.finish())
}

pub(crate) fn decode(offset: Offset, sealed: &[u8]) -> Result<QuarantinedEvent, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    row.version(VERSION)?;
    let (reason, event) = (row.text()?.to_owned(), row.bytes()?.to_vec());
    row.end()?;
    Ok(QuarantinedEvent { offset, reason, event })
}

#[cfg(test)]
mod tests {
    use alluvium_core::ids::{PartitionNumber, ViewId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_read_back_and_ordered(a: (u64, u32, u64), b: (u64, u32, u64)) {
            let place = |of: (u64, u32, u64)| ViewPlace {
                view: ViewId(of.0), partition: PartitionNumber(of.1)
            };
            let (one, other) = (key(place(a), Offset(a.2)), key(place(b), Offset(b.2)));
            prop_assert_eq!(decode_key(&one), Some((place(a), Offset(a.2))));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }

        #[test]
        fn rows_are_read_back(offset: u64, reason: String, event: Vec<u8>) {
            let event = QuarantinedEvent { offset: Offset(offset), reason, event };
            prop_assert_eq!(decode(event.offset, &encode(&event)).unwrap(), event);
        }
    }
}
