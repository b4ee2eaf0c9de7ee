//! Reading groups.

use std::collections::HashSet;
use std::ops::ControlFlow;

use alluvium_core::ids::Offset;

use super::error::{DefinitionError, FoldError};
use super::merge::Merge;
use super::resident::{Head, Mark};
use super::selection::KeyFilter;
use super::state::ViewState;
use super::stored::{KeyRange, StoredGroups};

/// Which groups to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// All.
    All,
    /// Those with these keys.
    These(Vec<Vec<u8>>),
    /// Those whose keys lie in a range.
    Range(KeyRange),
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Changes by events before this offset were given; `since` for the next call.
    pub next: Offset,
    /// Keys of sessions that became part of others, or got an earlier start.
    pub removed: Vec<Vec<u8>>,
    /// Removed keys are known for changes from this offset on. A reader that is behind it must read
    /// everything again.
    pub removed_from: Offset,
}

/// Is shown the key, the value and the head of a stored group.
type VisitStored<'a> = dyn FnMut(&[u8], &[u8], Head) -> Result<(), FoldError> + 'a;

impl ViewState {
    /// Adds groups to `into`. Those past retention are left out. Of hopping windows, ranges and
    /// keys are those of whole windows.
    ///
    /// # Errors
    /// See [`FoldError`]; the state is as it was.
    pub fn read(
        &self,
        keys: &Keys,
        stored: &dyn StoredGroups,
        into: &mut Merge,
    ) -> Result<(), FoldError> {
        self.check()?;
        into.cut(self.cutoff());
        match keys {
            Keys::All => self.read_range(&KeyRange::all(), stored, into),
            Keys::Range(range) => {
                let range = into.restrict(range);
                self.read_range(&range, stored, into)
            }
            Keys::These(keys) => {
                for range in into.restrict_to(keys) {
                    self.read_range(&range, stored, into)?;
                }
                let keys: Vec<&[u8]> = if into.has_panes() {
                    Vec::new()
                } else {
                    keys.iter().map(Vec::as_slice).collect()
                };
                self.read_keys(&keys, stored, into)
            }
        }
    }

    /// Adds groups that were changed by events at or after `since`, those changed first first, and
    /// at most `max`.
    ///
    /// # Errors
    /// See [`FoldError`]; the state is as it was.
    pub fn changed(
        &self,
        since: Offset,
        max: usize,
        stored: &dyn StoredGroups,
        into: &mut Merge,
    ) -> Result<Changes, FoldError> {
        self.check()?;
        into.cut(self.cutoff());
        let mut next = self.row.next.0;
        let mut slots = self.visible(&KeyRange::all(), &KeyFilter::default())?;
        let changed_at = |slot: u32| self.resident.slots[slot as usize].changed_at;
        slots.retain(|&slot| since.0 < changed_at(slot));
        let mut groups = Vec::new();
        if since.0 < self.elsewhere_changed {
            self.scan(&KeyRange::all(), stored, &mut |key, value, head| {
                if since.0 < head.changed_at {
                    groups.push((head.changed_at, key.to_vec(), value.to_vec()));
                }
                Ok(())
            })?;
        }
        // An event changes one group, so the offsets tell groups apart.
        let mut all: Vec<u64> = slots.iter().map(|&slot| changed_at(slot)).collect();
        all.extend(groups.iter().map(|(changed_at, ..)| changed_at));
        if max < all.len() {
            let (_, &mut last, _) = all.select_nth_unstable(max.max(1) - 1);
            next = last;
        }
        slots.retain(|&slot| changed_at(slot) <= next);
        into.add_resident(&self.resident, &slots)?;
        for (_, key, value) in groups.iter().filter(|(changed_at, ..)| *changed_at <= next) {
            into.add_stored(key, value)?;
        }
        let (removed, removed_from) = self.sessions.removed_between(since.0, next);
        Ok(Changes { next: Offset(next), removed, removed_from: Offset(removed_from) })
    }

    pub(super) fn cutoff(&self) -> Option<i64> {
        self.layout.window.as_ref()?.cutoff(self.row.newest)
    }

    fn read_range(
        &self,
        range: &KeyRange,
        stored: &dyn StoredGroups,
        into: &mut Merge,
    ) -> Result<(), FoldError> {
        into.add_resident(&self.resident, &self.visible(range, into.filter())?)?;
        self.scan(range, stored, &mut |key, value, _| {
            if into.passes(key)? { into.add_stored(key, value) } else { Ok(()) }
        })
    }

    fn read_keys(
        &self,
        keys: &[&[u8]],
        stored: &dyn StoredGroups,
        into: &mut Merge,
    ) -> Result<(), FoldError> {
        let mut slots = Vec::new();
        let mut missing = Vec::new();
        for &key in keys {
            match self.resident.table.find(key) {
                Some(slot) if self.is_visible(slot, key) => slots.push(slot),
                Some(_) => {}
                None => missing.push(key),
            }
        }
        slots.sort_unstable();
        slots.dedup();
        into.add_resident(&self.resident, &slots)?;
        if self.elsewhere == 0 {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|key| !self.sessions.is_removed(key));
        let is_session = self.layout.session_gap().is_some();
        for (key, value) in missing.iter().zip(stored.get(&missing)?) {
            let Some(value) = value else { continue };
            let head = Head::take(is_session, &mut value.as_slice())?;
            if !self.layout.is_dropped(key, head.last, self.cutoff()) {
                into.add_stored(key, &value)?;
            }
        }
        Ok(())
    }

    /// The groups in memory in a range that pass a filter.
    fn visible(&self, range: &KeyRange, filter: &KeyFilter) -> Result<Vec<u32>, FoldError> {
        let cutoff = self.cutoff();
        let any_key =
            range.start.is_empty() && range.end.is_none() && cutoff.is_none() && filter.is_empty();
        let (codec, mut buffer, mut found) = (&self.layout.codec, Vec::new(), Vec::new());
        for (number, slot) in (0..).zip(&self.resident.slots) {
            if slot.mark == Mark::Gone || slot.changed_at == 0 {
                continue;
            }
            if !any_key {
                let key = self.resident.table.key_in(number, &mut buffer);
                let passes = range.contains(key)
                    && filter.passes(codec, key).map_err(DefinitionError::from)?
                    && self.is_visible(number, key);
                if !passes {
                    continue;
                }
            }
            found.push(number);
        }
        Ok(found)
    }

    fn is_visible(&self, number: u32, key: &[u8]) -> bool {
        let last = self.resident.lasts.as_ref().map_or(0, |lasts| lasts[number as usize]);
        self.resident.slots[number as usize].changed_at != 0
            && !self.layout.is_dropped(key, last, self.cutoff())
    }

    /// Shows the groups in a range that are stored and not in memory.
    fn scan(
        &self,
        range: &KeyRange,
        stored: &dyn StoredGroups,
        visit: &mut VisitStored<'_>,
    ) -> Result<(), FoldError> {
        if self.elsewhere == 0 {
            return Ok(());
        }
        let is_session = self.layout.session_gap().is_some();
        let cutoff = self.cutoff();
        let removed: HashSet<&[u8]> = self.sessions.removed_keys().collect();
        let mut result = Ok(());
        stored.scan(range, &mut |key, value| {
            if self.resident.table.find(key).is_some() || removed.contains(key) {
                return ControlFlow::Continue(());
            }
            let visited = Head::take(is_session, &mut &*value).and_then(|head| {
                if self.layout.is_dropped(key, head.last, cutoff) {
                    return Ok(());
                }
                visit(key, value, head)
            });
            match visited {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        result
    }
}
