//! Where the log of a replica ended when its group was removed from this node.
//!
//! Key:   `f` | group u64 BE
//! Row:   version 1 | index u64 | term u64 | CRC32
//!
//! Beside the [`super::hard_state`], which stays as well. It is never deleted: a log that has come
//! as far again makes it void.

use alluvium_core::codec::{Malformed, Reader, Writer};
use alluvium_core::ids::{GroupId, Index, Term};
use alluvium_core::replica::LogPosition;

use super::{group_key, seal, unseal};

const TAG: u8 = b'f';
const VERSION: u8 = 1;

pub(crate) fn key(group: GroupId) -> [u8; 9] {
    group_key(TAG, group)
}

pub(crate) fn encode(end: LogPosition) -> Vec<u8> {
    let mut row = Writer::with_capacity(32);
    row.u8(VERSION);
    row.u64(end.index.0);
    row.u64(end.term.0);
    seal(&row.finish())
}

pub(crate) fn decode(sealed: &[u8]) -> Result<LogPosition, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    row.version(VERSION)?;
    let end = LogPosition { index: Index(row.u64()?), term: Term(row.u64()?) };
    row.end()?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_read_back(index: u64, term: u64) {
            let end = LogPosition { index: Index(index), term: Term(term) };
            prop_assert_eq!(decode(&encode(end)).unwrap(), end);
        }
    }
}
