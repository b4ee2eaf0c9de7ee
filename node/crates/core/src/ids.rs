//! Numbers that name things. Each has a type, and the type has the rule.

use std::fmt;

/// Defines an id: a `u64` that names one kind of thing and is never reused.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A node of the cluster. Given out by the meta group, one for each data directory.
    NodeId, "n"
);
id!(
    /// One Raft group: the meta group or one partition of one stream.
    GroupId, "g"
);
id!(
    /// A stream, whatever its name is or was.
    StreamId, "s"
);
id!(
    /// A view in one of its lives: one that is rebuilt or replaced gets a new id.
    ViewId, "v"
);
id!(
    /// A producer, whatever its name is.
    ProducerId, "p"
);
id!(
    /// A segment on this node. Never reused, even after the segment is gone.
    SegmentId, "seg"
);
id!(
    /// A caller waiting for an answer from a replica on this node.
    RequestId, "r"
);
id!(
    /// Place of an entry in a Raft log. The first entry has index 1.
    Index, "i"
);
id!(
    /// Raft's election number.
    Term, "t"
);

impl GroupId {
    /// The group that keeps the catalogue and the members.
    pub const META: GroupId = GroupId(0);
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0.checked_add(1).expect("no log holds 2^64 entries"))
    }
}

/// The place of a partition in its stream, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionNumber(pub u32);

impl fmt::Display for PartitionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of an event in its partition: dense, starts at 0, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset of the first event of every partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset after `event_count` more events.
    #[must_use]
    pub fn advance(self, event_count: u64) -> Offset {
        Offset(self.0.checked_add(event_count).expect("no partition holds 2^64 events"))
    }

    /// Events in `[start, self)`; 0 when `start` is not before `self`.
    #[must_use]
    pub fn since(self, start: Offset) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which life of a producer this is. Opening a producer again raises it and fences the former life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number a producer gives its batches: the first batch of a producer has 0, each next one 1
/// more. An epoch change does not restart it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0.checked_add(1).expect("no producer sends 2^64 batches"))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
