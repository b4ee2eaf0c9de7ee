//! How commands become agreed: one replica of one Raft group.

mod machine;

pub use machine::{CorruptCheckpoint, CorruptCommand, Machine};
