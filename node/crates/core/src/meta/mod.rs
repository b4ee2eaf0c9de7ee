//! The catalogue: the state machine of the meta group (group 0).
//!
//! It knows which streams exist, which Raft group each of their partitions is, and which producers
//! were opened. It gives out ids and never gives one out twice, also not after what it named is
//! gone. It starts and stops nothing: the shell compares what it runs with what stands here.
//!
//! [`command`] is what the log holds, [`catalogue`] applies it, [`names`] says what a name may be,
//! [`definition`] is the stored form of a stream's definition.

pub mod catalogue;
pub mod command;
pub mod definition;
pub mod names;

pub use catalogue::{Meta, MetaOutcome};
pub use command::MetaCommand;
pub use names::{InvalidName, check_name, check_producer_name};
