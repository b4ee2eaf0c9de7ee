//! The one thread that makes writes of all groups durable.
//!
//! It takes what waits, up to a limit, puts it into one batch, syncs once, and then tells everyone
//! in the order they came. A failed write is final: nothing after it is attempted, because a later
//! sync can succeed without the pages the failed one lost.
//!
//! Invariant: `done` of a task runs after everything in the task, and in all tasks before it, is
//! synced.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use alluvium_core::ids::{GroupId, Index};
use alluvium_core::replica::{Checkpoint, Envelope, Held, Persisted, Writes};
use rocksdb::WriteBatch;

use crate::checkpoints;
use crate::databases::Sync;
use crate::entry;
use crate::error::StoreError;
use crate::keys;
use crate::nice;
use crate::shared::Shared;
use crate::snapshot::install;

/// Tasks that may wait. A thousand groups with a few steps each; beyond that the disk is too slow
/// for what comes in, and the caller must know.
const QUEUE_TASKS_MAX: usize = 4_096;

/// Bytes that may wait: a quarter of a second at 1 GB/s, and the memory it costs.
const QUEUE_BYTES_MAX: u64 = 256 << 20;

/// Bytes after which a batch is written even though more waits: about 4 ms of disk, so that the
/// first task of a batch does not wait longer than the sync itself takes.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// What a replica wants durable, and what to do then.
pub struct WriteTask {
    /// The writes of one step.
    pub writes: Writes,
    /// What must not be seen before they are durable.
    pub held: Held,
    /// Runs on the log writer's thread as soon as they are: it must not block.
    pub done: Box<dyn FnOnce(Vec<Envelope>, Persisted) + Send>,
}

/// Why a task was not taken.
#[derive(Debug)]
pub enum SubmitError {
    /// Too much is waiting. The task comes back; it must be submitted again before any later task
    /// of its group.
    Full(Box<WriteTask>),
    /// The store is closing, or a write failed for good.
    Stopped,
}

/// Hands tasks to the log writer.
#[derive(Clone)]
pub struct LogWriter {
    sender: SyncSender<Work>,
    queue: Arc<Queue>,
}

/// The thread; ends when told to.
pub(crate) struct LogWriterThread {
    sender: SyncSender<Work>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Task(Box<WriteTask>),
    Stop,
}

struct Queue {
    bytes: AtomicU64,
    shared: std::sync::Weak<Shared>,
}

impl LogWriter {
    /// Takes the task, or gives it back at once.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when too much waits already.
    pub fn submit(&self, task: WriteTask) -> Result<(), SubmitError> {
        let Some(shared) = self.queue.shared.upgrade() else { return Err(SubmitError::Stopped) };
        let bytes = task.writes.size_bytes();
        let before = self.queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One task is let in whatever its size, else one larger than the limit could never pass.
        if before != 0 && QUEUE_BYTES_MAX < before + bytes {
            self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.metrics.refused_tasks.increment();
            return Err(SubmitError::Full(Box::new(task)));
        }
        shared.metrics.queued_tasks.raise(1);
        shared.metrics.queued_bytes.raise(bytes);
        match self.sender.try_send(Work::Task(Box::new(task))) {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
                shared.metrics.queued_tasks.lower(1);
                shared.metrics.queued_bytes.lower(bytes);
                shared.metrics.refused_tasks.increment();
                Err(refuse(refused))
            }
        }
    }
}

fn refuse(refused: TrySendError<Work>) -> SubmitError {
    match refused {
        TrySendError::Full(Work::Task(task)) => SubmitError::Full(task),
        TrySendError::Full(Work::Stop) | TrySendError::Disconnected(_) => SubmitError::Stopped,
    }
}

impl LogWriterThread {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<(LogWriterThread, LogWriter), StoreError> {
        let (sender, receiver) = sync_channel(QUEUE_TASKS_MAX);
        let queue = Arc::new(Queue { bytes: AtomicU64::new(0), shared: Arc::downgrade(&shared) });
        let writer = LogWriter { sender: sender.clone(), queue: Arc::clone(&queue) };
        let dir = shared.dir.clone();
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || {
                nice::set(nice::LOG_WRITER);
                Loop { shared, receiver, queue, ends: Ends::default() }.run();
            })
            .map_err(StoreError::io("start the log writer for", &dir))?;
        Ok((LogWriterThread { sender, thread: Some(thread) }, writer))
    }

    /// Waits until everything submitted before is written, then ends the thread.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // An error means that the thread has ended already.
        let _ = self.sender.send(Work::Stop);
        if thread.join().is_err() {
            tracing::error!("the log writer panicked");
        }
    }
}

impl Drop for LogWriterThread {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Loop {
    shared: Arc<Shared>,
    receiver: Receiver<Work>,
    queue: Arc<Queue>,
    ends: Ends,
}

impl Loop {
    fn run(mut self) {
        let mut tasks = Vec::new();
        while let Ok(work) = self.receiver.recv() {
            let stop = self.gather(work, &mut tasks);
            if let Err(error) = self.write(&tasks) {
                (self.shared.options.on_fatal)(&error.to_string());
                return;
            }
            for task in tasks.drain(..) {
                let WriteTask { writes, held, done } = task;
                let bytes = writes.size_bytes();
                self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.shared.metrics.queued_tasks.lower(1);
                self.shared.metrics.queued_bytes.lower(bytes);
                let (envelopes, persisted) = held.release(writes.into_durable());
                done(envelopes, persisted);
            }
            if stop {
                return;
            }
        }
    }

    /// Collects tasks that wait already; true when told to stop after them.
    fn gather(&mut self, first: Work, tasks: &mut Vec<WriteTask>) -> bool {
        let mut bytes = 0;
        let mut work = first;
        loop {
            match work {
                Work::Task(task) => {
                    bytes += task.writes.size_bytes();
                    tasks.push(*task);
                }
                Work::Stop => return true,
            }
            if BATCH_BYTES_MAX <= bytes {
                return false;
            }
            match self.receiver.try_recv() {
                Ok(next) => work = next,
                Err(_) => return false,
            }
        }
    }

    fn write(&mut self, tasks: &[WriteTask]) -> Result<(), StoreError> {
        // An installed checkpoint replaces what tasks before it wrote: it must find that stored.
        let alone = |task: &WriteTask| task.writes.install.is_some();
        for tasks in tasks.chunk_by(|one, next| !alone(one) && !alone(next)) {
            let installing = tasks
                .iter()
                .map(|task| &task.writes)
                .find_map(|writes| Some((writes.group, writes.install.as_ref()?.position)));
            // The segment threads change replica rows too.
            let _manifest = installing.map(|_| self.shared.manifest.lock());
            write_all(&self.shared, &mut self.ends, tasks.iter().map(|task| &task.writes))?;
            if let Some((group, position)) = installing {
                install::written(&self.shared, group, position);
            }
        }
        Ok(())
    }
}

/// Where the stored log of each group ends: what lies at or behind a new first entry must go.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    last: BTreeMap<GroupId, Index>,
}

impl Ends {
    fn last(&mut self, shared: &Shared, group: GroupId) -> Result<Index, StoreError> {
        if let Some(&last) = self.last.get(&group) {
            return Ok(last);
        }
        let last = shared.databases.last_entry(group)?.unwrap_or(Index(0));
        self.last.insert(group, last);
        Ok(last)
    }
}

/// Writes all of it as one batch and waits for the disk if any of it asks for that.
pub(crate) fn write_all<'a>(
    shared: &Shared,
    ends: &mut Ends,
    all: impl Iterator<Item = &'a Writes> + Clone,
) -> Result<(), StoreError> {
    let bytes: u64 = all.clone().map(Writes::size_bytes).sum();
    let mut batch =
        WriteBatch::with_capacity_bytes(usize::try_from(bytes).unwrap_or(0) + (4 << 10));
    let mut value = Vec::new();
    let mut sync = Sync::No;
    let (mut task_count, mut entry_count) = (0, 0);
    for writes in all {
        task_count += 1;
        entry_count += writes.entries.len() as u64;
        if writes.must_sync {
            sync = Sync::Yes;
        }
        add(shared, ends, writes, &mut batch, &mut value)?;
    }
    let batch_bytes = batch.size_in_bytes() as u64;
    let clock = &shared.options.clock;
    let before = clock.elapsed();
    shared.databases.write(batch, sync)?;
    let metrics = &shared.metrics;
    match sync {
        Sync::Yes => metrics.sync_micros.observe_duration(clock.elapsed().saturating_sub(before)),
        Sync::No => metrics.unsynced_batches.increment(),
    }
    metrics.batch_tasks.observe(task_count);
    metrics.entries.add(entry_count);
    metrics.written_bytes.add(batch_bytes);
    Ok(())
}

fn add(
    shared: &Shared,
    ends: &mut Ends,
    writes: &Writes,
    batch: &mut WriteBatch,
    value: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let Writes { group, install, hard_state, entries, .. } = writes;
    let group = *group;
    let (log, meta) = (shared.databases.log(), shared.databases.meta());
    if let Some(checkpoint) = install {
        replace(shared, ends, group, checkpoint, batch)?;
    }
    if let Some(state) = hard_state {
        batch.put_cf(meta, keys::hard_state::key(group), keys::hard_state::encode(state));
    }
    let Some(last_new) = entries.last() else { return Ok(()) };
    let mut gone = last_new.index;
    let last = ends.last(shared, group)?;
    while gone < last {
        gone = gone.next();
        batch.delete_cf(log, keys::log::encode(group, gone));
    }
    for entry in entries {
        entry::encode(group, entry, value);
        batch.put_cf(log, keys::log::encode(group, entry.index), &*value);
    }
    ends.last.insert(group, last_new.index);
    Ok(())
}

/// Everything stored for the group gives way to a checkpoint of its leader: where there are events,
/// with the segments that were staged for it.
fn replace(
    shared: &Shared,
    ends: &mut Ends,
    group: GroupId,
    checkpoint: &Checkpoint,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let mut row = shared.replica_row(group)?;
    let prepared = install::add(shared, group, checkpoint.position, &mut row, batch)?;
    let stamp = match prepared.filter(|stamp| *stamp == checkpoints::stamp(checkpoint)) {
        Some(stamp) => stamp,
        None => checkpoints::write(shared, group, checkpoint)?,
    };
    row.members.clone_from(&checkpoint.members);
    row.truncated = checkpoint.position;
    row.checkpoint = Some(stamp);
    let mut rows = shared.databases.log_rows(group, Index(0));
    while let Some((key, _)) = rows.next()? {
        batch.delete_cf(shared.databases.log(), key);
    }
    let meta = shared.databases.meta();
    batch.put_cf(meta, keys::replica::key(group), keys::replica::encode(&row));
    ends.last.insert(group, Index(0));
    Ok(())
}

impl fmt::Debug for WriteTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTask").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}
