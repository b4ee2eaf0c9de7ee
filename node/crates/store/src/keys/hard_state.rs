//! Term, vote and commit of a replica.
//!
//! Key:   `h` | group u64 BE
//! Row:   version 1 | term u64 | vote: optional u64 | commit u64 | CRC32

use alluvium_core::codec::{Malformed, Reader, Writer};
use alluvium_core::ids::{GroupId, Index, NodeId, Term};
use alluvium_core::replica::HardState;

use super::{group_key, seal, unseal};

const TAG: u8 = b'h';
const VERSION: u8 = 1;

pub(crate) fn key(group: GroupId) -> [u8; 9] {
    group_key(TAG, group)
}

pub(crate) fn encode(state: &HardState) -> Vec<u8> {
    let mut row = Writer::with_capacity(32);
    row.u8(VERSION);
    row.u64(state.term.0);
    row.flag(state.vote.is_some());
    if let Some(vote) = state.vote {
        row.u64(vote.0);
    }
    row.u64(state.commit.0);
    seal(&row.finish())
}

pub(crate) fn decode(sealed: &[u8]) -> Result<HardState, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    row.version(VERSION)?;
    let term = Term(row.u64()?);
    let vote = if row.flag()? { Some(NodeId(row.u64()?)) } else { None };
    let commit = Index(row.u64()?);
    row.end()?;
    Ok(HardState { term, vote, commit })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_read_back(term: u64, vote: Option<u64>, commit: u64) {
            let vote = vote.map(NodeId);
            let state = HardState { term: Term(term), vote, commit: Index(commit) };
            prop_assert_eq!(decode(&encode(&state)).unwrap(), state);
        }
    }
}
