//! The engine without a node: a host over vectors and real Parquet files.
//!
//! [`MemHost`] keeps streams in memory, appends at once, and seals only when told to, so a test
//! chooses whether a query meets a tail, segments, or both. Segments are written as a node writes
//! them (log columns, `_offset`, `_appended_at`, exact statistics), so every path of the scan is
//! the real one. It is not durable, not replicated, and knows no producers.

mod view_rows;
mod views;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use alluvium_core::ids::{GroupId, Offset, PartitionNumber, StreamId};
use alluvium_core::stream::{Frontier, Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_core::view::{View, ViewDefinition};
use alluvium_views::fold::Selection;
use alluvium_views::{columns, rows};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, cast, concat_batches, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::access::host::RoleHost;
use crate::host::{
    Catalogue, ColumnStatistics, Freshness, Host, HostError, PartitionPin, PartitionRow,
    ProducerRow, QuarantineRow, SegmentPin, SegmentRow, TailPin, ViewCatalogue, ViewChange,
    ViewPartition, ViewRead, ViewRow,
};
use crate::session::EngineOptions;
use crate::views::ViewCompiler;

pub use views::FoldSettings;

/// Rows of a row group: small, so that tests have several in one file.
const ROW_GROUP_ROWS: usize = 1_024;

/// A host for tests; see the module.
#[derive(Debug)]
pub struct MemHost {
    dir: PathBuf,
    streams: Mutex<Streams>,
    compiler: OnceLock<ViewCompiler>,
}

#[derive(Debug, Default)]
struct Streams {
    by_name: BTreeMap<String, Kept>,
    stream_id: u64,
    group_id: u64,
    segment_id: u64,
    views: BTreeMap<String, views::KeptView>,
    view_id: u64,
    settings: FoldSettings,
    /// Stands for a clock: one second later with each append.
    now: i64,
    /// As they were last told: the same ones are told until something changes, as a node does.
    told: RefCell<(Catalogue, ViewCatalogue)>,
}

#[derive(Debug)]
struct Kept {
    stream: Arc<Stream>,
    partitions: Vec<Partition>,
    round_robin: u32,
}

#[derive(Debug, Default)]
struct Partition {
    start: Offset,
    end: Offset,
    segments: Vec<SegmentPin>,
    /// First offset, append time, rows of the log schema.
    tail: Vec<(Offset, Time, RecordBatch)>,
    /// All that was appended, in the same form: what views fold.
    log: Vec<(Offset, Time, RecordBatch)>,
}

impl Streams {
    fn catalogue(&self) -> Catalogue {
        let by_name = self.by_name.iter();
        let now = by_name.map(|(name, kept)| (name.clone(), Arc::clone(&kept.stream))).collect();
        tell(&mut self.told.borrow_mut().0, now)
    }
}

/// What was told last, where it is still so.
fn tell<T: PartialEq>(told: &mut Arc<T>, now: T) -> Arc<T> {
    if **told != now {
        *told = Arc::new(now);
    }
    Arc::clone(told)
}

impl MemHost {
    /// An empty host that writes its segments into `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> MemHost {
        MemHost { dir: dir.into(), streams: Mutex::default(), compiler: OnceLock::new() }
    }

    /// How events are folded from now on.
    pub fn fold_as(&self, settings: FoldSettings) {
        self.lock().settings = settings;
    }

    /// Drops what views have in memory; they go on from their last checkpoints.
    pub fn reopen_views(&self) -> Result<(), HostError> {
        self.lock().reopen_views()
    }

    /// Changes the stored groups of a view in a partition, as a failing disk would.
    pub fn damage_view(&self, name: &str, partition: usize, mut change: impl FnMut(&mut Vec<u8>)) {
        self.lock().damage(name, partition, &mut change);
    }

    fn compiler(&self) -> &ViewCompiler {
        self.compiler.get_or_init(|| {
            let options = EngineOptions::new(self.dir.join("compiler"));
            ViewCompiler::new(&options).expect("a compiler with default options")
        })
    }

    /// Creates a stream.
    pub fn create(&self, definition: StreamDefinition) -> Result<Arc<Stream>, HostError> {
        let mut streams = self.lock();
        let name = definition.name.clone();
        if streams.by_name.contains_key(&name) {
            return Err(HostError::StreamExists { name });
        }
        streams.stream_id += 1;
        let count = u64::from(definition.partitions);
        let groups = (0..count).map(|number| GroupId(streams.group_id + number + 1)).collect();
        streams.group_id += count;
        let stream = Arc::new(Stream {
            id: StreamId(streams.stream_id),
            definition,
            groups,
            created_at: Time(streams.now),
        });
        let partitions = stream.groups.iter().map(|_| Partition::default()).collect();
        let kept = Kept { stream: Arc::clone(&stream), partitions, round_robin: 0 };
        streams.by_name.insert(name, kept);
        Ok(stream)
    }

    /// Appends rows of the log schema.
    pub fn append_rows(&self, name: &str, batch: &RecordBatch) -> Result<Frontier, HostError> {
        let mut streams = self.lock();
        streams.now += 1_000_000;
        let now = Time(streams.now);
        let kept = of(&mut streams, name)?;
        let parts = rows::split(&kept.stream.definition, batch, kept.round_robin);
        kept.round_robin = kept.round_robin.wrapping_add(1);
        let mut frontier = Frontier::default();
        for (number, part) in parts {
            let partition = &mut kept.partitions[place(number)];
            if part.num_rows() != 0 {
                let count = u64::try_from(part.num_rows()).expect("a usize has at most 64 bits");
                partition.log.push((partition.end, now, part.clone()));
                partition.tail.push((partition.end, now, part));
                partition.end = partition.end.advance(count);
            }
            frontier.0.insert(number, partition.end);
        }
        Ok(frontier)
    }

    /// Writes the tail of every partition of a stream into one segment each.
    pub fn seal(&self, name: &str) -> Result<(), HostError> {
        let mut streams = self.lock();
        let mut segment_id = streams.segment_id;
        let dir = self.dir.clone();
        let kept = of(&mut streams, name)?;
        for (number, partition) in kept.partitions.iter_mut().enumerate() {
            if partition.tail.is_empty() {
                continue;
            }
            segment_id += 1;
            let path = dir.join(format!("{}-{number}-{segment_id}.parquet", kept.stream.id));
            let segment = write(&partition.tail, path)?;
            partition.segments.push(segment);
            partition.tail.clear();
        }
        streams.segment_id = segment_id;
        Ok(())
    }

    /// Moves the start of every partition of a stream up to `start`, as retention does.
    pub fn retain(&self, name: &str, start: Offset) -> Result<(), HostError> {
        let mut streams = self.lock();
        for partition in &mut of(&mut streams, name)?.partitions {
            partition.start = start.min(partition.end).max(partition.start);
            let start = partition.start;
            partition.segments.retain(|segment| start < segment.end);
        }
        Ok(())
    }

    /// The end of every partition of a stream.
    pub fn frontier(&self, name: &str) -> Result<Frontier, HostError> {
        let mut streams = self.lock();
        let ends = of(&mut streams, name)?.partitions.iter().map(|partition| partition.end);
        Ok(Frontier((0..).map(PartitionNumber).zip(ends).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<'a>(streams: &'a mut Streams, name: &str) -> Result<&'a mut Kept, HostError> {
    let unknown = HostError::UnknownStream { name: name.into() };
    streams.by_name.get_mut(name).ok_or(unknown)
}

fn place(number: PartitionNumber) -> usize {
    usize::try_from(number.0).expect("a usize has at least 32 bits")
}

fn unavailable(error: impl std::fmt::Display) -> HostError {
    HostError::Unavailable { reason: error.to_string() }
}

fn write(tail: &[(Offset, Time, RecordBatch)], path: PathBuf) -> Result<SegmentPin, HostError> {
    let batches: Vec<RecordBatch> = tail
        .iter()
        .map(|(first, appended_at, rows)| columns::with_hidden(rows, *first, *appended_at))
        .collect();
    let first = tail.first().map_or(Offset::ZERO, |(first, _, _)| *first);
    let schema = columns::segment_schema(&tail[0].2.schema());
    let rows = concat_batches(&schema, &batches).map_err(unavailable)?;
    let batch = to_file(&rows)?;
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(ROW_GROUP_ROWS / 4)
        .set_compression(Compression::LZ4_RAW)
        .build();
    let file = File::create_new(&path).map_err(unavailable)?;
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(unavailable)?;
    writer.write(&batch).map_err(unavailable)?;
    writer.close().map_err(unavailable)?;
    let file_bytes = std::fs::metadata(&path).map_err(unavailable)?.len();
    let count = u64::try_from(batch.num_rows()).expect("a usize has at most 64 bits");
    let columns = statistics(&rows);
    let guard = Arc::new(());
    Ok(SegmentPin { path, file_bytes, first, end: first.advance(count), columns, guard })
}

/// Rows as they lie in a file: Parquet has no type for intervals, so they are text there, and the
/// scan asks for intervals back.
fn to_file(rows: &RecordBatch) -> Result<RecordBatch, HostError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let mut field = Field::clone(field);
        let mut column = Arc::clone(column);
        if matches!(field.data_type(), DataType::Interval(_)) {
            field.set_data_type(DataType::Utf8);
            column = cast(&column, &DataType::Utf8).map_err(unavailable)?;
        }
        fields.push(field);
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unavailable)
}

/// Exact statistics of every column that has an order.
fn statistics(batch: &RecordBatch) -> Arc<Vec<ColumnStatistics>> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let nulls = u64::try_from(column.null_count()).expect("a usize has at most 64 bits");
        ColumnStatistics {
            name: field.name().clone(),
            min: edge(column, false),
            max: edge(column, true),
            null_count: nulls,
        }
    });
    Arc::new(columns.collect())
}

fn edge(column: &ArrayRef, descending: bool) -> Option<ArrayRef> {
    let is_unordered =
        column.data_type().is_nested() || matches!(column.data_type(), DataType::Interval(_));
    if is_unordered || column.null_count() == column.len() {
        return None;
    }
    let options = SortOptions { descending, nulls_first: false };
    let indices = sort_to_indices(column, Some(options), Some(1)).ok()?;
    take(column, &indices, None).ok()
}

fn asked(freshness: &Freshness, stream: &Stream) -> Option<Frontier> {
    let list = match freshness {
        Freshness::Linearizable => return None,
        Freshness::AtLeast(list) | Freshness::AsOf(list) => list,
    };
    list.iter().find(|(id, _)| *id == stream.id).map(|(_, frontier)| frontier.clone())
}

impl RoleHost for MemHost {}

#[async_trait]
impl Host for MemHost {
    fn catalogue(&self) -> Catalogue {
        self.lock().catalogue()
    }

    fn views(&self) -> ViewCatalogue {
        self.lock().views()
    }

    async fn create_view(
        &self,
        definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
        _owner: Option<String>,
    ) -> Result<(), HostError> {
        self.lock().create_view(definition, if_not_exists, or_replace, self.compiler())
    }

    async fn drop_view(&self, name: &str, if_exists: bool) -> Result<(), HostError> {
        self.lock().drop_view(name, if_exists)
    }

    async fn change_view(&self, name: &str, change: ViewChange) -> Result<(), HostError> {
        self.lock().change_view(name, change, self.compiler())
    }

    async fn read_view(
        &self,
        view: &View,
        freshness: &Freshness,
        selection: &Selection,
    ) -> Result<ViewRead, HostError> {
        let folds = view.definition.folds;
        let ends = match freshness {
            Freshness::Linearizable | Freshness::AtLeast(_) => None,
            Freshness::AsOf(list) => list.iter().find(|(id, _)| Some(*id) == folds),
        };
        let ends = ends.map(|(_, frontier)| frontier);
        let read = self.lock().with_view(view, ends, |view| view.read(selection))?;
        if ends
            .is_some_and(|ends| ends.0.iter().any(|(at, end)| read.frontier.0.get(at) != Some(end)))
        {
            return Err(HostError::OutOfRange {
                reason: "the view has folded later events already".into(),
            });
        }
        Ok(read)
    }

    async fn audit_view(&self, view: &View) -> Result<Vec<ViewPartition>, HostError> {
        self.lock().with_view(view, None, |view| view.audit())
    }

    async fn view_rows(&self) -> Result<Vec<ViewRow>, HostError> {
        self.lock().view_rows()
    }

    async fn quarantine_rows(&self) -> Result<Vec<QuarantineRow>, HostError> {
        self.lock().quarantine_rows()
    }

    async fn pin(
        &self,
        stream: &Stream,
        freshness: &Freshness,
    ) -> Result<Vec<PartitionPin>, HostError> {
        let asked = asked(freshness, stream);
        let is_exact = matches!(freshness, Freshness::AsOf(_));
        let mut streams = self.lock();
        let kept = of(&mut streams, &stream.definition.name)?;
        let scan = columns::scan_schema(&stream.definition.schema);
        let mut pins = Vec::new();
        for (number, partition) in (0..).map(PartitionNumber).zip(&kept.partitions) {
            let mut end = partition.end;
            if let Some(&wanted) = asked.as_ref().and_then(|frontier| frontier.0.get(&number)) {
                if partition.end < wanted || wanted < partition.start {
                    return Err(HostError::OutOfRange {
                        reason: format!(
                            "offset {wanted} of partition {number} is outside {}..{}",
                            partition.start, partition.end
                        ),
                    });
                }
                if is_exact {
                    end = wanted;
                }
            }
            let tail = partition.tail.iter().map(|(first, appended_at, rows)| {
                let batch = columns::with_hidden(rows, *first, *appended_at);
                TailPin { first: *first, rows: columns::to_scan(&batch, number, &scan) }
            });
            pins.push(PartitionPin {
                partition: number,
                start: partition.start,
                end,
                segments: partition.segments.clone(),
                tail: tail.collect(),
            });
        }
        Ok(pins)
    }

    async fn create_stream(
        &self,
        definition: StreamDefinition,
        if_not_exists: bool,
        _owner: Option<String>,
    ) -> Result<(), HostError> {
        match self.create(definition) {
            Err(HostError::StreamExists { .. }) if if_not_exists => Ok(()),
            result => result.map(|_| ()),
        }
    }

    async fn drop_stream(&self, name: &str, if_exists: bool) -> Result<(), HostError> {
        let mut streams = self.lock();
        let dependants = streams.dependants(name);
        if !dependants.is_empty() {
            return Err(HostError::HasDependants { name: name.into(), dependants });
        }
        match streams.by_name.remove(name) {
            None if !if_exists => Err(HostError::UnknownStream { name: name.into() }),
            _ => Ok(()),
        }
    }

    async fn append(&self, stream: &Stream, rows: RecordBatch) -> Result<Frontier, HostError> {
        self.append_rows(&stream.definition.name, &rows)
    }

    async fn partitions(&self) -> Result<Vec<PartitionRow>, HostError> {
        let streams = self.lock();
        let mut rows = Vec::new();
        for (name, kept) in &streams.by_name {
            for ((number, group), partition) in kept.stream.partitions().zip(&kept.partitions) {
                let tail = partition.tail.iter().map(|(_, _, rows)| rows.get_array_memory_size());
                let segment_bytes = partition.segments.iter().map(|segment| segment.file_bytes);
                rows.push(PartitionRow {
                    stream: name.clone(),
                    partition: number,
                    group: group.0,
                    owner: 1,
                    term: 1,
                    state: "serving".into(),
                    replicas: vec![1],
                    lag: Some(0),
                    start: partition.start,
                    end: partition.end,
                    sealed_end: partition.segments.last().map_or(Offset::ZERO, |last| last.end),
                    tail_bytes: u64::try_from(tail.sum::<usize>()).unwrap_or(u64::MAX),
                    segment_count: u64::try_from(partition.segments.len()).unwrap_or(u64::MAX),
                    segment_bytes: segment_bytes.sum(),
                });
            }
        }
        Ok(rows)
    }

    async fn producers(&self) -> Result<Vec<ProducerRow>, HostError> {
        Ok(Vec::new())
    }

    async fn segments(&self) -> Result<Vec<SegmentRow>, HostError> {
        let streams = self.lock();
        let mut rows = Vec::new();
        for (name, kept) in &streams.by_name {
            for (number, partition) in (0..).map(PartitionNumber).zip(&kept.partitions) {
                for (segment_id, segment) in (1..).zip(&partition.segments) {
                    let file = segment.path.file_name().unwrap_or_default();
                    rows.push(SegmentRow {
                        stream: name.clone(),
                        partition: number,
                        segment: segment_id,
                        first: segment.first,
                        end: segment.end,
                        file_bytes: segment.file_bytes,
                        level: 0,
                        event_time_min: None,
                        event_time_max: None,
                        created_at: kept.stream.created_at,
                        file: file.to_string_lossy().into_owned(),
                    });
                }
            }
        }
        Ok(rows)
    }
}
