//! What the handles and threads of one open store have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use alluvium_core::ids::{GroupId, SegmentId};
use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::databases::{Databases, Sync};
use crate::error::StoreError;
use crate::files;
use crate::keys;
use crate::keys::replica::ReplicaRow;
use crate::lock::DirectoryLock;
use crate::metrics::StoreMetrics;
use crate::options::{SealStep, StoreOptions};
use crate::partition_log::PartitionLog;
use crate::removal::Remover;
use crate::room::Room;
use crate::snapshot::install::StagedSnapshots;
use crate::views::ViewWrites;

/// See the module. Closed when the last handle is gone.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) databases: Databases,
    pub(crate) metrics: Arc<StoreMetrics>,
    pub(crate) room: Room,
    /// Held while replica rows and manifest rows are read, changed and written.
    pub(crate) manifest: Mutex<()>,
    /// The way to the manifest thread, as long as it runs.
    pub(crate) manifest_thread: Mutex<Option<SyncSender<ManifestWrite>>>,
    /// Every partition log that is open, by group.
    pub(crate) logs: Mutex<BTreeMap<GroupId, Weak<PartitionLog>>>,
    /// Groups of which a snapshot is being taken in.
    pub(crate) stagings: Mutex<BTreeSet<GroupId>>,
    /// Snapshots that are here whole and wait for being installed.
    pub(crate) staged: StagedSnapshots,
    /// What is remembered between two checkpoints of views.
    pub(crate) views: ViewWrites,
    next_segment: AtomicU64,
    // Ends after the databases are closed.
    _remover: Remover,
    // Released last.
    _lock: DirectoryLock,
}

/// A manifest batch on its way through the manifest thread.
pub(crate) struct ManifestWrite {
    pub(crate) batch: WriteBatch,
    pub(crate) done: SyncSender<Result<(), StoreError>>,
}

impl Shared {
    pub(crate) fn open(dir: &Path, options: StoreOptions) -> Result<Shared, StoreError> {
        let lock = DirectoryLock::acquire(dir)?;
        crate::identity::check_format(dir)?;
        let segments = dir.join("segments");
        std::fs::create_dir_all(&segments).map_err(StoreError::io("create", &segments))?;
        let remover = Remover::start(dir)?;
        let room = Room::new(dir, options.reserve_bytes, Arc::clone(&options.clock))?;
        let databases = Databases::open(dir, &options, room.reserve_bytes())?;
        // What is in a folder is only as durable as the folder's own name.
        files::sync_dir(&segments)?;
        files::sync_dir(dir)?;
        Ok(Shared {
            dir: dir.to_path_buf(),
            options,
            databases,
            metrics: Arc::default(),
            room,
            manifest: Mutex::new(()),
            manifest_thread: Mutex::default(),
            logs: Mutex::default(),
            stagings: Mutex::default(),
            staged: StagedSnapshots::default(),
            views: ViewWrites::default(),
            next_segment: AtomicU64::new(1),
            _remover: remover,
            _lock: lock,
        })
    }

    /// The folder of a group's segments.
    pub(crate) fn segment_dir(&self, group: GroupId) -> PathBuf {
        self.dir.join("segments").join(group.0.to_string())
    }

    /// An id that no segment of this node ever had.
    pub(crate) fn take_segment_id(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    /// Ids up to `used` are taken.
    pub(crate) fn skip_segment_ids(&self, used: SegmentId) {
        self.next_segment.fetch_max(used.0 + 1, Ordering::Relaxed);
    }

    /// The row of a group this node holds.
    pub(crate) fn replica_row(&self, group: GroupId) -> Result<ReplicaRow, StoreError> {
        match self.databases.get_meta(&keys::replica::key(group))? {
            Some(row) => {
                keys::replica::decode(&row).map_err(StoreError::malformed(group, "the replica row"))
            }
            None => Err(StoreError::UnknownGroup { group }),
        }
    }

    /// Adds the segment counter and writes a manifest batch. A failure is final, as in the log
    /// writer: what the database holds after it is not known.
    pub(crate) fn write_manifest(&self, mut batch: WriteBatch) -> Result<(), StoreError> {
        self.add_counter(&mut batch);
        self.write_in_turn(batch).inspect_err(|error| {
            (self.options.on_fatal)(&error.to_string());
        })
    }

    /// Adds to a batch which segment ids are not taken yet.
    pub(crate) fn add_counter(&self, batch: &mut WriteBatch) {
        let next = SegmentId(self.next_segment.load(Ordering::Relaxed));
        let meta = self.databases.meta();
        batch.put_cf(meta, keys::counter::NEXT_SEGMENT, keys::counter::encode(next));
    }

    /// Writers of one database wait for each other: were a segment thread, which gives way to all
    /// others, among them, the log writer would wait until nobody else wants the processor.
    fn write_in_turn(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let Some(thread) = self.manifest_thread.lock().clone() else {
            return self.databases.write(batch, Sync::Yes);
        };
        let (done, written) = sync_channel(1);
        thread.send(ManifestWrite { batch, done }).map_err(|_| StoreError::Closing)?;
        written.recv().map_err(|_| StoreError::Closing)?
    }

    /// Tells the test that watches that this place is reached.
    pub(crate) fn reach(&self, step: SealStep) {
        if let Some(hook) = &self.options.on_step {
            hook(step);
        }
    }
}
