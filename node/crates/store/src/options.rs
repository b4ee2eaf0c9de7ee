//! What the shell decides about a store.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::time::Time;

/// The two clocks the store needs. The node has the only real one; tests move theirs by hand.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, for `created_at` of segments.
    fn now(&self) -> Time;

    /// Time since some fixed moment, never going back: for measuring how long something took.
    fn elapsed(&self) -> Duration;
}

/// Called when a write that other promises rest on failed. The default logs and aborts the process;
/// a hook that returns leaves the store refusing all further writes.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

/// Called at the named places of sealing, merging and installing, between two steps that a crash
/// may separate.
pub type StepHook = Arc<dyn Fn(SealStep) + Send + Sync>;

/// Places between two durable steps of the segment threads, or of taking a snapshot in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealStep {
    /// The temporary file is written and synced, but has not its name yet.
    FileWritten,
    /// The file has its name, the manifest does not know it.
    FileNamed,
    /// The checkpoint is durable, nothing points to it.
    CheckpointWritten,
    /// Manifest, pointer and truncation are durable; readers still see the former view.
    ManifestWritten,
    /// Readers see the new view; the former checkpoint is still there.
    Published,
    /// The merged file has its name, the manifest does not know it.
    MergeNamed,
    /// The manifest names the merged file; readers still see the inputs.
    MergeManifestWritten,
    /// All files of a snapshot are there, checked and synced; none has an id yet.
    StagedChecked,
    /// The files of a snapshot have their ids and names, the manifest does not know them.
    StagedNamed,
    /// Checkpoint, manifest and log of the leader's are durable; readers still see the former view.
    Installed,
}

/// What the shell decides about a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Where times come from.
    pub clock: Arc<dyn Clock>,
    /// Writes are refused while less is free. `None`: 512 MiB, or a twentieth of a smaller disk.
    pub reserve_bytes: Option<u64>,
    /// Blocks of both databases kept in memory.
    pub cache_bytes: usize,
    /// Memtable of the log.
    pub log_memtable_bytes: usize,
    /// What flushes and compactions of both databases write in a second, at most. More than what is
    /// appended, or it is this that limits appends.
    pub flush_bytes_per_second: u64,
    /// Whether log values of 4 KiB and more go to blob files when a memtable is flushed.
    pub blob_files: bool,
    /// Check the whole of every segment once after opening, at low priority.
    pub verify_after_open: bool,
    /// Merge small neighbours in the background.
    pub merge: bool,
    /// See [`FatalHook`].
    pub on_fatal: FatalHook,
    /// See [`StepHook`]. Only tests set it.
    pub on_step: Option<StepHook>,
}

impl StoreOptions {
    /// The defaults, with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> StoreOptions {
        StoreOptions {
            clock,
            reserve_bytes: None,
            // A node that serves from the tail and from segments reads little through the
            // databases; views will want more and configure it.
            cache_bytes: 32 << 20,
            log_memtable_bytes: 64 << 20,
            flush_bytes_per_second: 256 << 20,
            blob_files: true,
            verify_after_open: true,
            merge: true,
            on_fatal: Arc::new(abort),
            on_step: None,
        }
    }
}

/// Going on after a failed sync could acknowledge what is not on the disk: a later sync may succeed
/// without the pages that the first one lost.
fn abort(reason: &str) {
    tracing::error!(reason, "cannot make writes durable; the process ends");
    std::process::abort();
}
