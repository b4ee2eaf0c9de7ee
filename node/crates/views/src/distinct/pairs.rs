//! The set of pairs of group and value.

use arrow::array::{Array, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow::error::ArrowError;

use super::lets;

/// Pairs up to which one table is used: 512 KiB, about what a core's own cache holds.
const SINGLE_MAX: usize = 16 << 10;
/// Tables of a large set, as a power of two.
const SPLIT_BITS: u32 = 8;
/// Pairs that wait before a table.
const QUEUE: usize = 128;
/// Marks a free place of a table: no group has this number.
const FREE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Pair {
    value: i64,
    group: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pairs {
    /// One, or 2^[`SPLIT_BITS`].
    tables: Vec<Table>,
    counts: Vec<i64>,
    /// Pairs in all tables.
    len: usize,
}

/// A hash table with open addressing, and what waits to go into it.
#[derive(Clone, Debug)]
struct Table {
    /// A power of two.
    places: Vec<Pair>,
    len: usize,
    queue: Vec<Pair>,
}

impl Default for Pairs {
    fn default() -> Self {
        Pairs { tables: vec![Table::new(64)], counts: Vec::new(), len: 0 }
    }
}

impl Pairs {
    pub(super) fn set_group_count(&mut self, count: usize) -> Result<(), ArrowError> {
        if (FREE as usize) < count {
            return Err(ArrowError::ComputeError("too many groups to count values of".into()));
        }
        if self.counts.len() < count {
            self.counts.resize(count, 0);
        }
        Ok(())
    }

    /// Adds the value of each row that has one and that the filter lets through.
    pub(super) fn add<T>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) where
        T: ArrowPrimitiveType,
        i64: From<T::Native>,
    {
        if filter.is_none() && values.null_count() == 0 {
            for (&value, &group) in values.values().iter().zip(groups) {
                self.push(Pair { value: i64::from(value), group: group as u32 });
            }
        } else {
            for (row, (&value, &group)) in values.values().iter().zip(groups).enumerate() {
                if values.is_valid(row) && filter.is_none_or(|filter| lets(filter, row)) {
                    self.push(Pair { value: i64::from(value), group: group as u32 });
                }
            }
        }
    }

    pub(super) fn add_all<N>(&mut self, group: usize, values: &[N])
    where
        N: Copy,
        i64: From<N>,
    {
        for &value in values {
            self.push(Pair { value: i64::from(value), group: group as u32 });
        }
    }

    fn push(&mut self, pair: Pair) {
        if let [table] = self.tables.as_mut_slice() {
            if table.insert(pair) {
                self.counts[pair.group as usize] += 1;
                self.len += 1;
                if SINGLE_MAX < self.len {
                    self.split();
                }
            }
            return;
        }
        let table = &mut self.tables[(hash(pair) >> (64 - SPLIT_BITS)) as usize];
        table.queue.push(pair);
        if table.queue.len() == QUEUE {
            self.len += table.drain(&mut self.counts);
        }
    }

    /// The count of each group.
    pub(super) fn counts(&mut self) -> &[i64] {
        self.settle();
        &self.counts
    }

    /// The values of the first groups, one group after the other, and where each begins.
    pub(super) fn lists(&mut self, first: usize) -> Result<(Vec<i32>, Vec<i64>), ArrowError> {
        self.settle();
        let mut offsets = Vec::with_capacity(first + 1);
        offsets.push(0_i32);
        let mut total = 0_i64;
        for count in &self.counts[..first] {
            total += count;
            let end = i32::try_from(total).map_err(|_| {
                ArrowError::ComputeError("more than 2^31 distinct values in one batch".into())
            })?;
            offsets.push(end);
        }
        let mut values = vec![0; total as usize];
        let mut ends: Vec<usize> = offsets[..first].iter().map(|&start| start as usize).collect();
        for pair in self.tables.iter().flat_map(Table::pairs) {
            if let Some(end) = ends.get_mut(pair.group as usize) {
                values[*end] = pair.value;
                *end += 1;
            }
        }
        Ok((offsets, values))
    }

    /// Drops the first groups; the others move up.
    pub(super) fn forget(&mut self, first: usize) {
        if first == self.counts.len() {
            *self = Pairs::default();
            return;
        }
        self.settle();
        let former = std::mem::take(self);
        self.counts = vec![0; former.counts.len() - first];
        for pair in former.tables.iter().flat_map(Table::pairs) {
            if let Some(group) = (pair.group as usize).checked_sub(first) {
                self.push(Pair { value: pair.value, group: group as u32 });
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        let table = |table: &Table| table.places.capacity() + table.queue.capacity();
        let pairs: usize = self.tables.iter().map(table).sum();
        pairs * size_of::<Pair>()
            + self.tables.capacity() * size_of::<Table>()
            + self.counts.capacity() * size_of::<i64>()
    }

    /// Puts what waits where it belongs.
    fn settle(&mut self) {
        for table in &mut self.tables {
            self.len += table.drain(&mut self.counts);
        }
    }

    fn split(&mut self) {
        let count = 1_usize << SPLIT_BITS;
        let places = (2 * SINGLE_MAX / count).next_power_of_two();
        let former = std::mem::replace(&mut self.tables, vec![Table::new(places); count]);
        for &pair in former.iter().flat_map(Table::pairs) {
            self.tables[(hash(pair) >> (64 - SPLIT_BITS)) as usize].insert(pair);
        }
        for table in &mut self.tables {
            table.queue.reserve_exact(QUEUE);
        }
    }
}

impl Table {
    fn new(places: usize) -> Table {
        let places = vec![Pair { value: 0, group: FREE }; places];
        Table { places, len: 0, queue: Vec::new() }
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.places.iter().filter(|pair| pair.group != FREE)
    }

    /// Inserts what waits, and counts what is new for its group and in all.
    fn drain(&mut self, counts: &mut [i64]) -> usize {
        let mut queue = std::mem::take(&mut self.queue);
        let before = self.len;
        for &pair in &queue {
            if self.insert(pair) {
                counts[pair.group as usize] += 1;
            }
        }
        queue.clear();
        self.queue = queue;
        self.len - before
    }

    /// Whether the pair is new.
    fn insert(&mut self, pair: Pair) -> bool {
        let mask = self.places.len() - 1;
        let mut place = hash(pair) as usize & mask;
        loop {
            let there = self.places[place];
            if there.group == FREE {
                break;
            }
            if there.group == pair.group && there.value == pair.value {
                return false;
            }
            place = (place + 1) & mask;
        }
        self.places[place] = pair;
        self.len += 1;
        if self.places.len() / 4 * 3 < self.len {
            self.grow();
        }
        true
    }

    fn grow(&mut self) {
        let mut larger = Table::new(2 * self.places.len());
        for &pair in self.pairs() {
            larger.insert(pair);
        }
        self.places = larger.places;
    }
}

/// Mixes every bit into the high ones, which choose the table, and the low ones, which choose the
/// place in it.
fn hash(pair: Pair) -> u64 {
    let group = u64::from(pair.group).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = pair.value.cast_unsigned() ^ group ^ 0x2436_a88f_3d1c_0b57;
    let product = u128::from(mixed) * u128::from(0xd1b5_4a32_d192_ed03_u64);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded.wrapping_mul(0x9fb2_1c65_1e98_df25) ^ (folded >> 32)
}
