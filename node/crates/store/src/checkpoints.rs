//! Checkpoints of machines: written before anything points to them, read at start, cleared after.

use alluvium_core::ids::{GroupId, Index};
use alluvium_core::replica::{Checkpoint, LogPosition};
use bytes::Bytes;
use rocksdb::WriteBatch;

use crate::error::StoreError;
use crate::keys;
use crate::keys::replica::CheckpointStamp;
use crate::shared::Shared;

/// Makes a checkpoint durable. Nothing points to it yet.
pub(crate) fn write(
    shared: &Shared,
    group: GroupId,
    checkpoint: &Checkpoint,
) -> Result<CheckpointStamp, StoreError> {
    let mut batch = WriteBatch::default();
    batch.put(keys::checkpoint::encode(group, checkpoint.position.index), &checkpoint.state);
    shared.databases.write_state(batch)?;
    shared.databases.flush_state()?;
    Ok(stamp(checkpoint))
}

/// By what a checkpoint is recognised.
pub(crate) fn stamp(checkpoint: &Checkpoint) -> CheckpointStamp {
    CheckpointStamp {
        state_bytes: checkpoint.state.len() as u64,
        checksum: crc32fast::hash(&checkpoint.state),
    }
}

/// The checkpoint a row points to.
pub(crate) fn read(
    shared: &Shared,
    group: GroupId,
    position: LogPosition,
    stamp: CheckpointStamp,
) -> Result<Bytes, StoreError> {
    let index = position.index;
    let damaged = |reason: &str| {
        StoreError::corrupt(group, "the checkpoint", format!("index {index}: {reason}"))
    };
    let Some(state) = shared.databases.get_state(&keys::checkpoint::encode(group, index))? else {
        return Err(damaged("it is missing"));
    };
    if state.len() as u64 != stamp.state_bytes || crc32fast::hash(&state) != stamp.checksum {
        return Err(damaged("its checksum does not match"));
    }
    Ok(Bytes::from(state))
}

/// Deletes all checkpoints of a group but the one its row points to.
pub(crate) fn clear_former(shared: &Shared, group: GroupId) -> Result<(), StoreError> {
    // An installation writes its checkpoint and the row that points to it under this lock.
    let _manifest = shared.manifest.lock();
    match shared.replica_row(group) {
        Ok(row) => clear_but(shared, group, row.truncated.index),
        // Whoever removed the group clears the rest.
        Err(StoreError::UnknownGroup { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes all checkpoints of a group but the one at `index` and those that are about to be
/// installed. Under the manifest lock.
pub(crate) fn clear_but(shared: &Shared, group: GroupId, index: Index) -> Result<(), StoreError> {
    let mut keep = vec![index];
    keep.extend(shared.staged.of(group).iter().map(|staged| staged.position().index));
    clear(shared, group, &keep)
}

/// Deletes all checkpoints of a group but those at `keep`. What a crash leaves of this is found
/// at the next start.
pub(crate) fn clear(shared: &Shared, group: GroupId, keep: &[Index]) -> Result<(), StoreError> {
    let first = keys::checkpoint::encode(group, Index(0));
    let last = keys::checkpoint::encode(group, Index(u64::MAX));
    let after = [&last[..], &[0]].concat();
    let mut batch = WriteBatch::default();
    let mut rows = shared.databases.state_rows(&first, &after);
    while let Some((key, _)) = rows.next()? {
        let index = keys::checkpoint::decode(key).map(|(_, index)| index);
        if index.is_none_or(|index| !keep.contains(&index)) {
            batch.delete(key);
        }
    }
    if batch.is_empty() { Ok(()) } else { shared.databases.write_state(batch) }
}
