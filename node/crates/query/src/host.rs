//! What the SQL engine asks of the node it runs in. Tests implement [`Host`] over plain vectors.

mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber, StreamId};
use alluvium_core::stream::{Frontier, Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_core::view::{View, ViewDefinition, ViewEntry};
use alluvium_views::fold::Selection;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

pub use self::rows::{MoveRow, NodeRow, PartitionRow, ProducerRow, QueryRow, SegmentRow};
use crate::access::Caller;
use crate::access::host::RoleHost;

/// The streams as the catalogue has them at one moment, by name.
pub type Catalogue = Arc<std::collections::BTreeMap<String, Arc<Stream>>>;

/// The views as the catalogue has them at one moment, by name.
pub type ViewCatalogue = Arc<std::collections::BTreeMap<String, ViewEntry>>;

/// How fresh an answer must be.
#[derive(Clone, Debug, Default)]
pub enum Freshness {
    /// Everything acknowledged before the query began.
    #[default]
    Linearizable,
    /// Wait until these events are applied.
    AtLeast(Vec<(StreamId, Frontier)>),
    /// Exactly the events before these frontiers; streams not named are linearizable.
    AsOf(Vec<(StreamId, Frontier)>),
}

/// The node, as the SQL engine sees it.
#[async_trait]
pub trait Host: RoleHost + std::fmt::Debug + 'static {
    /// The streams there are.
    fn catalogue(&self) -> Catalogue;

    /// Brings the catalogue up to date with every change that was acknowledged before the call.
    async fn catch_up(&self) -> Result<(), HostError> {
        Ok(())
    }

    /// Pins one consistent cut of every partition of a stream: nothing in it changes or goes away
    /// while the pin lives.
    async fn pin(
        &self,
        stream: &Stream,
        freshness: &Freshness,
    ) -> Result<Vec<PartitionPin>, HostError>;

    /// Adds a stream of `owner`; `if_not_exists` makes an existing one no error.
    async fn create_stream(
        &self,
        definition: StreamDefinition,
        if_not_exists: bool,
        owner: Option<String>,
    ) -> Result<(), HostError>;

    /// Drops a stream and its events; `if_exists` makes a missing one no error.
    async fn drop_stream(&self, name: &str, if_exists: bool) -> Result<(), HostError>;

    /// Appends rows of the stream's log schema (see `alluvium_views::columns`); answered when
    /// durable and applied.
    async fn append(&self, stream: &Stream, rows: RecordBatch) -> Result<Frontier, HostError>;

    /// What `system.partitions` shows.
    async fn partitions(&self) -> Result<Vec<PartitionRow>, HostError>;

    /// The nodes of the cluster, those that were removed left out. A host alone has none.
    async fn nodes(&self) -> Result<Vec<NodeRow>, HostError> {
        Ok(Vec::new())
    }

    /// Partitions that are not yet where they shall be. A host alone has none.
    async fn moves(&self) -> Result<Vec<MoveRow>, HostError> {
        Ok(Vec::new())
    }

    /// What `system.producers` shows.
    async fn producers(&self) -> Result<Vec<ProducerRow>, HostError>;

    /// What `system.segments` shows.
    async fn segments(&self) -> Result<Vec<SegmentRow>, HostError>;

    /// The views there are.
    fn views(&self) -> ViewCatalogue {
        ViewCatalogue::default()
    }

    /// Adds a view, or, with `or_replace`, begins to build another under the name of one that there
    /// is. `if_not_exists` makes an existing one no error. Answered when the catalogue has it, not
    /// when it has caught up.
    async fn create_view(
        &self,
        definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
        owner: Option<String>,
    ) -> Result<(), HostError> {
        let _ = (definition, if_not_exists, or_replace, owner);
        Err(without_views())
    }

    /// Drops a view and its state; `if_exists` makes a missing one no error.
    async fn drop_view(&self, name: &str, if_exists: bool) -> Result<(), HostError> {
        let _ = (name, if_exists);
        Err(without_views())
    }

    /// Changes how a materialized view goes on.
    async fn change_view(&self, name: &str, change: ViewChange) -> Result<(), HostError> {
        let _ = (name, change);
        Err(without_views())
    }

    /// Reads the selected groups of a view that folds a stream, merged over the stream's
    /// partitions. Waits until the view has folded what `freshness` asks for.
    async fn read_view(
        &self,
        view: &View,
        freshness: &Freshness,
        selection: &Selection,
    ) -> Result<ViewRead, HostError> {
        let _ = (view, freshness, selection);
        Err(without_views())
    }

    /// What a view has in each partition, for comparing it with the log: the partitions by
    /// themselves, not merged.
    async fn audit_view(&self, view: &View) -> Result<Vec<ViewPartition>, HostError> {
        let _ = view;
        Err(without_views())
    }

    /// What `system.views` shows.
    async fn view_rows(&self) -> Result<Vec<ViewRow>, HostError> {
        Ok(Vec::new())
    }

    /// What `system.queries` shows: the queries that run on this node. A host without doors has
    /// none.
    fn queries(&self) -> Vec<QueryRow> {
        Vec::new()
    }

    /// Stops a query that runs on this node; where `of` is said, only one that this caller asks.
    fn kill_query(&self, id: &str, of: Option<&Caller>) -> Result<(), HostError> {
        let _ = of;
        Err(HostError::UnknownQuery { id: id.into() })
    }

    /// What `system.quarantine` shows.
    async fn quarantine_rows(&self) -> Result<Vec<QuarantineRow>, HostError> {
        Ok(Vec::new())
    }
}

fn without_views() -> HostError {
    HostError::Unavailable { reason: "this node keeps no views".into() }
}

/// How a view goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewChange {
    /// Fold again from the log's start, beside what readers see.
    Rebuild,
    /// Go on after being parked.
    Resume,
    /// Give up what is being built.
    Cancel,
}

/// Groups of a view.
#[derive(Clone, Debug)]
pub struct ViewRead {
    /// Rows in the selected columns of `alluvium_views::fold::Definition::group_schema`.
    pub batches: Vec<RecordBatch>,
    /// What of the stream they hold.
    pub frontier: Frontier,
}

/// A view in one partition at one moment.
#[derive(Clone, Debug)]
pub struct ViewPartition {
    /// Which partition.
    pub partition: PartitionNumber,
    /// The offset the fold began at.
    pub start: Offset,
    /// The offset after the last event it has folded.
    pub next: Offset,
    /// The watermark there, where the stream has an event time.
    pub watermark: Option<Time>,
    /// Digest of the state as the fold keeps it.
    pub digest: u128,
    /// Digest of the state as it was read for this.
    pub digest_read: u128,
    /// Groups of this partition alone: rows of the group schema.
    pub batches: Vec<RecordBatch>,
    /// Offsets of the events it has set aside.
    pub quarantined: Vec<Offset>,
    /// Why the state could not be read whole, where it could not.
    pub damage: Option<String>,
}

/// A row of `system.views`: one view in one partition. A view that folds no stream has one row, in
/// partition 0.
#[derive(Clone, Debug)]
pub struct ViewRow {
    /// View name.
    pub view: String,
    /// The stream it folds.
    pub stream: Option<String>,
    /// Partition.
    pub partition: PartitionNumber,
    /// `serving`, `building`, or `parked: …`.
    pub state: String,
    /// The offset after the last event it has folded.
    pub next_offset: Offset,
    /// Events of the partition it has not folded yet.
    pub lag_events: u64,
    /// How long the oldest of them has waited.
    pub lag: Duration,
    /// Groups it keeps.
    pub groups: u64,
    /// Their size.
    pub state_bytes: u64,
    /// Events that are in its groups.
    pub folded: u64,
    /// Events its `WHERE` leaves out.
    pub filtered: u64,
    /// Events of windows that were gone already.
    pub expired: u64,
    /// Events it has set aside.
    pub quarantined: u64,
    /// No event with an earlier event time is expected.
    pub watermark: Option<Time>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Id of this life of the view.
    pub id: u64,
}

/// A row of `system.quarantine`: an event that a view could not fold.
#[derive(Clone, Debug)]
pub struct QuarantineRow {
    /// View name.
    pub view: String,
    /// The stream it folds.
    pub stream: String,
    /// Partition.
    pub partition: PartitionNumber,
    /// The event's offset.
    pub offset: Offset,
    /// What its expression said.
    pub reason: String,
    /// The event as JSON, as far as the view reads it.
    pub event: String,
}

/// One partition at one moment. Rows in `[start, end)`: first the segments in offset order, then
/// the tail.
#[derive(Clone, Debug)]
pub struct PartitionPin {
    /// Which partition.
    pub partition: PartitionNumber,
    /// The first offset that retention has not taken.
    pub start: Offset,
    /// The offset after the last event of this cut. Segments and tail may hold later events: they
    /// are not part of the cut.
    pub end: Offset,
    /// Sealed files, in offset order, without gaps or overlap.
    pub segments: Vec<SegmentPin>,
    /// What is not sealed yet, in offset order. Columns: the stream's scan schema, hidden columns
    /// included (`alluvium_views::columns::scan_schema`).
    pub tail: Vec<TailPin>,
}

/// A sealed Parquet file: the columns of the log schema, then `_offset` and `_appended_at`, sorted
/// by `_offset`.
#[derive(Clone, Debug)]
pub struct SegmentPin {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// Offsets `[first, end)`; one row each.
    pub first: Offset,
    /// See `first`.
    pub end: Offset,
    /// Of each column of the file, by place: exact statistics from when it was written.
    pub columns: Arc<Vec<ColumnStatistics>>,
    /// Keeps the file from being unlinked.
    pub guard: Arc<dyn std::any::Any + Send + Sync>,
}

/// Exact statistics of one column of one segment. Min and max are one-row arrays of the column's
/// log type; `None` where the type has no order or all is null.
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// The column.
    pub name: String,
    /// Smallest value.
    pub min: Option<arrow::array::ArrayRef>,
    /// Largest value.
    pub max: Option<arrow::array::ArrayRef>,
    /// Nulls.
    pub null_count: u64,
}

/// Events not sealed yet.
#[derive(Clone, Debug)]
pub struct TailPin {
    /// Offset of the first row.
    pub first: Offset,
    /// Rows in the scan schema.
    pub rows: RecordBatch,
}

/// Why the node could not do what a statement asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No such stream.
    #[error("stream \"{name}\" does not exist")]
    UnknownStream {
        /// As asked.
        name: String,
    },
    /// The name is taken.
    #[error("stream \"{name}\" exists already")]
    StreamExists {
        /// As asked.
        name: String,
    },
    /// No such view.
    #[error("view \"{name}\" does not exist")]
    UnknownView {
        /// As asked.
        name: String,
    },
    /// A view, or a stream, has the name.
    #[error("{what} \"{name}\" exists already")]
    NameTaken {
        /// As asked.
        name: String,
        /// What has it: `view` or `stream`.
        what: &'static str,
    },
    /// Views read it.
    #[error("\"{name}\" is read by {}; drop or replace them first", .dependants.join(", "))]
    HasDependants {
        /// As asked.
        name: String,
        /// Names of the views.
        dependants: Vec<String>,
    },
    /// No such query runs here.
    #[error("query \"{id}\" does not run on this node; system.queries lists those that do")]
    UnknownQuery {
        /// As asked.
        id: String,
    },
    /// The statement cannot be carried out as it stands.
    #[error("{reason}")]
    Invalid {
        /// What to change.
        reason: String,
    },
    /// Too much is waiting; the same call may succeed later.
    #[error("{reason}")]
    Busy {
        /// What is full.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The node cannot serve this now: a damaged partition, a full disk, shutting down.
    #[error("{reason}")]
    Unavailable {
        /// What is wrong.
        reason: String,
    },
    /// `as of` names events that retention has taken, or that do not exist yet.
    #[error("{reason}")]
    OutOfRange {
        /// Which offset, and what there is.
        reason: String,
    },
}
