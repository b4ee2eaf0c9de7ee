//! Snapshots this node gives to replicas that are behind the log.
//!
//! Each stays open as long as somebody reads it, with its files, whatever is merged or retained
//! meanwhile; one that nobody reads for a while is let go, and its reader opens another.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{GroupId, SegmentId};
use alluvium_proto::peer::v1 as proto;
use alluvium_store::{GroupSnapshot, Store};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Status;

use super::convert;
use crate::clock::Stopwatch;

/// Snapshots open at a time: each holds files that may be gone from the manifest.
const OPEN_MAX: usize = 64;

/// One that nobody read for so long is let go.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Bytes of one message.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks on their way to one reader.
const CHUNKS_IN_FLIGHT: usize = 4;

/// What one reader gets in a second at most: a fast network's worth, so that what clients do goes
/// on beside it.
const BYTES_PER_SECOND: u64 = 256 << 20;

/// See the module.
#[derive(Debug)]
pub struct Snapshots {
    store: Arc<Store>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_id: BTreeMap<u64, (Arc<GroupSnapshot>, Stopwatch)>,
}

/// What a reader is told, or why it is told no more.
pub(super) type Chunks = mpsc::Receiver<Result<proto::SnapshotChunk, Status>>;

impl Snapshots {
    /// Of what this node has.
    pub fn new(store: Arc<Store>) -> Snapshots {
        Snapshots { store, open: Mutex::default() }
    }

    /// Opens one.
    pub(super) async fn open(&self, group: GroupId) -> Result<proto::Snapshot, String> {
        let store = self.store.clone();
        let opened = tokio::task::spawn_blocking(move || store.snapshot(group)).await;
        let snapshot = opened.map_err(|error| error.to_string())?;
        let snapshot = Arc::new(snapshot.map_err(|error| error.to_string())?);
        let mut open = self.open.lock();
        open.by_id.retain(|_, (_, used)| used.elapsed() < IDLE_MAX);
        if OPEN_MAX <= open.by_id.len() {
            return Err(format!("{OPEN_MAX} snapshots are open already; try again later"));
        }
        open.next += 1;
        let id = open.next;
        open.by_id.insert(id, (snapshot.clone(), Stopwatch::start()));
        Ok(convert::snapshot(id, &snapshot))
    }

    fn used(&self, id: u64) -> Option<Arc<GroupSnapshot>> {
        let mut open = self.open.lock();
        let (snapshot, used) = open.by_id.get_mut(&id)?;
        *used = Stopwatch::start();
        Some(snapshot.clone())
    }

    /// Reads a file of one from a place on.
    pub(super) fn read(
        self: &Arc<Snapshots>,
        id: u64,
        segment: SegmentId,
        offset: u64,
    ) -> Result<Chunks, Status> {
        let Some(snapshot) = self.used(id) else {
            return Err(Status::not_found(format!("snapshot {id} is not open; open another")));
        };
        let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let snapshots = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(status) = send(&snapshots, id, &snapshot, segment, offset, &chunks) {
                // A reader that left needs no reason.
                let _ = chunks.blocking_send(Err(status));
            }
        });
        Ok(received)
    }
}

/// Sends a file, not faster than one reader may have it.
fn send(
    snapshots: &Snapshots,
    id: u64,
    snapshot: &GroupSnapshot,
    segment: SegmentId,
    offset: u64,
    chunks: &mpsc::Sender<Result<proto::SnapshotChunk, Status>>,
) -> Result<(), Status> {
    let damaged = |error: String| Status::data_loss(error);
    let mut file = snapshot.open(segment).map_err(|error| damaged(error.to_string()))?;
    file.seek(SeekFrom::Start(offset)).map_err(|error| damaged(error.to_string()))?;
    let watch = Stopwatch::start();
    let (mut offset, mut sent) = (offset, 0_u64);
    loop {
        let mut data = vec![0; CHUNK_BYTES];
        let count = file.read(&mut data).map_err(|error| damaged(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        data.truncate(count);
        let crc = crc32fast::hash(&data);
        let chunk = proto::SnapshotChunk { offset, data: data.into(), crc };
        if chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
        snapshots.used(id);
        offset += count as u64;
        sent += count as u64;
        let due = Duration::from_millis(sent.saturating_mul(1_000) / BYTES_PER_SECOND);
        if let Some(early) = due.checked_sub(watch.elapsed()) {
            std::thread::sleep(early);
        }
    }
}
