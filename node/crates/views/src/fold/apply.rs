//! Bringing evaluated rows into groups.

use arrow::array::RecordBatch;

use super::error::FoldError;
use super::piece::Piece;
use super::state::ViewState;
use super::stored::StoredGroups;
use crate::aggregate::StateError;

impl ViewState {
    /// Folds rows that begin at the next offset. When a state has no room for them, nothing has
    /// changed and the reason comes back.
    pub(super) fn apply(
        &mut self,
        rows: &RecordBatch,
        piece: Piece,
        stored: &dyn StoredGroups,
        careful: bool,
    ) -> Result<Option<StateError>, FoldError> {
        let matched = piece.rows;
        let piece = self.without_expired(rows, piece)?;
        let failed = if self.layout.session_gap().is_some() {
            self.apply_sessions(rows, &piece, stored)?
        } else {
            self.apply_groups(&piece, stored, careful)?
        };
        if failed.is_some() {
            return Ok(failed);
        }
        let counts = &mut self.row.counts;
        counts.filtered += (rows.num_rows() - matched) as u64;
        counts.expired += (matched - piece.rows) as u64;
        counts.folded += piece.rows as u64;
        self.row.newest = self.newest_with(rows);
        self.row.next = self.row.next.advance(rows.num_rows() as u64);
        Ok(None)
    }

    fn apply_groups(
        &mut self,
        piece: &Piece,
        stored: &dyn StoredGroups,
        careful: bool,
    ) -> Result<Option<StateError>, FoldError> {
        let keys = self.layout.codec.encode(&piece.groups, piece.rows)?;
        let known = self.resident.slots.len();
        let mut slots = Vec::new();
        self.resident.intern(&keys, &mut slots, self.clock);
        self.load(known, stored)?;
        if let Some(error) = self.update(&slots, piece, careful)? {
            return Ok(Some(error));
        }
        let first = self.row.next.0;
        for (row, &slot) in slots.iter().enumerate() {
            self.touch(slot, first + piece.place(row) as u64);
        }
        Ok(None)
    }

    /// Fills the slots from `first` on with what is stored of their groups.
    fn load(&mut self, first: usize, stored: &dyn StoredGroups) -> Result<(), FoldError> {
        if self.elsewhere == 0 || first == self.resident.slots.len() {
            return Ok(());
        }
        #[cfg(test)]
        if self.fault == Some(super::tests::Fault::ForgetStored) {
            return Ok(());
        }
        let slots: Vec<u32> = (0..).take(self.resident.slots.len()).skip(first).collect();
        let mut bytes = Vec::new();
        let ends: Vec<usize> = slots
            .iter()
            .map(|&slot| {
                self.resident.table.key(slot, &mut bytes);
                bytes.len()
            })
            .collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let keys: Vec<&[u8]> = starts.zip(&ends).map(|(start, &end)| &bytes[start..end]).collect();
        let values = stored.get(&keys)?;
        for ((slot, key), value) in slots.into_iter().zip(keys).zip(values) {
            if let Some(value) = value {
                self.resident.load(slot, key, &value)?;
                self.elsewhere -= 1;
            }
        }
        Ok(())
    }

    /// Updates the states with all rows of the piece, or with none.
    fn update(
        &mut self,
        slots: &[u32],
        piece: &Piece,
        careful: bool,
    ) -> Result<Option<StateError>, FoldError> {
        let filters = &piece.filters;
        let mut each = self.resident.states.iter().enumerate();
        let has_room = each.all(|(number, states)| {
            states.has_room(slots, &piece.arguments[number], filters[number].as_ref())
        });
        let mut copies = None;
        if !has_room {
            let mut touched = slots.to_vec();
            touched.sort_unstable();
            touched.dedup();
            if careful {
                if let Some(error) = self.rehearse(&touched, slots, piece)? {
                    return Ok(Some(error));
                }
            } else {
                copies = Some((self.resident.copy(&touched), touched));
            }
        }
        for (number, states) in self.resident.states.iter_mut().enumerate() {
            let filter = filters[number].as_ref();
            if let Err(error) = states.update(slots, &piece.arguments[number], filter) {
                let Some((copies, touched)) = copies else { return Err(error.into()) };
                self.resident.replace(&touched, copies)?;
                self.dirty = self.resident.dirty();
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// Whether copies of the groups have no room for the rows.
    fn rehearse(
        &self,
        touched: &[u32],
        slots: &[u32],
        piece: &Piece,
    ) -> Result<Option<StateError>, FoldError> {
        let place = |slot: &u32| touched.binary_search(slot).expect("every slot is among them");
        let places: Vec<u32> =
            slots.iter().map(|slot| u32::try_from(place(slot)).expect("fewer slots")).collect();
        let mut scratch = self.layout.states()?;
        let mut bytes = Vec::new();
        for (number, (scratch, states)) in scratch.iter_mut().zip(&self.resident.states).enumerate()
        {
            scratch.resize(touched.len());
            for (place, &slot) in (0..).zip(touched) {
                bytes.clear();
                states.encode(slot, &mut bytes);
                scratch.merge(place, &mut bytes.as_slice())?;
            }
            let filter = piece.filters[number].as_ref();
            if let Err(error) = scratch.update(&places, &piece.arguments[number], filter) {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }
}
