//! Which slot belongs to which key.
//!
//! Open addressing over one array of eight bytes a place: half of the key's hash, and the slot.
//! Keys lie beside each other in one buffer, or in an array of numbers when each fits eight bytes,
//! so that a group costs little beside its states.
//!
//! Invariants: slots are dense; a key has one slot; the array is at most half full, with a removed
//! slot's place closed up at once.

use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Encoded, KeyCodec};

/// No slot.
const FREE: u64 = u64::MAX;
/// Room for this many groups before the first growth.
const PLACES_MIN: usize = 64;

/// Numbers the keys of one codec.
#[derive(Debug)]
pub(crate) struct GroupTable {
    /// `hash << 32 | slot`, or [`FREE`].
    places: Vec<u64>,
    keys: Keys,
    /// Slots whose keys are in `places`.
    live: usize,
}

#[derive(Debug)]
enum Keys {
    Small { values: Vec<u64>, width: usize, null: Option<u32> },
    Bytes { arena: Vec<u8>, spans: Vec<Span> },
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    len: u32,
}

impl GroupTable {
    /// An empty one.
    pub(crate) fn new(codec: &KeyCodec) -> GroupTable {
        let keys = match codec.small_width() {
            Some(width) => Keys::Small { values: Vec::new(), width, null: None },
            None => Keys::Bytes { arena: Vec::new(), spans: Vec::new() },
        };
        GroupTable { places: vec![FREE; PLACES_MIN], keys, live: 0 }
    }

    /// Slots given so far, removed ones too.
    pub(crate) fn len(&self) -> usize {
        match &self.keys {
            Keys::Small { values, .. } => values.len(),
            Keys::Bytes { spans, .. } => spans.len(),
        }
    }

    /// Keys in it.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Memory it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Small { values, .. } => values.capacity() * size_of::<u64>(),
            Keys::Bytes { arena, spans } => arena.capacity() + spans.capacity() * size_of::<Span>(),
        };
        keys + self.places.capacity() * size_of::<u64>()
    }

    /// Appends the slot of each key to `slots`. Keys not met before get the next ones.
    pub(crate) fn intern(&mut self, keys: &Encoded, slots: &mut Vec<u32>) {
        match keys {
            Encoded::Small { values, nulls } => {
                slots.reserve(values.len());
                for (row, &value) in values.iter().enumerate() {
                    let slot = if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                        self.intern_null()
                    } else {
                        self.intern_small(value)
                    };
                    slots.push(slot);
                }
            }
            Encoded::Bytes { bytes, ends } => {
                slots.reserve(ends.len());
                let mut start = 0;
                for &end in ends {
                    slots.push(self.intern_bytes(&bytes[start..end]));
                    start = end;
                }
            }
        }
    }

    /// The slot of a key, a new one if it was not met before.
    pub(crate) fn intern_key(&mut self, key: &[u8]) -> u32 {
        match &self.keys {
            Keys::Small { .. } => match small_of(key) {
                Some(value) => self.intern_small(value),
                None => self.intern_null(),
            },
            Keys::Bytes { .. } => self.intern_bytes(key),
        }
    }

    /// As [`GroupTable::intern`], of the keys that slots of another table of the same codec have.
    pub(crate) fn intern_from(&mut self, other: &GroupTable, from: &[u32], slots: &mut Vec<u32>) {
        if self.len() == 0 {
            let places = (from.len() * 2).next_power_of_two().max(PLACES_MIN);
            self.places = vec![FREE; places];
        }
        slots.reserve(from.len());
        match &other.keys {
            Keys::Small { values, null, .. } => {
                for &number in from {
                    slots.push(match null {
                        Some(null) if *null == number => self.intern_null(),
                        Some(_) | None => self.intern_small(values[number as usize]),
                    });
                }
            }
            Keys::Bytes { .. } => {
                let slot = |&number: &u32| self.intern_bytes(other.key_bytes(number));
                slots.extend(from.iter().map(slot));
            }
        }
    }

    /// The slot of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        match &self.keys {
            Keys::Small { null, .. } if key == [0] => *null,
            Keys::Small { width, .. } if key.len() == 1 + width => {
                small_of(key).and_then(|value| self.find_small(value))
            }
            Keys::Small { .. } => None,
            Keys::Bytes { .. } => self.probe_bytes(xxh3_64(key), key).ok(),
        }
    }

    /// Appends the key of a slot to `out`.
    pub(crate) fn key(&self, slot: u32, out: &mut Vec<u8>) {
        match &self.keys {
            Keys::Small { null, .. } if *null == Some(slot) => out.push(0),
            Keys::Small { values, width, .. } => {
                out.push(1);
                out.extend_from_slice(&values[slot as usize].to_be_bytes()[8 - width..]);
            }
            Keys::Bytes { .. } => out.extend_from_slice(self.key_bytes(slot)),
        }
    }

    /// The key of a slot, where it lies or in `buffer`.
    pub(crate) fn key_in<'a>(&'a self, slot: u32, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match &self.keys {
            Keys::Bytes { .. } => self.key_bytes(slot),
            Keys::Small { .. } => {
                buffer.clear();
                self.key(slot, buffer);
                buffer
            }
        }
    }

    /// Takes a slot's key out. The slot stays, without a key, until [`GroupTable::keep`].
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Keys::Small { null, .. } = &mut self.keys
            && *null == Some(slot)
        {
            *null = None;
            self.live -= 1;
            return;
        }
        let mask = self.places.len() - 1;
        let mut gap = self.hash_of(slot) as usize & mask;
        while self.places[gap] == FREE || self.places[gap] as u32 != slot {
            gap = (gap + 1) & mask;
        }
        // Later ones move up, unless that would put them before where their search begins.
        let mut next = (gap + 1) & mask;
        while self.places[next] != FREE {
            let home = self.hash_of(self.places[next] as u32) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.places[gap] = self.places[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.places[gap] = FREE;
        self.live -= 1;
    }

    /// Gives a slot another key, which is not in the table.
    pub(crate) fn rename(&mut self, slot: u32, key: &[u8]) {
        self.remove(slot);
        match &mut self.keys {
            Keys::Small { values, null, .. } => match small_of(key) {
                Some(value) => values[slot as usize] = value,
                None => {
                    *null = Some(slot);
                    self.live += 1;
                    return;
                }
            },
            Keys::Bytes { arena, spans } => spans[slot as usize] = append(arena, key),
        }
        self.place(slot);
        self.live += 1;
    }

    /// Keeps only these slots, which have keys, in this order, with numbers from 0.
    pub(crate) fn keep(&mut self, slots: &[u32]) {
        match &mut self.keys {
            Keys::Small { values, null, .. } => {
                *values = slots.iter().map(|&slot| values[slot as usize]).collect();
                *null =
                    null.and_then(|null| slots.iter().position(|&slot| slot == null)).map(number);
            }
            Keys::Bytes { arena, spans } => {
                let mut kept = Vec::new();
                *spans = slots
                    .iter()
                    .map(|&slot| {
                        let Span { start, len } = spans[slot as usize];
                        append(&mut kept, &arena[start..start + len as usize])
                    })
                    .collect();
                *arena = kept;
            }
        }
        self.live = slots.len();
        self.rebuild((slots.len() * 2).next_power_of_two().max(PLACES_MIN));
    }

    fn intern_small(&mut self, value: u64) -> u32 {
        let hash = mix(value);
        let Keys::Small { values, .. } = &mut self.keys else {
            unreachable!("numbers are interned where keys are numbers")
        };
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place == FREE {
                break;
            }
            let slot = place as u32;
            if place >> 32 == hash >> 32 && values[slot as usize] == value {
                return slot;
            }
            at = (at + 1) & mask;
        }
        let slot = number(values.len());
        values.push(value);
        self.occupy(at, hash, slot);
        slot
    }

    fn intern_bytes(&mut self, key: &[u8]) -> u32 {
        let hash = xxh3_64(key);
        match self.probe_bytes(hash, key) {
            Ok(slot) => slot,
            Err(at) => {
                let Keys::Bytes { arena, spans } = &mut self.keys else {
                    unreachable!("bytes are interned where keys are bytes")
                };
                let slot = number(spans.len());
                spans.push(append(arena, key));
                self.occupy(at, hash, slot);
                slot
            }
        }
    }

    fn intern_null(&mut self) -> u32 {
        let Keys::Small { values, null, .. } = &mut self.keys else {
            unreachable!("a lone null is interned where keys are numbers")
        };
        *null.get_or_insert_with(|| {
            values.push(0);
            self.live += 1;
            number(values.len() - 1)
        })
    }

    fn find_small(&self, value: u64) -> Option<u32> {
        let Keys::Small { values, .. } = &self.keys else { return None };
        let hash = mix(value);
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place == FREE {
                return None;
            }
            if place >> 32 == hash >> 32 && values[place as u32 as usize] == value {
                return Some(place as u32);
            }
            at = (at + 1) & mask;
        }
    }

    /// The slot, or the free place where it would go.
    #[inline]
    fn probe_bytes(&self, hash: u64, key: &[u8]) -> Result<u32, usize> {
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place == FREE {
                return Err(at);
            }
            if place >> 32 == hash >> 32 && self.key_bytes(place as u32) == key {
                return Ok(place as u32);
            }
            at = (at + 1) & mask;
        }
    }

    fn occupy(&mut self, at: usize, hash: u64, slot: u32) {
        self.places[at] = place_of(hash, slot);
        self.live += 1;
        if self.places.len() < self.live * 2 {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.places);
        self.places = vec![FREE; old.len() * 2];
        let mask = self.places.len() - 1;
        for place in old.into_iter().filter(|&place| place != FREE) {
            let mut at = self.hash_of(place as u32) as usize & mask;
            while self.places[at] != FREE {
                at = (at + 1) & mask;
            }
            self.places[at] = place;
        }
    }

    fn rebuild(&mut self, places: usize) {
        self.places.clear();
        self.places.resize(places, FREE);
        self.places.shrink_to(places);
        for slot in 0..number(self.len()) {
            let is_null = matches!(&self.keys, Keys::Small { null, .. } if *null == Some(slot));
            if !is_null {
                self.place(slot);
            }
        }
    }

    /// Puts a slot, whose key is not there, in its place.
    fn place(&mut self, slot: u32) {
        let hash = self.hash_of(slot);
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while self.places[at] != FREE {
            at = (at + 1) & mask;
        }
        self.places[at] = place_of(hash, slot);
    }

    #[inline]
    fn key_bytes(&self, slot: u32) -> &[u8] {
        match &self.keys {
            Keys::Bytes { arena, spans } => {
                let Span { start, len } = spans[slot as usize];
                &arena[start..start + len as usize]
            }
            Keys::Small { .. } => unreachable!("keys that are numbers have no bytes"),
        }
    }

    fn hash_of(&self, slot: u32) -> u64 {
        match &self.keys {
            Keys::Small { values, .. } => mix(values[slot as usize]),
            Keys::Bytes { .. } => xxh3_64(self.key_bytes(slot)),
        }
    }
}

fn place_of(hash: u64, slot: u32) -> u64 {
    (hash >> 32 << 32) | u64::from(slot)
}

fn append(arena: &mut Vec<u8>, key: &[u8]) -> Span {
    let start = arena.len();
    arena.extend_from_slice(key);
    Span { start, len: u32::try_from(key.len()).expect("a key is shorter than 4 GiB") }
}

/// The number in a key of one column of fixed width; `None` for null.
fn small_of(key: &[u8]) -> Option<u64> {
    match key {
        [1, value @ ..] if value.len() <= 8 => {
            let mut bytes = [0; 8];
            bytes[8 - value.len()..].copy_from_slice(value);
            Some(u64::from_be_bytes(bytes))
        }
        _ => None,
    }
}

/// Spreads a number over all bits: the finaliser of MurmurHash3.
#[inline]
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let value = (value ^ (value >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    value ^ (value >> 33)
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).ok().filter(|&slot| slot != u32::MAX).expect("fewer than 2^32 groups")
}
