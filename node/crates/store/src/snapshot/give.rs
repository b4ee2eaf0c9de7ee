//! What a leader gives away: its durable checkpoint and the segments below it, of one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Weak};

use alluvium_core::ids::{GroupId, SegmentId};
use alluvium_core::replica::Checkpoint;

use super::{SegmentOffer, SnapshotOffer};
use crate::checkpoints;
use crate::error::StoreError;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::store::Store;

/// A checkpoint and its files, which stay as long as this lives, whatever is merged or retained
/// meanwhile.
pub struct GroupSnapshot {
    /// The durable checkpoint, with its members and its state.
    pub checkpoint: Checkpoint,
    /// The segments up to where that stands. A group without events has none.
    pub offer: SnapshotOffer,
    group: GroupId,
    pinned: BTreeMap<SegmentId, Arc<Segment>>,
}

impl Store {
    /// What this node can give to a replica of the group that is behind its log. Reads the
    /// checkpoint, no segment.
    ///
    /// # Errors
    /// [`StoreError::NothingToGive`] when nothing was sealed or checkpointed yet,
    /// [`StoreError::Replaced`] while a checkpoint is being installed here.
    pub fn snapshot(&self, group: GroupId) -> Result<GroupSnapshot, StoreError> {
        give(self.shared(), group).map_err(|error| error.of_group(group))
    }
}

fn give(shared: &Shared, group: GroupId) -> Result<GroupSnapshot, StoreError> {
    let log = shared.logs.lock().get(&group).and_then(Weak::upgrade);
    // Rows and views change together under it.
    let _manifest = shared.manifest.lock();
    if let Some(log) = &log {
        log.check_open()?;
    }
    let row = shared.replica_row(group)?;
    let Some(stamp) = row.checkpoint else { return Err(StoreError::NothingToGive { group }) };
    let state = checkpoints::read(shared, group, row.truncated, stamp)?;
    let (segments, start) = match log.map(|log| log.view()) {
        Some(view) => (Arc::clone(&view.segments), view.start.min(row.sealed_end)),
        None => (Arc::default(), row.sealed_end),
    };
    let first = segments.first().map_or(row.sealed_end, |segment| segment.first);
    let end = segments.last().map_or(row.sealed_end, |segment| segment.end);
    if end != row.sealed_end {
        let reason = format!("the segments end at {end}, not at {}", row.sealed_end);
        return Err(StoreError::Rows { group, action: "take a snapshot", reason });
    }
    let offer = SnapshotOffer {
        position: row.truncated,
        start: start.max(first),
        sealed_end: row.sealed_end,
        segments: segments.iter().map(|segment| SegmentOffer::new(segment)).collect(),
    };
    let checkpoint = Checkpoint { position: row.truncated, members: row.members, state };
    let pinned = segments.iter().map(|segment| (segment.id, Arc::clone(segment))).collect();
    Ok(GroupSnapshot { checkpoint, offer, group, pinned })
}

impl GroupSnapshot {
    /// The file of a segment, for reading. Compares it with its checksum first if this process has
    /// not done so yet: blocks.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged, [`StoreError::Staging`] when the snapshot has no
    /// such segment.
    pub fn open(&self, segment: SegmentId) -> Result<File, StoreError> {
        let Some(pinned) = self.pinned.get(&segment) else {
            let reason = format!("there is no segment {segment}");
            return Err(StoreError::Staging { group: self.group, reason });
        };
        if !pinned.is_verified() {
            pinned.verify()?;
        }
        pinned.open()
    }
}

impl fmt::Debug for GroupSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSnapshot")
            .field("group", &self.group)
            .field("position", &self.offer.position)
            .field("segments", &self.offer.segments.len())
            .finish_non_exhaustive()
    }
}
