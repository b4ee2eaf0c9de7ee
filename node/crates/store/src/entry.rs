//! The stored form of a log entry.
//!
//! version 1 u8 | kind u8 | CRC32 u32 | term u64 | context bytes u32 | context | data
//!
//! Numbers are little-endian. The checksum covers group, index, term, kind, context and data: an
//! entry that lies under another key, or whose bytes changed, is seen. The data is the rest of the
//! value, so a large command is copied once.

use alluvium_core::ids::{GroupId, Index, Term};
use alluvium_core::replica::{EntryKind, LogEntry};
use bytes::Bytes;

use crate::error::StoreError;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 4 + 8 + 4;

/// Length of the stored form.
pub(crate) fn stored_bytes(entry: &LogEntry) -> usize {
    HEADER_BYTES + entry.context.len() + entry.data.len()
}

/// Writes the stored form into `value`, which is emptied first.
pub(crate) fn encode(group: GroupId, entry: &LogEntry, value: &mut Vec<u8>) {
    let kind = kind_number(entry.kind);
    let context_bytes = u32::try_from(entry.context.len()).expect("a context is small");
    value.clear();
    value.reserve(stored_bytes(entry));
    value.push(VERSION);
    value.push(kind);
    value.extend_from_slice(
        &checksum(group, entry.index, entry.term, kind, &entry.context, &entry.data).to_le_bytes(),
    );
    value.extend_from_slice(&entry.term.0.to_le_bytes());
    value.extend_from_slice(&context_bytes.to_le_bytes());
    value.extend_from_slice(&entry.context);
    value.extend_from_slice(&entry.data);
}

/// Reads the stored form found under `group` and `index`.
pub(crate) fn decode(group: GroupId, index: Index, value: &[u8]) -> Result<LogEntry, StoreError> {
    let damaged =
        |reason: &str| StoreError::corrupt(group, "the log", format!("entry {index}: {reason}"));
    let Some((header, rest)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged("it is too short"));
    };
    let [version, kind, a, b, c, d, ..] = *header;
    if version != VERSION {
        return Err(damaged("its version is not known"));
    }
    let stored_checksum = u32::from_le_bytes([a, b, c, d]);
    let term = Term(u64::from_le_bytes(header[6..14].try_into().expect("8 bytes")));
    let context_bytes = u32::from_le_bytes(header[14..].try_into().expect("4 bytes")) as usize;
    let Some((context, data)) = rest.split_at_checked(context_bytes) else {
        return Err(damaged("its context is longer than the entry"));
    };
    if checksum(group, index, term, kind, context, data) != stored_checksum {
        return Err(damaged("its checksum does not match"));
    }
    let Some(kind) = kind_of(kind) else {
        return Err(damaged("its kind is not known"));
    };
    let context = Bytes::copy_from_slice(context);
    let data = Bytes::copy_from_slice(data);
    Ok(LogEntry { index, term, kind, context, data })
}

fn checksum(
    group: GroupId,
    index: Index,
    term: Term,
    kind: u8,
    context: &[u8],
    data: &[u8],
) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut place = [0; 29];
    place[..8].copy_from_slice(&group.0.to_le_bytes());
    place[8..16].copy_from_slice(&index.0.to_le_bytes());
    place[16..24].copy_from_slice(&term.0.to_le_bytes());
    place[24] = kind;
    // The length keeps context and data apart: moving a byte from one to the other is seen.
    place[25..].copy_from_slice(&u32::try_from(context.len()).unwrap_or(u32::MAX).to_le_bytes());
    hasher.update(&place);
    hasher.update(context);
    hasher.update(data);
    hasher.finalize()
}

fn kind_number(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

fn kind_of(number: u8) -> Option<EntryKind> {
    match number {
        0 => Some(EntryKind::Normal),
        1 => Some(EntryKind::ConfChange),
        2 => Some(EntryKind::ConfChangeV2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = LogEntry> {
        let bytes = prop::collection::vec(any::<u8>(), 0..200);
        (any::<u64>(), any::<u64>(), 0_u8..3, bytes.clone(), bytes).prop_map(
            |(index, term, kind, context, data)| LogEntry {
                index: Index(index),
                term: Term(term),
                kind: kind_of(kind).unwrap(),
                context: context.into(),
                data: data.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn entries_are_read_back(group: u64, entry in entry()) {
            let mut value = vec![9; 3];
            encode(GroupId(group), &entry, &mut value);
            prop_assert_eq!(value.len(), stored_bytes(&entry));
            prop_assert_eq!(decode(GroupId(group), entry.index, &value).unwrap(), entry);
        }

        #[test]
        fn a_flipped_bit_or_another_place_is_seen(
            entry in entry(),
            at: prop::sample::Index,
            bit in 0_u8..8,
        ) {
            let mut value = Vec::new();
            encode(GroupId(1), &entry, &mut value);
            prop_assert!(decode(GroupId(2), entry.index, &value).is_err());
            prop_assert!(decode(GroupId(1), Index(entry.index.0 ^ 1), &value).is_err());
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            let error = decode(GroupId(1), entry.index, &value).unwrap_err();
            prop_assert!(error.is_damage());
            prop_assert!(error.to_string().contains(&entry.index.to_string()));
        }
    }
}
