//! The catalogue: the state machine of the meta group (group 0).
//!
//! It knows which streams and views exist, which Raft group each partition is, and which producers
//! were opened. It gives out ids and never gives one out twice, also not after what it named is
//! gone. It starts and stops nothing: the shell compares what it runs with what stands here.
//!
//! [`command`] is what the log holds, [`catalogue`] applies it (`views` what concerns views),
//! [`outcome`] is what that did, [`names`] says what a name may be, [`definition`] and
//! [`view_form`] are the stored forms of streams and views.

pub mod catalogue;
pub mod command;
pub mod definition;
pub mod names;
pub mod outcome;
pub mod view_form;
mod views;

pub use catalogue::Meta;
pub use command::MetaCommand;
pub use names::{InvalidName, check_name, check_producer_name};
pub use outcome::{MetaOutcome, TableKind};
pub use view_form::{InvalidView, check_view};
