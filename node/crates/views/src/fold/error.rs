//! What can go wrong with a view's groups.

use alluvium_core::ids::Offset;

use crate::aggregate::{StateError, UnsupportedAggregate};
use crate::group::KeyError;

/// Why events were not folded, or groups not read. After any but [`FoldError::OutOfOrder`] and
/// [`FoldError::Poisoned`] the state that was being changed is not to be used any more: it is
/// opened again from its last checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// Other events were given than the next ones.
    #[error("events from {found} were given where {expected} comes next")]
    OutOfOrder {
        /// The offset that comes next.
        expected: Offset,
        /// What was given.
        found: Offset,
    },
    /// An event cannot be folded, and the view is not to go on without it. Everything before it is
    /// folded.
    #[error("the event at {offset} cannot be folded: {reason}")]
    Poisoned {
        /// Where it is.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// Stored groups were not to be had.
    #[error("read stored groups")]
    Stored(#[from] StoredError),
    /// A stored group is not what was stored.
    #[error("a stored group is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// A value of a group cannot be computed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The definition does not fit its expressions.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// An earlier error left it in pieces.
    #[error("an earlier error left the view's state unusable; it is opened again")]
    Broken,
}

/// Why stored groups could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoredError(pub String);

/// Why a definition cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A group column, or a value for one, has the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An aggregate is not maintained.
    #[error(transparent)]
    Aggregate(#[from] UnsupportedAggregate),
    /// The window is not as it must be.
    #[error("{0}")]
    Window(&'static str),
    /// An expression gives something else than it was declared to.
    #[error("the expression of column {column} gives {found} where {expected} is declared")]
    Expression {
        /// The column.
        column: String,
        /// What is declared.
        expected: String,
        /// What came.
        found: String,
    },
}

/// Why what a checkpoint stored cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptState {
    /// It is of another version of this program, or of another definition: it is built again.
    #[error("the stored state has another form: {what}")]
    OtherForm {
        /// What differs.
        what: &'static str,
    },
    /// It is no row of a view.
    #[error("the stored row of the view is malformed")]
    Malformed,
    /// The definition cannot be run.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

impl From<KeyError> for FoldError {
    fn from(error: KeyError) -> FoldError {
        match error {
            KeyError::Malformed => FoldError::Damaged { reason: error.to_string() },
            KeyError::Type(_) | KeyError::Column { .. } => FoldError::Definition(error.into()),
        }
    }
}
