//! Folding events into groups, and reading the groups.
//!
//! [`Definition`] says what a view maintains. [`ViewState`] is the state of one view in one
//! partition: it folds the partition's events in offset order, keeps the groups that are in use in
//! memory, gives out what has changed as a [`Checkpoint`], and reads groups from memory and from
//! what is stored. [`Merge`] makes one table of the groups of all partitions, or of those that a
//! [`Selection`] asks for.
//!
//! It stores nothing itself and starts nothing: whoever drives it reads the events, stores the
//! checkpoints and offers what is stored as [`StoredGroups`].
//!
//! Invariants: the stored state is a function of the events before its offset, whatever the batches
//! and checkpoints; every event is folded, filtered, expired or quarantined, and counted once.

mod apply;
mod assemble;
mod checkpoint;
mod definition;
mod error;
mod layout;
mod merge;
mod piece;
mod read;
mod resident;
mod row;
mod selection;
mod session;
mod state;
mod stored;

#[cfg(test)]
mod tests;

pub use definition::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, Window, WindowKind,
};
pub use error::{CorruptState, DefinitionError, FoldError, StoredError};
pub use merge::{Collected, Merge};
pub use read::{Changes, Keys};
pub use row::{Counts, StoredProgress};
pub use selection::{Comparison, Condition, Selection};
pub use state::{Folded, Limits, Progress, QUARANTINED_MAX, ViewState};
pub use stored::{Checkpoint, KeyRange, Quarantined, StoredGroups, Visit, group_hash};
