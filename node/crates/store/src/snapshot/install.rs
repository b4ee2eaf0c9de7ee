//! A checkpoint of the leader takes the place of everything stored for a group.
//!
//! The store remembers what was staged for a group; the write that installs the checkpoint finds it
//! there. From the batch on until readers see the new segments, the segment threads leave the group
//! alone: what they see is a former state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use alluvium_core::ids::{GroupId, Offset};
use alluvium_core::replica::{Checkpoint, LogPosition};
use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::checkpoints;
use crate::error::StoreError;
use crate::keys;
use crate::keys::replica::{CheckpointStamp, ReplicaRow};
use crate::options::SealStep;
use crate::segment::{Segment, manifest};
use crate::shared::Shared;
use crate::store::{Store, manifest_rows};

/// A snapshot whose files are all here, whole and synced. They go with the last handle unless a
/// checkpoint at its position is installed. Cheap to clone.
#[derive(Clone)]
pub struct Staged {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    position: LogPosition,
    start: Offset,
    sealed_end: Offset,
    segments: Arc<[Arc<Segment>]>,
    /// The checkpoint is durable already, and recognised by this.
    prepared: OnceLock<CheckpointStamp>,
    installed: AtomicBool,
}

/// Snapshots that are staged of one group at most. One may be on its way to the log writer when the
/// next is here whole; of earlier ones nobody speaks any more.
const STAGED_MAX: usize = 2;

/// What is staged and not installed yet.
#[derive(Default)]
pub(crate) struct StagedSnapshots {
    /// The last one of each group comes last.
    groups: Mutex<BTreeMap<GroupId, Vec<Staged>>>,
}

impl StagedSnapshots {
    pub(crate) fn remember(&self, staged: Staged) {
        let mut groups = self.groups.lock();
        let of_group = groups.entry(staged.group()).or_default();
        // It may take the place of one that was fetched twice.
        let same = of_group.iter().position(|other| other.position() == staged.position());
        let excess = (of_group.len() == STAGED_MAX).then_some(0);
        let former = same.or(excess).map(|place| of_group.remove(place));
        of_group.push(staged);
        // Its files go now, not under the lock.
        drop(groups);
        drop(former);
    }

    pub(crate) fn of(&self, group: GroupId) -> Vec<Staged> {
        self.groups.lock().get(&group).cloned().unwrap_or_default()
    }

    fn at(&self, group: GroupId, position: LogPosition) -> Option<Staged> {
        self.of(group).into_iter().find(|staged| staged.position() == position)
    }

    /// Takes the one at the position out, with those that came before.
    fn take(&self, group: GroupId, position: LogPosition) -> Vec<Staged> {
        let mut groups = self.groups.lock();
        let Some(of_group) = groups.get_mut(&group) else { return Vec::new() };
        let place = of_group.iter().position(|staged| staged.position() == position);
        let taken = of_group.drain(..place.map_or(0, |place| place + 1)).collect();
        if of_group.is_empty() {
            groups.remove(&group);
        }
        taken
    }

    fn forget(&self, group: GroupId) {
        let former = self.groups.lock().remove(&group);
        drop(former);
    }
}

impl Staged {
    pub(crate) fn new(
        group: GroupId,
        position: LogPosition,
        start: Offset,
        sealed_end: Offset,
        segments: Vec<Arc<Segment>>,
    ) -> Staged {
        let (segments, installed) = (segments.into(), AtomicBool::new(false));
        let prepared = OnceLock::new();
        let inner = Inner { group, position, start, sealed_end, segments, prepared, installed };
        Staged { inner: Arc::new(inner) }
    }

    /// Whose it is.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    /// The position of the checkpoint that it belongs to.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.inner.position
    }

    /// The first offset that retention had not taken.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.inner.start
    }

    /// Where its segments end.
    #[must_use]
    pub fn sealed_end(&self) -> Offset {
        self.inner.sealed_end
    }

    /// Whether the checkpoint at its position was installed, durably.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.inner.installed.load(Ordering::Acquire)
    }

    pub(crate) fn segments(&self) -> &Arc<[Arc<Segment>]> {
        &self.inner.segments
    }
}

impl Store {
    /// Gives up what is staged for a group: the checkpoint it was fetched for is not installed.
    pub fn unstage(&self, group: GroupId) {
        self.shared().staged.forget(group);
    }

    /// Makes the checkpoint of a staged snapshot durable ahead of the write that installs it, which
    /// otherwise does this while all groups wait. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Staging`] when it is another's, or when the database cannot be written.
    pub fn prepare(&self, staged: &Staged, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let (group, position) = (staged.group(), staged.position());
        if checkpoint.position != position {
            let reason = format!("{:?} is not staged at {position:?}", checkpoint.position);
            return Err(StoreError::Staging { group, reason });
        }
        let stamp = checkpoints::write(self.shared(), group, checkpoint)?;
        // The same one may have been prepared before.
        let _ = staged.inner.prepared.set(stamp);
        Ok(())
    }
}

/// Adds to the batch that installs the checkpoint at `position` what becomes of the segments. Under
/// the manifest lock; nobody but the installation may change the manifest until readers see it.
/// Says by what the checkpoint is recognised if it is durable already.
pub(crate) fn add(
    shared: &Shared,
    group: GroupId,
    position: LogPosition,
    row: &mut ReplicaRow,
    batch: &mut WriteBatch,
) -> Result<Option<CheckpointStamp>, StoreError> {
    let wrong = |reason: String| StoreError::Rows { group, action: "install a checkpoint", reason };
    let log = shared.logs.lock().get(&group).and_then(Weak::upgrade);
    let Some(staged) = shared.staged.at(group, position) else {
        // The meta group, or another one without events.
        if log.is_none() && row.sealed_end == Offset::ZERO {
            return Ok(None);
        }
        return Err(wrong(format!("nothing is staged for {position:?}")));
    };
    if staged.sealed_end() < row.sealed_end {
        let (end, sealed_end) = (staged.sealed_end(), row.sealed_end);
        return Err(wrong(format!("it ends at {end}, events up to {sealed_end} are sealed")));
    }
    if let Some(missing) = staged.segments().iter().find(|segment| !segment.path.exists()) {
        return Err(wrong(format!("{} is not there any more", missing.path.display())));
    }
    if let Some(log) = &log {
        log.begin_install(position)?;
    }
    let meta = shared.databases.meta();
    for (id, _) in manifest_rows(shared, group)? {
        batch.delete_cf(meta, keys::segment::encode(group, id));
    }
    for segment in staged.segments().iter() {
        let key = keys::segment::encode(group, segment.id);
        batch.put_cf(meta, key, manifest::encode(segment));
    }
    shared.add_counter(batch);
    row.sealed_end = staged.sealed_end();
    Ok(staged.inner.prepared.get().copied())
}

/// The batch is durable: the files belong to the manifest now. Under the same lock.
pub(crate) fn written(shared: &Shared, group: GroupId, position: LogPosition) {
    let taken = shared.staged.take(group, position);
    if let Some(staged) = taken.last() {
        staged.segments().iter().for_each(|segment| segment.keep());
        staged.inner.installed.store(true, Ordering::Release);
        shared.metrics.snapshots_installed.increment();
    }
    shared.reach(SealStep::Installed);
    if let Err(error) = checkpoints::clear_but(shared, group, position.index) {
        tracing::warn!(%group, %error, "cannot clear former checkpoints; the next start will");
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("group", &self.group())
            .field("position", &self.position())
            .field("start", &self.start())
            .field("sealed_end", &self.sealed_end())
            .field("segments", &self.segments().len())
            .finish_non_exhaustive()
    }
}
