//! Sessions: groups whose window is found out as events come.

use arrow::array::RecordBatch;

use super::error::{DefinitionError, FoldError};
use super::piece::Piece;
use super::state::ViewState;
use super::stored::StoredGroups;
use crate::aggregate::StateError;

/// What is known of the sessions of a view beside their groups.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Keys that were stored and are no more, with what they add to the digest.
    pub removed: Vec<(Vec<u8>, u128)>,
    /// Those of them that a checkpoint gave out, until it is stored.
    pub leaving: Vec<Vec<u8>>,
}

impl Sessions {
    /// Notes that groups have other slots.
    pub(super) fn renumbered(&mut self) {}

    /// Keys that may be stored, but are no groups.
    pub(super) fn removed_keys(&self) -> impl Iterator<Item = &[u8]> {
        let removed = self.removed.iter().map(|(key, _)| key.as_slice());
        removed.chain(self.leaving.iter().map(Vec::as_slice))
    }

    pub(super) fn is_removed(&self, key: &[u8]) -> bool {
        self.removed_keys().any(|removed| removed == key)
    }

    pub(super) fn removed_between(&self, _since: u64, _next: u64) -> (Vec<Vec<u8>>, u64) {
        (Vec::new(), 0)
    }
}

impl ViewState {
    pub(super) fn apply_sessions(
        &mut self,
        _rows: &RecordBatch,
        _piece: &Piece,
        _stored: &dyn StoredGroups,
    ) -> Result<Option<StateError>, FoldError> {
        Err(DefinitionError::Window("sessions are not there yet").into())
    }
}
