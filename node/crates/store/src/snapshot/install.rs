//! A checkpoint of the leader takes the place of everything stored for a group.
//!
//! The store remembers what was staged for a group; the write that installs the checkpoint finds it
//! there. From the batch on until readers see the new segments, the segment threads leave the group
//! alone: what they see is a former state.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use alluvium_core::ids::{GroupId, Offset};
use alluvium_core::replica::LogPosition;
use rocksdb::WriteBatch;

use crate::checkpoints;
use crate::error::StoreError;
use crate::keys;
use crate::keys::replica::ReplicaRow;
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
    installed: AtomicBool,
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
        let inner = Inner { group, position, start, sealed_end, segments, installed };
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
        let former = self.shared().staged.lock().remove(&group);
        // Its files go now, not under the lock.
        drop(former);
    }
}

/// Adds to the batch that installs the checkpoint at `position` what becomes of the segments. Under
/// the manifest lock; nobody but the installation may change the manifest until readers see it.
pub(crate) fn add(
    shared: &Shared,
    group: GroupId,
    position: LogPosition,
    row: &mut ReplicaRow,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let wrong = |reason: String| StoreError::Rows { group, action: "install a checkpoint", reason };
    let log = shared.logs.lock().get(&group).and_then(Weak::upgrade);
    let staged = shared.staged.lock().get(&group).cloned();
    let Some(staged) = staged.filter(|staged| staged.position() == position) else {
        // The meta group, or another one without events.
        if log.is_none() && row.sealed_end == Offset::ZERO {
            return Ok(());
        }
        return Err(wrong(format!("nothing is staged for {position:?}")));
    };
    if staged.sealed_end() < row.sealed_end {
        let (end, sealed_end) = (staged.sealed_end(), row.sealed_end);
        return Err(wrong(format!("it ends at {end}, events up to {sealed_end} are sealed")));
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
    Ok(())
}

/// The batch is durable: the files belong to the manifest now. Under the same lock.
pub(crate) fn written(shared: &Shared, group: GroupId, position: LogPosition) {
    let staged = {
        let mut staged = shared.staged.lock();
        let is_it = staged.get(&group).is_some_and(|staged| staged.position() == position);
        if is_it { staged.remove(&group) } else { None }
    };
    if let Some(staged) = staged {
        staged.segments().iter().for_each(|segment| segment.keep());
        staged.inner.installed.store(true, Ordering::Release);
        shared.metrics.snapshots_installed.increment();
    }
    shared.reach(SealStep::Installed);
    if let Err(error) = checkpoints::clear(shared, group, Some(position.index)) {
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
