//! The groups of a view that are in memory, and how one looks when it is stored.
//!
//! A stored group is, little endian: the version, the offset after the last event that changed it,
//! for a session the time of its last event, then the states of its aggregates one after the other.
//! The bytes depend on the group's events and their offsets alone: not on how they were cut into
//! batches, nor on when the group was stored, put out of memory and loaded again.

use super::error::FoldError;
use super::layout::Layout;
use super::stored::group_hash;
use crate::aggregate::{StateError, States};
use crate::group::{Encoded, GroupTable};

/// Of the form of a stored group.
const GROUP_VERSION: u8 = 1;

/// What is known of a group beside its states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The offset after the last event that changed it; 0: no event has.
    pub changed_at: u64,
    /// The last call of `fold` that met it.
    pub used: u32,
    pub mark: Mark,
}

/// How a group in memory relates to what is stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The same.
    Clean,
    /// Changed since.
    Dirty,
    /// It is no group any more; its slot is empty.
    Gone,
}

/// Groups by slot.
#[derive(Debug)]
pub(super) struct Resident {
    pub table: GroupTable,
    pub states: Vec<Box<dyn States>>,
    pub slots: Vec<Slot>,
    /// What each adds to the digest as it was last given out to be stored; 0: it never was.
    pub hashes: Vec<u128>,
    /// For sessions, the time of the last event of each.
    pub lasts: Option<Vec<i64>>,
}

/// A group taken out, to be put back later.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub key: Vec<u8>,
    pub slot: Slot,
    pub hash: u128,
    pub value: Vec<u8>,
}

/// The front of a stored group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub changed_at: u64,
    /// 0 unless it is a session.
    pub last: i64,
}

impl Head {
    /// Takes it from a stored group, of which the states are left.
    pub(super) fn take(is_session: bool, value: &mut &[u8]) -> Result<Head, FoldError> {
        let damaged = || FoldError::Damaged { reason: "it is too short".into() };
        let (&version, rest) = value.split_first().ok_or_else(damaged)?;
        if version != GROUP_VERSION {
            return Err(FoldError::Damaged { reason: format!("its version is {version}") });
        }
        let (changed_at, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let mut head = Head { changed_at: u64::from_le_bytes(*changed_at), last: 0 };
        *value = rest;
        if is_session {
            let (last, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
            head.last = i64::from_le_bytes(*last);
            *value = rest;
        }
        Ok(head)
    }

    /// Puts it before the states.
    pub(super) fn put(self, is_session: bool, out: &mut Vec<u8>) {
        out.push(GROUP_VERSION);
        out.extend_from_slice(&self.changed_at.to_le_bytes());
        if is_session {
            out.extend_from_slice(&self.last.to_le_bytes());
        }
    }
}

impl Resident {
    pub(super) fn new(layout: &Layout, states: Vec<Box<dyn States>>) -> Resident {
        Resident {
            table: GroupTable::new(&layout.codec),
            states,
            slots: Vec::new(),
            hashes: Vec::new(),
            lasts: layout.session_gap().map(|_| Vec::new()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let states: usize = self.states.iter().map(|states| states.bytes()).sum();
        let slot = size_of::<Slot>() + size_of::<u128>();
        let lasts = self.lasts.as_ref().map_or(0, |lasts| lasts.capacity() * size_of::<i64>());
        self.table.bytes() + states + self.slots.capacity() * slot + lasts
    }

    /// Appends the slots of these keys to `slots`. Slots that were not there before are empty.
    pub(super) fn intern(&mut self, keys: &Encoded, slots: &mut Vec<u32>, clock: u32) {
        self.table.intern(keys, slots);
        self.grow(clock);
    }

    /// Makes room for the slots that the table has given.
    pub(super) fn grow(&mut self, clock: u32) {
        let len = self.table.len();
        if len == self.slots.len() {
            return;
        }
        self.slots.resize(len, Slot { changed_at: 0, used: clock, mark: Mark::Clean });
        self.hashes.resize(len, 0);
        if let Some(lasts) = &mut self.lasts {
            lasts.resize(len, 0);
        }
        for states in &mut self.states {
            states.resize(len);
        }
    }

    /// Appends a group as it is stored.
    pub(super) fn value(&self, slot: u32, out: &mut Vec<u8>) {
        let last = self.lasts.as_ref().map(|lasts| lasts[slot as usize]);
        let changed_at = self.slots[slot as usize].changed_at;
        Head { changed_at, last: last.unwrap_or(0) }.put(last.is_some(), out);
        for states in &self.states {
            states.encode(slot, out);
        }
    }

    /// Fills an empty slot with a stored group.
    pub(super) fn load(&mut self, slot: u32, key: &[u8], value: &[u8]) -> Result<(), FoldError> {
        self.fill(slot, value)?;
        self.hashes[slot as usize] = group_hash(key, value);
        Ok(())
    }

    fn fill(&mut self, slot: u32, value: &[u8]) -> Result<(), FoldError> {
        let mut rest = value;
        let head = Head::take(self.lasts.is_some(), &mut rest)?;
        merge_states(&mut self.states, slot, rest)?;
        self.slots[slot as usize].changed_at = head.changed_at;
        if let Some(lasts) = &mut self.lasts {
            lasts[slot as usize] = head.last;
        }
        Ok(())
    }

    /// Copies of these groups as they are now.
    pub(super) fn copy(&self, slots: &[u32]) -> Vec<Copied> {
        let copy = |&slot: &u32| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            self.table.key(slot, &mut key);
            self.value(slot, &mut value);
            let [slot, hash] = [slot as usize; 2];
            Copied { key, slot: self.slots[slot], hash: self.hashes[hash], value }
        };
        slots.iter().map(copy).collect()
    }

    /// Takes out what is in `slots` and in any slot that is not a group, and puts `copies` in.
    /// Slots get other numbers.
    pub(super) fn replace(&mut self, slots: &[u32], copies: Vec<Copied>) -> Result<(), FoldError> {
        for &slot in slots {
            self.slots[slot as usize].mark = Mark::Gone;
        }
        let all = 0..u32::try_from(self.slots.len()).expect("slots have 32 bits");
        let kept: Vec<u32> =
            all.filter(|&slot| self.slots[slot as usize].mark != Mark::Gone).collect();
        self.keep(&kept);
        for Copied { key, slot, hash, value } in copies {
            let number = self.table.intern_key(&key);
            self.grow(slot.used);
            self.fill(number, &value)?;
            self.slots[number as usize] = slot;
            self.hashes[number as usize] = hash;
        }
        Ok(())
    }

    /// Keeps only these slots, in this order, with numbers from 0.
    pub(super) fn keep(&mut self, kept: &[u32]) {
        self.table.keep(kept);
        for states in &mut self.states {
            states.keep(kept);
        }
        self.slots = kept.iter().map(|&slot| self.slots[slot as usize]).collect();
        self.hashes = kept.iter().map(|&slot| self.hashes[slot as usize]).collect();
        if let Some(lasts) = &mut self.lasts {
            *lasts = kept.iter().map(|&slot| lasts[slot as usize]).collect();
        }
    }

    /// The slots that are changed groups.
    pub(super) fn dirty(&self) -> Vec<u32> {
        let slots = (0..).zip(&self.slots);
        slots.filter(|(_, slot)| slot.mark == Mark::Dirty).map(|(number, _)| number).collect()
    }
}

/// Merges the states of a stored group into a slot.
fn merge_states(
    states: &mut [Box<dyn States>],
    slot: u32,
    mut bytes: &[u8],
) -> Result<(), FoldError> {
    merge_each(&mut bytes, states.iter_mut(), |states, bytes| states.merge(slot, bytes))
}

/// Hands each of these the next state of a stored group.
pub(super) fn merge_each<S>(
    bytes: &mut &[u8],
    all: impl Iterator<Item = S>,
    mut take: impl FnMut(S, &mut &[u8]) -> Result<(), StateError>,
) -> Result<(), FoldError> {
    for states in all {
        take(states, bytes).map_err(|error| match error {
            StateError::Malformed { .. } => FoldError::Damaged { reason: error.to_string() },
            StateError::Overflow { .. } | StateError::TooLarge { .. } => FoldError::State(error),
        })?;
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(FoldError::Damaged { reason: format!("{} bytes are left over", bytes.len()) })
    }
}
