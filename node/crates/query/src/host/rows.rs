//! Rows of the tables that say what the node and its cluster are like.

use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::time::Time;

use crate::access::Caller;

/// A row of `system.partitions`.
#[derive(Clone, Debug)]
pub struct PartitionRow {
    /// Stream name.
    pub stream: String,
    /// Its number.
    pub partition: PartitionNumber,
    /// Its Raft group.
    pub group: u64,
    /// The owner's node id.
    pub owner: u64,
    /// Raft term.
    pub term: u64,
    /// `serving`, `starting`, `on other nodes`, or `damaged: …`.
    pub state: String,
    /// The nodes that hold it.
    pub replicas: Vec<u64>,
    /// Log entries that the slowest replica lacks; known to the owner only.
    pub lag: Option<u64>,
    /// First kept offset.
    pub start: Offset,
    /// Offset after the last event.
    pub end: Offset,
    /// Offset after the last sealed event.
    pub sealed_end: Offset,
    /// Bytes of the events not sealed yet.
    pub tail_bytes: u64,
    /// Number of segments.
    pub segment_count: u64,
    /// Their size.
    pub segment_bytes: u64,
}

/// A row of `system.nodes`.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Its id.
    pub node: u64,
    /// What people call it.
    pub name: String,
    /// `active`, `draining` or `leaving`.
    pub state: String,
    /// Whether it was heard of lately.
    pub alive: bool,
    /// Where clients reach it by gRPC.
    pub client: String,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where it answers health checks.
    pub http: String,
    /// Where it speaks the PostgreSQL protocol.
    pub pg: String,
    /// Where it stands, such as `region=eu,zone=a`.
    pub locality: String,
    /// Partitions it holds.
    pub replicas: u64,
    /// Partitions it owns.
    pub owned: u64,
    /// Whether it leads the meta group.
    pub leads_meta: bool,
}

/// A row of `system.moves`.
#[derive(Clone, Debug)]
pub struct MoveRow {
    /// Stream name; empty for the meta group.
    pub stream: String,
    /// Its number there.
    pub partition: PartitionNumber,
    /// Its Raft group.
    pub group: u64,
    /// The nodes that hold it.
    pub replicas: Vec<u64>,
    /// The nodes that shall.
    pub wanted: Vec<u64>,
    /// The node that shall own it.
    pub owner_wanted: u64,
}

/// A row of `system.queries`.
#[derive(Clone, Debug)]
pub struct QueryRow {
    /// What `KILL QUERY` takes.
    pub id: String,
    /// Where it came in: `grpc`, `flight`, `postgres` or `http`.
    pub door: String,
    /// Who asks.
    pub caller: Caller,
    /// The address it came from, where that is known.
    pub client: Option<String>,
    /// `planning`, `answering` or `stopping`.
    pub state: String,
    /// When it began.
    pub started_at: Time,
    /// How long it has run.
    pub elapsed: Duration,
    /// Rows that the engine has given so far.
    pub rows: u64,
    /// Its text, or the beginning of it.
    pub statement: String,
}

/// A row of `system.producers`: one producer in one partition.
#[derive(Clone, Debug)]
pub struct ProducerRow {
    /// Name.
    pub producer: String,
    /// Id.
    pub producer_id: u64,
    /// Stream name.
    pub stream: String,
    /// Partition.
    pub partition: PartitionNumber,
    /// Epoch.
    pub epoch: u32,
    /// Last sequence applied.
    pub last_sequence: u64,
    /// Position said with it.
    pub position: u64,
    /// When.
    pub last_appended_at: Time,
}

/// A row of `system.segments`.
#[derive(Clone, Debug)]
pub struct SegmentRow {
    /// Stream name.
    pub stream: String,
    /// Partition.
    pub partition: PartitionNumber,
    /// Segment id.
    pub segment: u64,
    /// Offsets `[first, end)`.
    pub first: Offset,
    /// See `first`.
    pub end: Offset,
    /// File size.
    pub file_bytes: u64,
    /// How often merged: 0 as cut.
    pub level: u32,
    /// Event times, where the stream has one.
    pub event_time_min: Option<Time>,
    /// See `event_time_min`.
    pub event_time_max: Option<Time>,
    /// When it was written.
    pub created_at: Time,
    /// File name.
    pub file: String,
}
