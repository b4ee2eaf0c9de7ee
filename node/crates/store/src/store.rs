//! The handle: opening a data directory, its groups, and what is stored of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use alluvium_core::ids::{GroupId, Index, SegmentId};
use alluvium_core::replica::{HardState, LogEntry, Members, Restored};
use bytes::Bytes;
use rocksdb::WriteBatch;

use crate::checkpoints;
use crate::databases::Sync;
use crate::entry;
use crate::error::StoreError;
use crate::files;
use crate::identity::{self, Identity};
use crate::keys;
use crate::keys::replica::ReplicaRow;
use crate::leaving;
use crate::log_writer::{LogWriter, LogWriterThread};
use crate::metrics::StoreMetrics;
use crate::options::StoreOptions;
use crate::partition_log::PartitionLog;
use crate::segment::{Segment, SegmentThreads, SegmentWriter, manifest};
use crate::shared::Shared;
use crate::snapshot::take;
use crate::views::{self, ViewStates};

/// An open data directory. Cheap to clone; closed when the last handle, [`PartitionLog`] and view
/// are gone.
#[derive(Clone)]
pub struct Store {
    // Dropped first: the threads finish what they were given while everything is still open.
    threads: Arc<Threads>,
    shared: Arc<Shared>,
}

struct Threads {
    log_writer: parking_lot::Mutex<LogWriterThread>,
    segments: parking_lot::Mutex<SegmentThreads>,
    writer: LogWriter,
    segment_writer: SegmentWriter,
}

/// What is stored of one group.
#[derive(Debug)]
pub struct StoredGroup {
    /// What the replica starts from.
    pub restored: Restored,
    /// The state of its machine at `restored.truncated`; `None` for the state of an empty log.
    pub checkpoint: Option<Bytes>,
    /// Its segments, in offset order, checked to be there and to be whole at their ends.
    pub segments: Vec<Arc<Segment>>,
}

impl Store {
    /// Opens a data directory, creating it if it is not there, and clears what a crash left over.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it; anything else means that the directory
    /// cannot be used as it is.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        if !dir.exists() {
            std::fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            files::sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        let shared = Arc::new(Shared::open(dir, options)?);
        clear_leftovers(&shared)?;
        let (log_writer, writer) = LogWriterThread::start(Arc::clone(&shared))?;
        let (segments, segment_writer) = SegmentThreads::start(&shared)?;
        let log_writer = parking_lot::Mutex::new(log_writer);
        let segments = parking_lot::Mutex::new(segments);
        let threads = Arc::new(Threads { log_writer, segments, writer, segment_writer });
        Ok(Store { threads, shared })
    }

    /// The directory it lies in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Who this directory is, once that is settled.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        identity::read(&self.shared.dir)
    }

    /// Settles who this directory is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        identity::write(&self.shared.dir, identity)
    }

    /// The number drawn for this directory; one that has none yet takes `drawn` for ever.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is damaged.
    pub fn token(&self, drawn: u128) -> Result<u128, StoreError> {
        identity::token(&self.shared.dir, drawn)
    }

    /// Bytes that are free, and bytes that are free or used, of the disk below the directory;
    /// zeroes when the system does not say.
    #[must_use]
    pub fn disk_space(&self) -> (u64, u64) {
        self.shared.room.space()
    }

    /// The groups this node holds, by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        groups(&self.shared)
    }

    /// Adds groups with nothing in them; those that are there already stay as they are. One that
    /// was here before begins with the term and the vote it left with.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn create_groups(&self, groups: &[GroupId], members: &Members) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _manifest = shared.manifest.lock();
        let row =
            keys::replica::encode(&ReplicaRow { members: members.clone(), ..Default::default() });
        let mut batch = WriteBatch::default();
        for &group in groups {
            let key = keys::replica::key(group);
            if shared.databases.get_meta(&key)?.is_none() {
                batch.put_cf(shared.databases.meta(), key, &row);
            }
        }
        if batch.is_empty() { Ok(()) } else { shared.databases.write(batch, Sync::Yes) }
    }

    /// Adds one group; see [`Store::create_groups`].
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn create_group(&self, group: GroupId, members: &Members) -> Result<(), StoreError> {
        self.create_groups(&[group], members)
    }

    /// Removes a group with everything stored of it but its term and vote: a replica that comes
    /// back later begins with them, so that it never votes twice in a term. Its replica must be
    /// gone: nothing of the group may be with the log writer. Readers that pinned its segments keep
    /// them until they are done.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn remove_group(&self, group: GroupId) -> Result<(), StoreError> {
        let shared = &self.shared;
        let log = shared.logs.lock().remove(&group).and_then(|log| log.upgrade());
        {
            let _manifest = shared.manifest.lock();
            if let Some(log) = &log {
                log.condemn();
            }
            remove_rows(shared, group)?;
        }
        self.unstage(group);
        checkpoints::clear(shared, group, &[])?;
        let dir = shared.segment_dir(group);
        take::clear_group(&dir)?;
        if log.is_none() && dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(StoreError::io("remove", &dir))?;
        }
        Ok(())
    }

    /// Everything stored of a group, every entry checked against its checksum.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming what is damaged: this group must not be served, others may.
    pub fn load(&self, group: GroupId) -> Result<StoredGroup, StoreError> {
        load(&self.shared, group).map_err(|error| error.of_group(group))
    }

    /// Hands writes to the one thread that makes them durable.
    #[must_use]
    pub fn log_writer(&self) -> LogWriter {
        self.threads.writer.clone()
    }

    /// Hands tails to the threads that make segments of them.
    #[must_use]
    pub fn segment_writer(&self) -> SegmentWriter {
        self.threads.segment_writer.clone()
    }

    /// What views keep of their groups. Cheap.
    #[must_use]
    pub fn views(&self) -> ViewStates {
        ViewStates::new(Arc::clone(&self.shared))
    }

    /// Whether writes may be taken: more than the reserve is free. Cheap; ask before each append.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.room.is_enough()
    }

    /// Bytes of everything in the data directory.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let databases =
            ["raft", "state"].map(|name| files::tree_bytes(&self.shared.dir.join(name)));
        databases.iter().sum::<u64>() + self.shared.metrics.segment_bytes.get()
    }

    /// Bytes of the databases' memtables.
    #[must_use]
    pub fn memtable_bytes(&self) -> u64 {
        self.shared.databases.memtable_bytes()
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<StoreMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Every partition log that is open, the one with the largest tail first: what to cut when
    /// memory runs short.
    #[must_use]
    pub fn logs_by_tail_bytes(&self) -> Vec<Arc<PartitionLog>> {
        let logs = self.shared.logs.lock();
        let mut logs: Vec<_> = logs.values().filter_map(std::sync::Weak::upgrade).collect();
        logs.sort_by_key(|log| std::cmp::Reverse(log.view().tail_bytes));
        logs
    }

    /// Finishes what was submitted, flushes, and ends the threads. Later submissions are refused.
    ///
    /// # Errors
    /// When the flush fails; nothing acknowledged depends on it.
    pub fn close(&self) -> Result<(), StoreError> {
        self.threads.log_writer.lock().stop();
        self.threads.segments.lock().stop();
        self.shared.databases.flush_state()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

fn groups(shared: &Shared) -> Result<Vec<GroupId>, StoreError> {
    let mut groups = Vec::new();
    let mut rows = shared.databases.meta_rows(&keys::replica::FIRST, &keys::replica::AFTER);
    while let Some((key, _)) = rows.next()? {
        groups.extend(keys::replica::decode_key(key));
    }
    Ok(groups)
}

fn load(shared: &Shared, group: GroupId) -> Result<StoredGroup, StoreError> {
    let row = shared.replica_row(group)?;
    let entries = load_entries(shared, group, row.truncated.index)?;
    let last = entries.last().map_or(row.truncated.index, |entry| entry.index);
    let mut hard_state = match shared.databases.get_meta(&keys::hard_state::key(group))? {
        Some(state) => keys::hard_state::decode(&state)
            .map_err(StoreError::malformed(group, "the hard state"))?,
        None => HardState::default(),
    };
    // What is truncated was applied, so it was committed, whether or not the commit that says so
    // was written: commits alone are not synced.
    hard_state.commit = hard_state.commit.max(row.truncated.index);
    hard_state.term = hard_state.term.max(row.truncated.term);
    if last < hard_state.commit {
        let place = format!("it ends at {last}, but {} is committed", hard_state.commit);
        return Err(StoreError::corrupt(group, "the log", place));
    }
    let checkpoint = match row.checkpoint {
        Some(stamp) => Some(checkpoints::read(shared, group, row.truncated, stamp)?),
        None => None,
    };
    let segments = load_segments(shared, group, &row)?;
    let (members, truncated) = (row.members, row.truncated);
    let forgotten = leaving::forgotten(shared, group)?;
    let restored = Restored { hard_state, members, truncated, entries, forgotten };
    Ok(StoredGroup { restored, checkpoint, segments })
}

fn load_entries(
    shared: &Shared,
    group: GroupId,
    truncated: Index,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut entries = Vec::new();
    let mut expected = truncated.next();
    let mut rows = shared.databases.log_rows(group, expected);
    while let Some((key, value)) = rows.next()? {
        let Some((_, index)) = keys::log::decode(key) else {
            return Err(StoreError::corrupt(group, "the log", format!("key {key:02x?}")));
        };
        if index != expected {
            let place = format!("entry {expected} is missing, {index} follows");
            return Err(StoreError::corrupt(group, "the log", place));
        }
        entries.push(entry::decode(group, index, value)?);
        expected = index.next();
    }
    Ok(entries)
}

fn load_segments(
    shared: &Shared,
    group: GroupId,
    row: &ReplicaRow,
) -> Result<Vec<Arc<Segment>>, StoreError> {
    let dir = shared.segment_dir(group);
    let mut segments = Vec::new();
    for (id, sealed) in manifest_rows(shared, group)? {
        let segment = manifest::decode(group, id, &dir, &sealed)
            .map_err(StoreError::malformed(group, "the manifest"))?;
        segment.check_ends()?;
        segments.push(Arc::new(segment));
    }
    segments.sort_by_key(|segment| segment.first);
    for pair in segments.windows(2) {
        if pair[0].end != pair[1].first {
            let place = format!("{} and {} do not meet", pair[0].id, pair[1].id);
            return Err(StoreError::corrupt(group, "the manifest", place));
        }
    }
    if let Some(last) = segments.last()
        && last.end != row.sealed_end
    {
        let place = format!("{} ends at {}, not at {}", last.id, last.end, row.sealed_end);
        return Err(StoreError::corrupt(group, "the manifest", place));
    }
    Ok(segments)
}

/// The rows of a group's segments, as stored.
pub(crate) fn manifest_rows(
    shared: &Shared,
    group: GroupId,
) -> Result<Vec<(SegmentId, Vec<u8>)>, StoreError> {
    let first = keys::segment::encode(group, SegmentId(0));
    let last = keys::segment::encode(group, SegmentId(u64::MAX));
    let after = [&last[..], &[0]].concat();
    let mut found = Vec::new();
    let mut rows = shared.databases.meta_rows(&first, &after);
    while let Some((key, value)) = rows.next()? {
        if let Some((_, id)) = keys::segment::decode(key) {
            found.push((id, value.to_vec()));
        }
    }
    Ok(found)
}

fn remove_rows(shared: &Shared, group: GroupId) -> Result<(), StoreError> {
    let (log, meta) = (shared.databases.log(), shared.databases.meta());
    let mut batch = WriteBatch::default();
    for (id, _) in manifest_rows(shared, group)? {
        batch.delete_cf(meta, keys::segment::encode(group, id));
    }
    let mut rows = shared.databases.log_rows(group, Index(0));
    while let Some((key, _)) = rows.next()? {
        batch.delete_cf(log, key);
    }
    leaving::keep(shared, group, &mut batch)?;
    batch.delete_cf(meta, keys::replica::key(group));
    shared.write_manifest(batch)
}

/// Removes what a crash left: files and checkpoints that nothing points to.
fn clear_leftovers(shared: &Shared) -> Result<(), StoreError> {
    let mut known: BTreeMap<GroupId, BTreeSet<SegmentId>> = BTreeMap::new();
    for group in groups(shared)? {
        known.insert(group, BTreeSet::new());
    }
    if let Some(next) = shared.databases.get_meta(&keys::counter::NEXT_SEGMENT)? {
        let next = keys::counter::decode(&next)
            .map_err(StoreError::malformed(GroupId::META, "the segment counter"))?;
        shared.skip_segment_ids(SegmentId(next.0.saturating_sub(1)));
    }
    let mut rows = shared.databases.meta_rows(&keys::segment::FIRST, &keys::segment::AFTER);
    while let Some((key, _)) = rows.next()? {
        let Some((group, id)) = keys::segment::decode(key) else { continue };
        shared.skip_segment_ids(id);
        if let Some(ids) = known.get_mut(&group) {
            ids.insert(id);
        }
    }
    let mut rows = shared.databases.state_rows(&keys::checkpoint::FIRST, &keys::checkpoint::AFTER);
    let mut with_checkpoint = BTreeSet::new();
    loop {
        match rows.next() {
            Ok(Some((key, _))) => {
                with_checkpoint.extend(keys::checkpoint::decode(key).map(|(group, _)| group));
            }
            Ok(None) => break,
            // The damage may be in what a view keeps beside the checkpoints. If it is in one of
            // these, `load` will name it; leftovers stay until a later start.
            Err(error) => {
                tracing::warn!(%error, "cannot look for leftover checkpoints");
                break;
            }
        }
    }
    for group in with_checkpoint {
        let keep = if known.contains_key(&group) {
            // A row that cannot be read keeps what is there: `load` will name it.
            let Ok(row) = shared.replica_row(group) else { continue };
            row.checkpoint.map(|_| row.truncated.index)
        } else {
            None
        };
        checkpoints::clear(shared, group, keep.as_slice())?;
    }
    views::clear_imports(shared)?;
    crate::segment::clear_files(shared, &known)
}
