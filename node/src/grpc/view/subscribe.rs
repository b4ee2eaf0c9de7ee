//! Groups as they change.
//!
//! A subscription keeps nothing but a frontier: what changed after it is asked for again and again.
//! So it can be taken up by anyone who knows the frontier, and a slow subscriber costs no memory;
//! it sees fewer, later states of each group.
//!
//! Invariant: with everything sent up to a frontier, whoever keeps the rows by their group columns
//! has the groups of the view as they are at that frontier or later.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::stream::Frontier;
use alluvium_query::host::Freshness;
use alluvium_query::wire;
use alluvium_views::fold::{Evaluate, EvaluateError, Keys};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::door::{DoorError, GroupsChanged, GroupsRead, ViewDoor, Wait};
use super::finality::Finality;
use super::groups::{ViewGroups, cast, keep, mask, nullable};

/// Groups of one look at what changed: some milliseconds of work.
const GROUPS_MAX: usize = 10_000;

/// Between two looks. Groups that change often are sent once for all their changes in this time,
/// and nobody who watches notices the wait.
const GAP: Duration = Duration::from_millis(10);

/// Bytes of one part: below the 4 MiB that gRPC libraries take unless told otherwise.
const PIECE_BYTES: usize = 2 << 20;

/// The column that says what happened to a group.
pub const CHANGE: &str = "_change";
const UPSERT: &str = "upsert";
const REMOVE: &str = "remove";

/// What is asked.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The view's name.
    pub view: String,
    /// A condition in SQL over its columns; empty for none.
    pub condition: String,
    /// Where to begin.
    pub from: Begin,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what changes from now on.
    Now,
    /// With all groups as they are.
    Snapshot,
    /// With what changed after a frontier.
    Frontier {
        /// Of which stream; it must be the one that the view folds.
        stream: String,
        /// The frontier.
        frontier: Frontier,
    },
}

/// A part of the answer.
#[derive(Clone, Debug)]
pub enum Subscribed {
    /// The columns, as an Arrow IPC stream without rows. Comes first.
    Schema(Bytes),
    /// Rows, as an Arrow IPC stream of one batch; empty where there are none.
    Changes {
        /// The rows.
        batch: Bytes,
        /// The stream, and what was sent of it once this is; none before the last piece.
        frontier: Option<(String, Frontier)>,
    },
}

/// Where parts go. An error there means that the caller left.
pub type Parts = mpsc::Sender<Result<Subscribed, DoorError>>;

struct Subscription {
    view: Arc<ViewGroups>,
    condition: Option<Arc<dyn Evaluate>>,
    /// `_change` and the view's columns.
    schema: SchemaRef,
    parts: Parts,
}

/// The caller left.
struct Left;

/// Follows a view until the caller leaves, or it ends.
///
/// # Errors
/// See [`DoorError`]. The caller is told of it through `parts`.
pub async fn subscribe(door: &dyn ViewDoor, asked: &Subscribe, parts: Parts) {
    let done = begin(door, asked, &parts);
    if let Err(error) = done.await {
        // A caller that left needs no answer.
        let _ = parts.send(Err(error)).await;
    }
}

async fn begin(door: &dyn ViewDoor, asked: &Subscribe, parts: &Parts) -> Result<(), DoorError> {
    let view = door.groups(&asked.view)?;
    if let Some(hidden) = view.hidden_key() {
        let reason = format!("leaves out \"{hidden}\", so nobody could tell which group changed");
        return Err(DoorError::NeedsSql { name: view.name.clone(), reason });
    }
    let condition = match asked.condition.trim() {
        "" => None,
        sql => Some(door.condition(&view.schema, sql)?),
    };
    let schema = schema(&view);
    let subscription = Subscription { view, condition, schema, parts: parts.clone() };
    match subscription.follow(door, &asked.from).await? {
        Ok(()) | Err(Left) => Ok(()),
    }
}

impl Subscription {
    async fn follow(
        &self,
        door: &dyn ViewDoor,
        from: &Begin,
    ) -> Result<Result<(), Left>, DoorError> {
        let needs_sql = |reason: &str| DoorError::NeedsSql {
            name: self.view.name.clone(),
            reason: reason.into(),
        };
        let mut finality = Finality::of(&self.view.definition).map_err(needs_sql)?;
        // What is wrong with the beginning is told before anything else.
        let start = self.start(door, from).await?;
        let schema = Subscribed::Schema(wire::encode_schema(&self.schema));
        if self.parts.send(Ok(schema)).await.is_err() {
            return Ok(Err(Left));
        }
        let mut since = match start {
            Start::At(frontier) => frontier,
            Start::With(read) => {
                let GroupsRead { groups, frontier, watermark } = read;
                let changed = GroupsChanged { groups, removed: Vec::new(), frontier, watermark };
                // Nobody has anything of it yet, so there is nothing to remove.
                let before = Frontier::default();
                let sent = self.tell(door, changed, &before, finality.as_mut(), false).await?;
                match sent {
                    Ok(frontier) => frontier,
                    Err(Left) => return Ok(Err(Left)),
                }
            }
        };
        loop {
            let changed = tokio::select! {
                biased;
                () = self.parts.closed() => return Ok(Err(Left)),
                changed = door.changed(&self.view, &since, GROUPS_MAX) => changed?,
            };
            since = match self.tell(door, changed, &since, finality.as_mut(), true).await? {
                Ok(frontier) => frontier,
                Err(Left) => return Ok(Err(Left)),
            };
            tokio::time::sleep(GAP).await;
        }
    }

    /// Sends what changed after `before`, as far as it is to be told now; gives where that ends.
    async fn tell(
        &self,
        door: &dyn ViewDoor,
        mut changed: GroupsChanged,
        before: &Frontier,
        finality: Option<&mut Finality>,
        removes: bool,
    ) -> Result<Result<Frontier, Left>, DoorError> {
        let mut sent = changed.frontier.clone();
        if let Some(finality) = finality {
            let watermark = changed.watermark;
            finality.forget(&changed.removed);
            for groups in &mut changed.groups {
                let told = finality.take(&self.view, groups, before, watermark);
                *groups = told.map_err(|error| self.computed(error))?;
            }
            let due = finality.due(watermark);
            if !due.is_empty() {
                let reached = vec![(self.view.stream.id, changed.frontier.clone())];
                let wait = Wait::For(Freshness::AtLeast(reached));
                let read = door.read(&self.view, &wait, Keys::These(due)).await?;
                changed.groups.extend(read.groups);
            }
            sent = finality.sent(&changed.frontier);
        }
        let rows = match removes {
            true => self.changes(&changed),
            false => changed.groups.iter().map(|groups| self.upserts(groups)).collect(),
        };
        let rows = rows.map_err(|error| self.computed(error))?;
        Ok(match self.send(&rows, &sent).await {
            Ok(()) => Ok(changed.frontier),
            Err(Left) => Err(Left),
        })
    }

    async fn start(&self, door: &dyn ViewDoor, from: &Begin) -> Result<Start, DoorError> {
        let latest = Wait::For(Freshness::Linearizable);
        match from {
            Begin::Now => {
                let read = door.read(&self.view, &latest, Keys::These(Vec::new())).await?;
                Ok(Start::At(read.frontier))
            }
            Begin::Snapshot => Ok(Start::With(door.read(&self.view, &latest, Keys::All).await?)),
            Begin::Frontier { stream, frontier } => {
                self.check(stream, frontier)?;
                Ok(Start::At(frontier.clone()))
            }
        }
    }

    fn check(&self, stream: &str, frontier: &Frontier) -> Result<(), DoorError> {
        let folded = &self.view.stream;
        if stream != folded.definition.name {
            let name = &folded.definition.name;
            let reason = format!(
                "the frontier is of stream \"{stream}\", view \"{}\" folds stream \"{name}\"",
                self.view.name
            );
            return Err(DoorError::Invalid { reason });
        }
        let count = folded.groups.len();
        match frontier.0.keys().find(|partition| count <= partition.0 as usize) {
            None => Ok(()),
            Some(partition) => Err(DoorError::Invalid {
                reason: format!("stream \"{stream}\" has {count} partitions, none is {partition}"),
            }),
        }
    }

    /// The rows that are there, as the view has them.
    fn shown(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let rows = self.view.rows(groups)?;
        match &self.condition {
            None => Ok(rows),
            Some(condition) => keep(&rows, &mask(condition.as_ref(), &rows)?),
        }
    }

    fn upserts(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let rows = self.shown(groups)?;
        self.marked(UPSERT, rows.columns().to_vec(), rows.num_rows())
    }

    fn changes(&self, changed: &GroupsChanged) -> Result<Vec<RecordBatch>, EvaluateError> {
        let mut batches = Vec::new();
        if !changed.removed.is_empty() {
            batches.push(self.removed(&self.view.groups_of(&changed.removed)?)?);
        }
        for groups in &changed.groups {
            let rows = self.shown(groups)?;
            // Whether the others were shown before, nobody remembers.
            let others = self.view.without_row(groups, &rows)?;
            batches.push(self.removed(&others)?);
            batches.push(self.marked(UPSERT, rows.columns().to_vec(), rows.num_rows())?);
        }
        Ok(batches)
    }

    /// Of groups that are not there, the columns that tell which they are.
    fn removed(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let fields = self.view.schema.fields();
        let columns = fields.iter().zip(&self.view.shows).map(|(field, group)| match group {
            Some(group) => cast(groups.column(*group), field.data_type()),
            None => Ok(new_null_array(field.data_type(), groups.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        self.marked(REMOVE, columns, groups.num_rows())
    }

    fn marked(
        &self,
        change: &str,
        mut columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch, EvaluateError> {
        columns.insert(0, Arc::new(StringArray::from_iter_values(vec![change; rows])));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)
            .map_err(|error| EvaluateError(error.to_string()))
    }

    /// Sends rows in pieces; the last one carries the frontier.
    async fn send(&self, rows: &[RecordBatch], frontier: &Frontier) -> Result<(), Left> {
        let rows = rows.iter().filter(|batch| batch.num_rows() != 0);
        let mut pieces: Vec<Bytes> =
            rows.flat_map(|batch| wire::encode_batch_in_pieces(batch, PIECE_BYTES)).collect();
        let last = pieces.pop().unwrap_or_default();
        for batch in pieces {
            self.send_one(Subscribed::Changes { batch, frontier: None }).await?;
        }
        let name = self.view.stream.definition.name.clone();
        let frontier = Some((name, frontier.clone()));
        self.send_one(Subscribed::Changes { batch: last, frontier }).await
    }

    async fn send_one(&self, part: Subscribed) -> Result<(), Left> {
        self.parts.send(Ok(part)).await.map_err(|_| Left)
    }

    fn computed(&self, reason: EvaluateError) -> DoorError {
        DoorError::Computed { view: self.view.name.clone(), reason }
    }
}

enum Start {
    At(Frontier),
    With(GroupsRead),
}

fn schema(view: &ViewGroups) -> SchemaRef {
    let columns = nullable(&view.schema);
    let mut fields = vec![Arc::new(Field::new(CHANGE, DataType::Utf8, false))];
    fields.extend(columns.fields().iter().cloned());
    Arc::new(Schema::new(fields))
}
