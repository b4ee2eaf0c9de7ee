//! What an append means: the state machine of one partition.
//!
//! It hands out offsets, recognises the retries of producers, and knows which events retention has
//! taken. It does not keep the events: their payload goes through unread and comes out in
//! [`Appended`] for whoever keeps them. It decides nothing about time: times come in commands.
//!
//! Invariants: offsets are dense ([`Partition::end`] of one command is the first offset of the
//! next); a batch of a producer is applied at most once, in the order of its sequences; append
//! times never go back; the state is a function of the commands in order.
//!
//! [`command`] is what the log holds, [`state`] applies it, [`producers`] recognises retries.
//! [`cut`] and [`retention`] are rules for the shell: when to seal the tail, and what may go.

pub mod command;
pub mod cut;
pub mod producers;
pub mod retention;
pub mod state;

pub use command::{Append, Command, Part, Stamp};
pub use cut::CutPolicy;
pub use producers::{PRODUCER_IDLE_MAX, ProducerState, REMEMBERED_MAX, Remembered};
pub use state::{Appended, Outcome, PartOutcome, Partition};
