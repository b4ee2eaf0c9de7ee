//! Owners of state, each behind a mailbox. The only folder that names actix.
//!
//! | actor | owns | receives | sends to |
//! |---|---|---|---|
//! | [`partition::PartitionActor`] | one replica | appends, reads, fences | log and segment writers |
//! | [`meta::MetaActor`] | the catalogue's replica | changes | log writer, supervisor |
//! | [`view::ViewActor`] | one view in one partition | advances of the event log | supervisor |
//! | [`supervisor::Supervisor`] | what runs here | the catalogue | partitions, views: start, stop |
//! | [`ticker::Ticker`] | the beat of one arbiter | followers | its followers |
//!
//! Handlers turn a message into an input of the core and carry out the effects. What carries data
//! is admitted by the append budget before it reaches a mailbox; what the node tells itself is
//! bounded by what was admitted.

pub mod effects;
pub mod inbox;
pub mod meta;
pub mod partition;
pub mod supervisor;
pub mod ticker;
pub mod view;
