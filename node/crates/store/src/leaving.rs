//! What stays of a replica when its group is removed from this node.
//!
//! The node may be given a replica of the group again. To the others it is the same voter as
//! before, so it must keep what it promised them: its term and its vote, and that whoever it votes
//! for has every entry it ever acknowledged. The entries are gone; where they ended stays.

use alluvium_core::ids::{GroupId, Index};
use alluvium_core::replica::{HardState, LogPosition};
use rocksdb::WriteBatch;

use crate::entry;
use crate::error::StoreError;
use crate::keys;
use crate::shared::Shared;

/// Adds to the batch that removes the group what stays of its replica.
pub(crate) fn keep(
    shared: &Shared,
    group: GroupId,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let meta = shared.databases.meta();
    let mut term = None;
    let key = keys::hard_state::key(group);
    // One that cannot be read stays: a replica that does not know its vote must not come back.
    if let Some(stored) = shared.databases.get_meta(&key)?
        && let Ok(state) = keys::hard_state::decode(&stored)
    {
        term = Some(state.term);
        // There is no log any more that anything in it could be committed.
        let left = HardState { commit: Index(0), ..state };
        batch.put_cf(meta, key, keys::hard_state::encode(&left));
    }
    let mut end = shared.replica_row(group).map(|row| row.truncated).unwrap_or_default();
    if let Some(index) = shared.databases.last_entry(group)? {
        let mut rows = shared.databases.log_rows(group, index);
        let entry = rows.next()?.map(|(_, value)| entry::decode(group, index, value));
        // Of a damaged one, the term was not later than the replica's.
        let damaged = || LogPosition { index, term: term.unwrap_or(end.term) };
        end = match entry {
            Some(Ok(entry)) => LogPosition { index, term: entry.term },
            Some(Err(_)) | None => damaged(),
        };
    }
    // It may leave again before it has come as far as in its former life. An end that cannot be
    // read stays as well.
    if forgotten(shared, group).is_ok_and(|former| is_behind(former, end)) {
        batch.put_cf(meta, keys::forgotten::key(group), keys::forgotten::encode(end));
    }
    Ok(())
}

/// Where the log ended when the group was removed; zero when it never was.
pub(crate) fn forgotten(shared: &Shared, group: GroupId) -> Result<LogPosition, StoreError> {
    match shared.databases.get_meta(&keys::forgotten::key(group))? {
        Some(row) => keys::forgotten::decode(&row)
            .map_err(StoreError::malformed(group, "the end of the former log")),
        None => Ok(LogPosition::default()),
    }
}

/// As voters compare logs.
fn is_behind(one: LogPosition, other: LogPosition) -> bool {
    (one.term, one.index) < (other.term, other.index)
}
