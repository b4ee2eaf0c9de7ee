//! What a view keeps of a partition, from node to node: for a replica whose log begins behind the
//! events that the view would have to fold.
//!
//! Rows travel as they are stored, with their checksums, in the order of their keys; the view's own
//! row comes last, in both directions. While they are taken in, a row of another kind is in its
//! place. It is written before the first of them: as what survives a crash are the first writes,
//! the next start finds either it, and clears what came, or the view's own row, and all of them.

use std::fmt;
use std::ops::ControlFlow;

use rocksdb::WriteBatch;

use super::{GROUP, QUARANTINE, ROW, ViewPlace, ViewStates};
use crate::error::StoreError;
use crate::keys::{self, view_group, view_quarantine, view_row};
use crate::shared::Shared;

/// Bytes of keys and values in one chunk, unless a single row has more: a message of 1 MiB, with
/// what the wire adds.
const CHUNK_BYTES_MAX: usize = 960 << 10;

/// The families that a view has rows in, in the order of their keys. Its own row is the last.
const FAMILIES: [u8; 3] = [view_group::TAG, view_quarantine::TAG, view_row::TAG];

/// Some rows of a view's state in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewChunk {
    /// Rows in the chunks before this one.
    pub preceding: u64,
    /// Keys and values, as stored.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Takes in a view's state from another node. Dropped before it is finished, it leaves nothing.
pub struct ViewImport {
    states: ViewStates,
    place: ViewPlace,
    row_count: u64,
    last_key: Vec<u8>,
    /// The view's own row, once it came: there is no other after it.
    row: Option<Vec<u8>>,
    finished: bool,
}

impl ViewStates {
    /// Shows everything stored of a view in a partition, as of its last checkpoint, whatever is
    /// written meanwhile, until told to break off. False when it was, or when there is no
    /// checkpoint. Blocks.
    ///
    /// # Errors
    /// [`StoreError::CorruptView`] when a row is not what was written.
    pub fn export(
        &self,
        place: ViewPlace,
        visit: &mut dyn FnMut(ViewChunk) -> ControlFlow<()>,
    ) -> Result<bool, StoreError> {
        let first = keys::view_key(FAMILIES[0], place);
        let after = keys::after_prefix(&view_row::key(place));
        let mut rows = self.shared.databases.state_rows_once(&first, &after);
        let damaged = |error: StoreError| error.of_view(place, ROW, &[]);
        match rows.skip_to(&view_row::key(place)).map_err(damaged)? {
            Some((_, row)) if is_folded(place, row)? => {}
            Some(_) | None => return Ok(false),
        }
        let mut chunk = ViewChunk::default();
        let mut chunk_bytes = 0;
        for tag in FAMILIES {
            let prefix = keys::view_key(tag, place);
            let mut row = rows.skip_to(&prefix).map_err(damaged)?;
            while let Some((key, value)) = row.filter(|(key, _)| key.starts_with(&prefix)) {
                check(place, key, value)?;
                let bytes = key.len() + value.len();
                if !chunk.rows.is_empty() && CHUNK_BYTES_MAX < chunk_bytes + bytes {
                    let preceding = chunk.preceding + chunk.rows.len() as u64;
                    let full =
                        std::mem::replace(&mut chunk, ViewChunk { preceding, rows: Vec::new() });
                    if visit(full).is_break() {
                        return Ok(false);
                    }
                    chunk_bytes = 0;
                }
                chunk_bytes += bytes;
                chunk.rows.push((key.to_vec(), value.to_vec()));
                row = rows.next().map_err(damaged)?;
            }
        }
        Ok(visit(chunk).is_continue())
    }

    /// Begins to take in what [`ViewStates::export`] showed on another node. Everything stored of
    /// the view in the partition is gone from now on; nobody else may write to it until the import
    /// is finished or dropped.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn import(&self, place: ViewPlace) -> Result<ViewImport, StoreError> {
        let mut batch = WriteBatch::default();
        delete_all(place, &mut batch);
        batch.put(view_row::key(place), view_row::encode_importing());
        self.shared.databases.write_state(batch)?;
        self.shared.views.quarantined.lock().remove(&place);
        let (states, last_key) = (self.clone(), Vec::new());
        Ok(ViewImport { states, place, row_count: 0, last_key, row: None, finished: false })
    }
}

impl ViewImport {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`StoreError::Import`] when it does not follow the one before, holds rows of something else,
    /// or rows that are not what was written. Then the import must be begun again.
    pub fn write(&mut self, chunk: ViewChunk) -> Result<(), StoreError> {
        if chunk.preceding != self.row_count {
            let expected = self.row_count;
            return Err(self.wrong(format!("row {} comes after {expected}", chunk.preceding)));
        }
        let mut batch = WriteBatch::default();
        for (key, value) in chunk.rows {
            if key <= self.last_key || self.row.is_some() {
                return Err(self.wrong("rows are not in order".into()));
            }
            let is_own_row = check(self.place, &key, &value)
                .map_err(|error| self.wrong(format!("a row is not one: {error}")))?;
            if is_own_row {
                self.row = Some(value);
            } else {
                batch.put(&key, &value);
            }
            self.last_key = key;
            self.row_count += 1;
        }
        self.states.shared.databases.write_state(batch)
    }

    /// Makes the state visible and durable.
    ///
    /// # Errors
    /// [`StoreError::Import`] when the last row has not come: nothing is left then.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let Some(row) = self.row.take() else {
            return Err(self.wrong(format!("it ends after {} rows", self.row_count)));
        };
        let mut batch = WriteBatch::default();
        batch.put(view_row::key(self.place), row);
        self.states.shared.databases.write_state(batch)?;
        self.finished = true;
        self.states.flush()
    }

    fn wrong(&self, reason: String) -> StoreError {
        StoreError::Import { place: self.place, reason }
    }
}

impl Drop for ViewImport {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut batch = WriteBatch::default();
        delete_all(self.place, &mut batch);
        if let Err(error) = self.states.shared.databases.write_state(batch) {
            let ViewPlace { view, partition } = self.place;
            tracing::warn!(%view, %partition, %error, "half a view is cleared at the next start");
        }
    }
}

/// Clears, at start, what a crash left of imports.
pub(crate) fn clear_imports(shared: &Shared) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let mut rows = shared.databases.state_rows(&view_row::FIRST, &view_row::AFTER);
    loop {
        match rows.next() {
            Ok(Some((key, row))) => {
                // A row that cannot be read is named when the view is.
                if let Some(place) = view_row::decode_key(key)
                    && let Ok(None) = view_row::decode(row)
                {
                    delete_all(place, &mut batch);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "cannot look for views that were half taken in");
                break;
            }
        }
    }
    if batch.is_empty() { Ok(()) } else { shared.databases.write_state(batch) }
}

fn delete_all(place: ViewPlace, batch: &mut WriteBatch) {
    for tag in FAMILIES {
        let prefix = keys::view_key(tag, place);
        batch.delete_range(&prefix[..], &keys::after_prefix(&prefix)[..]);
    }
}

/// Whether it is the view's own row; an error when it is no row of the view in the partition.
fn check(place: ViewPlace, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
    if keys::view_of(view_group::TAG, key).is_some_and(|(found, _)| found == place) {
        let group = &key[keys::VIEW_KEY_BYTES..];
        view_group::decode(key, value).map_err(StoreError::malformed_view(place, GROUP, group))?;
        return Ok(false);
    }
    if let Some((found, offset)) = view_quarantine::decode_key(key)
        && found == place
    {
        view_quarantine::decode(offset, value).map_err(StoreError::malformed_view(
            place,
            QUARANTINE,
            &[],
        ))?;
        return Ok(false);
    }
    if view_row::decode_key(key) == Some(place) && is_folded(place, value)? {
        return Ok(true);
    }
    let (what, reason) = (ROW, "its key is another's".to_owned());
    Err(StoreError::CorruptView { place, what, key: key.to_vec(), reason })
}

fn is_folded(place: ViewPlace, row: &[u8]) -> Result<bool, StoreError> {
    let row = view_row::decode(row).map_err(StoreError::malformed_view(place, ROW, &[]))?;
    Ok(row.is_some())
}

impl fmt::Debug for ViewImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewImport")
            .field("place", &self.place)
            .field("row_count", &self.row_count)
            .finish_non_exhaustive()
    }
}
