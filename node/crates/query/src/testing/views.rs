//! Views of [`MemHost`](super::MemHost): folded when they are read, from events in memory, with the
//! fold, checkpoints and merges of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber, ViewId};
use alluvium_core::stream::Frontier;
use alluvium_core::time::Time;
use alluvium_core::view::{View, ViewDefinition, ViewEntry};
use alluvium_views::columns;
use alluvium_views::fold::{
    Checkpoint, FoldError, KeyRange, Keys, Limits, Merge, Quarantined, Selection, StoredError,
    StoredGroups, ViewState, Visit, group_hash,
};
use arrow::array::RecordBatch;

use super::{Streams, tell, unavailable};
use crate::host::{HostError, ViewCatalogue, ViewChange, ViewPartition, ViewRead};
use crate::views::{Maintained, ViewCompiler};

/// How events are cut up on their way into views.
#[derive(Clone, Copy, Debug)]
pub struct FoldSettings {
    /// Events that are folded at a time.
    pub rows_max: usize,
    /// Events after which a checkpoint is stored.
    pub checkpoint_every: usize,
    /// Whether the state is dropped and opened again after each checkpoint.
    pub reopens: bool,
    /// Memory of the groups of one view in one partition.
    pub resident_bytes_max: usize,
}

impl Default for FoldSettings {
    fn default() -> FoldSettings {
        FoldSettings {
            rows_max: 8_192,
            checkpoint_every: 100_000,
            reopens: false,
            resident_bytes_max: 64 << 20,
        }
    }
}

/// Groups in memory, as checkpoints left them.
#[derive(Debug, Default)]
struct MemGroups(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemGroups {
    fn apply(&mut self, checkpoint: &Checkpoint) {
        for range in &checkpoint.delete_ranges {
            self.0.retain(|key, _| !range.contains(key));
        }
        for key in &checkpoint.deletes {
            self.0.remove(key);
        }
        self.0.extend(checkpoint.puts.iter().cloned());
    }

    fn digest(&self) -> u128 {
        let hashes = self.0.iter().map(|(key, value)| group_hash(key, value));
        hashes.fold(0, u128::wrapping_add)
    }
}

impl StoredGroups for MemGroups {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError> {
        Ok(keys.iter().map(|key| self.0.get(*key).cloned()).collect())
    }

    fn scan(&self, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoredError> {
        for (key, value) in &self.0 {
            if range.contains(key) && visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A view and its state.
#[derive(Debug)]
pub(super) struct KeptView {
    pub(super) entry: ViewEntry,
    /// Of a view that folds a stream.
    pub(super) folding: Option<(Maintained, Vec<Folding>)>,
}

/// One partition of one view.
#[derive(Debug)]
pub(super) struct Folding {
    pub(super) state: ViewState,
    stored: MemGroups,
    row: Option<Vec<u8>>,
    pub(super) quarantined: Vec<Quarantined>,
    unstored: usize,
    pub(super) parked: Option<String>,
}

impl Folding {
    fn new(maintained: &Maintained, start: Offset, limits: Limits) -> Result<Folding, HostError> {
        let definition = Arc::clone(&maintained.definition);
        let state = ViewState::open(definition, start, None, limits).map_err(unavailable)?;
        Ok(Folding {
            state,
            stored: MemGroups::default(),
            row: None,
            quarantined: Vec::new(),
            unstored: 0,
            parked: None,
        })
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), HostError> {
        let checkpoint = self.state.checkpoint(&self.stored).map_err(unavailable)?;
        self.stored.apply(&checkpoint);
        self.row = Some(checkpoint.row);
        self.quarantined.extend(checkpoint.quarantined);
        self.state.stored();
        self.unstored = 0;
        Ok(())
    }

    /// Forgets what is in memory, as a node does that was stopped.
    fn reopen(&mut self, maintained: &Maintained, limits: Limits) -> Result<(), HostError> {
        let start = self.state.progress().start;
        let definition = Arc::clone(&maintained.definition);
        self.state =
            ViewState::open(definition, start, self.row.as_deref(), limits).map_err(unavailable)?;
        self.unstored = 0;
        Ok(())
    }

    fn fold(
        &mut self,
        first: Offset,
        rows: &RecordBatch,
        maintained: &Maintained,
        settings: &FoldSettings,
    ) -> Result<(), HostError> {
        let limits = Limits { resident_bytes_max: settings.resident_bytes_max };
        let mut done = 0;
        while done < rows.num_rows() && self.parked.is_none() {
            let room = settings.checkpoint_every.saturating_sub(self.unstored).max(1);
            let count = settings.rows_max.min(room).min(rows.num_rows() - done);
            let slice = rows.slice(done, count);
            let at = first.advance(u64::try_from(done).unwrap_or(u64::MAX));
            let folded = match self.state.fold(at, &slice, &self.stored) {
                Ok(folded) => folded,
                Err(FoldError::Poisoned { offset, reason }) => {
                    self.parked = Some(format!("event {offset}: {reason}"));
                    return Ok(());
                }
                Err(error) => return Err(unavailable(error)),
            };
            done += count;
            self.unstored += count;
            if folded.checkpoint_due || settings.checkpoint_every <= self.unstored {
                self.checkpoint()?;
                if settings.reopens {
                    self.reopen(maintained, limits)?;
                }
            }
        }
        Ok(())
    }
}

impl KeptView {
    pub(super) fn new(
        entry: ViewEntry,
        streams: &Streams,
        compiler: &ViewCompiler,
    ) -> Result<KeptView, HostError> {
        let mut kept = KeptView { entry, folding: None };
        let catalogue = streams.catalogue();
        let compiled = compiler
            .compiled(&kept.entry.current, &catalogue, &streams.views())
            .map_err(unavailable)?;
        let Some(maintained) = compiled.maintained.clone() else {
            return Ok(kept);
        };
        let limits = Limits { resident_bytes_max: streams.settings.resident_bytes_max };
        let stream = &streams.by_name[&maintained.stream.definition.name];
        let partitions = stream.partitions.iter();
        let foldings =
            partitions.map(|partition| Folding::new(&maintained, partition.start, limits));
        kept.folding = Some((maintained.clone(), foldings.collect::<Result<_, _>>()?));
        Ok(kept)
    }

    /// Folds up to these ends; without them, everything.
    pub(super) fn advance(
        &mut self,
        streams: &StreamsOnly<'_>,
        ends: Option<&Frontier>,
    ) -> Result<(), HostError> {
        let Some((maintained, foldings)) = &mut self.folding else {
            return Ok(());
        };
        let stream = &streams.by_name[&maintained.stream.definition.name];
        let scan = columns::scan_schema(&stream.stream.definition.schema);
        let numbers = (0..).map(PartitionNumber);
        for ((number, partition), folding) in numbers.zip(&stream.partitions).zip(foldings) {
            let end = ends.and_then(|ends| ends.0.get(&number)).copied().unwrap_or(partition.end);
            for (first, appended_at, rows) in &partition.log {
                let next = folding.state.progress().next;
                let rows_end = first.advance(u64::try_from(rows.num_rows()).unwrap_or(0));
                if rows_end <= next || end <= *first || end <= next {
                    continue;
                }
                let from = next.max(*first);
                let hidden = columns::with_hidden(rows, *first, *appended_at);
                let all = columns::to_scan(&hidden, number, &scan);
                let places = maintained.columns.fields().iter().map(|field| {
                    scan.index_of(field.name()).expect("the fold reads columns of the stream")
                });
                let rows = all.project(&places.collect::<Vec<_>>()).map_err(unavailable)?;
                let rows =
                    rows.slice(count(from.since(*first)), count(end.min(rows_end).since(from)));
                folding.fold(from, &rows, maintained, streams.settings)?;
            }
        }
        Ok(())
    }

    fn parked(&self) -> Option<HostError> {
        let (_, foldings) = self.folding.as_ref()?;
        let reason = foldings.iter().find_map(|folding| folding.parked.as_ref())?;
        let name = &self.entry.current.definition.name;
        Some(HostError::Unavailable { reason: format!("view \"{name}\" is parked at {reason}") })
    }

    fn read(&self, selection: &Selection) -> Result<ViewRead, HostError> {
        let Some((maintained, foldings)) = &self.folding else {
            return Err(HostError::Unavailable { reason: "the view folds nothing".into() });
        };
        let merge = Merge::new(Arc::clone(&maintained.definition)).map_err(unavailable)?;
        let mut merge = merge.selecting(selection);
        let mut frontier = Frontier::default();
        for (number, folding) in (0..).map(PartitionNumber).zip(foldings) {
            let keys = selection.keys();
            folding.state.read(keys, &folding.stored, &mut merge).map_err(unavailable)?;
            frontier.0.insert(number, folding.state.progress().next);
        }
        Ok(ViewRead { batches: merge.finish().map_err(unavailable)?, frontier })
    }

    fn audit(&mut self) -> Result<Vec<ViewPartition>, HostError> {
        let Some((maintained, foldings)) = &mut self.folding else {
            return Err(HostError::Unavailable { reason: "the view folds nothing".into() });
        };
        let mut parts = Vec::new();
        for (number, folding) in (0..).map(PartitionNumber).zip(foldings) {
            folding.checkpoint()?;
            let progress = folding.state.progress();
            // From what is stored, not from what is in memory.
            let limits = Limits { resident_bytes_max: 0 };
            let definition = Arc::clone(&maintained.definition);
            let state = ViewState::open(definition, progress.start, folding.row.as_deref(), limits)
                .map_err(unavailable)?;
            let mut merge = Merge::new(Arc::clone(&maintained.definition)).map_err(unavailable)?;
            let read =
                state.read(&Keys::All, &folding.stored, &mut merge).and_then(|()| merge.finish());
            let (batches, damage) = match read {
                Ok(batches) => (batches, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            parts.push(ViewPartition {
                partition: number,
                start: progress.start,
                next: progress.next,
                watermark: progress.watermark.map(Time),
                digest: progress.digest,
                digest_read: folding.stored.digest(),
                batches,
                quarantined: folding.quarantined.iter().map(|event| event.offset).collect(),
                damage,
            });
        }
        Ok(parts)
    }
}

/// The streams beside the views that are being changed.
pub(super) struct StreamsOnly<'a> {
    pub(super) by_name: &'a BTreeMap<String, super::Kept>,
    pub(super) settings: &'a FoldSettings,
}

pub(super) fn count(rows: u64) -> usize {
    usize::try_from(rows).expect("rows of a batch are counted in a usize")
}

impl Streams {
    pub(super) fn views(&self) -> ViewCatalogue {
        let entries = self.views.iter();
        let now = entries.map(|(name, kept)| (name.clone(), kept.entry.clone())).collect();
        tell(&mut self.told.borrow_mut().1, now)
    }

    fn begin(&mut self, definition: ViewDefinition, resumed: u32) -> ViewEntry {
        self.view_id += 1;
        let id = ViewId(self.view_id);
        let view = View { id, definition, created_at: Time(self.now) };
        ViewEntry { current: Arc::new(view), next: None, built: true, resumed }
    }

    pub(super) fn dependants(&self, name: &str) -> Vec<String> {
        let reading = self.views.iter().filter(|(_, kept)| {
            kept.entry.current.definition.reads.iter().any(|read| read == name)
        });
        reading.map(|(view, _)| view.clone()).collect()
    }

    pub(super) fn create_view(
        &mut self,
        definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
        compiler: &ViewCompiler,
    ) -> Result<(), HostError> {
        let name = definition.name.clone();
        if self.views.contains_key(&name) && !or_replace {
            if if_not_exists {
                return Ok(());
            }
            return Err(HostError::NameTaken { name, what: "view" });
        }
        let entry = self.begin(definition, 0);
        let kept = KeptView::new(entry, self, compiler)?;
        self.views.insert(name, kept);
        Ok(())
    }

    pub(super) fn drop_view(&mut self, name: &str, if_exists: bool) -> Result<(), HostError> {
        let dependants = self.dependants(name);
        if !dependants.is_empty() {
            return Err(HostError::HasDependants { name: name.into(), dependants });
        }
        match self.views.remove(name) {
            None if !if_exists => Err(HostError::UnknownView { name: name.into() }),
            _ => Ok(()),
        }
    }

    pub(super) fn change_view(
        &mut self,
        name: &str,
        change: ViewChange,
        compiler: &ViewCompiler,
    ) -> Result<(), HostError> {
        let Some(kept) = self.views.get_mut(name) else {
            return Err(HostError::UnknownView { name: name.into() });
        };
        match change {
            ViewChange::Rebuild => {
                let definition = kept.entry.current.definition.clone();
                let entry = self.begin(definition, 0);
                let kept = KeptView::new(entry, self, compiler)?;
                self.views.insert(name.into(), kept);
                Ok(())
            }
            ViewChange::Resume => {
                kept.entry.resumed += 1;
                for folding in kept.folding.iter_mut().flat_map(|(_, foldings)| foldings) {
                    folding.parked = None;
                }
                Ok(())
            }
            ViewChange::Cancel => Err(HostError::Invalid {
                reason: format!("nothing of view \"{name}\" is being built"),
            }),
        }
    }

    pub(super) fn with_view<T>(
        &mut self,
        view: &View,
        ends: Option<&Frontier>,
        act: impl FnOnce(&mut ViewAt<'_>) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let name = &view.definition.name;
        let streams = StreamsOnly { by_name: &self.by_name, settings: &self.settings };
        let Some(kept) = self.views.get_mut(name) else {
            return Err(HostError::UnknownView { name: name.clone() });
        };
        kept.advance(&streams, ends)?;
        act(&mut ViewAt(kept))
    }

    /// Forgets what is in memory of every view, back to its last checkpoint.
    pub(super) fn reopen_views(&mut self) -> Result<(), HostError> {
        let limits = Limits { resident_bytes_max: self.settings.resident_bytes_max };
        for kept in self.views.values_mut() {
            if let Some((maintained, foldings)) = &mut kept.folding {
                for folding in foldings {
                    folding.reopen(maintained, limits)?;
                }
            }
        }
        Ok(())
    }

    /// What is stored of a view in a partition, to be damaged.
    pub(super) fn damage(
        &mut self,
        name: &str,
        partition: usize,
        change: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        let kept = self.views.get_mut(name).expect("the test created it");
        let (_, foldings) = kept.folding.as_mut().expect("it folds a stream");
        foldings[partition].checkpoint().expect("groups in memory can be stored");
        for value in foldings[partition].stored.0.values_mut() {
            change(value);
        }
    }
}

/// A view that was folded as far as was asked.
pub(super) struct ViewAt<'a>(&'a mut KeptView);

impl ViewAt<'_> {
    pub(super) fn read(&self, selection: &Selection) -> Result<ViewRead, HostError> {
        match self.0.parked() {
            Some(error) => Err(error),
            None => self.0.read(selection),
        }
    }

    pub(super) fn audit(&mut self) -> Result<Vec<ViewPartition>, HostError> {
        self.0.audit()
    }
}
