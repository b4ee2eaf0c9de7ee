//! The threads that work on segments: one cuts tails, one merges, expires and verifies.
//!
//! They are apart because a merge takes seconds and a cut frees memory and log. Both give way to
//! everything that someone waits for. A third one, which gives way to nobody, writes the manifest
//! for them: while it does, the log writer waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use alluvium_core::ids::{GroupId, Offset};
use alluvium_core::replica::Checkpoint;

use super::cut::{self, CutDone, CutTask};
use super::merge;
use crate::databases::Sync;
use crate::error::StoreError;
use crate::nice;
use crate::partition_log::PartitionLog;
use crate::shared::{ManifestWrite, Shared};

/// Cuts that may wait: one for each partition of a busy node. A partition asks again when it is
/// told that there was no place.
const CUTS_MAX: usize = 1_024;

/// Partitions that may wait for care. Care left out is asked for again by the next cut.
const CARE_MAX: usize = 4_096;

/// Too many cuts are waiting; the task comes back.
#[derive(Debug)]
pub struct SegmentBusy<T>(pub T);

/// Hands work to the segment threads.
#[derive(Clone)]
pub struct SegmentWriter {
    cuts: SyncSender<Cut>,
    care: SyncSender<Care>,
}

/// The threads; end when told to.
pub(crate) struct SegmentThreads {
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    writer: SegmentWriter,
    threads: Vec<JoinHandle<()>>,
}

enum Cut {
    Tail(CutTask),
    Checkpoint {
        group: GroupId,
        checkpoint: Checkpoint,
        done: CutDone,
    },
    /// Drop this when everything before is done.
    Reached {
        _before: SyncSender<()>,
    },
    Stop,
}

enum Care {
    /// Merge what is worth it and drop what has expired.
    Tidy(Weak<PartitionLog>),
    /// Read everything once.
    Verify(Weak<PartitionLog>),
    /// Drop this when everything before is done.
    Reached {
        _before: SyncSender<()>,
    },
    Stop,
}

impl SegmentWriter {
    /// Seals the tail of a partition and truncates its log.
    ///
    /// # Errors
    /// [`SegmentBusy`] with the task when too many wait.
    pub fn cut(&self, task: CutTask) -> Result<(), SegmentBusy<CutTask>> {
        self.cuts.try_send(Cut::Tail(task)).map_err(|refused| match inner(refused) {
            Cut::Tail(task) => SegmentBusy(task),
            Cut::Checkpoint { .. } | Cut::Reached { .. } | Cut::Stop => {
                unreachable!("what was sent comes back")
            }
        })
    }

    /// Truncates the log of a group without events, such as the meta group, up to a checkpoint.
    ///
    /// # Errors
    /// [`SegmentBusy`] with the checkpoint when too many wait.
    pub fn checkpoint_only(
        &self,
        group: GroupId,
        checkpoint: Checkpoint,
        done: CutDone,
    ) -> Result<(), SegmentBusy<Checkpoint>> {
        let cut = Cut::Checkpoint { group, checkpoint, done };
        self.cuts.try_send(cut).map_err(|refused| match inner(refused) {
            Cut::Checkpoint { checkpoint, .. } => SegmentBusy(checkpoint),
            Cut::Tail(_) | Cut::Reached { .. } | Cut::Stop => {
                unreachable!("what was sent comes back")
            }
        })
    }

    /// Merges small neighbours of a partition, as every cut does after itself.
    pub fn merge(&self, log: &Arc<PartitionLog>) {
        self.send(Care::Tidy(Arc::downgrade(log)));
    }

    /// Events before `start` are gone for readers when this returns; segments without any other go
    /// soon.
    pub fn retain(&self, log: &Arc<PartitionLog>, start: Offset) {
        log.retain(start);
        self.send(Care::Tidy(Arc::downgrade(log)));
    }

    /// Waits until everything handed in before is done, cuts first, then merging and the rest.
    pub fn wait(&self) {
        let (before, reached) = sync_channel(0);
        if self.cuts.send(Cut::Reached { _before: before }).is_ok() {
            // The other end is only ever dropped.
            let _ = reached.recv();
        }
        let (before, reached) = sync_channel(0);
        if self.care.send(Care::Reached { _before: before }).is_ok() {
            let _ = reached.recv();
        }
    }

    /// A partition was opened.
    pub(crate) fn look_after(&self, log: &Arc<PartitionLog>) {
        self.send(Care::Tidy(Arc::downgrade(log)));
        if log.shared().options.verify_after_open {
            self.send(Care::Verify(Arc::downgrade(log)));
        }
    }

    fn send(&self, care: Care) {
        match self.care.try_send(care) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::debug!("too many partitions wait for care"),
            Err(TrySendError::Disconnected(_)) => tracing::debug!("the store is closing"),
        }
    }
}

impl SegmentThreads {
    pub(crate) fn start(
        shared: &Arc<Shared>,
    ) -> Result<(SegmentThreads, SegmentWriter), StoreError> {
        let (cuts, cuts_receiver) = sync_channel(CUTS_MAX);
        let (care, care_receiver) = sync_channel(CARE_MAX);
        let writer = SegmentWriter { cuts, care };
        let stopping = Arc::new(AtomicBool::new(false));
        let spawn = |name: &str, nice: i32, run: Box<dyn FnOnce() + Send>| {
            let body = move || {
                nice::set(nice);
                run();
            };
            let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
            spawned.map_err(StoreError::io("start the segment threads for", &shared.dir))
        };
        let cutter = {
            let (shared, stopping) = (Arc::clone(shared), Arc::clone(&stopping));
            let care = writer.care.clone();
            move || run_cuts(&shared, &cuts_receiver, &care, &stopping)
        };
        let carer = {
            let (shared, stopping) = (Arc::clone(shared), Arc::clone(&stopping));
            move || run_care(&shared, &care_receiver, &stopping)
        };
        let (manifest_sender, manifest_writes) = sync_channel(1);
        let manifest_writer = {
            let shared = Arc::clone(shared);
            move || run_manifest(&shared, &manifest_writes)
        };
        let threads = vec![
            spawn("segment-cut", nice::CUT, Box::new(cutter))?,
            spawn("segment-merge", nice::CARE, Box::new(carer))?,
            spawn("manifest", 0, Box::new(manifest_writer))?,
        ];
        *shared.manifest_thread.lock() = Some(manifest_sender);
        let shared = Arc::clone(shared);
        Ok((SegmentThreads { shared, stopping, writer: writer.clone(), threads }, writer))
    }

    /// Ends the cut under way, gives up the merge under way, and refuses what waits: its events are
    /// in the log.
    pub(crate) fn stop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.stopping.store(true, Ordering::Relaxed);
        // An error means that the thread has ended already.
        let _ = self.writer.cuts.send(Cut::Stop);
        let _ = self.writer.care.send(Care::Stop);
        // Whoever still has a batch to write does it alone from now on.
        *self.shared.manifest_thread.lock() = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a segment thread panicked");
            }
        }
    }
}

impl Drop for SegmentThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends when the way to it is gone.
fn run_manifest(shared: &Shared, writes: &Receiver<ManifestWrite>) {
    while let Ok(ManifestWrite { batch, done }) = writes.recv() {
        // Who asked waits for the answer, unless it panicked.
        let _ = done.send(shared.databases.write(batch, Sync::Yes));
    }
}

fn run_cuts(
    shared: &Arc<Shared>,
    cuts: &Receiver<Cut>,
    care: &SyncSender<Care>,
    stopping: &AtomicBool,
) {
    while let Ok(cut) = cuts.recv() {
        let closing = stopping.load(Ordering::Relaxed);
        match cut {
            Cut::Tail(CutTask { done, .. }) | Cut::Checkpoint { done, .. } if closing => {
                done(Err(StoreError::Closing));
            }
            Cut::Tail(CutTask { log, checkpoint, end, done }) => {
                let result = cut::cut(&log, &checkpoint, end);
                watch(shared, &log.group(), &result);
                if result.is_ok() {
                    // Care left out now is asked for by the next cut.
                    let _ = care.try_send(Care::Tidy(Arc::downgrade(&log)));
                }
                done(result);
            }
            Cut::Checkpoint { group, checkpoint, done } => {
                let result = cut::checkpoint_only(shared, group, &checkpoint);
                watch(shared, &group, &result);
                done(result);
            }
            Cut::Reached { .. } => {}
            Cut::Stop => return,
        }
    }
}

fn watch<T>(shared: &Shared, group: &GroupId, result: &Result<T, StoreError>) {
    let Err(error) = result else { return };
    shared.metrics.cuts_failed.increment();
    tracing::warn!(%group, %error, "cannot seal; the events stay in the log");
    end_if_sync_failed(shared, error);
}

/// A sync that failed for another reason than a full disk says that the disk cannot be relied on.
pub(crate) fn end_if_sync_failed(shared: &Shared, error: &StoreError) {
    if let StoreError::Io { action: "sync" | "sync directory", .. } = error
        && !error.is_full()
    {
        (shared.options.on_fatal)(&error.to_string());
    }
}

fn run_care(shared: &Arc<Shared>, care: &Receiver<Care>, stopping: &AtomicBool) {
    while let Ok(next) = care.recv() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        match next {
            Care::Tidy(log) => {
                if let Some(log) = log.upgrade()
                    && let Err(error) = tidy(shared, &log, stopping)
                {
                    failed(shared, &log, &error);
                }
            }
            Care::Verify(log) => verify(shared, &log, stopping),
            Care::Reached { .. } => {}
            Care::Stop => return,
        }
    }
}

fn tidy(shared: &Shared, log: &PartitionLog, stopping: &AtomicBool) -> Result<(), StoreError> {
    merge::expire(log)?;
    if !shared.options.merge || log.damage().is_some() {
        return Ok(());
    }
    while merge::merge_once(log, stopping)? {
        if stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    Ok(())
}

fn verify(shared: &Shared, log: &Weak<PartitionLog>, stopping: &AtomicBool) {
    let Some(segments) = log.upgrade().map(|log| Arc::clone(&log.view().segments)) else { return };
    for segment in segments.iter() {
        // The log may be dropped meanwhile: nobody is interested any more.
        let Some(log) = log.upgrade() else { return };
        if let Err(error) = segment.verify_unless(stopping) {
            failed(shared, &log, &error);
        }
    }
}

fn failed(shared: &Shared, log: &PartitionLog, error: &StoreError) {
    match error {
        StoreError::Closing => {}
        StoreError::Corrupt { .. } => {
            shared.metrics.segments_damaged.increment();
            log.set_damage(error);
        }
        other => {
            shared.metrics.merges_failed.increment();
            let group = log.group();
            tracing::warn!(%group, error = %other, "cannot merge; will be tried again");
            end_if_sync_failed(shared, other);
        }
    }
}

fn inner<T>(refused: TrySendError<T>) -> T {
    match refused {
        TrySendError::Full(task) | TrySendError::Disconnected(task) => task,
    }
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter").finish_non_exhaustive()
    }
}
