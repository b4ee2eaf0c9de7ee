//! The node as the SQL engine sees it.

pub mod cluster;
mod door;
mod parts;
mod pin;
mod queries;
mod views;

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::Offset;
use alluvium_core::meta::access::{Access, AccessCommand, Verifiers};
use alluvium_core::meta::{MetaCommand, MetaOutcome, TableKind};
use alluvium_core::stream::{Frontier, Stream, StreamDefinition};
use alluvium_core::view::{View, ViewDefinition};
use alluvium_query::access::host::RoleHost;
use alluvium_query::access::{Caller, Secret};
use alluvium_query::host::{
    Catalogue, Freshness, Host, HostError, MoveRow, NodeRow, PartitionPin, PartitionRow,
    ProducerRow, QuarantineRow, QueryRow, SegmentRow, ViewCatalogue, ViewChange, ViewPartition,
    ViewRead, ViewRow,
};
use alluvium_store::{Segment, Store};
use alluvium_views::fold::Selection;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

use crate::access;
use crate::actors::meta::{ChangeError, MetaHandle};
use crate::actors::partition::{Inspected, PartitionHandle, ReadError, Serving};
use crate::clock;
use crate::cluster::Cluster;
use crate::ingest::{AppendError, ClientRows, Ingest, RETRY_AFTER};
use crate::sql::run::Statements;
use crate::streams::{ServedStream, Streams};
use crate::views::Views;
pub use door::NodeDoor;
use pin::PinError;

/// How often a stream is looked for anew whose partitions move while it is read, and the time
/// between: a move ends within a second.
const MOVED_TRIES_MAX: u32 = 50;
const MOVED_WAIT: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct NodeHost {
    streams: Arc<Streams>,
    views: Arc<Views>,
    ingest: Arc<Ingest>,
    meta: Arc<MetaHandle>,
    store: Arc<Store>,
    cluster: Arc<Cluster>,
    statements: Arc<Statements>,
}

impl NodeHost {
    /// Over what this node serves.
    pub fn new(
        streams: Arc<Streams>,
        views: Arc<Views>,
        ingest: Arc<Ingest>,
        meta: Arc<MetaHandle>,
        store: Arc<Store>,
        cluster: Arc<Cluster>,
        statements: Arc<Statements>,
    ) -> NodeHost {
        NodeHost { streams, views, ingest, meta, store, cluster, statements }
    }

    fn served(&self, stream: &Stream) -> Result<Arc<ServedStream>, HostError> {
        let name = &stream.definition.name;
        let served = self.streams.get(name).filter(|served| served.stream.id == stream.id);
        served.ok_or_else(|| HostError::UnknownStream { name: name.clone() })
    }

    async fn change(&self, command: MetaCommand) -> Result<MetaOutcome, HostError> {
        let outcome = self.meta.change(command).await.map_err(|error| match error {
            ChangeError::Busy => {
                HostError::Busy { reason: error.to_string(), retry_after: RETRY_AFTER }
            }
            ChangeError::NotLeader { .. }
            | ChangeError::Refused { .. }
            | ChangeError::Lost
            | ChangeError::NotStarted { .. }
            | ChangeError::Stopping => HostError::Unavailable { reason: error.to_string() },
        });
        accepted(outcome?)
    }
}

/// What makes a table of its owner's, where somebody said who they are.
fn owned(owner: Option<String>, create: MetaCommand) -> MetaCommand {
    match owner {
        None => create,
        Some(owner) => MetaCommand::Owned { owner, create: Box::new(create) },
    }
}

/// The outcome where the catalogue did as it was asked, else why it did not.
fn accepted(outcome: MetaOutcome) -> Result<MetaOutcome, HostError> {
    let invalid = |reason| Err(HostError::Invalid { reason });
    match outcome {
        MetaOutcome::StreamUnknown { name } => Err(HostError::UnknownStream { name }),
        MetaOutcome::StreamExists { name } => Err(HostError::StreamExists { name }),
        MetaOutcome::ViewUnknown { name } => Err(HostError::UnknownView { name }),
        MetaOutcome::ViewExists { name } => Err(HostError::NameTaken { name, what: "view" }),
        MetaOutcome::NameTaken { name, what } => {
            let what = match what {
                TableKind::Stream => "stream",
                TableKind::View => "view",
            };
            Err(HostError::NameTaken { name, what })
        }
        MetaOutcome::HasDependants { name, dependants } => {
            Err(HostError::HasDependants { name, dependants })
        }
        MetaOutcome::ReadsUnknown { name } => {
            invalid(format!("\"{name}\" does not exist, or no more as the view was to read it"))
        }
        MetaOutcome::ReadsItself { name, through } => {
            invalid(format!("view \"{name}\" would read itself through \"{through}\""))
        }
        MetaOutcome::JoinRefused { reason }
        | MetaOutcome::MemberRefused { reason, .. }
        | MetaOutcome::VersionRefused { reason, .. } => invalid(reason),
        MetaOutcome::MemberUnknown { node } => invalid(format!("{node} is no member")),
        MetaOutcome::MemberRemoved { node } => invalid(format!("{node} was removed")),
        done @ (MetaOutcome::StreamCreated(_)
        | MetaOutcome::StreamDropped(_)
        | MetaOutcome::NothingToDo
        | MetaOutcome::ProducerOpened { .. }
        | MetaOutcome::ViewCreated(_)
        | MetaOutcome::ViewBuilding { .. }
        | MetaOutcome::ViewSwitched { .. }
        | MetaOutcome::ViewCancelled(_)
        | MetaOutcome::ViewResumed { .. }
        | MetaOutcome::ViewDropped(_)
        | MetaOutcome::ViewPartBuilt { .. }
        | MetaOutcome::Joined { .. }
        | MetaOutcome::Announced
        | MetaOutcome::MemberChanged { .. }
        | MetaOutcome::Placed { .. }
        | MetaOutcome::VersionRaised { .. }
        | MetaOutcome::AccessChanged) => Ok(done),
        MetaOutcome::AccessRefused(refused) => invalid(refused.to_string()),
    }
}

#[async_trait]
impl RoleHost for NodeHost {
    fn access(&self) -> Arc<Access> {
        self.cluster.known().access.clone()
    }

    async fn change_access(&self, command: AccessCommand) -> Result<(), HostError> {
        self.change(MetaCommand::Access(command)).await.map(|_| ())
    }

    async fn verifiers(&self, password: Secret) -> Result<Verifiers, HostError> {
        let made = access::make_verifiers(password).await;
        let made = made.map_err(|busy| HostError::Busy {
            reason: busy.to_string(),
            retry_after: RETRY_AFTER,
        })?;
        made.ok_or_else(|| HostError::Invalid {
            reason: "the password cannot be used; choose another".into(),
        })
    }
}

#[async_trait]
impl Host for NodeHost {
    fn catalogue(&self) -> Catalogue {
        self.streams.catalogue()
    }

    async fn catch_up(&self) -> Result<(), HostError> {
        let unknown = "whether it exists is not known, since the catalogue cannot be asked";
        let caught_up = self.meta.catch_up().await;
        caught_up.map_err(|error| HostError::Unavailable { reason: format!("{unknown}: {error}") })
    }

    async fn pin(
        &self,
        stream: &Stream,
        freshness: &Freshness,
    ) -> Result<Vec<PartitionPin>, HostError> {
        let mut tries = 0;
        loop {
            let served = self.served(stream)?;
            let pins = served.partitions.iter();
            let pins = pins.map(|handle| pin::pin(&served, handle, freshness));
            match futures::future::try_join_all(pins).await {
                // A partition moved meanwhile: it is looked for where it is now.
                Err(PinError::Moved) if tries < MOVED_TRIES_MAX => tries += 1,
                pinned => return pinned.map_err(|error| error.into_host(&served)),
            }
            tokio::time::sleep(MOVED_WAIT).await;
        }
    }

    async fn create_stream(
        &self,
        definition: StreamDefinition,
        if_not_exists: bool,
        owner: Option<String>,
    ) -> Result<(), HostError> {
        let created_at = clock::now();
        let create = MetaCommand::CreateStream { definition, if_not_exists, created_at };
        self.change(owned(owner, create)).await?;
        Ok(())
    }

    async fn drop_stream(&self, name: &str, if_exists: bool) -> Result<(), HostError> {
        self.change(MetaCommand::DropStream { name: name.to_string(), if_exists }).await?;
        Ok(())
    }

    async fn append(&self, stream: &Stream, rows: RecordBatch) -> Result<Frontier, HostError> {
        let served = self.served(stream)?;
        let name = &served.stream.definition.name;
        match self.ingest.append(name, None, ClientRows::Rows(rows)).await {
            Ok(ack) => Ok(ack.frontier),
            Err(error) => Err(append_error(error)),
        }
    }

    async fn partitions(&self) -> Result<Vec<PartitionRow>, HostError> {
        let mut rows = Vec::new();
        for served in self.streams.all().values() {
            for handle in &served.partitions {
                rows.push(partition_row(handle).await);
            }
        }
        Ok(rows)
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, HostError> {
        Ok(cluster::node_rows(&self.cluster))
    }

    async fn moves(&self) -> Result<Vec<MoveRow>, HostError> {
        Ok(cluster::move_rows(&self.cluster, &self.streams))
    }

    async fn producers(&self) -> Result<Vec<ProducerRow>, HostError> {
        let mut found = Vec::new();
        for served in self.streams.all().values() {
            for handle in &served.partitions {
                let Some(inspected) = handle.inspect().await else {
                    continue;
                };
                for (id, state) in inspected.producers {
                    found.push((id, handle.clone(), state));
                }
            }
        }
        let names = self.meta.producer_names(found.iter().map(|(id, _, _)| *id).collect()).await;
        let rows = found.into_iter().map(|(id, handle, state)| ProducerRow {
            producer: names.get(&id).cloned().unwrap_or_default(),
            producer_id: id.0,
            stream: handle.stream.clone(),
            partition: handle.number,
            epoch: state.epoch.0,
            last_sequence: state.next.0.saturating_sub(1),
            position: state.position(),
            last_appended_at: state.last_appended_at,
        });
        Ok(rows.collect())
    }

    async fn segments(&self) -> Result<Vec<SegmentRow>, HostError> {
        let mut rows = Vec::new();
        for served in self.streams.all().values() {
            for handle in &served.partitions {
                let Some(log) = handle.log() else {
                    continue;
                };
                for segment in log.view().segments.iter() {
                    rows.push(segment_row(handle, segment));
                }
            }
        }
        Ok(rows)
    }

    fn views(&self) -> ViewCatalogue {
        self.views.catalogue()
    }

    async fn create_view(
        &self,
        definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
        owner: Option<String>,
    ) -> Result<(), HostError> {
        self.create(definition, if_not_exists, or_replace, owner).await
    }

    async fn drop_view(&self, name: &str, if_exists: bool) -> Result<(), HostError> {
        let name = name.to_string();
        self.change_views(MetaCommand::DropView { name, if_exists }).await
    }

    async fn change_view(&self, name: &str, change: ViewChange) -> Result<(), HostError> {
        self.alter(name, change).await
    }

    async fn read_view(
        &self,
        view: &View,
        freshness: &Freshness,
        selection: &Selection,
    ) -> Result<ViewRead, HostError> {
        self.read_groups(view, freshness, selection).await
    }

    async fn audit_view(&self, view: &View) -> Result<Vec<ViewPartition>, HostError> {
        self.audit(view).await
    }

    async fn view_rows(&self) -> Result<Vec<ViewRow>, HostError> {
        Ok(self.rows_of_views())
    }

    fn queries(&self) -> Vec<QueryRow> {
        queries::rows(self.cluster.me(), &self.statements)
    }

    fn kill_query(&self, id: &str, of: Option<&Caller>) -> Result<(), HostError> {
        queries::kill(self.cluster.me(), &self.statements, id, of)
    }

    async fn quarantine_rows(&self) -> Result<Vec<QuarantineRow>, HostError> {
        self.rows_of_quarantine()
    }
}

fn read_error(served: &ServedStream, error: &ReadError) -> HostError {
    let reason = format!("stream \"{}\": {error}", served.stream.definition.name);
    match error {
        ReadError::NoOwner { .. } | ReadError::NotServed { .. } | ReadError::Moved { .. } => {
            HostError::Unavailable { reason }
        }
        ReadError::Busy { .. } => HostError::Busy { reason, retry_after: RETRY_AFTER },
    }
}

fn append_error(error: AppendError) -> HostError {
    let reason = error.to_string();
    match error {
        AppendError::UnknownStream { name } => HostError::UnknownStream { name },
        AppendError::Invalid(_)
        | AppendError::Fenced { .. }
        | AppendError::OutOfSequence { .. } => HostError::Invalid { reason },
        AppendError::Busy { .. } | AppendError::DiskFull => {
            HostError::Busy { reason, retry_after: RETRY_AFTER }
        }
        AppendError::Damaged { .. }
        | AppendError::Refused { .. }
        | AppendError::NotOwner { .. }
        | AppendError::Lost
        | AppendError::Stopping => HostError::Unavailable { reason },
    }
}

async fn partition_row(handle: &PartitionHandle) -> PartitionRow {
    let inspected = handle.inspect().await;
    let view = handle.log().map(|log| log.view());
    let segments = view.as_ref().map(|view| &view.segments[..]).unwrap_or_default();
    let state = match (handle.damage(), &inspected) {
        (Some(reason), _) => format!("damaged: {reason}"),
        (None, Some(inspected)) if inspected.owner.is_some() => "serving".into(),
        (None, None) if matches!(handle.serving, Serving::Elsewhere) => "on other nodes".into(),
        (None, _) => "starting".into(),
    };
    let known = handle.peers.cluster().known();
    let placement = known.placements.get(&handle.group);
    let replicas = placement.map(|placement| &placement.replicas);
    let elsewhere = matches!(handle.serving, Serving::Elsewhere);
    let wanted = placement.filter(|_| elsewhere).map(|placement| placement.leader.0);
    let owner = inspected.as_ref().and_then(|inspected| inspected.owner);
    PartitionRow {
        stream: handle.stream.clone(),
        partition: handle.number,
        group: handle.group.0,
        // Of a partition elsewhere nobody may have said who owns it: then it is who shall.
        owner: owner.or_else(|| handle.owner().map(|node| node.0)).or(wanted).unwrap_or(0),
        replicas: replicas.into_iter().flatten().map(|node| node.0).collect(),
        lag: inspected.as_ref().and_then(lag),
        term: inspected.as_ref().map_or(0, |inspected| inspected.term),
        state,
        start: view.as_ref().map_or(Offset::ZERO, |view| view.start),
        end: view.as_ref().map_or(Offset::ZERO, |view| view.end),
        sealed_end: view.as_ref().map_or(Offset::ZERO, |view| view.sealed_end),
        tail_bytes: view.as_ref().map_or(0, |view| view.tail_bytes),
        segment_count: segments.len() as u64,
        segment_bytes: segments.iter().map(|segment| segment.file_bytes).sum(),
    }
}

/// Entries that the slowest replica lacks, where this node is the owner.
fn lag(inspected: &Inspected) -> Option<u64> {
    let matched = inspected.progress.iter().map(|progress| progress.matched.0).min()?;
    Some(inspected.last_index.0.saturating_sub(matched))
}

fn segment_row(handle: &PartitionHandle, segment: &Segment) -> SegmentRow {
    SegmentRow {
        stream: handle.stream.clone(),
        partition: handle.number,
        segment: segment.id.0,
        first: segment.first,
        end: segment.end,
        file_bytes: segment.file_bytes,
        level: segment.level,
        event_time_min: segment.event_times.map(|(oldest, _)| oldest),
        event_time_max: segment.event_times.map(|(_, newest)| newest),
        created_at: segment.created_at,
        file: segment
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into())
            .unwrap_or_default(),
    }
}
