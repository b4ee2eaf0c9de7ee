//! What a stream is: its name, schema, key, options, and its partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{GroupId, Offset, PartitionNumber, StreamId};
use crate::schema::StreamSchema;
use crate::time::Time;

/// Partitions one stream may have.
pub const PARTITIONS_MAX: u32 = 1_024;

/// What `CREATE STREAM` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDefinition {
    /// `^[a-z][a-z0-9_]{0,62}$`
    pub name: String,
    /// The columns.
    pub schema: StreamSchema,
    /// Columns whose values choose the partition, as places in the schema. Empty: batches go round
    /// the partitions.
    pub partition_by: Vec<usize>,
    /// The column that says when an event happened, as a place in the schema.
    pub event_time: Option<usize>,
    /// How many partitions, 1 to [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// How long events are kept, by event time where there is one, else by append time. `None`: for
    /// ever.
    pub retention: Option<Duration>,
    /// How many nodes hold each partition.
    pub replicas: u32,
}

/// A stream as the catalogue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Given once, never reused: a stream dropped and created again is another stream.
    pub id: StreamId,
    /// What was asked.
    pub definition: StreamDefinition,
    /// The Raft group of each partition, by [`PartitionNumber`].
    pub groups: Vec<GroupId>,
    /// When it was created.
    pub created_at: Time,
}

impl Stream {
    /// The groups with their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionNumber, GroupId)> + '_ {
        (0..).map(PartitionNumber).zip(self.groups.iter().copied())
    }
}

/// One offset for each partition of a stream: "everything before this".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier(pub BTreeMap<PartitionNumber, Offset>);

impl Frontier {
    /// Takes the later offset of each partition.
    pub fn merge(&mut self, other: &Frontier) {
        for (&partition, &offset) in &other.0 {
            let mine = self.0.entry(partition).or_insert(offset);
            *mine = (*mine).max(offset);
        }
    }
}
