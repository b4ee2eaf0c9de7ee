//! What a replica drives: a state machine fed by agreed commands.
//!
//! A machine is a function of the commands it was given, in order: the same commands give the same
//! state and the same outcomes on every replica. It never fails for a reason another replica would
//! not have; a command that cannot be read is corrupt on every replica alike.

use std::fmt::Debug;

use bytes::Bytes;

use crate::ids::Index;

/// A state machine whose commands are agreed through a [`super::Replica`].
pub trait Machine {
    /// What applying one command said; the same on every replica.
    type Outcome: Clone + Debug;

    /// Applies the command of the entry at `index`. Indices come ascending, each once; there are
    /// gaps, because some entries carry no command.
    ///
    /// # Errors
    /// [`CorruptCommand`] when the bytes are not a command this version knows. The replica stops:
    /// skipping it would make replicas differ.
    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Self::Outcome, CorruptCommand>;

    /// The whole state as bytes: equal states give equal bytes.
    fn checkpoint(&self) -> Bytes;

    /// The state that [`Machine::checkpoint`] wrote.
    ///
    /// # Errors
    /// [`CorruptCheckpoint`] when the bytes are not a checkpoint this version knows.
    fn restore(bytes: &[u8]) -> Result<Self, CorruptCheckpoint>
    where
        Self: Sized;
}

/// The bytes of an agreed command are not a command. The caller cannot try again: the log is
/// damaged or was written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt command: {reason}")]
pub struct CorruptCommand {
    /// What was found, in words.
    pub reason: String,
}

impl CorruptCommand {
    /// With the reason given.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> CorruptCommand {
        CorruptCommand { reason: reason.into() }
    }
}

/// The bytes of a checkpoint are not a checkpoint. The caller cannot try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt checkpoint: {reason}")]
pub struct CorruptCheckpoint {
    /// What was found, in words.
    pub reason: String,
}

impl CorruptCheckpoint {
    /// With the reason given.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> CorruptCheckpoint {
        CorruptCheckpoint { reason: reason.into() }
    }
}
