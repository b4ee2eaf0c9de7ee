//! The groups of several partitions as one table.
//!
//! Groups are merged in the order in which they are added, so that the same partitions in the same
//! order give the same answer to the last bit.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};

use super::assemble;
use super::definition::Definition;
use super::error::{DefinitionError, FoldError};
use super::layout::Layout;
use super::read::Keys;
use super::resident::{Head, Resident, merge_states};
use super::stored::KeyRange;
use crate::aggregate::States;
use crate::group::GroupTable;

/// Rows of one batch.
const BATCH_ROWS: usize = 8_192;

/// Collects groups. One that is met twice is merged.
#[derive(Debug)]
pub struct Merge {
    pub(super) layout: Arc<Layout>,
    /// No group comes twice.
    disjoint: bool,
    pub(super) groups: Merged,
    batches: Vec<RecordBatch>,
    cutoff: Option<i64>,
    wanted: Wanted,
}

/// Groups of one partition on their way to another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What ends up to here is past retention, in microseconds.
    pub cutoff: Option<i64>,
    /// Groups as they are stored, by key.
    pub groups: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Groups by slot.
#[derive(Debug)]
pub(super) struct Merged {
    pub table: GroupTable,
    pub states: Vec<Box<dyn States>>,
    /// For sessions, the time of the last event of each.
    pub lasts: Vec<i64>,
}

/// Which whole windows were asked for, where panes are put together.
#[derive(Debug)]
pub(super) enum Wanted {
    All,
    Range(KeyRange),
    These(HashSet<Vec<u8>>),
}

impl Wanted {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Range(range) => range.contains(key),
            Wanted::These(keys) => keys.contains(key),
        }
    }
}

impl Merged {
    pub(super) fn new(layout: &Layout) -> Result<Merged, DefinitionError> {
        let table = GroupTable::new(&layout.codec);
        Ok(Merged { table, states: layout.states()?, lasts: Vec::new() })
    }

    /// The slot of a key; a new one is empty.
    pub(super) fn slot(&mut self, key: &[u8]) -> u32 {
        let slot = self.table.intern_key(key);
        if self.lasts.len() < self.table.len() {
            self.lasts.resize(self.table.len(), i64::MIN);
            for states in &mut self.states {
                states.resize(self.lasts.len());
            }
        }
        slot
    }

    pub(super) fn key(&self, slot: u32) -> Vec<u8> {
        let mut key = Vec::new();
        self.table.key(slot, &mut key);
        key
    }

    /// Merges a group into a slot.
    pub(super) fn merge(
        &mut self,
        slot: u32,
        from: &[Box<dyn States>],
        number: u32,
    ) -> Result<(), FoldError> {
        let mut bytes = Vec::new();
        for (states, from) in self.states.iter_mut().zip(from) {
            bytes.clear();
            from.encode(number, &mut bytes);
            states.merge(slot, &mut bytes.as_slice())?;
        }
        Ok(())
    }

    /// The slots of all groups.
    pub(super) fn slots(&self) -> Vec<u32> {
        (0..).take(self.table.len()).collect()
    }
}

impl Merge {
    /// For the groups of any number of partitions.
    ///
    /// # Errors
    /// When the definition cannot be run.
    pub fn new(definition: Arc<Definition>) -> Result<Merge, DefinitionError> {
        let layout = Layout::new(definition)?;
        Ok(Merge {
            groups: Merged::new(&layout)?,
            layout: Arc::new(layout),
            disjoint: false,
            batches: Vec::new(),
            cutoff: None,
            wanted: Wanted::All,
        })
    }

    /// As [`Merge::new`], where the caller knows that no two partitions have the same group: there
    /// is one, or groups are told apart by the columns that choose the partition. Faster.
    ///
    /// # Errors
    /// When the definition cannot be run.
    pub fn disjoint(definition: Arc<Definition>) -> Result<Merge, DefinitionError> {
        let mut merge = Merge::new(definition)?;
        // A window is made of the panes that all reads find.
        merge.disjoint = !merge.has_panes();
        Ok(merge)
    }

    pub(super) fn has_panes(&self) -> bool {
        assemble::panes(&self.layout).is_some()
    }

    /// Leaves out what ends up to `cutoff`. The latest of all partitions counts, so that no window
    /// is shown of which a partition has dropped its share.
    pub(super) fn cut(&mut self, cutoff: Option<i64>) {
        self.cutoff = self.cutoff.max(cutoff);
    }

    /// Only windows in a range are asked for. Gives the range of what they are made of.
    pub(super) fn restrict(&mut self, range: &KeyRange) -> KeyRange {
        if !self.has_panes() {
            return range.clone();
        }
        self.wanted = Wanted::Range(range.clone());
        assemble::pane_range(&self.layout, range)
    }

    /// Only windows with these keys are asked for. Gives ranges of the panes they are made of.
    pub(super) fn restrict_to(&mut self, keys: &[Vec<u8>]) -> Vec<KeyRange> {
        if !self.has_panes() {
            return Vec::new();
        }
        self.wanted = Wanted::These(keys.iter().cloned().collect());
        assemble::pane_ranges(&self.layout, keys)
    }

    pub(super) fn add_resident(
        &mut self,
        resident: &Resident,
        slots: &[u32],
    ) -> Result<(), FoldError> {
        if self.disjoint {
            for slots in slots.chunks(BATCH_ROWS) {
                self.batches.push(batch(&self.layout, &resident.table, &resident.states, slots)?);
            }
            return Ok(());
        }
        let mut key = Vec::new();
        for &number in slots {
            key.clear();
            resident.table.key(number, &mut key);
            let slot = self.groups.slot(&key);
            self.groups.merge(slot, &resident.states, number)?;
            if let Some(lasts) = &resident.lasts {
                let last = &mut self.groups.lasts[slot as usize];
                *last = (*last).max(lasts[number as usize]);
            }
        }
        Ok(())
    }

    /// Adds a group as it is stored.
    ///
    /// # Errors
    /// When the bytes are no group of this definition.
    pub fn add_stored(&mut self, key: &[u8], value: &[u8]) -> Result<(), FoldError> {
        let mut states = value;
        let head = Head::take(self.layout.session_gap().is_some(), &mut states)?;
        let slot = self.groups.slot(key);
        let last = &mut self.groups.lasts[slot as usize];
        *last = (*last).max(head.last);
        merge_states(&mut self.groups.states, slot, states)
    }

    /// What was collected, for another [`Merge`] to take in. Only of one made by [`Merge::new`]:
    /// otherwise groups are rows already.
    #[must_use]
    pub fn collected(&self) -> Collected {
        let is_session = self.layout.session_gap().is_some();
        let groups = self.groups.slots().into_iter().map(|slot| {
            let head = Head { changed_at: 0, last: self.groups.lasts[slot as usize] };
            let mut value = Vec::new();
            head.put(is_session, &mut value);
            self.groups.states.iter().for_each(|states| states.encode(slot, &mut value));
            (self.groups.key(slot), value)
        });
        Collected { cutoff: self.cutoff, groups: groups.collect() }
    }

    /// Adds what was collected elsewhere for the same keys.
    ///
    /// # Errors
    /// When the bytes are no groups of this definition.
    pub fn take_in(&mut self, keys: &Keys, collected: &Collected) -> Result<(), FoldError> {
        self.cut(collected.cutoff);
        match keys {
            Keys::All => {}
            Keys::Range(range) => {
                self.restrict(range);
            }
            Keys::These(keys) => {
                self.restrict_to(keys);
            }
        }
        collected.groups.iter().try_for_each(|(key, value)| self.add_stored(key, value))
    }

    /// The table, columns as in [`Definition::group_schema`]. Without group columns it has one row,
    /// even when there was no event.
    ///
    /// # Errors
    /// When a value is outside its type.
    pub fn finish(mut self) -> Result<Vec<RecordBatch>, FoldError> {
        if self.has_panes() {
            self.groups = assemble::windows(&self.layout, &self.groups, &self.wanted)?;
        }
        let mut slots = self.groups.slots();
        if !self.disjoint && self.layout.session_gap().is_some() {
            slots = assemble::sessions(&self.layout, &mut self.groups)?;
        }
        if self.layout.order.is_empty() && slots.is_empty() && self.batches.is_empty() {
            slots.push(self.groups.slot(&[]));
        }
        if self.cutoff.is_some() && !self.disjoint {
            let Merge { layout, groups, cutoff, .. } = &self;
            slots.retain(|&slot| {
                let key = groups.key(slot);
                !layout.is_dropped_window(&key, groups.lasts[slot as usize], *cutoff)
            });
        }
        for slots in slots.chunks(BATCH_ROWS) {
            self.batches.push(batch(&self.layout, &self.groups.table, &self.groups.states, slots)?);
        }
        Ok(self.batches)
    }
}

/// Some groups as rows.
fn batch(
    layout: &Layout,
    table: &GroupTable,
    states: &[Box<dyn States>],
    slots: &[u32],
) -> Result<RecordBatch, FoldError> {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(slots.len());
    for &slot in slots {
        table.key(slot, &mut bytes);
        ends.push(bytes.len());
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let keys = starts.zip(&ends).map(|(start, &end)| &bytes[start..end]);
    let by_key = layout.codec.decode(keys)?;
    let mut columns: Vec<Option<ArrayRef>> = vec![None; by_key.len()];
    for (&group, values) in layout.order.iter().zip(by_key) {
        columns[group] = Some(values);
    }
    let mut columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
    for states in states {
        columns.push(states.finish(slots)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
    let schema = layout.definition.group_schema();
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| {
        FoldError::Definition(DefinitionError::Expression {
            column: "groups".into(),
            expected: layout.definition.group_schema().to_string(),
            found: error.to_string(),
        })
    })
}
