//! Fetches what a replica needs that is behind its leader's log: a checkpoint and its segments.
//!
//! What is here already is not fetched again, and what was fetched before a break is kept.

use std::sync::Arc;

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::replica::{Checkpoint, Fetch};
use alluvium_store::{SegmentOffer, Staged, Staging, Store};

use crate::grpc::peer::{PeerError, Peers};

/// A checkpoint, with everything it names staged on this node.
#[derive(Debug)]
pub struct FetchedCheckpoint {
    /// To hand to the replica.
    pub checkpoint: Checkpoint,
    /// Its segments; none of the meta group, which has no events.
    pub staged: Option<Staged>,
}

/// Why it could not be had. The leader asks again.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The leader could not be asked.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It could not be written here, or is not what was offered.
    #[error(transparent)]
    Store(#[from] alluvium_store::StoreError),
    /// The leader gave an older one than it spoke of.
    #[error("the checkpoint offered is older than the one spoken of")]
    Old,
    /// The thread that writes it is gone: the node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Fetches from whom the core says.
pub async fn fetch(
    store: Arc<Store>,
    peers: Arc<Peers>,
    group: GroupId,
    fetch: Fetch,
) -> Result<FetchedCheckpoint, FetchError> {
    let (id, checkpoint, offer) = peers.open_snapshot(fetch.from, group).await?;
    if checkpoint.position.index < fetch.position.index {
        return Err(FetchError::Old);
    }
    if group == GroupId::META {
        return Ok(FetchedCheckpoint { checkpoint, staged: None });
    }
    let (files, bytes) = (offer.segments.len(), offer.segments.iter().map(|s| s.file_bytes).sum());
    let _: u64 = bytes;
    tracing::info!(%group, from = %fetch.from, files, bytes, "fetches a checkpoint");
    let disk = store.clone();
    let mut staging = blocking(move || disk.stage(group, offer)).await??;
    for (segment, there) in staging.missing() {
        staging = fetch_segment(&peers, fetch.from, id, staging, segment, there).await?;
    }
    let staged = blocking(move || staging.finish()).await??;
    let (disk, ready, whole) = (store.clone(), staged.clone(), checkpoint.clone());
    // Else the log writer would do it, while all groups wait.
    blocking(move || disk.prepare(&ready, &whole)).await??;
    tracing::info!(%group, end = %staged.sealed_end(), "fetched a checkpoint");
    Ok(FetchedCheckpoint { checkpoint, staged: Some(staged) })
}

async fn fetch_segment(
    peers: &Peers,
    from: NodeId,
    snapshot: u64,
    mut staging: Staging,
    segment: SegmentOffer,
    there: u64,
) -> Result<Staging, FetchError> {
    let mut chunks = peers.read_snapshot(from, snapshot, segment.id, there).await?;
    while let Some((at, data)) = chunks.next().await? {
        let written;
        (staging, written) = blocking(move || {
            let written = staging.write(segment.id, at, &data);
            (staging, written)
        })
        .await?;
        written?;
    }
    Ok(staging)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Stopping)
}
