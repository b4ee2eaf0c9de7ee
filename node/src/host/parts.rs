//! The parts of a view, wherever they are: this node's own, and those of partitions that other
//! nodes hold.

use std::sync::Arc;

use alluvium_core::ids::{NodeId, Offset, PartitionNumber, ViewId};
use alluvium_core::stream::{Frontier, Stream};
use alluvium_core::time::Time;
use alluvium_query::host::{Freshness, HostError, ViewPartition};
use alluvium_views::fold::{Changes, Definition, Keys, Merge};
use arrow::record_batch::RecordBatch;

use super::pin::{asked_of, cut_of};
use super::{MOVED_TRIES_MAX, MOVED_WAIT, read_error};
use crate::actors::partition::{LAG_MAX, PartitionHandle, ReadError};
use crate::actors::supervisor::ELSEWHERE;
use crate::grpc::peer::{RemoteView, ViewAsk, ViewQuestion};
use crate::streams::ServedStream;
use crate::views::{Audited, ServedView, ViewPart, ViewReadError};

/// One part of a view.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Here { part: Arc<ViewPart>, handle: Arc<PartitionHandle>, view: ViewId },
    There { handle: Arc<PartitionHandle>, view: ViewId },
}

/// Why a part could not be asked.
#[derive(Debug)]
pub(super) enum PartError {
    /// It moved between nodes, or was opened again: it is to be looked for anew.
    Moved { reason: String },
    /// It cannot be had.
    Host(HostError),
}

impl PartError {
    /// For whoever asked.
    pub fn into_host(self) -> HostError {
        match self {
            PartError::Moved { reason } => HostError::Unavailable { reason },
            PartError::Host(error) => error,
        }
    }
}

impl From<HostError> for PartError {
    fn from(error: HostError) -> PartError {
        PartError::Host(error)
    }
}

impl From<ViewReadError> for PartError {
    fn from(error: ViewReadError) -> PartError {
        let reason = error.to_string();
        match error {
            ViewReadError::Stopped { .. } => PartError::Moved { reason },
            ViewReadError::Parked { .. } | ViewReadError::Damaged { .. } => {
                PartError::Host(HostError::Unavailable { reason })
            }
        }
    }
}

fn of_read(served: &ServedStream, error: &ReadError) -> PartError {
    let host = read_error(served, error);
    match error {
        ReadError::Moved { .. } => PartError::Moved { reason: host.to_string() },
        ReadError::NoOwner { .. } | ReadError::Busy { .. } | ReadError::NotServed { .. } => {
            PartError::Host(host)
        }
    }
}

/// Counts how often something was asked of parts that moved meanwhile.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Waits a moment before the next try.
    ///
    /// # Errors
    /// When another try would not help, or there were enough.
    pub async fn after(&mut self, error: PartError) -> Result<(), HostError> {
        self.0 += 1;
        if matches!(error, PartError::Host(_)) || MOVED_TRIES_MAX < self.0 {
            return Err(error.into_host());
        }
        tokio::time::sleep(MOVED_WAIT).await;
        Ok(())
    }
}

/// Where the parts of a view are, by partition.
pub(super) fn places(view: &ServedView, served: &ServedStream) -> Result<Vec<Place>, PartError> {
    let name = &view.view.definition.name;
    let found = served.partitions.iter().zip(&view.parts).map(|(handle, part)| match part {
        Ok(part) if handle.is_here() => {
            Ok(Place::Here { part: part.clone(), handle: handle.clone(), view: view.view.id })
        }
        Err(reason) if reason != ELSEWHERE => {
            let reason = format!("view \"{name}\": {reason}");
            Err(HostError::Unavailable { reason }.into())
        }
        Ok(_) | Err(_) if !handle.is_here() => {
            Ok(Place::There { handle: handle.clone(), view: view.view.id })
        }
        // The partition has come; its part is about to begin.
        Ok(_) | Err(_) => {
            Err(PartError::Moved { reason: format!("view \"{name}\" is moving; try again") })
        }
    });
    let places = found.collect::<Result<Vec<_>, _>>()?;
    if places.len() == served.partitions.len() {
        return Ok(places);
    }
    let reason = format!("view \"{name}\" is not served yet; try again");
    Err(PartError::Moved { reason })
}

/// How far an answer must go in each partition.
pub(super) async fn ends(
    served: &ServedStream,
    freshness: &Freshness,
) -> Result<Vec<Offset>, PartError> {
    let ends = served.partitions.iter().map(|handle| end(served, handle, freshness));
    futures::future::try_join_all(ends).await
}

async fn end(
    served: &ServedStream,
    handle: &Arc<PartitionHandle>,
    freshness: &Freshness,
) -> Result<Offset, PartError> {
    let stream: &Stream = &served.stream;
    let past = asked_of(stream, handle.number, freshness);
    if let Some(offset) = past.filter(|_| handle.is_here()) {
        let view = handle.read_soon(past).await.map_err(|error| of_read(served, &error))?;
        // What is asked of a replica that is behind, another node may have.
        let Some(view) = view else { return Ok(offset) };
        return Ok(cut_of(stream, handle.number, (view.start, view.end), freshness)?);
    }
    match past {
        Some(offset) => Ok(offset),
        None => handle.end().await.map_err(|error| of_read(served, &error)),
    }
}

/// Asks one of the nodes that hold a partition, the owner first.
pub(super) async fn ask_there(
    handle: &PartitionHandle,
    view: ViewId,
    at_least: Offset,
    ask: ViewAsk,
) -> Result<RemoteView, PartError> {
    let (peers, group) = (&handle.peers, handle.group);
    let cluster = peers.cluster();
    let owner = cluster.owner(group);
    let others = cluster.candidates(group).into_iter().filter(|node| Some(*node) != owner);
    let nodes: Vec<NodeId> = owner.into_iter().chain(others).collect();
    let question = ViewQuestion { group, view, at_least, ask };
    let mut reason = "no node is known that holds it".to_owned();
    for node in nodes.into_iter().filter(|node| *node != cluster.me()) {
        match peers.read_view(node, &question).await {
            Ok(found) => return Ok(found),
            Err(error) => reason = error.to_string(),
        }
    }
    let (stream, number) = (&handle.stream, handle.number);
    Err(PartError::Moved { reason: format!("partition {number} of \"{stream}\": {reason}") })
}

impl Place {
    /// Which partition.
    pub fn partition(&self) -> PartitionNumber {
        match self {
            Place::Here { part, .. } => part.partition(),
            Place::There { handle, .. } => handle.number,
        }
    }

    /// Fetches what is not here; waits until what is has folded everything before `end`.
    async fn fetch(self, end: Offset, ask: ViewAsk) -> Result<Fetched, PartError> {
        Ok(match self {
            Place::Here { part, handle, view } => {
                let partition = handle.number;
                // Others have the same groups; all else is about this very part.
                let reached = match &ask {
                    ViewAsk::Groups(_) => tokio::time::timeout(LAG_MAX, part.reach(end)).await.ok(),
                    ViewAsk::Changed { .. } | ViewAsk::News { .. } | ViewAsk::Audit => {
                        Some(part.reach(end).await)
                    }
                };
                match reached {
                    Some(reached) => reached?,
                    // It is behind. Where nobody else can help, it is waited for.
                    None => match ask_there(&handle, view, end, ask).await {
                        Ok(view) => return Ok(Fetched::There { partition, view }),
                        Err(_) => part.reach(end).await?,
                    },
                }
                Fetched::Here(part)
            }
            Place::There { handle, view } => {
                let partition = handle.number;
                let view = ask_there(&handle, view, end, ask).await?;
                Fetched::There { partition, view }
            }
        })
    }
}

/// A part that can be looked at.
#[derive(Debug)]
enum Fetched {
    Here(Arc<ViewPart>),
    There { partition: PartitionNumber, view: RemoteView },
}

/// Groups of all parts, with what they reflect.
#[derive(Debug)]
pub(super) struct Gathered {
    pub groups: Merge,
    pub frontier: Frontier,
    /// The lowest of the parts that have one: a partition without events holds nobody back.
    pub watermark: Option<i64>,
}

/// Reads groups of all parts. What is here is read at once where it is `short`: that takes less
/// time than to find another thread.
pub(super) async fn gather(
    places: &[Place],
    ends: &[Offset],
    groups: Merge,
    keys: &Keys,
    short: bool,
) -> Result<Gathered, PartError> {
    let ask = || ViewAsk::Groups(keys.clone());
    let fetched = places.iter().zip(ends).map(|(place, end)| place.clone().fetch(*end, ask()));
    let fetched = futures::future::try_join_all(fetched).await?;
    if short {
        return merge(&fetched, groups, keys);
    }
    let keys = keys.clone();
    // Groups that left memory are read from files.
    let merged = tokio::task::spawn_blocking(move || merge(&fetched, groups, &keys)).await;
    merged.map_err(|error| HostError::Unavailable { reason: error.to_string() })?
}

fn merge(fetched: &[Fetched], mut groups: Merge, keys: &Keys) -> Result<Gathered, PartError> {
    let (mut frontier, mut watermark) = (Frontier::default(), None);
    // In the order of partitions, so that the answer is the same to the last bit.
    for part in fetched {
        let (partition, next, time) = match part {
            Fetched::Here(part) => {
                // Looked at before the groups: what is said to be final must be in them.
                let time = part.progress().watermark;
                (part.partition(), part.read(keys, &mut groups)?, time)
            }
            Fetched::There { partition, view } => {
                let taken = groups.take_in(keys, &view.collected);
                taken.map_err(|error| HostError::Invalid { reason: error.to_string() })?;
                (*partition, view.next, view.watermark)
            }
        };
        frontier.0.insert(partition, next);
        watermark = [watermark, time].into_iter().flatten().min();
    }
    Ok(Gathered { groups, frontier, watermark })
}

/// Waits until a part has folded more than `since`; parts elsewhere are asked again and again.
///
/// # Errors
/// When a part ends.
pub(super) async fn ahead(
    places: &[Place],
    since: impl Fn(PartitionNumber) -> Offset,
) -> Result<(), PartError> {
    let waits = places.iter().map(|place| {
        let since = since(place.partition());
        Box::pin(async move {
            match place {
                Place::Here { part, .. } => Ok(part.reach(since.advance(1)).await?),
                Place::There { handle, view } => loop {
                    let ask = ViewAsk::News { since };
                    let found = ask_there(handle, *view, since, ask).await?;
                    if since < found.next {
                        return Ok(());
                    }
                },
            }
        })
    });
    let waits: Vec<_> = waits.collect();
    if waits.is_empty() {
        return Err(PartError::Moved { reason: "the view has no parts yet".into() });
    }
    futures::future::select_all(waits).await.0
}

/// What events changed in one part.
#[derive(Debug)]
pub(super) struct Changed {
    pub partition: PartitionNumber,
    pub changes: Changes,
    /// The groups, with the share of this partition only.
    pub groups: Vec<RecordBatch>,
    pub watermark: Option<i64>,
}

/// Groups that events at or after `since` changed, once everything before it is folded.
pub(super) async fn changed(
    place: Place,
    since: Offset,
    groups_max: usize,
    definition: Arc<Definition>,
) -> Result<Changed, PartError> {
    let fetched = place.fetch(since, ViewAsk::Changed { since, groups_max }).await?;
    let changed = move || changed_of(fetched, since, groups_max, definition);
    let changed = tokio::task::spawn_blocking(changed).await;
    changed.map_err(|error| HostError::Unavailable { reason: error.to_string() })?
}

fn changed_of(
    fetched: Fetched,
    since: Offset,
    groups_max: usize,
    definition: Arc<Definition>,
) -> Result<Changed, PartError> {
    let invalid = |error: String| HostError::Invalid { reason: error };
    let mut groups = Merge::new(definition).map_err(|error| invalid(error.to_string()))?;
    let (partition, changes, watermark) = match fetched {
        Fetched::Here(part) => {
            // Looked at before the groups: what is said to be final must be in them.
            let watermark = part.progress().watermark;
            (part.partition(), part.changed(since, groups_max, &mut groups)?, watermark)
        }
        Fetched::There { partition, view } => {
            let RemoteView { next, watermark, collected, removed, removed_from, .. } = view;
            let taken = groups.take_in(&Keys::All, &collected);
            taken.map_err(|error| invalid(error.to_string()))?;
            (partition, Changes { next, removed, removed_from }, watermark)
        }
    };
    let groups = groups.finish().map_err(|error| invalid(error.to_string()))?;
    Ok(Changed { partition, changes, groups, watermark })
}

/// A part for comparing it with the log.
pub(super) async fn audit(
    place: Place,
    end: Offset,
    definition: Arc<Definition>,
) -> Result<ViewPartition, PartError> {
    let fetched = place.fetch(end, ViewAsk::Audit).await?;
    let audited = tokio::task::spawn_blocking(move || audit_fetched(fetched, definition)).await;
    audited.map_err(|error| HostError::Unavailable { reason: error.to_string() })?
}

fn audit_fetched(
    fetched: Fetched,
    definition: Arc<Definition>,
) -> Result<ViewPartition, PartError> {
    let invalid = |error: String| HostError::Invalid { reason: error };
    let unavailable = |error: String| HostError::Unavailable { reason: error };
    let mut groups = Merge::disjoint(definition).map_err(|error| invalid(error.to_string()))?;
    let mut found = match fetched {
        Fetched::Here(part) => {
            let quarantined = part.quarantined().map_err(|error| unavailable(error.to_string()))?;
            let Audited { progress, digest, digest_read, damage } = part.audit(&mut groups);
            ViewPartition {
                partition: part.partition(),
                start: progress.start,
                next: progress.next,
                watermark: progress.watermark.map(Time),
                digest,
                digest_read,
                batches: Vec::new(),
                quarantined,
                damage,
            }
        }
        Fetched::There { partition, view } => {
            let audit = view.audit.unwrap_or_default();
            let taken = groups.take_in(&Keys::All, &view.collected);
            let damage = audit.damage.or_else(|| taken.err().map(|error| error.to_string()));
            ViewPartition {
                partition,
                start: audit.start,
                next: view.next,
                watermark: view.watermark.map(Time),
                digest: audit.digest,
                digest_read: audit.digest_read,
                batches: Vec::new(),
                quarantined: audit.quarantined,
                damage,
            }
        }
    };
    if found.damage.is_none() {
        match groups.finish() {
            Ok(batches) => found.batches = batches,
            Err(error) => found.damage = Some(error.to_string()),
        }
    }
    Ok(found)
}
