//! Giving out what has changed, dropping windows past retention, and putting clean groups out of
//! memory.

use std::ops::ControlFlow;

use super::error::FoldError;
use super::resident::{Head, Mark};
use super::state::ViewState;
use super::stored::{Checkpoint, KeyRange, StoredGroups, group_hash};
use xxhash_rust::xxh3::xxh3_128;

/// Memory is brought down to this share of its limit, so that it is not at it again at once.
const EVICT_TO: f64 = 0.75;

impl ViewState {
    /// What has changed since the last one, to be stored as one. Windows past retention are
    /// dropped. [`ViewState::stored`] must be called once it is in the database; when it cannot be
    /// stored, the state is opened again.
    ///
    /// # Errors
    /// See [`FoldError`].
    pub fn checkpoint(&mut self, stored: &dyn StoredGroups) -> Result<Checkpoint, FoldError> {
        self.check()?;
        let result = if self.in_flight {
            // The one before may never be stored, and its groups would be lost.
            Err(FoldError::Broken)
        } else {
            self.give_out(stored)
        };
        self.guard(result)
    }

    /// The last checkpoint is in the database.
    pub fn stored(&mut self) {
        self.in_flight = false;
        self.sessions.leaving.clear();
        self.evict();
    }

    fn give_out(&mut self, stored: &dyn StoredGroups) -> Result<Checkpoint, FoldError> {
        let mut checkpoint = Checkpoint { next: self.row.next, ..Checkpoint::default() };
        for (key, hash) in std::mem::take(&mut self.sessions.removed) {
            self.row.digest = self.row.digest.wrapping_sub(hash);
            checkpoint.deletes.push(key);
        }
        self.sessions.leaving.clone_from(&checkpoint.deletes);
        self.drop_windows(stored, &mut checkpoint)?;
        let dirty = std::mem::take(&mut self.dirty);
        checkpoint.puts.reserve(dirty.len());
        let mut bytes = Vec::new();
        for slot in dirty {
            let number = slot as usize;
            if self.resident.slots[number].mark != Mark::Dirty {
                continue;
            }
            self.resident.slots[number].mark = Mark::Clean;
            // As `group_hash` takes it: the length of the key, the key, the value.
            bytes.clear();
            bytes.extend_from_slice(&[0; 4]);
            self.resident.table.key(slot, &mut bytes);
            let key_end = bytes.len();
            let key_len = u32::try_from(key_end - 4).unwrap_or(u32::MAX);
            bytes[..4].copy_from_slice(&key_len.to_le_bytes());
            self.resident.value(slot, &mut bytes);
            let hash = xxh3_128(&bytes);
            let old = std::mem::replace(&mut self.resident.hashes[number], hash);
            self.row.digest = self.row.digest.wrapping_sub(old).wrapping_add(hash);
            checkpoint.puts.push((bytes[4..key_end].to_vec(), bytes[key_end..].to_vec()));
        }
        checkpoint.quarantined = std::mem::take(&mut self.quarantined);
        checkpoint.row = self.row.encode();
        self.in_flight = true;
        self.sweep();
        Ok(checkpoint)
    }

    fn drop_windows(
        &mut self,
        stored: &dyn StoredGroups,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FoldError> {
        let Some(window) = &self.layout.window else { return Ok(()) };
        let Some(cutoff) = window.cutoff(self.row.newest) else { return Ok(()) };
        let from = self.row.dropped.replace(cutoff);
        if from.is_some_and(|from| cutoff <= from) {
            self.row.dropped = from;
            return Ok(());
        }
        let is_session = self.layout.session_gap().is_some();
        let range = if is_session {
            KeyRange::all()
        } else {
            match self.layout.dropped_range(from, cutoff) {
                Some(range) => range,
                None => return Ok(()),
            }
        };
        let mut was_stored = self.drop_elsewhere(&range, cutoff, stored, checkpoint)?;
        let mut key = Vec::new();
        for slot in 0..self.resident.slots.len() {
            if self.resident.slots[slot].mark == Mark::Gone {
                continue;
            }
            let number = u32::try_from(slot).expect("slots have 32 bits");
            key.clear();
            self.resident.table.key(number, &mut key);
            let last = self.resident.lasts.as_ref().map_or(0, |lasts| lasts[slot]);
            if !self.layout.is_dropped(&key, last, Some(cutoff)) {
                continue;
            }
            let hash = std::mem::take(&mut self.resident.hashes[slot]);
            if hash != 0 {
                was_stored = true;
                self.row.digest = self.row.digest.wrapping_sub(hash);
                if is_session {
                    checkpoint.deletes.push(key.clone());
                }
            }
            self.row.groups -= u64::from(self.resident.slots[slot].changed_at != 0);
            self.resident.slots[slot].mark = Mark::Gone;
            self.resident.table.remove(number);
            self.sessions.dropped();
        }
        if was_stored && !is_session {
            checkpoint.delete_ranges.push(range);
        }
        Ok(())
    }

    /// Drops the groups in a range that are stored and not in memory. Whether there were any.
    fn drop_elsewhere(
        &mut self,
        range: &KeyRange,
        cutoff: i64,
        stored: &dyn StoredGroups,
        checkpoint: &mut Checkpoint,
    ) -> Result<bool, FoldError> {
        if self.elsewhere == 0 {
            return Ok(false);
        }
        let is_session = self.layout.session_gap().is_some();
        let before = self.elsewhere;
        let deletes = checkpoint.deletes.len();
        let mut result = Ok(());
        stored.scan(range, &mut |key, value| {
            // Those in `deletes` are stored still, but are groups no more.
            if self.resident.table.find(key).is_some()
                || checkpoint.deletes[..deletes].iter().any(|deleted| deleted == key)
            {
                return ControlFlow::Continue(());
            }
            match Head::take(is_session, &mut &*value) {
                Ok(head) if self.layout.is_dropped(key, head.last, Some(cutoff)) => {
                    self.row.digest = self.row.digest.wrapping_sub(group_hash(key, value));
                    self.row.groups -= 1;
                    self.elsewhere -= 1;
                    if is_session {
                        checkpoint.deletes.push(key.to_vec());
                    }
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        result.map(|()| self.elsewhere < before)
    }

    /// Gives the memory of dropped groups back once they are many.
    fn sweep(&mut self) {
        let live = self.resident.table.live();
        if self.resident.slots.len() - live > live / 4 + 64 {
            self.keep(|_, _| true);
        }
    }

    /// Puts the groups out of memory that were not met for longest, while there are too many. Those
    /// that have changed since the last checkpoint stay.
    pub(super) fn evict(&mut self) {
        let bytes = self.bytes();
        if self.in_flight || bytes <= self.limits.resident_bytes_max {
            return;
        }
        let slots = &self.resident.slots;
        let clean = slots.iter().filter(|slot| slot.mark == Mark::Clean);
        let mut used: Vec<u32> = clean.map(|slot| slot.used).collect();
        if used.is_empty() || used.len() < slots.len() / 16 {
            return;
        }
        let share = self.limits.resident_bytes_max as f64 * EVICT_TO / bytes as f64;
        let stay = (slots.len() as f64 * share) as usize;
        let go = (slots.len() - stay).clamp(1, used.len());
        let (_, &mut last_used, _) = used.select_nth_unstable(go - 1);
        self.keep(|_, slot| slot.mark == Mark::Dirty || last_used < slot.used);
    }

    /// Keeps the groups in memory that `stays` is true for.
    fn keep(&mut self, stays: impl Fn(u32, &super::resident::Slot) -> bool) {
        let mut kept = Vec::with_capacity(self.resident.slots.len());
        for (number, slot) in (0..).zip(&self.resident.slots) {
            if slot.mark == Mark::Gone {
                continue;
            }
            if stays(number, slot) {
                kept.push(number);
            } else if slot.changed_at != 0 {
                self.elsewhere += 1;
                self.elsewhere_changed = self.elsewhere_changed.max(slot.changed_at);
            }
        }
        self.resident.keep(&kept);
        self.dirty = self.resident.dirty();
        self.sessions.renumbered();
    }
}
