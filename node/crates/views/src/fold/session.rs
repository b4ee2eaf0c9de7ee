//! Sessions: groups whose window is found out as events come.
//!
//! An event joins the session that it is less than the gap away from. Two sessions that it is that
//! near to become one, which the later one's states are merged into; one that begins earlier than
//! it did gets another key. Events are taken one after the other, so that batches do not matter.
//!
//! Sessions in memory are kept in the order of their keys: those of one group lie together, newest
//! first. Of the sessions that are stored, those of a group are loaded from the newest one down to
//! the one before the event; `known` says how far down that is.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;

use super::error::FoldError;
use super::piece::Piece;
use super::resident::{Copied, Mark};
use super::state::ViewState;
use super::stored::{KeyRange, StoredGroups};
use crate::aggregate::StateError;
use crate::group::Encoded;

/// Keys of sessions that are no more which are remembered for subscribers.
const GONE_MAX: usize = 1 << 16;
/// Groups of which it is remembered how many of their sessions are in memory.
const KNOWN_MAX: usize = 1 << 18;
/// Memory of a key in the index beside its bytes, roughly.
const INDEX_BYTES: usize = 64;

/// What is known of the sessions of a view beside their groups.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Keys that were stored and are no more, with what they add to the digest.
    pub removed: Vec<(Vec<u8>, u128)>,
    /// Those of them that a checkpoint gave out, until it is stored.
    pub leaving: Vec<Vec<u8>>,
    /// Keys that are no more, each with the offset after the event that ended it, in order.
    gone: Vec<(u64, Vec<u8>)>,
    /// `gone` is complete from this offset on.
    gone_from: u64,
    /// Those in memory; made anew after slots have changed.
    index: Option<BTreeMap<Vec<u8>, u32>>,
    /// By group, the start from which on all its sessions are in memory.
    known: BTreeMap<Vec<u8>, i64>,
}

impl Sessions {
    /// Of a view that continues at an offset.
    pub(super) fn new(next: u64) -> Sessions {
        Sessions { gone_from: next, ..Sessions::default() }
    }

    /// Notes that groups have other slots, and some may have left memory.
    pub(super) fn renumbered(&mut self) {
        self.index = None;
        self.known.clear();
    }

    /// Notes that a group is past retention.
    pub(super) fn dropped(&mut self) {
        self.index = None;
    }

    /// Keys that may be stored, but are no groups.
    pub(super) fn removed_keys(&self) -> impl Iterator<Item = &[u8]> {
        let removed = self.removed.iter().map(|(key, _)| key.as_slice());
        removed.chain(self.leaving.iter().map(Vec::as_slice))
    }

    pub(super) fn is_removed(&self, key: &[u8]) -> bool {
        self.removed_keys().any(|removed| removed == key)
    }

    /// Keys that events in `[since, next)` ended, and from which offset on they are known.
    pub(super) fn removed_between(&self, since: u64, next: u64) -> (Vec<Vec<u8>>, u64) {
        let gone = self.gone.iter().filter(|(at, _)| since < *at && *at <= next);
        (gone.map(|(_, key)| key.clone()).collect(), self.gone_from)
    }

    pub(super) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, BTreeMap::len);
        (index + self.known.len()) * INDEX_BYTES
    }

    /// Notes that the key of a group is no more.
    fn end(&mut self, key: Vec<u8>, hash: u128, at: u64) {
        if hash != 0 {
            self.removed.push((key.clone(), hash));
        }
        self.gone.push((at, key));
    }

    fn forget(&mut self) {
        if GONE_MAX < self.gone.len() {
            let forgotten = self.gone.len() / 2;
            self.gone_from = self.gone[forgotten - 1].0;
            self.gone.drain(..forgotten);
        }
        if KNOWN_MAX < self.known.len() {
            self.known.clear();
        }
    }
}

/// What to go back to when a state has no room.
struct Undo {
    touched: HashSet<u32>,
    copies: Vec<Copied>,
    groups: u64,
    removed: usize,
    gone: usize,
}

/// An event on its way into a session.
struct Arrival<'a> {
    prefix: &'a [u8],
    time: i64,
    offset: u64,
    /// Sessions that end up to here are gone.
    cutoff: Option<i64>,
}

/// Sessions that an event is near to.
struct Near {
    /// It starts at or before the event.
    before: Option<u32>,
    /// It starts after it.
    after: Option<u32>,
}

impl ViewState {
    /// Brings rows into sessions. When a state has no room for them, nothing has changed.
    pub(super) fn apply_sessions(
        &mut self,
        rows: &RecordBatch,
        piece: &Piece,
        stored: &dyn StoredGroups,
    ) -> Result<Option<StateError>, FoldError> {
        self.sessions.forget();
        let mut undo = Undo {
            touched: HashSet::new(),
            copies: Vec::new(),
            groups: self.row.groups,
            removed: self.sessions.removed.len(),
            gone: self.sessions.gone.len(),
        };
        let failed = self.join_all(rows, piece, stored, &mut undo)?;
        if failed.is_some() {
            let touched: Vec<u32> = undo.touched.into_iter().collect();
            self.resident.replace(&touched, undo.copies)?;
            self.dirty = self.resident.dirty();
            self.row.groups = undo.groups;
            self.sessions.removed.truncate(undo.removed);
            self.sessions.gone.truncate(undo.gone);
            self.sessions.index = None;
        }
        Ok(failed)
    }

    fn join_all(
        &mut self,
        rows: &RecordBatch,
        piece: &Piece,
        stored: &dyn StoredGroups,
        undo: &mut Undo,
    ) -> Result<Option<StateError>, FoldError> {
        let Some(window) = self.layout.window.clone() else { return Ok(None) };
        let times = window.micros(&piece.groups[self.layout.window_place()])?;
        let Encoded::Bytes { bytes, ends } = self.layout.codec.encode(&piece.groups, piece.rows)?
        else {
            unreachable!("the key of a session is not a number")
        };
        let before = self.newest_before(rows);
        let mut slots = Vec::with_capacity(piece.rows);
        let (mut updated, mut key_start) = (0, 0);
        for (row, &end) in ends.iter().enumerate() {
            let key = &bytes[std::mem::replace(&mut key_start, end)..end];
            let offset = self.row.next.0 + piece.place(row) as u64;
            let Some(time) = times[row] else {
                let slot = self.slot_of(key, stored, undo)?;
                self.touch(slot, offset);
                slots.push(slot);
                continue;
            };
            let (prefix, _) = self.layout.session_in(key)?;
            let cutoff = window.cutoff(before[piece.place(row)]);
            let arrival = Arrival { prefix, time, offset, cutoff };
            self.know(&arrival, stored)?;
            let near = self.near(&arrival)?;
            if let Near { before: Some(first), after: Some(second) } = near {
                // States are merged as they are just before this event.
                if let Some(error) = self.update_rows(&slots, piece, updated)? {
                    return Ok(Some(error));
                }
                updated = slots.len();
                if let Some(error) = self.unite(first, second, offset, undo)? {
                    return Ok(Some(error));
                }
            }
            slots.push(self.join(&arrival, &near, key, undo)?);
        }
        self.update_rows(&slots, piece, updated)
    }

    /// Updates states with the rows from `start` on that have slots.
    fn update_rows(
        &mut self,
        slots: &[u32],
        piece: &Piece,
        start: usize,
    ) -> Result<Option<StateError>, FoldError> {
        let rows = slots.len() - start;
        if rows == 0 {
            return Ok(None);
        }
        for (number, states) in self.resident.states.iter_mut().enumerate() {
            let arguments = piece.arguments(number, start, rows);
            let filter = piece.filter(number, start, rows);
            if let Err(error) = states.update(&slots[start..], &arguments, filter.as_ref()) {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// The slot of the group of events without a time, which has exactly this key.
    fn slot_of(
        &mut self,
        key: &[u8],
        stored: &dyn StoredGroups,
        undo: &mut Undo,
    ) -> Result<u32, FoldError> {
        if let Some(slot) = self.resident.table.find(key) {
            self.keep_copy(slot, undo);
            return Ok(slot);
        }
        let slot = self.resident.table.intern_key(key);
        self.resident.grow(self.clock);
        self.index_mut().insert(key.to_vec(), slot);
        // Without a start it never ends.
        self.set_last(slot, i64::MAX);
        let found = if self.elsewhere == 0 { None } else { stored.get(&[key])?.pop().flatten() };
        if let Some(value) = found {
            self.resident.load(slot, key, &value)?;
            self.elsewhere -= 1;
            self.keep_copy(slot, undo);
        }
        undo.touched.insert(slot);
        Ok(slot)
    }

    fn keep_copy(&self, slot: u32, undo: &mut Undo) {
        if undo.touched.insert(slot) {
            undo.copies.extend(self.resident.copy(&[slot]));
        }
    }

    fn index_mut(&mut self) -> &mut BTreeMap<Vec<u8>, u32> {
        let resident = &self.resident;
        self.sessions.index.get_or_insert_with(|| {
            let slots = (0..).zip(&resident.slots);
            let live = slots.filter(|(_, slot)| slot.mark != Mark::Gone);
            live.map(|(number, _)| {
                let mut key = Vec::new();
                resident.table.key(number, &mut key);
                (key, number)
            })
            .collect()
        })
    }

    /// Loads the sessions of a group that an arrival may be near to.
    fn know(&mut self, arrival: &Arrival<'_>, stored: &dyn StoredGroups) -> Result<(), FoldError> {
        if self.elsewhere == 0 {
            return Ok(());
        }
        #[cfg(test)]
        if self.fault == Some(super::tests::Fault::ForgetStored) {
            return Ok(());
        }
        let known = self.sessions.known.get(arrival.prefix).copied();
        if known == Some(i64::MIN) || known.is_some_and(|known| self.has_from(arrival, known)) {
            return Ok(());
        }
        let mut range = KeyRange::prefix(arrival.prefix);
        if let Some(known) = known {
            range.start = session_key(arrival.prefix, known - 1);
        }
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut down_to = Ok(i64::MIN);
        stored.scan(&range, &mut |key, value| {
            match self.layout.session_in(key) {
                Ok((_, Some(start))) => {
                    found.push((key.to_vec(), value.to_vec()));
                    if start <= arrival.time {
                        down_to = Ok(start);
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                }
                // Without a start; it comes last.
                Ok((_, None)) => ControlFlow::Break(()),
                Err(error) => {
                    down_to = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        for (key, value) in found {
            if self.resident.table.find(&key).is_some() || self.sessions.is_removed(&key) {
                continue;
            }
            let slot = self.resident.table.intern_key(&key);
            self.resident.grow(self.clock);
            self.resident.load(slot, &key, &value)?;
            self.elsewhere -= 1;
            self.index_mut().insert(key, slot);
        }
        self.sessions.known.insert(arrival.prefix.to_vec(), down_to?);
        Ok(())
    }

    /// Whether a session in memory starts in `[known, arrival]`.
    fn has_from(&mut self, arrival: &Arrival<'_>, known: i64) -> bool {
        if arrival.time < known {
            return false;
        }
        let first = session_key(arrival.prefix, arrival.time);
        let last = session_key(arrival.prefix, known);
        self.index_mut().range(first..=last).next().is_some()
    }

    fn near(&mut self, arrival: &Arrival<'_>) -> Result<Near, FoldError> {
        let mut near = Near { before: None, after: None };
        let Some(gap) = self.layout.session_gap() else { return Ok(near) };
        let last_start = arrival.time.saturating_add(gap - 1);
        let range = session_key(arrival.prefix, last_start)..;
        self.index_mut();
        let Some(index) = &self.sessions.index else { return Ok(near) };
        for (key, &slot) in index.range(range) {
            let (prefix, start) = self.layout.session_in(key)?;
            let (true, Some(start)) = (prefix == arrival.prefix, start) else { break };
            let last = self.last(slot);
            let is_gone = self.layout.is_dropped(key, last, arrival.cutoff);
            if start <= arrival.time {
                near.before =
                    Some(slot).filter(|_| !is_gone && arrival.time.saturating_sub(last) < gap);
                break;
            }
            near.after = Some(slot).filter(|_| !is_gone);
        }
        Ok(near)
    }

    fn last(&self, slot: u32) -> i64 {
        self.resident.lasts.as_ref().map_or(0, |lasts| lasts[slot as usize])
    }

    fn set_last(&mut self, slot: u32, last: i64) {
        if let Some(lasts) = &mut self.resident.lasts {
            lasts[slot as usize] = last;
        }
    }

    /// Makes two sessions one, in the slot of the first.
    fn unite(
        &mut self,
        first: u32,
        second: u32,
        offset: u64,
        undo: &mut Undo,
    ) -> Result<Option<StateError>, FoldError> {
        for slot in [first, second] {
            self.keep_copy(slot, undo);
        }
        let mut bytes = Vec::new();
        for states in &mut self.resident.states {
            bytes.clear();
            states.encode(second, &mut bytes);
            if let Err(error) = states.merge(first, &mut bytes.as_slice()) {
                return Ok(Some(error));
            }
        }
        self.set_last(first, self.last(first).max(self.last(second)));
        let mut key = Vec::new();
        self.resident.table.key(second, &mut key);
        self.index_mut().remove(&key);
        self.resident.table.remove(second);
        self.resident.slots[second as usize].mark = Mark::Gone;
        let hash = std::mem::take(&mut self.resident.hashes[second as usize]);
        self.sessions.end(key, hash, offset + 1);
        self.row.groups -= 1;
        Ok(None)
    }

    /// The slot of the session that an event belongs to, with the event's time in it.
    fn join(
        &mut self,
        arrival: &Arrival<'_>,
        near: &Near,
        key: &[u8],
        undo: &mut Undo,
    ) -> Result<u32, FoldError> {
        let slot = match (near.before, near.after) {
            (Some(slot), _) => {
                self.keep_copy(slot, undo);
                self.set_last(slot, self.last(slot).max(arrival.time));
                slot
            }
            (None, Some(slot)) => {
                self.keep_copy(slot, undo);
                let mut old = Vec::new();
                self.resident.table.key(slot, &mut old);
                self.index_mut().remove(&old);
                self.resident.table.rename(slot, key);
                let hash = std::mem::take(&mut self.resident.hashes[slot as usize]);
                self.sessions.end(old, hash, arrival.offset + 1);
                self.index_mut().insert(key.to_vec(), slot);
                slot
            }
            (None, None) => {
                let slot = self.resident.table.intern_key(key);
                self.resident.grow(self.clock);
                undo.touched.insert(slot);
                self.set_last(slot, arrival.time);
                self.index_mut().insert(key.to_vec(), slot);
                slot
            }
        };
        self.touch(slot, arrival.offset);
        Ok(slot)
    }
}

/// The key of the session of a group that starts at a time.
fn session_key(prefix: &[u8], start: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 9);
    key.extend_from_slice(prefix);
    key.push(!1);
    key.extend_from_slice(&(!(start ^ i64::MIN)).to_be_bytes());
    key
}
