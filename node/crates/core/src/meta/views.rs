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
//! read the view; an id is given to one life only.
//!
//! Checkpoint, in the forms of [`crate::codec`]:
//!
//! ```text
//! next view id u64
//! view count u32 | each, in name order: current view | next: optional view | built flag
//!                                     | resumed u32
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{FIRST_ID, take};
use super::outcome::{MetaOutcome, TableKind};
use super::view_form::{decode_view, encode_view};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::ViewId;
use crate::stream::Stream;
use crate::time::Time;
use crate::view::{View, ViewDefinition, ViewEntry};

const ENTRY_BYTES_MIN: usize = 32;

type Streams = BTreeMap<String, Arc<Stream>>;

/// What one command asks of the views.
pub(super) struct CreateView {
    pub definition: ViewDefinition,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub created_at: Time,
}

/// The views, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Views {
    next_id: u64,
    entries: BTreeMap<String, ViewEntry>,
}

impl Default for Views {
    fn default() -> Views {
        Views { next_id: FIRST_ID, entries: BTreeMap::new() }
    }
}

impl Views {
    pub fn entries(&self) -> &BTreeMap<String, ViewEntry> {
        &self.entries
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
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Views, Malformed> {
        let mut views = Views { next_id: reader.u64()?, entries: BTreeMap::new() };
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
        Ok(views)
    }

    /// A checkpoint that breaks what the commands keep is not believed.
    pub fn check(&self, streams: &Streams) -> Result<(), Malformed> {
        let broken =
            |name: &str, how: &str| Err(Malformed::inconsistent(format!("view \"{name}\" {how}")));
        let mut ids = BTreeSet::new();
        for (name, entry) in &self.entries {
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
        Ok(())
    }
}

/// Whether there are groups to keep, so that a new life has history to fold first.
fn needs_building(view: &View) -> bool {
    view.definition.folds.is_some()
}

fn lives(entry: &ViewEntry) -> impl Iterator<Item = &Arc<View>> {
    std::iter::once(&entry.current).chain(&entry.next)
}

fn reads(entry: &ViewEntry) -> impl Iterator<Item = &str> {
    lives(entry).flat_map(|view| view.definition.reads.iter().map(String::as_str))
}
