//! One view in one partition.
//!
//! Invariant: the state reflects exactly the events before `status().next`, and changes only while
//! the lock is held for writing, a slice at a time.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_store::{
    EventBatch, QuarantinedEvent, StoreError, ViewCheckpoint, ViewPlace, ViewStates,
};
use alluvium_views::fold::{
    Changes, Checkpoint, Definition, FoldError, KeyRange, Keys, Limits, Merge, Progress,
    Quarantined, StoredError, StoredGroups, StoredProgress, ViewState, Visit, group_hash,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// Groups of one part that stay in memory between two checkpoints.
const RESIDENT_BYTES_MAX: usize = 256 << 20;

/// Where a part stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// Every event before this is folded.
    pub next: Offset,
    /// Whether it goes on.
    pub condition: Condition,
}

/// Whether a part goes on folding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It reads what was there before it.
    Building,
    /// It has caught up once, and folds events as they come.
    Serving,
    /// It stopped before an event and waits to be told to go on.
    Parked {
        /// Why.
        reason: String,
    },
    /// The view is gone, or the node is stopping.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub struct ViewPart {
    name: String,
    definition: Arc<Definition>,
    state: RwLock<ViewState>,
    /// Held while the database is written, or looked at as a whole.
    writing: Mutex<()>,
    stored: StoredPart,
    status: watch::Sender<PartStatus>,
}

/// What of a part is in the database.
#[derive(Clone, Debug)]
pub struct StoredPart {
    states: ViewStates,
    place: ViewPlace,
}

/// What a part has, for comparing it with the log.
#[derive(Debug)]
pub struct Audited {
    /// Where it stands.
    pub progress: Progress,
    /// Of the stored groups, as the last checkpoint counted.
    pub digest: u128,
    /// Of the stored groups, as they are read now.
    pub digest_read: u128,
    /// What cannot be read.
    pub damage: Option<String>,
}

/// Why a view could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewReadError {
    /// It does not go on.
    #[error("view \"{view}\" is parked in partition {partition} at offset {next}: {reason}")]
    Parked {
        /// Its name.
        view: String,
        /// Where.
        partition: PartitionNumber,
        /// Before which event.
        next: Offset,
        /// Why.
        reason: String,
    },
    /// It was dropped, or the node is stopping.
    #[error("view \"{view}\" is not maintained any more; try again")]
    Stopped {
        /// Its name.
        view: String,
    },
    /// Its state cannot be read.
    #[error("view \"{view}\", partition {partition}: {reason}")]
    Damaged {
        /// Its name.
        view: String,
        /// Where.
        partition: PartitionNumber,
        /// What was found.
        reason: String,
    },
}

impl StoredPart {
    /// Of one place of the database.
    pub fn new(states: ViewStates, place: ViewPlace) -> StoredPart {
        StoredPart { states, place }
    }

    /// Where it goes on after a crash at this moment: what retention must keep. `None` while it
    /// would begin anew.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn durable_next(&self) -> Result<Option<Offset>, StoreError> {
        let row = self.states.durable_row(self.place)?;
        // A row that cannot be read keeps everything: opening it says what is wrong.
        Ok(row.map(|row| StoredProgress::of(&row).map_or(Offset::ZERO, |stored| stored.next)))
    }
}

impl StoredGroups for StoredPart {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError> {
        self.states.get(self.place, keys).map_err(stored_error)
    }

    fn scan(&self, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoredError> {
        let end = range.end.as_deref();
        self.states.scan(self.place, &range.start, end, visit).map_err(stored_error)
    }
}

/// An event as people read it: the columns that the view reads, as JSON.
fn quarantined(found: &Quarantined) -> QuarantinedEvent {
    let event = alluvium_views::rows::to_json(&found.event);
    QuarantinedEvent { offset: found.offset, reason: found.reason.clone(), event }
}

fn stored_error(error: StoreError) -> StoredError {
    StoredError(error.to_string())
}

impl ViewPart {
    /// Goes on where the database has it; a view that was never stored begins at `start`.
    ///
    /// # Errors
    /// What is wrong with what is stored.
    pub fn open(
        name: &str,
        definition: &Arc<Definition>,
        stored: StoredPart,
        start: Offset,
    ) -> Result<ViewPart, String> {
        let state = open_state(definition, &stored, start)?;
        let next = state.progress().next;
        let (status, _) = watch::channel(PartStatus { next, condition: Condition::Building });
        Ok(ViewPart {
            name: name.into(),
            definition: Arc::clone(definition),
            state: RwLock::new(state),
            writing: Mutex::new(()),
            stored,
            status,
        })
    }

    /// Throws away what is in memory and goes on where the database has it.
    ///
    /// # Errors
    /// What is wrong with what is stored.
    pub fn reopen(&self, start: Offset) -> Result<(), String> {
        let state = open_state(&self.definition, &self.stored, start)?;
        let next = state.progress().next;
        *self.state.write() = state;
        self.status.send_modify(|status| status.next = next);
        Ok(())
    }

    /// Which partition.
    pub fn partition(&self) -> PartitionNumber {
        self.stored.place.partition
    }

    /// The name of the view.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it maintains.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Where it stands.
    pub fn status(&self) -> PartStatus {
        self.status.borrow().clone()
    }

    /// Tells of each change of where it stands.
    pub fn watch(&self) -> watch::Receiver<PartStatus> {
        self.status.subscribe()
    }

    /// What it has counted.
    pub fn progress(&self) -> Progress {
        self.state.read().progress()
    }

    /// What of it is in the database.
    pub fn stored(&self) -> &StoredPart {
        &self.stored
    }

    /// Folds events; readers see them when this returns.
    ///
    /// # Errors
    /// When it must be parked; what comes before the event that fails is folded.
    pub fn fold(&self, events: &EventBatch) -> Result<(), FoldError> {
        let (result, next) = {
            let mut state = self.state.write();
            let result = state.fold(events.first, &events.rows, &self.stored);
            (result, state.progress().next)
        };
        self.status.send_modify(|status| status.next = next);
        result.map(|_| ())
    }

    /// What is new since the last checkpoint.
    ///
    /// # Errors
    /// When stored groups cannot be read.
    pub fn checkpoint(&self) -> Result<Checkpoint, FoldError> {
        self.state.write().checkpoint(&self.stored)
    }

    /// Writes a checkpoint into the database. Blocks.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let quarantined: Vec<QuarantinedEvent> =
            checkpoint.quarantined.iter().map(quarantined).collect();
        let delete_ranges: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            checkpoint.delete_ranges.iter().map(|r| (r.start.clone(), r.end.clone())).collect();
        self.stored.states.write(
            self.stored.place,
            ViewCheckpoint {
                row: &checkpoint.row,
                delete_ranges: &delete_ranges,
                deletes: &checkpoint.deletes,
                puts: &checkpoint.puts,
                quarantined: &quarantined,
            },
        )
    }

    /// The checkpoint is in the database: what did not change since may leave memory.
    pub fn checkpointed(&self) {
        self.state.write().stored();
    }

    /// Changes whether it goes on.
    pub fn set_condition(&self, condition: Condition) {
        self.status.send_if_modified(|status| {
            let changed = status.condition != condition;
            status.condition = condition;
            changed
        });
    }

    /// Offsets of the events it has set aside.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn quarantined(&self) -> Result<Vec<Offset>, StoreError> {
        let StoredPart { states, place } = &self.stored;
        let rows = states.quarantine(place.view, usize::MAX)?;
        let here = rows.into_iter().filter(|row| row.place == *place);
        Ok(here.map(|row| row.event.offset).collect())
    }

    /// Waits until every event before `end` is folded.
    ///
    /// # Errors
    /// When it will not get there by itself.
    pub async fn reach(&self, end: Offset) -> Result<(), ViewReadError> {
        let mut status = self.status.subscribe();
        let reached = status.wait_for(|status| {
            end <= status.next
                || matches!(status.condition, Condition::Parked { .. } | Condition::Stopped)
        });
        let Ok(status) = reached.await else {
            return Err(ViewReadError::Stopped { view: self.name.clone() });
        };
        if end <= status.next {
            return Ok(());
        }
        let view = self.name.clone();
        match &status.condition {
            Condition::Parked { reason } => Err(ViewReadError::Parked {
                view,
                partition: self.partition(),
                next: status.next,
                reason: reason.clone(),
            }),
            Condition::Building | Condition::Serving | Condition::Stopped => {
                Err(ViewReadError::Stopped { view })
            }
        }
    }

    /// Adds these groups to `into`; says which events they reflect.
    ///
    /// # Errors
    /// When stored groups cannot be read.
    pub fn read(&self, keys: &Keys, into: &mut Merge) -> Result<Offset, ViewReadError> {
        let state = self.state.read();
        state.read(keys, &self.stored, into).map_err(|error| self.damaged(&error))?;
        Ok(state.progress().next)
    }

    /// Adds the groups that events at or after `since` changed.
    ///
    /// # Errors
    /// When stored groups cannot be read.
    pub fn changed(
        &self,
        since: Offset,
        max: usize,
        into: &mut Merge,
    ) -> Result<Changes, ViewReadError> {
        let state = self.state.read();
        state.changed(since, max, &self.stored, into).map_err(|error| self.damaged(&error))
    }

    /// The state as it is, for comparing it with the log; its groups are added to `into`.
    pub fn audit(&self, into: &mut Merge) -> Audited {
        let (progress, read) = {
            let state = self.state.read();
            (state.progress(), state.read(&Keys::All, &self.stored, into))
        };
        let mut damage = read.err().map(|error| reason_of(&error));
        let (digest, digest_read) = match self.digests() {
            Ok(digests) => digests,
            Err(reason) => {
                damage.get_or_insert(reason);
                (0, 0)
            }
        };
        Audited { progress, digest, digest_read, damage }
    }

    /// The digest that the last checkpoint stored, and that of the groups that are stored.
    fn digests(&self) -> Result<(u128, u128), String> {
        let _writing = self.writing.lock();
        let StoredPart { states, place } = &self.stored;
        let Some(row) = states.row(*place).map_err(|error| error.to_string())? else {
            return Ok((0, 0));
        };
        let stored = StoredProgress::of(&row).map_err(|error| error.to_string())?;
        let mut sum = 0_u128;
        self.stored
            .scan(&KeyRange::all(), &mut |key, value| {
                sum = sum.wrapping_add(group_hash(key, value));
                ControlFlow::Continue(())
            })
            .map_err(|error| error.to_string())?;
        Ok((stored.digest, sum))
    }

    fn damaged(&self, error: &FoldError) -> ViewReadError {
        ViewReadError::Damaged {
            view: self.name.clone(),
            partition: self.partition(),
            reason: reason_of(error),
        }
    }
}

/// What went wrong, with what the store said of it.
pub fn reason_of(error: &FoldError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn open_state(
    definition: &Arc<Definition>,
    stored: &StoredPart,
    start: Offset,
) -> Result<ViewState, String> {
    let row = stored.states.row(stored.place).map_err(|error| error.to_string())?;
    let limits = Limits { resident_bytes_max: RESIDENT_BYTES_MAX };
    ViewState::open(Arc::clone(definition), start, row.as_deref(), limits)
        .map_err(|error| error.to_string())
}
