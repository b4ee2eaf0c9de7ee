//! One partition with a real replica, a real store, and rows that follow from their offsets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use alluvium_core::ids::{GroupId, Index, NodeId, Offset, PartitionNumber, RequestId, StreamId};
use alluvium_core::replica::{
    CorruptCheckpoint, CorruptCommand, Effects, Input, Machine, Members, Replica, ReplicaConfig,
    Writes,
};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_store::{Clock, CutTask, PartitionLog, Store, StoreError, StoreOptions, WriteTask};
use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Builder, Int64Array, IntervalMonthDayNanoArray,
    ListBuilder, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Int64Type, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef, TimeUnit,
};
use bytes::Bytes;

pub const GROUP: GroupId = GroupId(7);
pub const NODE: NodeId = NodeId(1);

/// Moves one microsecond each time it is looked at: nothing depends on how fast the test runs.
#[derive(Default)]
pub struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        let micros = self.0.fetch_add(1, Ordering::Relaxed);
        Duration::from_micros(micros.try_into().unwrap())
    }
}

pub fn options() -> StoreOptions {
    let mut options = StoreOptions::new(Arc::new(TestClock::default()));
    options.on_fatal = Arc::new(|reason| panic!("the store gave up: {reason}"));
    options.log_memtable_bytes = 1 << 20;
    options
}

/// The next free offset. A command is a number of events.
#[derive(Debug, Default)]
pub struct Counting {
    pub end: Offset,
}

impl Machine for Counting {
    type Outcome = (Offset, u64);

    fn apply(&mut self, _index: Index, command: &Bytes) -> Result<Self::Outcome, CorruptCommand> {
        let count = command.first_chunk().copied().map(u64::from_le_bytes);
        let count = count.ok_or_else(|| CorruptCommand::new("no count"))?;
        let first = self.end;
        self.end = first.advance(count);
        Ok((first, count))
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::copy_from_slice(&self.end.0.to_le_bytes())
    }

    fn restore(bytes: &[u8]) -> Result<Counting, CorruptCheckpoint> {
        let end = bytes.try_into().map_err(|_| CorruptCheckpoint::new("not 8 bytes"))?;
        Ok(Counting { end: Offset(u64::from_le_bytes(end)) })
    }
}

/// One partition of a one-node cluster.
pub struct Rig {
    pub store: Store,
    pub log: Arc<PartitionLog>,
    pub replica: Replica<Counting>,
    next_request: u64,
}

impl Rig {
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Rig, StoreError> {
        let store = Store::open(dir, options)?;
        store.create_group(GROUP, &Members::of_voters([NODE]))?;
        let stored = store.load(GROUP)?;
        let machine = match &stored.checkpoint {
            Some(bytes) => Counting::restore(bytes).unwrap(),
            None => Counting::default(),
        };
        let sealed = stored.segments;
        let log =
            PartitionLog::open(&store, GROUP, stream(), PartitionNumber(0), schema(), sealed)?;
        assert_eq!(log.view().end, machine.end, "the checkpoint stands where the segments end");
        let config = ReplicaConfig::new(GROUP, NODE, 1);
        let replica = Replica::new(config, machine, stored.restored).unwrap();
        let mut rig = Rig { store, log, replica, next_request: 0 };
        rig.step(Input::Campaign);
        Ok(rig)
    }

    /// Steps until nothing is left to make durable.
    pub fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Effects { writes, held, applied, stopped, .. } = self.replica.step(input);
            assert_eq!(stopped, None);
            for applied in applied {
                let (first, count) = applied.outcome;
                let rows = rows(first.0..first.0 + count);
                self.log.append(first, appended_at(first.0), rows).unwrap();
            }
            let Some(writes) = writes else { continue };
            let (sender, durable) = mpsc::channel();
            let done = Box::new(move |_, persisted| sender.send(persisted).unwrap());
            self.store.log_writer().submit(WriteTask { writes, held, done }).unwrap();
            inputs.push(Input::Persisted(durable.recv().unwrap()));
        }
    }

    pub fn append(&mut self, count: u64) {
        let mut command = count.to_le_bytes().to_vec();
        command.resize(64 + 100 * usize::try_from(count).unwrap(), 0xa5);
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let before = self.replica.machine().end;
        self.step(Input::Propose { request, command: command.into() });
        assert_eq!(self.replica.machine().end, before.advance(count), "applied");
    }

    /// Seals everything applied.
    pub fn cut(&mut self) -> Result<Index, StoreError> {
        let (sender, sealed) = mpsc::channel();
        let task = CutTask {
            log: Arc::clone(&self.log),
            checkpoint: self.replica.checkpoint(),
            end: self.replica.machine().end,
            done: Box::new(move |result| sender.send(result).unwrap()),
        };
        self.store.segment_writer().cut(task).unwrap();
        let through = sealed.recv().unwrap()?;
        self.step(Input::Truncate { through });
        Ok(through)
    }

    pub fn retain(&self, start: u64) {
        self.store.segment_writer().retain(&self.log, Offset(start));
    }

    /// Waits for the segment threads.
    pub fn settle(&self) {
        self.store.segment_writer().wait();
    }

    /// Checks that every event from the first kept segment to the end is there once, as written.
    pub fn check(&self) {
        check_log(&self.store, &self.log, self.replica.machine().end);
    }

    pub fn files(&self) -> Vec<PathBuf> {
        segment_files(&self.store)
    }
}

/// Checks that every event from the first kept segment to the end is there once, as written.
pub fn check_log(store: &Store, log: &PartitionLog, end: Offset) {
    let view = log.view();
    assert_eq!(view.end, end);
    let mut next = view.segments.first().map_or(view.sealed_end, |segment| segment.first);
    assert!(next <= view.start.max(next));
    for segment in view.segments.iter() {
        assert_eq!(segment.first, next, "segments meet");
        for batch in segment.read(&schema()).unwrap() {
            next = check_rows(&batch.unwrap(), next);
        }
        assert_eq!(segment.end, next);
        check_statistics(segment);
    }
    assert_eq!(view.sealed_end, next);
    let mut bytes = 0;
    for batch in view.tail.iter() {
        assert_eq!(batch.first, next, "tail batches meet");
        next = check_rows(&batch.rows, next);
        bytes += batch.bytes;
    }
    assert_eq!(view.end, next);
    assert_eq!(view.tail_bytes, bytes);
    assert_eq!(view.tail_oldest.is_some(), view.sealed_end < view.end);
    let metrics = store.metrics();
    assert_eq!(metrics.tail_bytes.get(), bytes);
    assert_eq!(metrics.segments.get(), view.segments.len() as u64);
    let files = segment_files(store);
    assert_eq!(files.len(), view.segments.len(), "files without a segment: {files:?}");
    let bytes: u64 = view.segments.iter().map(|segment| segment.file_bytes).sum();
    assert_eq!(metrics.segment_bytes.get(), bytes);
}

/// Writes as a replica would ask for them, made durable through the log writer.
pub fn write(store: &Store, step: Writes) {
    // Only a replica makes what is held, so one is made to ask for something, and these writes take
    // the place of what it asked for.
    let restored = store.load(step.group).unwrap().restored;
    let config = ReplicaConfig::new(step.group, NODE, 1);
    let mut replica = Replica::new(config, Counting::default(), restored).unwrap();
    let effects = replica.step(Input::Campaign);
    let (sender, durable) = mpsc::channel();
    let mut writes = effects.writes.unwrap();
    writes.hard_state = step.hard_state;
    writes.entries = step.entries;
    writes.install = step.install;
    let done = Box::new(move |_, _| sender.send(()).unwrap());
    store.log_writer().submit(WriteTask { writes, held: effects.held, done }).unwrap();
    durable.recv().unwrap();
}

/// What lies in the folder of the group's segments.
pub fn segment_files(store: &Store) -> Vec<PathBuf> {
    files(&store.dir().join("segments").join(GROUP.0.to_string()))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Copies a data directory as a crash of the process would leave it: all files of one moment. The
/// databases' own threads may be at work, so a copy during which anything changed is made again.
pub fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..1_000 {
        let before = listing(from);
        let copied = copy_files(from, to, &before);
        if copied.is_ok() && listing(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
    panic!("{} never stands still", from.display());
}

/// Files with their lengths; folders with none.
fn listing(dir: &Path) -> BTreeMap<PathBuf, Option<u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // A file that goes away meanwhile makes the next listing another one.
            let Ok(metadata) = path.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, metadata.is_file().then_some(metadata.len()));
        }
    }
    found
}

fn copy_files(
    from: &Path,
    to: &Path,
    files: &BTreeMap<PathBuf, Option<u64>>,
) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for (path, length) in files {
        let target = to.join(path.strip_prefix(from).unwrap());
        match length {
            Some(_) => drop(std::fs::copy(path, target)?),
            None => std::fs::create_dir_all(target)?,
        }
    }
    Ok(())
}

pub fn stream() -> Arc<Stream> {
    let column =
        |name: &str, column_type, nullable| Column { name: name.into(), column_type, nullable };
    let columns = vec![
        column("n", ColumnType::BigInt, false),
        column("ts", ColumnType::Timestamp, true),
        column("word", ColumnType::Text, true),
        column("ratio", ColumnType::Double, true),
        column("span", ColumnType::Interval, true),
        column("list", ColumnType::List(Box::new(ColumnType::Integer)), true),
        column("pair", ColumnType::Struct(vec![column("a", ColumnType::BigInt, true)]), true),
    ];
    Arc::new(Stream {
        id: StreamId(1),
        definition: StreamDefinition {
            name: "events".into(),
            schema: StreamSchema::new(columns).unwrap(),
            partition_by: vec![],
            event_time: Some(1),
            partitions: 1,
            retention: None,
            replicas: 1,
        },
        groups: vec![GROUP],
        created_at: Time(0),
    })
}

pub fn schema() -> SchemaRef {
    let item = Field::new_list_field(DataType::Int32, true);
    let timestamp =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let pair = DataType::Struct(vec![Field::new("a", DataType::Int64, true)].into());
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("ts", timestamp(None), true),
        Field::new("word", DataType::Utf8, true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("span", DataType::Interval(IntervalUnit::MonthDayNano), true),
        Field::new("list", DataType::List(Arc::new(item)), true),
        Field::new("pair", pair, true),
        Field::new("_offset", DataType::Int64, false),
        Field::new("_appended_at", timestamp(Some("UTC")), false),
    ]))
}

pub fn appended_at(offset: u64) -> Time {
    Time(1_000_000 + i64::try_from(offset).unwrap())
}

/// The rows at these offsets: a function of the offsets, nulls among them.
pub fn rows(offsets: std::ops::Range<u64>) -> RecordBatch {
    let numbers: Vec<i64> = offsets.map(|offset| offset.try_into().unwrap()).collect();
    let each = || numbers.iter().copied();
    let some = |n: i64, every: i64| n % every != 0;
    let mut list = ListBuilder::new(Int32Builder::new());
    for n in each() {
        (0..n % 3).for_each(|item| list.values().append_value(i32::try_from(item).unwrap()));
        list.append(some(n, 5));
    }
    let word = each().map(|n| some(n, 7).then(|| format!("word-{}", n * 7919 % 101)));
    let span = each().map(|n| {
        let month = i32::try_from(n % 24).unwrap() - 12;
        some(n, 11).then(|| IntervalMonthDayNano::new(month, -month, n * 1_000))
    });
    let pair: ArrayRef = Arc::new(Int64Array::from_iter(each().map(|n| some(n, 3).then_some(-n))));
    let pair_field = Arc::new(Field::new("a", DataType::Int64, true));
    let appended = TimestampMicrosecondArray::from_iter_values(
        each().map(|n| appended_at(n.try_into().unwrap()).0),
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(each().map(|n| n * 31 % 1_009))),
        Arc::new(TimestampMicrosecondArray::from_iter(each().map(|n| some(n, 13).then_some(n)))),
        Arc::new(StringArray::from_iter(word)),
        Arc::new(Float64Array::from_iter(each().map(|n| some(n, 2).then_some(n as f64 / 8.0)))),
        Arc::new(IntervalMonthDayNanoArray::from_iter(span)),
        Arc::new(list.finish()),
        Arc::new(StructArray::from(vec![(pair_field, pair)])),
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(appended.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Checks that a batch holds the rows from `next` on; the offset after it.
pub fn check_rows(batch: &RecordBatch, next: Offset) -> Offset {
    let end = next.advance(batch.num_rows() as u64);
    let expected = rows(next.0..end.0);
    for (column, expected) in batch.columns().iter().zip(expected.columns()) {
        assert_eq!(column, expected, "{next}..{end}");
    }
    end
}

/// Checks the statistics of a segment against its rows.
pub fn check_statistics(segment: &alluvium_store::Segment) {
    let rows = rows(segment.first.0..segment.end.0);
    assert_eq!(segment.columns.len(), rows.num_columns());
    let by_name: BTreeMap<&str, _> =
        segment.columns.iter().map(|column| (column.name.as_str(), column)).collect();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let found = by_name[field.name().as_str()];
        assert_eq!(found.null_count, column.null_count() as u64, "nulls of {}", field.name());
    }
    for name in ["n", "_offset"] {
        let values = rows.column_by_name(name).unwrap().as_primitive::<Int64Type>();
        let bound =
            |bound: &Option<ArrayRef>| bound.as_ref().unwrap().as_primitive::<Int64Type>().value(0);
        assert_eq!(Some(bound(&by_name[name].min)), arrow::compute::min(values));
        assert_eq!(Some(bound(&by_name[name].max)), arrow::compute::max(values));
    }
    let words = rows.column_by_name("word").unwrap().as_string::<i32>();
    let word = |bound: &Option<ArrayRef>| {
        bound.as_ref().map(|bound| bound.as_string::<i32>().value(0).to_owned())
    };
    let (low, high) = (arrow::compute::min_string(words), arrow::compute::max_string(words));
    assert_eq!(word(&by_name["word"].min).as_deref(), low);
    assert_eq!(word(&by_name["word"].max).as_deref(), high);
    assert_eq!(segment.oldest_appended_at, appended_at(segment.first.0));
    assert_eq!(segment.newest_appended_at, appended_at(segment.end.0 - 1));
}
