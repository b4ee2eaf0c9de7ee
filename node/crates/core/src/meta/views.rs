//! The views of the catalogue and how commands change them.
//!
//! A view has lives. Readers see the current one; another may be built beside it and take its place
//! when it has caught up. A life that folds a stream needs building; any other is complete at once,
//! because there is nothing to keep.
//!
//! Knows names, not columns: whether those who read a view can still be answered by what replaces
//! it is for the proposer to find out.
//!
//! Invariants: a name belongs to one stream or one view; what a view reads is there, and does not
//! read the view; an id is given to one life only; only lives that are not built have partitions
//! that caught up, and not all of them.
//!
//! Checkpoint, in the forms of [`crate::codec`]:
//!
//! ```text
//! next view id u64
//! view count u32 | each, in name order: current view | next: optional view | built flag
//!                                     | resumed u32
//! life count u32 | each, in order of ids: view id u64 | partitions that caught up: list of u32;
//!                  versions of the catalogue before 3 have none
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{FIRST_ID, take};
use super::outcome::{MetaOutcome, TableKind};
use super::view_form::{decode_view, encode_view};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{PartitionNumber, ViewId};
use crate::stream::Stream;
use crate::time::Time;
use crate::view::{View, ViewDefinition, ViewEntry};

const ENTRY_BYTES_MIN: usize = 32;
const LIFE_BYTES_MIN: usize = 12;
const PARTITION_BYTES: usize = 4;

type Streams = BTreeMap<String, Arc<Stream>>;

/// What one command asks of the views.
pub(super) struct CreateView {
    pub definition: ViewDefinition,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub created_at: Time,
}

/// Whether a stored form says which partitions caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithPartitions {
    No,
    Yes,
}

/// The views, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Views {
    next_id: u64,
    entries: BTreeMap<String, ViewEntry>,
    caught_up: BTreeMap<ViewId, BTreeSet<PartitionNumber>>,
}

impl Default for Views {
    fn default() -> Views {
        Views { next_id: FIRST_ID, entries: BTreeMap::new(), caught_up: BTreeMap::new() }
    }
}

impl Views {
    pub fn entries(&self) -> &BTreeMap<String, ViewEntry> {
        &self.entries
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Views that read `name` in one of their lives, in order.
    pub fn dependants(&self, name: &str) -> Vec<String> {
        let reading =
            self.entries.iter().filter(|(_, entry)| reads(entry).any(|read| read == name));
        reading.map(|(dependant, _)| dependant.clone()).collect()
    }

    pub fn create(&mut self, command: CreateView, streams: &Streams) -> MetaOutcome {
        let CreateView { definition, if_not_exists, or_replace, created_at } = command;
        let name = definition.name.clone();
        if streams.contains_key(&name) {
            return MetaOutcome::NameTaken { name, what: TableKind::Stream };
        }
        let is_there = self.entries.contains_key(&name);
        if is_there && if_not_exists {
            return MetaOutcome::NothingToDo;
        }
        if is_there && !or_replace {
            return MetaOutcome::ViewExists { name };
        }
        if let Some(through) = definition.reads.iter().find(|read| self.leads_to(read, &name)) {
            return MetaOutcome::ReadsItself { through: through.clone(), name };
        }
        if let Some(name) = self.unknown_read(&definition, streams) {
            return MetaOutcome::ReadsUnknown { name };
        }
        let view = self.begin(definition, created_at);
        if !is_there {
            let built = !needs_building(&view);
            let entry = ViewEntry { current: view.clone(), next: None, built, resumed: 0 };
            self.entries.insert(name, entry);
            return MetaOutcome::ViewCreated(view);
        }
        let entry = self.entries.get_mut(&name).expect("it is there");
        let abandoned = entry.next.take();
        if needs_building(&view) {
            entry.next = Some(view.clone());
            return MetaOutcome::ViewBuilding { next: view, abandoned };
        }
        entry.built = true;
        let replaced = std::mem::replace(&mut entry.current, view.clone());
        MetaOutcome::ViewSwitched {
            view,
            ended: [Some(replaced), abandoned].into_iter().flatten().collect(),
        }
    }

    /// The life `id` has caught up.
    pub fn switch(&mut self, name: String, id: ViewId) -> MetaOutcome {
        let Some(entry) = self.entries.get_mut(&name) else {
            return MetaOutcome::ViewUnknown { name };
        };
        if let Some(next) = entry.next.take_if(|next| next.id == id) {
            let replaced = std::mem::replace(&mut entry.current, next);
            entry.built = true;
            return MetaOutcome::ViewSwitched {
                view: entry.current.clone(),
                ended: vec![replaced],
            };
        }
        if entry.current.id == id && !entry.built {
            entry.built = true;
            return MetaOutcome::ViewSwitched { view: entry.current.clone(), ended: Vec::new() };
        }
        MetaOutcome::NothingToDo
    }

    /// One partition of the life `id` has caught up: when all have, the life has.
    pub fn part_caught_up(
        &mut self,
        name: String,
        id: ViewId,
        partition: PartitionNumber,
        streams: &Streams,
    ) -> MetaOutcome {
        let Some(entry) = self.entries.get(&name) else {
            return MetaOutcome::ViewUnknown { name };
        };
        let Some(partitions) =
            unbuilt(entry).find(|view| view.id == id).and_then(|view| partitions_of(view, streams))
        else {
            return MetaOutcome::NothingToDo;
        };
        if partitions <= partition.0 {
            return MetaOutcome::NothingToDo;
        }
        let caught_up = self.caught_up.entry(id).or_default();
        if !caught_up.insert(partition) {
            return MetaOutcome::NothingToDo;
        }
        let count = u32::try_from(caught_up.len()).expect("no more than partitions");
        match partitions - count {
            0 => self.switch(name, id),
            left => MetaOutcome::ViewPartBuilt { name, id, left },
        }
    }

    /// Drops what was known of lives that are built or gone. Due after each change of the views.
    pub fn forget_ended(&mut self) {
        if self.caught_up.is_empty() {
            return;
        }
        let unbuilt: BTreeSet<ViewId> =
            self.entries.values().flat_map(unbuilt).map(|view| view.id).collect();
        self.caught_up.retain(|id, _| unbuilt.contains(id));
    }

    pub fn rebuild(&mut self, name: String, created_at: Time) -> MetaOutcome {
        let Some(entry) = self.entries.get(&name) else {
            return MetaOutcome::ViewUnknown { name };
        };
        if !needs_building(&entry.current) {
            return MetaOutcome::NothingToDo;
        }
        let next = self.begin(entry.current.definition.clone(), created_at);
        let entry = self.entries.get_mut(&name).expect("it was there");
        let abandoned = entry.next.replace(next.clone());
        MetaOutcome::ViewBuilding { next, abandoned }
    }

    pub fn resume(&mut self, name: String) -> MetaOutcome {
        let Some(entry) = self.entries.get_mut(&name) else {
            return MetaOutcome::ViewUnknown { name };
        };
        entry.resumed = entry.resumed.checked_add(1).expect("nobody resumes 2^32 times");
        MetaOutcome::ViewResumed { name, resumed: entry.resumed }
    }

    /// Gives up what is being built: beside the current life, or as the first one.
    pub fn cancel(&mut self, name: String) -> MetaOutcome {
        let Some(entry) = self.entries.get_mut(&name) else {
            return MetaOutcome::ViewUnknown { name };
        };
        if let Some(next) = entry.next.take() {
            return MetaOutcome::ViewCancelled(next);
        }
        match entry.built {
            true => MetaOutcome::NothingToDo,
            false => self.remove(name),
        }
    }

    pub fn drop_view(&mut self, name: String, if_exists: bool, streams: &Streams) -> MetaOutcome {
        match (self.entries.contains_key(&name), streams.contains_key(&name), if_exists) {
            (true, _, _) => self.remove(name),
            (false, true, _) => MetaOutcome::NameTaken { name, what: TableKind::Stream },
            (false, false, true) => MetaOutcome::NothingToDo,
            (false, false, false) => MetaOutcome::ViewUnknown { name },
        }
    }

    fn remove(&mut self, name: String) -> MetaOutcome {
        let dependants = self.dependants(&name);
        if !dependants.is_empty() {
            return MetaOutcome::HasDependants { name, dependants };
        }
        match self.entries.remove(&name) {
            Some(entry) => MetaOutcome::ViewDropped(entry),
            None => MetaOutcome::ViewUnknown { name },
        }
    }

    fn begin(&mut self, definition: ViewDefinition, created_at: Time) -> Arc<View> {
        Arc::new(View { id: ViewId(take(&mut self.next_id)), definition, created_at })
    }

    /// Something the definition reads that is not there. The stream it folds counts by its id: a
    /// stream that was dropped and created again since the view was planned is another one.
    fn unknown_read(&self, definition: &ViewDefinition, streams: &Streams) -> Option<String> {
        let reads = &definition.reads;
        let is_there = |name: &str| streams.contains_key(name) || self.entries.contains_key(name);
        if let Some(name) = reads.iter().find(|name| !is_there(name)) {
            return Some(name.clone());
        }
        let folds = definition.folds?;
        let mut folded = reads.iter().filter_map(|name| streams.get(name));
        if folded.any(|stream| stream.id == folds) {
            return None;
        }
        let stream = reads.iter().find(|name| streams.contains_key(*name));
        Some(stream.or(reads.first()).cloned().unwrap_or_default())
    }

    /// Whether `from` is `to` or reads it, itself or through others, in any of their lives.
    fn leads_to(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(name) = left.pop() {
            if name == to {
                return true;
            }
            if seen.insert(name) {
                left.extend(self.entries.get(name).into_iter().flat_map(reads));
            }
        }
        false
    }

    pub fn encode(&self, writer: &mut Writer) {
        writer.u64(self.next_id);
        writer.count(self.entries.len());
        for entry in self.entries.values() {
            encode_view(writer, &entry.current);
            writer.flag(entry.next.is_some());
            if let Some(next) = &entry.next {
                encode_view(writer, next);
            }
            writer.flag(entry.built);
            writer.u32(entry.resumed);
        }
        writer.count(self.caught_up.len());
        for (id, partitions) in &self.caught_up {
            writer.u64(id.0);
            writer.count(partitions.len());
            for partition in partitions {
                writer.u32(partition.0);
            }
        }
    }

    /// Reads what [`Views::encode`] wrote; before `partitions` were kept, it wrote none.
    pub fn decode(reader: &mut Reader<'_>, partitions: WithPartitions) -> Result<Views, Malformed> {
        let mut views = Views { next_id: reader.u64()?, ..Views::default() };
        for _ in 0..reader.count(ENTRY_BYTES_MIN)? {
            let current = Arc::new(decode_view(reader)?);
            let next = match reader.flag()? {
                true => Some(Arc::new(decode_view(reader)?)),
                false => None,
            };
            let (built, resumed) = (reader.flag()?, reader.u32()?);
            let name = current.definition.name.clone();
            let entry = ViewEntry { current, next, built, resumed };
            views.entries.insert(name, entry);
        }
        match partitions {
            WithPartitions::No => return Ok(views),
            WithPartitions::Yes => {}
        }
        for _ in 0..reader.count(LIFE_BYTES_MIN)? {
            let id = ViewId(reader.u64()?);
            let count = reader.count(PARTITION_BYTES)?;
            let caught_up: Result<_, _> =
                (0..count).map(|_| Ok(PartitionNumber(reader.u32()?))).collect();
            views.caught_up.insert(id, caught_up?);
        }
        Ok(views)
    }

    /// A checkpoint that breaks what the commands keep is not believed.
    pub fn check(&self, streams: &Streams) -> Result<(), Malformed> {
        let broken =
            |name: &str, how: &str| Err(Malformed::inconsistent(format!("view \"{name}\" {how}")));
        let mut ids = BTreeSet::new();
        let mut reporting = 0;
        for (name, entry) in &self.entries {
            for view in unbuilt(entry) {
                let Some(caught_up) = self.caught_up.get(&view.id) else { continue };
                reporting += 1;
                let count = partitions_of(view, streams).unwrap_or(0);
                let is_within = caught_up.last().is_some_and(|last| last.0 < count);
                if !is_within || caught_up.len() == count as usize {
                    return broken(name, "has partitions that cannot have caught up");
                }
            }
            if streams.contains_key(name) {
                return broken(name, "has the name of a stream");
            }
            for view in lives(entry) {
                if self.next_id <= view.id.0 || !ids.insert(view.id) {
                    return broken(name, "has an id that is not its own");
                }
                if view.definition.name != *name {
                    return broken(name, "has another name in its next life");
                }
                if let Some(missing) = self.unknown_read(&view.definition, streams) {
                    return broken(name, &format!("reads \"{missing}\", which is not there"));
                }
            }
            if reads(entry).any(|read| self.leads_to(read, name)) {
                return broken(name, "reads itself");
            }
        }
        if reporting != self.caught_up.len() {
            return Err(Malformed::inconsistent("partitions caught up with no life"));
        }
        Ok(())
    }
}

/// Whether there are groups to keep, so that a new life has history to fold first.
fn needs_building(view: &View) -> bool {
    view.definition.folds.is_some()
}

/// How many partitions a life folds. What it folds is there as long as it is.
fn partitions_of(view: &View, streams: &Streams) -> Option<u32> {
    let folds = view.definition.folds?;
    let mut reads = view.definition.reads.iter().filter_map(|name| streams.get(name));
    reads.find(|stream| stream.id == folds).map(|stream| stream.definition.partitions)
}

/// Lives that have not caught up yet.
fn unbuilt(entry: &ViewEntry) -> impl Iterator<Item = &Arc<View>> {
    (!entry.built).then_some(&entry.current).into_iter().chain(&entry.next)
}

fn lives(entry: &ViewEntry) -> impl Iterator<Item = &Arc<View>> {
    std::iter::once(&entry.current).chain(&entry.next)
}

fn reads(entry: &ViewEntry) -> impl Iterator<Item = &str> {
    lives(entry).flat_map(|view| view.definition.reads.iter().map(String::as_str))
}
