//! What lies on the disk of a node, and who writes it.
//!
//! Two RocksDB databases (`raft` with a synced log of its own, `state` without one), Parquet
//! segments, and an Arrow tail in memory for what is not sealed yet. This crate decides nothing
//! about replicas: it makes durable what they ask for, in order, and gives back exactly that after
//! a crash, or says what is damaged.
//!
//! Reading order: [`Store`] (opening, what is stored of a group), [`LogWriter`] (the one thread
//! that syncs), [`PartitionLog`] (what readers see), [`EventReader`] (what views fold),
//! [`ViewStates`] (what views keep), [`SegmentWriter`] and [`Segment`] (sealing, merging,
//! retention), [`GroupSnapshot`] and [`Staging`] (segments from node to node), `databases` (every
//! RocksDB setting), `keys` (one file for each key family), `removal` (how files go).
//!
//! Invariants: nothing is acknowledged before it is synced; an event is in the log or in a segment
//! the manifest names, and in exactly one of them; a damaged entry, checkpoint or segment is named,
//! never left out; a failed sync is final.

mod checkpoints;
mod databases;
mod entry;
mod error;
mod events;
mod files;
mod identity;
mod keys;
mod leaving;
mod lock;
mod log_writer;
mod metrics;
pub mod nice;
mod options;
mod partition_log;
mod removal;
mod room;
mod segment;
mod shared;
mod snapshot;
mod store;
mod tail;
mod views;

pub use error::StoreError;
pub use events::{EventBatch, EventReader};
pub use identity::Identity;
pub use log_writer::{LogWriter, SubmitError, WriteTask};
pub use metrics::{Counter, Histogram, Level, StoreMetrics};
pub use options::{Clock, FatalHook, SealStep, StepHook, StoreOptions};
pub use partition_log::{PartitionLog, PartitionView};
pub use segment::{
    ColumnStatistics, CutDone, CutTask, Segment, SegmentBusy, SegmentRows, SegmentWriter,
};
pub use snapshot::{GroupSnapshot, SegmentOffer, SnapshotOffer, Staged, Staging};
pub use store::{Store, StoredGroup};
pub use tail::{Tail, TailBatch};
pub use views::{
    QuarantineRow, QuarantinedEvent, ViewCheckpoint, ViewChunk, ViewImport, ViewPlace, ViewStates,
    VisitGroup,
};
