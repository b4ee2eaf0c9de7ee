//! What the store costs on this machine: the log writer at several batch sizes, sealing, and
//! scanning.
//!
//! `cargo run -p alluvium-store --example store_cost [-- events.parquet]`
//!
//! Ends by itself after about twenty seconds. With a Parquet file, its columns take the place of
//! the made-up access log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use alluvium_core::ids::{GroupId, Index, NodeId, Offset, PartitionNumber, StreamId, Term};
use alluvium_core::replica::{
    Checkpoint, CorruptCheckpoint, CorruptCommand, Input, LogPosition, Machine, Members, Replica,
    ReplicaConfig,
};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_store::{Clock, CutTask, EventReader, PartitionLog, Store, StoreOptions, WriteTask};
use arrow::array::{
    ArrayRef, Float64Array, Int16Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

const GROUPS: u64 = 8;
const ROWS: usize = 1_000_000;
const BATCH_ROWS: usize = 10_000;

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Time {
        Time(i64::try_from(self.0.elapsed().as_micros()).expect("a short run"))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Nothing;

impl Machine for Nothing {
    type Outcome = ();

    fn apply(&mut self, _: Index, _: &Bytes) -> Result<(), CorruptCommand> {
        Ok(())
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn restore(_: &[u8]) -> Result<Nothing, CorruptCheckpoint> {
        Ok(Nothing)
    }
}

fn main() {
    let root = std::env::temp_dir().join(format!("store-cost-{}", std::process::id()));
    fresh(&root.join("fresh"));
    for blob_files in [true, false] {
        for entry_bytes in [64 << 10, 256 << 10, 1 << 20] {
            let dir = root.join(format!("log-{blob_files}-{entry_bytes}"));
            write_log(&dir, blob_files, entry_bytes);
        }
    }
    plain_file(&root.join("plain"), 64 << 10);
    let rows = match std::env::args().nth(1) {
        Some(path) => read_rows(Path::new(&path)),
        None => access_log(),
    };
    seal(&root.join("seal"), &rows);
    std::fs::remove_dir_all(&root).expect("remove what was written");
}

/// Memory and time of a store with nothing in it.
fn fresh(dir: &Path) {
    let before = resident_bytes();
    let start = Instant::now();
    let store = Store::open(dir, StoreOptions::new(Arc::new(Monotonic(start)))).expect("open");
    let took = start.elapsed();
    let mib = (resident_bytes() - before) >> 20;
    print(&format!("fresh store: {mib} MiB resident, opened in {} ms", took.as_millis()));
    drop(store);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

/// One task in flight for each group, as single-voter groups with a waiting producer have it.
fn write_log(dir: &Path, blob_files: bool, entry_bytes: usize) {
    let mut options = StoreOptions::new(Arc::new(Monotonic(Instant::now())));
    options.blob_files = blob_files;
    let store = Store::open(dir, options).expect("open");
    let (sender, durable) = mpsc::channel();
    let mut replicas = BTreeMap::new();
    let payload =
        Bytes::from((0..entry_bytes).map(|n| ((n * 7919) >> 3) as u8).collect::<Vec<_>>());
    for group in (0..GROUPS).map(GroupId) {
        store.create_group(group, &Members::of_voters([NodeId(1)])).expect("create");
        let restored = store.load(group).expect("load").restored;
        let config = ReplicaConfig::new(group, NodeId(1), 1);
        replicas.insert(group, (Replica::new(config, Nothing, restored).expect("start"), 0));
    }
    let writer = store.log_writer();
    let submit = |group: GroupId, replica: &mut Replica<Nothing>, input: Input| -> bool {
        let effects = replica.step(input);
        let Some(writes) = effects.writes else { return false };
        let (sender, at) = (sender.clone(), Instant::now());
        let done = Box::new(move |_, persisted| {
            sender.send((group, persisted, at.elapsed())).expect("the receiver is there");
        });
        writer.submit(WriteTask { writes, held: effects.held, done }).expect("room");
        true
    };
    for (&group, (replica, _)) in &mut replicas {
        submit(group, replica, Input::Campaign);
    }
    let (limit_bytes, limit_time) = (768 << 20, Duration::from_millis(1_500));
    let (start, cpu_before) = (Instant::now(), cpu());
    let mut waits = Vec::new();
    let mut bytes = 0;
    let mut in_flight = GROUPS;
    while in_flight != 0 {
        let (group, persisted, wait) = durable.recv().expect("the writer is there");
        in_flight -= 1;
        let (replica, request) = replicas.get_mut(&group).expect("a group of ours");
        waits.push(wait);
        if submit(group, replica, Input::Persisted(persisted)) {
            in_flight += 1;
            continue;
        }
        if bytes < limit_bytes && start.elapsed() < limit_time {
            bytes += entry_bytes;
            *request += 1;
            let request = alluvium_core::ids::RequestId(*request);
            let input = Input::Propose { request, command: payload.clone() };
            in_flight += u64::from(submit(group, replica, input));
        }
        if bytes % (16 << 20) == 0 {
            let through = replica.status().applied;
            let _ = replica.step(Input::Truncate { through });
        }
    }
    let costs = (start.elapsed(), cpu() - cpu_before);
    waits.sort();
    report(&store, blob_files, entry_bytes, bytes, costs, &waits);
    drop((writer, replicas, store));
    restart(dir);
}

fn report(
    store: &Store,
    blob_files: bool,
    entry_bytes: usize,
    bytes: usize,
    costs: (Duration, Duration),
    waits: &[Duration],
) {
    let (wall, cpu) = costs;
    let seconds = wall.as_secs_f64();
    let metrics = store.metrics();
    let syncs = metrics.sync_micros.count().max(1);
    print(&format!(
        "log writer, {GROUPS} groups, {:4} KiB entries, blob files {blob_files:5}: {:6.0} MB/s, \
         {:4.1} tasks a sync, sync {:5} us mean, wait p50 {:6} us p99 {:6} us, \
         {:4.0} us CPU a MB",
        entry_bytes >> 10,
        bytes as f64 / 1e6 / seconds,
        metrics.batch_tasks.sum() as f64 / syncs as f64,
        metrics.sync_micros.sum() / syncs,
        waits[waits.len() / 2].as_micros(),
        waits[waits.len() * 99 / 100].as_micros(),
        cpu.as_micros() as f64 / (bytes as f64 / 1e6),
    ));
}

/// How long a start takes that finds a full log.
fn restart(dir: &Path) {
    let start = Instant::now();
    let store =
        Store::open(dir, StoreOptions::new(Arc::new(Monotonic(start)))).expect("open again");
    let opened = start.elapsed();
    let entries: usize = (0..GROUPS)
        .map(|group| store.load(GroupId(group)).expect("load").restored.entries.len())
        .sum();
    print(&format!(
        "  restart: opened in {} ms, {entries} entries loaded in {} ms",
        opened.as_millis(),
        (start.elapsed() - opened).as_millis(),
    ));
}

/// What the disk gives without a database: the same bytes appended to a file and synced.
fn plain_file(path: &Path, chunk_bytes: usize) {
    let chunk = vec![7; chunk_bytes];
    for sizes in [1, 4, 16] {
        let file = std::fs::File::create(path).expect("create");
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < Duration::from_millis(700) {
            for _ in 0..sizes {
                std::io::Write::write_all(&mut &file, &chunk).expect("write");
                bytes += chunk.len();
            }
            file.sync_data().expect("sync");
        }
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        print(&format!(
            "plain file, {:4} KiB a sync: {rate:6.0} MB/s",
            (sizes * chunk_bytes) >> 10
        ));
    }
}

/// Processor time of all threads so far: unlike the wall clock it says the same on a busy machine.
fn cpu() -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux") {
        let path = task.expect("a thread").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanos)
}

fn seal(dir: &Path, rows: &[RecordBatch]) {
    let mut options = StoreOptions::new(Arc::new(Monotonic(Instant::now())));
    options.merge = false;
    let store = Store::open(dir, options).expect("open");
    let group = GroupId(1);
    store.create_group(group, &Members::of_voters([NodeId(1)])).expect("create");
    let (schema, stream) = (rows[0].schema(), stream(group));
    let number = PartitionNumber(0);
    let log = PartitionLog::open(&store, group, stream, number, schema, vec![]).expect("open");
    let mut end = Offset::ZERO;
    let start = cpu();
    for batch in rows {
        log.append(end, Time(0), batch.clone()).expect("append");
        end = end.advance(batch.num_rows() as u64);
    }
    let appending = cpu() - start;
    let tail_bytes = log.view().tail_bytes;
    let start = cpu();
    cut(&store, &log, 1, end);
    let encoding = cpu() - start;
    let view = log.view();
    let per_row = |nanos: u128| nanos as f64 / end.0 as f64;
    print(&format!(
        "seal: append {:4.1} ns/row, encode {:5.1} ns/row, {:5.1} bytes/row in memory, \
         {:5.1} on disk",
        per_row(appending.as_nanos()),
        per_row(encoding.as_nanos()),
        tail_bytes as f64 / end.0 as f64,
        view.segments[0].file_bytes as f64 / end.0 as f64,
    ));
    let start = cpu();
    let read: usize = view.segments[0]
        .read(log.schema())
        .expect("open")
        .map(|batch| batch.expect("read").num_rows())
        .sum();
    assert_eq!(read as u64, end.0);
    print(&format!("seal: read all columns {:5.1} ns/row", per_row((cpu() - start).as_nanos())));
    read_events(&log);
    for column in 0..rows[0].num_columns() {
        one_column(&store, rows, column, u64::try_from(column).expect("few") + 2);
    }
    let start = cpu();
    for n in 0..100_000 {
        log.append(end, Time(0), rows[0].slice(n % BATCH_ROWS, 1)).expect("append");
        end = end.advance(1);
    }
    print(&format!("tail: {:4.0} ns for a single event", (cpu() - start).as_nanos() as f64 / 1e5));
}

/// What a view that is behind pays before it folds anything.
fn read_events(log: &Arc<PartitionLog>) {
    let wanted =
        [["ts", "status", "bytes"], ["host", "user_id", "ts"], ["url", "latency_ms", "_offset"]];
    for names in wanted {
        let field = |name: &&str| {
            let field = log.schema().field_with_name(name).ok()?.clone();
            let text = *field.data_type() == DataType::Utf8;
            Some(if text { field.with_data_type(DataType::Utf8View) } else { field })
        };
        let columns: Option<Vec<Field>> = names.iter().map(field).collect();
        // A file of the caller has other columns.
        let Some(columns) = columns else { continue };
        let columns = Arc::new(Schema::new(columns));
        let mut reader =
            EventReader::new(Arc::clone(log), columns, Offset::ZERO).expect("its columns");
        let start = cpu();
        let mut read = 0;
        while let Some(batch) = reader.next(BATCH_ROWS).expect("readable") {
            read += batch.rows.num_rows();
        }
        let rate = read as f64 / (cpu() - start).as_secs_f64() / 1e6;
        print(&format!("events: {} in {rate:5.1} M rows/s", names.join(", ")));
    }
}

fn one_column(store: &Store, rows: &[RecordBatch], column: usize, group: u64) {
    let group = GroupId(group);
    store.create_group(group, &Members::of_voters([NodeId(1)])).expect("create");
    let picked: Vec<RecordBatch> =
        rows.iter().map(|batch| batch.project(&[column]).expect("project")).collect();
    let (schema, number) = (picked[0].schema(), PartitionNumber(0));
    let name = schema.field(0).name().clone();
    let log =
        PartitionLog::open(store, group, stream(group), number, schema, vec![]).expect("open");
    let mut end = Offset::ZERO;
    for batch in picked {
        let count = batch.num_rows() as u64;
        log.append(end, Time(0), batch).expect("append");
        end = end.advance(count);
    }
    let start = cpu();
    cut(store, &log, 1, end);
    let encoding = cpu() - start;
    let segment = Arc::clone(&log.view().segments[0]);
    let file = std::fs::File::open(&segment.path).expect("open");
    let start = cpu();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(8_192).build())
        .expect("open");
    let read: usize = reader.map(|batch| batch.expect("read").num_rows()).sum();
    assert_eq!(read as u64, end.0);
    print(&format!(
        "column {name:14} encode {:5.1} ns, decode {:5.1} ns, {:5.2} bytes",
        encoding.as_nanos() as f64 / end.0 as f64,
        (cpu() - start).as_nanos() as f64 / end.0 as f64,
        segment.file_bytes as f64 / end.0 as f64,
    ));
}

fn cut(store: &Store, log: &Arc<PartitionLog>, index: u64, end: Offset) {
    let (sender, sealed) = mpsc::channel();
    let position = LogPosition { index: Index(index), term: Term(1) };
    let checkpoint =
        Checkpoint { position, members: Members::of_voters([NodeId(1)]), state: Bytes::new() };
    let done = Box::new(move |result| sender.send(result).expect("the receiver is there"));
    let task = CutTask { log: Arc::clone(log), checkpoint, end, done };
    store.segment_writer().cut(task).expect("room");
    sealed.recv().expect("an answer").expect("sealed");
}

fn stream(group: GroupId) -> Arc<Stream> {
    let column = Column { name: "n".into(), column_type: ColumnType::BigInt, nullable: true };
    Arc::new(Stream {
        id: StreamId(group.0),
        definition: StreamDefinition {
            name: "access".into(),
            schema: StreamSchema::new(vec![column]).expect("one column"),
            partition_by: vec![],
            event_time: None,
            partitions: 1,
            retention: None,
            replicas: 1,
        },
        groups: vec![group],
        created_at: Time(0),
    })
}

/// The first rows of a file, with the node's own columns behind them.
fn read_rows(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).expect("open");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .expect("a Parquet file");
    let mut first = 0;
    let mut batches = Vec::new();
    for batch in reader.take(ROWS / BATCH_ROWS) {
        let batch = batch.expect("read");
        let columns = batch.columns().to_vec();
        let fields = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        batches.push(with_hidden(fields, columns, first));
        first += i64::try_from(batch.num_rows()).expect("few");
    }
    batches
}

/// Columns of the shapes an access log has: skewed words, a growing time, small and large numbers.
fn access_log() -> Vec<RecordBatch> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut skewed = move |count: u64, power: u32| {
        let unit = (random() >> 11) as f64 / (1_u64 << 53) as f64;
        (count as f64 * unit.powi(power as i32)) as u64
    };
    let word = |name: &str, n: u64| format!("{name}{n:05}");
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = [
        ("ts", timestamp),
        ("host", DataType::Utf8),
        ("service", DataType::Utf8),
        ("region", DataType::Utf8),
        ("method", DataType::Utf8),
        ("status", DataType::Int16),
        ("url", DataType::Utf8),
        ("user_id", DataType::Int64),
        ("latency_ms", DataType::Float64),
        ("bytes", DataType::Int64),
    ]
    .map(|(name, data_type)| Field::new(name, data_type, true));
    let mut batches = Vec::new();
    for batch in 0..ROWS / BATCH_ROWS {
        let first = i64::try_from(batch * BATCH_ROWS).expect("few");
        let hosts: Vec<u64> = (0..BATCH_ROWS).map(|_| skewed(2_000, 2)).collect();
        let mut words = |name: &str, count, power| -> ArrayRef {
            let words = (0..BATCH_ROWS).map(|_| word(name, skewed(count, power)));
            Arc::new(StringArray::from_iter_values(words))
        };
        let (method, url) = (words("GET", 4, 3), words("/api/v1/events/item-", 20_000, 3));
        let of_host = |name: &str, parts: u64| -> ArrayRef {
            let words = hosts.iter().map(|host| word(name, host * 7 % parts));
            Arc::new(StringArray::from_iter_values(words))
        };
        let mut numbers = |count: u64| -> Vec<i64> {
            (0..BATCH_ROWS).map(|_| skewed(count, 2).cast_signed()).collect()
        };
        let (late, status, user, bytes) =
            (numbers(50), numbers(13), numbers(1_000_000), numbers(100_000));
        let at = (first..).zip(late).map(|(n, late)| (n - late) * 8_640);
        let latency = numbers(900_000).into_iter().map(|n| n as f64 / 1_000.0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(at)),
            of_host("host-", 2_000),
            of_host("svc-", 40),
            of_host("region-", 8),
            method,
            Arc::new(Int16Array::from_iter_values(status.iter().map(|&n| 200 + n as i16))),
            url,
            Arc::new(Int64Array::from(user)),
            Arc::new(Float64Array::from_iter_values(latency)),
            Arc::new(Int64Array::from(bytes)),
        ];
        batches.push(with_hidden(fields.to_vec(), columns, first));
    }
    batches
}

fn with_hidden(mut fields: Vec<Field>, mut columns: Vec<ArrayRef>, first: i64) -> RecordBatch {
    let rows = columns[0].len();
    let end = first + i64::try_from(rows).expect("few");
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.push(Field::new("_offset", DataType::Int64, false));
    fields.push(Field::new("_appended_at", utc, false));
    columns.push(Arc::new(Int64Array::from_iter_values(first..end)));
    let appended = TimestampMicrosecondArray::from(vec![first; rows]);
    columns.push(Arc::new(appended.with_timezone("UTC")));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).expect("columns of one length")
}

#[expect(clippy::print_stdout, reason = "a program that prints figures")]
fn print(line: &str) {
    println!("{line}");
}
