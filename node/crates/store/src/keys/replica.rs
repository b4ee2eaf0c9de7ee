//! What a replica starts from: where its log begins, which checkpoint stands there, and how far its
//! events are sealed. There is one row for each group this node holds.
//!
//! Key:   `r` | group u64 BE
//! Row:   version 2 | voters: list of u64 | learners: list of u64 | truncated index u64 |
//!        truncated term u64 | checkpoint: optional (bytes u64, CRC32 u32) | sealed end u64 | CRC32
//!        (version 1 has no learners)
//!
//! The checkpoint itself is in the database without log (see [`super::checkpoint`]): this row is
//! written after the checkpoint is durable, so what it points to is there.

use alluvium_core::codec::{Malformed, Reader, Writer};
use alluvium_core::ids::{GroupId, Index, NodeId, Offset, Term};
use alluvium_core::replica::{LogPosition, Members};

use super::{group_key, group_of, seal, unseal};

const TAG: u8 = b'r';
const VERSION: u8 = 2;
const VERSION_WITHOUT_LEARNERS: u8 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicaRow {
    /// Who belongs to the group, as of `truncated`.
    pub(crate) members: Members,
    /// The log begins after this place.
    pub(crate) truncated: LogPosition,
    /// The checkpoint at `truncated`; `None` as long as nothing was truncated.
    pub(crate) checkpoint: Option<CheckpointStamp>,
    /// Events before this are in segments, or gone by retention.
    pub(crate) sealed_end: Offset,
}

/// By what a checkpoint is recognised as the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointStamp {
    pub(crate) state_bytes: u64,
    pub(crate) checksum: u32,
}

/// First key of the family.
pub(crate) const FIRST: [u8; 1] = [TAG];
/// After the last key of the family.
pub(crate) const AFTER: [u8; 1] = [TAG + 1];

pub(crate) fn key(group: GroupId) -> [u8; 9] {
    group_key(TAG, group)
}

pub(crate) fn decode_key(key: &[u8]) -> Option<GroupId> {
    group_of(TAG, key)
}

pub(crate) fn encode(replica: &ReplicaRow) -> Vec<u8> {
    let Members { voters, learners } = &replica.members;
    let mut row = Writer::with_capacity(64 + 8 * (voters.len() + learners.len()));
    row.u8(VERSION);
    for nodes in [voters, learners] {
        row.count(nodes.len());
        nodes.iter().for_each(|node| row.u64(node.0));
    }
    row.u64(replica.truncated.index.0);
    row.u64(replica.truncated.term.0);
    row.flag(replica.checkpoint.is_some());
    if let Some(CheckpointStamp { state_bytes, checksum }) = replica.checkpoint {
        row.u64(state_bytes);
        row.u32(checksum);
    }
    row.u64(replica.sealed_end.0);
    seal(&row.finish())
}

pub(crate) fn decode(sealed: &[u8]) -> Result<ReplicaRow, Malformed> {
    let mut row = Reader::new(unseal(sealed)?);
    let version = row.version_up_to(VERSION)?;
    let voters = nodes(&mut row)?;
    let learners = if version == VERSION_WITHOUT_LEARNERS { Vec::new() } else { nodes(&mut row)? };
    let truncated = LogPosition { index: Index(row.u64()?), term: Term(row.u64()?) };
    let checkpoint = if row.flag()? {
        Some(CheckpointStamp { state_bytes: row.u64()?, checksum: row.u32()? })
    } else {
        None
    };
    let sealed_end = Offset(row.u64()?);
    row.end()?;
    let members = Members { voters, learners };
    Ok(ReplicaRow { members, truncated, checkpoint, sealed_end })
}

fn nodes(row: &mut Reader<'_>) -> Result<Vec<NodeId>, Malformed> {
    let count = row.count(8)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(NodeId(row.u64()?));
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_read_back(
            voters: Vec<u64>,
            learners: Vec<u64>,
            index: u64,
            term: u64,
            checkpoint: Option<(u64, u32)>,
            sealed_end: u64,
        ) {
            let row = ReplicaRow {
                members: Members {
                    voters: voters.into_iter().map(NodeId).collect(),
                    learners: learners.into_iter().map(NodeId).collect(),
                },
                truncated: LogPosition { index: Index(index), term: Term(term) },
                checkpoint: checkpoint.map(|(state_bytes, checksum)| {
                    CheckpointStamp { state_bytes, checksum }
                }),
                sealed_end: Offset(sealed_end),
            };
            prop_assert_eq!(decode(&encode(&row)).unwrap(), row);
        }

        #[test]
        fn keys_lie_inside_the_family(group: u64) {
            let key = key(GroupId(group));
            prop_assert!(FIRST[..] <= key[..] && key[..] < AFTER[..]);
            prop_assert_eq!(decode_key(&key), Some(GroupId(group)));
        }
    }
}
