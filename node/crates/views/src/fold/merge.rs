//! The groups of several partitions as one table.
//!
//! Groups are merged in the order in which they are added, so that the same partitions in the same
//! order give the same answer to the last bit.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use super::assemble;
use super::definition::{Definition, WindowKind};
use super::error::{DefinitionError, FoldError};
use super::layout::Layout;
use super::read::Keys;
use super::resident::{Head, Resident, merge_each};
use super::selection::{KeyFilter, Selection};
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
    /// What keys must be as they are stored.
    filter: KeyFilter,
    /// What those must be that are put together when they are read.
    whole: KeyFilter,
    columns: Option<Vec<usize>>,
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
    /// Which of the states are asked for. The others have no slots.
    pub kept: Vec<bool>,
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
    /// Empty. `kept`: see there; none of them: all.
    pub(super) fn new(layout: &Layout, kept: &[bool]) -> Result<Merged, DefinitionError> {
        let table = GroupTable::new(&layout.codec);
        let states = layout.states()?;
        let kept = if kept.is_empty() { vec![true; states.len()] } else { kept.to_vec() };
        Ok(Merged { table, states, kept, lasts: Vec::new() })
    }

    /// The states that are asked for.
    pub(super) fn kept(&mut self) -> impl Iterator<Item = &mut Box<dyn States>> {
        let states = self.states.iter_mut().zip(&self.kept);
        states.filter(|(_, kept)| **kept).map(|(states, _)| states)
    }

    /// Makes room for the slots that the table has given.
    fn grow(&mut self) {
        let len = self.table.len();
        if self.lasts.len() < len {
            self.lasts.resize(len, i64::MIN);
            self.kept().for_each(|states| states.resize(len));
        }
    }

    /// The slot of a key; a new one is empty.
    pub(super) fn slot(&mut self, key: &[u8]) -> u32 {
        let slot = self.table.intern_key(key);
        self.grow();
        slot
    }

    pub(super) fn key(&self, slot: u32) -> Vec<u8> {
        let mut key = Vec::new();
        self.table.key(slot, &mut key);
        key
    }

    /// Merges groups into slots.
    pub(super) fn merge(
        &mut self,
        slots: &[u32],
        from: &[Box<dyn States>],
        numbers: &[u32],
    ) -> Result<(), FoldError> {
        let states = self.states.iter_mut().zip(from).zip(&self.kept);
        for ((states, from), _) in states.filter(|(_, kept)| **kept) {
            states.absorb(slots, from.as_ref(), numbers)?;
        }
        Ok(())
    }

    /// Merges the states of a stored group into a slot.
    fn merge_stored(&mut self, slot: u32, mut bytes: &[u8]) -> Result<(), FoldError> {
        let all = self.states.iter_mut().zip(&self.kept);
        merge_each(&mut bytes, all, |(states, kept), bytes| match kept {
            true => states.merge(slot, bytes),
            false => states.skip(bytes),
        })
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
            groups: Merged::new(&layout, &[])?,
            layout: Arc::new(layout),
            disjoint: false,
            batches: Vec::new(),
            cutoff: None,
            wanted: Wanted::All,
            filter: KeyFilter::default(),
            whole: KeyFilter::default(),
            columns: None,
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

    /// Leaves out the groups that the selection does not ask for, and the columns. What is read
    /// into it must hold [`Selection::keys`].
    #[must_use]
    pub fn selecting(mut self, selection: &Selection) -> Merge {
        let is_whole_later = match self.layout.window.as_ref().map(|window| window.kind) {
            Some(WindowKind::Hop { .. }) => true,
            Some(WindowKind::Session { .. }) => !self.disjoint,
            Some(WindowKind::Tumble { .. }) | None => false,
        };
        (self.filter, self.whole) = if is_whole_later {
            selection.filter.without(self.layout.window_place())
        } else {
            (selection.filter.clone(), KeyFilter::default())
        };
        if let Some(columns) = &selection.columns {
            let groups = self.layout.order.len();
            for (aggregate, kept) in self.groups.kept.iter_mut().enumerate() {
                *kept = columns.contains(&(groups + aggregate));
            }
        }
        self.columns.clone_from(&selection.columns);
        self
    }

    /// What keys must be as they are stored.
    pub(super) fn filter(&self) -> &KeyFilter {
        &self.filter
    }

    /// Whether a group with this key is asked for.
    pub(super) fn passes(&self, key: &[u8]) -> Result<bool, FoldError> {
        Ok(self.filter.passes(&self.layout.codec, key).map_err(DefinitionError::from)?)
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
                let rows = self.batch(&resident.table, &resident.states, slots)?;
                self.batches.push(rows);
            }
            return Ok(());
        }
        let mut into = Vec::new();
        self.groups.table.intern_from(&resident.table, slots, &mut into);
        self.groups.grow();
        self.groups.merge(&into, &resident.states, slots)?;
        if let Some(lasts) = &resident.lasts {
            for (&slot, &number) in into.iter().zip(slots) {
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
        self.groups.merge_stored(slot, states)
    }

    /// What was collected, for another [`Merge`] to take in. Only of one made by [`Merge::new`]
    /// that selects nothing: otherwise groups are rows already, or not whole.
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
        for (key, value) in &collected.groups {
            if self.passes(key)? {
                self.add_stored(key, value)?;
            }
        }
        Ok(())
    }

    /// The table, columns as in [`Definition::group_schema`]. Without group columns it has one row,
    /// even when there was no event.
    ///
    /// # Errors
    /// When a value is outside its type.
    pub fn finish(mut self) -> Result<Vec<RecordBatch>, FoldError> {
        if self.has_panes() {
            let whole = Merged::new(&self.layout, &self.groups.kept)?;
            self.groups = assemble::windows(&self.layout, &self.groups, &self.wanted, whole)?;
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
        if !self.whole.is_empty() {
            let mut passed = Vec::with_capacity(slots.len());
            for slot in slots {
                let key = self.groups.key(slot);
                let passes = self.whole.passes(&self.layout.codec, &key);
                if passes.map_err(DefinitionError::from)? {
                    passed.push(slot);
                }
            }
            slots = passed;
        }
        for slots in slots.chunks(BATCH_ROWS) {
            let rows = self.batch(&self.groups.table, &self.groups.states, slots)?;
            self.batches.push(rows);
        }
        Ok(self.batches)
    }

    /// The columns that are asked for, in their order.
    fn schema(&self) -> SchemaRef {
        let all = self.layout.definition.group_schema();
        match &self.columns {
            Some(columns) => {
                let fields = columns.iter().map(|&column| all.fields()[column].clone());
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
            None => all,
        }
    }

    /// Some groups as rows.
    fn batch(
        &self,
        table: &GroupTable,
        states: &[Box<dyn States>],
        slots: &[u32],
    ) -> Result<RecordBatch, FoldError> {
        let layout = &self.layout;
        let groups = layout.order.len();
        let all: Vec<usize> = (0..groups + states.len()).collect();
        let wanted = self.columns.as_ref().unwrap_or(&all);
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(slots.len());
        let mut by_group: Vec<Option<ArrayRef>> = vec![None; groups];
        if wanted.iter().any(|column| *column < groups) {
            for &slot in slots {
                table.key(slot, &mut bytes);
                ends.push(bytes.len());
            }
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let keys = starts.zip(&ends).map(|(start, &end)| &bytes[start..end]);
            let is_wanted = |place: usize| wanted.contains(&layout.order[place]);
            let by_key = layout.codec.decode_some(keys, is_wanted)?;
            for (&group, values) in layout.order.iter().zip(by_key) {
                by_group[group] = values;
            }
        }
        let columns = wanted.iter().map(|&column| match column.checked_sub(groups) {
            Some(aggregate) => states[aggregate].finish(slots).map_err(FoldError::from),
            None => Ok(by_group[column].clone().expect("it was decoded since it is wanted")),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let schema = self.schema();
        let rows = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options);
        rows.map_err(|error| {
            FoldError::Definition(DefinitionError::Expression {
                column: "groups".into(),
                expected: schema.to_string(),
                found: error.to_string(),
            })
        })
    }
}
