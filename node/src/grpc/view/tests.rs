//! Lookups and subscriptions over views in memory: two partitions, folded by the real fold.

mod lookups;
mod subscriptions;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_core::ids::{GroupId, Offset, PartitionNumber, StreamId, ViewId};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Frontier, Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_core::view::ViewOptions;
use alluvium_query::host::{Freshness, HostError};
use alluvium_query::views::ViewCompiler;
use alluvium_query::{EngineOptions, SqlError};
use alluvium_views::aggregate::{Aggregate, AggregateCall, Form};
use alluvium_views::fold::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, KeyRange, Keys, Limits, Merge,
    StoredError, StoredGroups, ViewState, Visit, Window, WindowKind,
};
use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::kernels::cmp::lt_eq;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use tokio::sync::watch;

use super::*;

const PARTITIONS: u32 = 2;

/// A column as it is.
#[derive(Debug)]
struct Place(usize);

impl Evaluate for Place {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(ArrayRef::clone(rows.column(self.0)))
    }
}

/// The start of the ten microseconds that the floor counts.
#[derive(Debug)]
struct Tens;

impl Evaluate for Tens {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let floors = rows.column(1).as_primitive::<Int64Type>();
        let tens: TimestampMicrosecondArray =
            floors.iter().map(|floor| floor.map(|floor| floor / 10 * 10)).collect();
        Ok(Arc::new(tens))
    }
}

/// Shows every column, of groups whose sum is at most so much.
#[derive(Debug)]
struct AtMost(i64);

impl Finish for AtMost {
    fn rows(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let most = Int64Array::new_scalar(self.0);
        let sums = groups.column(3);
        let mask = lt_eq(sums, &most).map_err(|error| EvaluateError(error.to_string()))?;
        super::groups::keep(groups, &mask)
    }
}

/// Nothing is stored: all groups are in memory.
struct Nothing;

impl StoredGroups for Nothing {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError> {
        Ok(vec![None; keys.len()])
    }

    fn scan(&self, _range: &KeyRange, _visit: &mut Visit<'_>) -> Result<(), StoredError> {
        Ok(())
    }
}

#[derive(Debug)]
struct FakeDoor {
    view: Arc<ViewGroups>,
    parts: Mutex<Vec<ViewState>>,
    advanced: watch::Sender<u64>,
    compiler: ViewCompiler,
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("city", DataType::Utf8View, true),
        Field::new("floor", DataType::Int64, true),
        Field::new("amount", DataType::Int64, true),
        Field::new("at", micros(), true),
    ]))
}

fn definition() -> Definition {
    let group = |name: &str, data_type, place| GroupBy {
        name: name.into(),
        data_type,
        nullable: true,
        expression: Arc::new(Place(place)),
    };
    let aggregate = |name: &str, aggregate, arguments: Vec<usize>| AggregateColumn {
        name: name.into(),
        call: AggregateCall {
            aggregate,
            distinct: false,
            arguments: vec![DataType::Int64; arguments.len()],
            input: Form::Values,
            output: Form::Values,
            output_type: DataType::Int64,
        },
        nullable: true,
        arguments: arguments
            .into_iter()
            .map(|at| Arc::new(Place(at)) as Arc<dyn Evaluate>)
            .collect(),
        filter: None,
    };
    Definition {
        input: input(),
        filter: None,
        groups: vec![group("city", DataType::Utf8View, 0), group("floor", DataType::Int64, 1)],
        aggregates: vec![
            aggregate("n", Aggregate::Count, Vec::new()),
            aggregate("total", Aggregate::Sum, vec![2]),
        ],
        window: None,
        event_time: None,
        options: ViewOptions::default(),
        fingerprint: 1,
    }
}

fn stream() -> Arc<Stream> {
    let column = Column { name: "city".into(), column_type: ColumnType::Text, nullable: true };
    Arc::new(Stream {
        id: StreamId(1),
        definition: StreamDefinition {
            name: "events".into(),
            schema: StreamSchema::new(vec![column]).unwrap(),
            partition_by: Vec::new(),
            event_time: None,
            partitions: PARTITIONS,
            retention: None,
            replicas: 1,
        },
        groups: (1..=u64::from(PARTITIONS)).map(GroupId).collect(),
        created_at: Time(0),
    })
}

impl FakeDoor {
    /// A view `sums`; groups whose total is more than `most` are none of its rows.
    fn new(most: i64) -> FakeDoor {
        FakeDoor::showing(most, vec![Some(0), Some(1), None, None])
    }

    /// By tens of microseconds and city; the floor of an event is its time. Told 5 microseconds
    /// after the end of each ten.
    fn windowed() -> FakeDoor {
        let mut definition = definition();
        definition.groups.swap(0, 1);
        definition.groups[0].name = "window".into();
        definition.groups[0].data_type = micros();
        definition.groups[0].expression = Arc::new(Tens);
        definition.window = Some(Window { group: 0, kind: WindowKind::Tumble { size: 10 } });
        definition.event_time = Some(3);
        definition.options.emit_final_after = Some(Duration::from_micros(5));
        FakeDoor::of(definition, i64::MAX, vec![Some(0), Some(1), None, None])
    }

    fn showing(most: i64, shows: Vec<Option<usize>>) -> FakeDoor {
        FakeDoor::of(definition(), most, shows)
    }

    fn of(definition: Definition, most: i64, shows: Vec<Option<usize>>) -> FakeDoor {
        let definition = Arc::new(definition);
        let columns = (definition.group_schema(), shows);
        let finish = Arc::new(AtMost(most));
        let view =
            ViewGroups::new((ViewId(7), "sums"), stream(), definition.clone(), columns, finish);
        let limits = Limits { resident_bytes_max: usize::MAX };
        let part = || ViewState::open(definition.clone(), Offset::ZERO, None, limits).unwrap();
        let dir = std::env::temp_dir();
        FakeDoor {
            view: Arc::new(view.unwrap()),
            parts: Mutex::new((0..PARTITIONS).map(|_| part()).collect()),
            advanced: watch::Sender::new(0),
            compiler: ViewCompiler::new(&EngineOptions::new(dir)).unwrap(),
        }
    }

    fn fold(&self, partition: usize, events: &[(Option<&str>, Option<i64>, i64)]) {
        let cities: StringViewArray = events.iter().map(|event| event.0).collect();
        let floors: Int64Array = events.iter().map(|event| event.1).collect();
        let amounts: Int64Array = events.iter().map(|event| Some(event.2)).collect();
        let at: TimestampMicrosecondArray = events.iter().map(|event| event.1).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(cities), Arc::new(floors), Arc::new(amounts), Arc::new(at)];
        let rows = RecordBatch::try_new(input(), columns).unwrap();
        let mut parts = self.parts.lock().unwrap();
        let first = parts[partition].progress().next;
        parts[partition].fold(first, &rows, &Nothing).unwrap();
        self.advanced.send_modify(|count| *count += 1);
    }

    fn watermark(&self) -> Option<i64> {
        self.parts.lock().unwrap().iter().filter_map(|part| part.progress().watermark).min()
    }

    fn filled() -> FakeDoor {
        let door = FakeDoor::new(1_000);
        let berlin = Some("Berlin");
        door.fold(0, &[(berlin, Some(1), 5), (berlin, Some(2), 6), (None, None, 7)]);
        door.fold(1, &[(berlin, Some(1), 10), (Some("Rome"), Some(1), 2_000), (berlin, None, 1)]);
        door
    }
}

#[async_trait]
impl ViewDoor for FakeDoor {
    fn groups(&self, view: &str) -> Result<Arc<ViewGroups>, DoorError> {
        match view {
            "sums" => Ok(self.view.clone()),
            name => Err(DoorError::Unknown { name: name.into() }),
        }
    }

    async fn read(
        &self,
        view: &ViewGroups,
        wait: &Wait,
        keys: Keys,
    ) -> Result<GroupsRead, DoorError> {
        let mut merge = Merge::new(view.definition.clone()).unwrap();
        let mut frontier = Frontier::default();
        for (number, part) in (0..).zip(self.parts.lock().unwrap().iter()) {
            part.read(&keys, &Nothing, &mut merge).unwrap();
            frontier.0.insert(PartitionNumber(number), part.progress().next);
        }
        if let Wait::For(Freshness::AtLeast(least)) = wait
            && least.iter().flat_map(|(_, ends)| &ends.0).any(|(p, end)| frontier.0[p] < *end)
        {
            let reason = "waits for ever".into();
            return Err(HostError::Unavailable { reason }.into());
        }
        Ok(GroupsRead { groups: merge.finish().unwrap(), frontier, watermark: self.watermark() })
    }

    async fn changed(
        &self,
        view: &ViewGroups,
        since: &Frontier,
        groups_max: usize,
    ) -> Result<GroupsChanged, DoorError> {
        let mut advanced = self.advanced.subscribe();
        let at = |number: u32| since.0.get(&PartitionNumber(number)).copied().unwrap_or_default();
        loop {
            advanced.borrow_and_update();
            let is_ahead = {
                let parts = self.parts.lock().unwrap();
                (0..).zip(parts.iter()).any(|(number, part)| at(number) < part.progress().next)
            };
            if is_ahead {
                break;
            }
            advanced.changed().await.unwrap();
        }
        let mut frontier = Frontier::default();
        let mut keys = Vec::new();
        for (number, part) in (0..).zip(self.parts.lock().unwrap().iter()) {
            let mut merge = Merge::new(view.definition.clone()).unwrap();
            let changes = part.changed(at(number), groups_max, &Nothing, &mut merge).unwrap();
            frontier.0.insert(PartitionNumber(number), changes.next);
            for groups in merge.finish().unwrap() {
                keys.extend(view.keys_of(&groups).unwrap());
            }
        }
        let read = self.read(view, &Wait::Not, Keys::These(keys)).await?;
        let watermark = read.watermark;
        Ok(GroupsChanged { groups: read.groups, removed: Vec::new(), frontier, watermark })
    }

    fn condition(&self, columns: &SchemaRef, sql: &str) -> Result<Arc<dyn Evaluate>, SqlError> {
        self.compiler.condition(columns, sql)
    }
}
