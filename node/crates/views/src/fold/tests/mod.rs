//! Views against an oracle, and against themselves.
//!
//! A case is made from a seed: a definition, events, and what happens while they are folded. The
//! events go through [`super::ViewState`] in batches cut anywhere, with checkpoints, groups put out
//! of memory and the state opened again in between. Then three things must be the same: what is
//! stored in the end and what a fold without any of this stores, byte for byte; what is read and
//! what [`oracle`] computes row by row; and the counts.

mod case;
mod fixed;
mod live;
mod oracle;
mod random;
mod selected;
mod tally;

use super::definition::AggregateColumn;
use crate::aggregate::States;

/// Ways to break a state, to see that the tests notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Groups that left memory are not loaded again.
    ForgetStored,
}

/// The states of a column that is for tests only.
pub(super) fn states_of(column: &AggregateColumn) -> Option<Box<dyn States>> {
    let max = column.name.strip_prefix(tally::PREFIX)?.parse().expect("a number of values");
    Some(Box::new(tally::Tally::new(max)))
}
