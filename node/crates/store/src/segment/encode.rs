//! Writes events as a Parquet file.
//!
//! Knows encodings, row groups and checksums; neither the manifest nor when a file is written.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_core::ids::GroupId;
use alluvium_core::schema::HIDDEN_COLUMNS;
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::{Checksums, ColumnStatistics, read_footer, statistics};
use crate::error::StoreError;

/// The column that numbers the events.
pub(crate) const OFFSET: &str = HIDDEN_COLUMNS[1];

/// Rows in one row group: small enough to prune by and to give two cores something each, large
/// enough that dictionaries pay.
pub(crate) const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows in one page.
const PAGE_ROWS: usize = 20_000;

/// Bytes of different values a decimal column may have in a row group before its dictionary is
/// given up: prices repeat, measurements do not.
const DECIMAL_DICTIONARY_BYTES: usize = 16 << 10;

/// What a file holds, once it is written and synced.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) file_bytes: u64,
    pub(crate) checksums: Checksums,
    pub(crate) columns: Vec<ColumnStatistics>,
}

/// Writes one file.
pub(crate) struct Encoder {
    group: GroupId,
    path: PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<CheckedFile>,
    columns: Vec<Running>,
}

/// What is counted of a column while it is written.
#[derive(Clone, Debug, Default)]
struct Running {
    null_count: u64,
    /// Of floating point numbers: the Parquet statistics overlook values that are not numbers and
    /// mix up the zeroes.
    bounds: Option<(f64, f64)>,
    not_a_number: bool,
}

/// Bytes after which what was written is handed to the disk. Handed over at once at the end, a
/// segment would hold up the syncs that producers wait for: a sync waits for whatever of other
/// files is on its way. This much takes a few tenths of a millisecond.
const HAND_OVER_BYTES: u64 = 256 << 10;

/// A file with the checksum of what was written to it.
pub(crate) struct CheckedFile {
    file: File,
    hasher: crc32fast::Hasher,
    bytes: u64,
    /// The last bytes that were handed to the disk.
    handed_over: Range<u64>,
}

impl Encoder {
    /// Creates the file, for batches of the segment schema.
    pub(crate) fn create(
        group: GroupId,
        path: &Path,
        segment_schema: &SchemaRef,
    ) -> Result<Encoder, StoreError> {
        let file = File::create(path).map_err(StoreError::io("create", path))?;
        let file = CheckedFile::new(file);
        let schema = file_schema(segment_schema);
        let properties = properties(&schema).map_err(failed(group, path))?;
        let options = ArrowWriterOptions::new().with_properties(properties);
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options)
            .map_err(failed(group, path))?;
        let columns = vec![Running::default(); schema.fields().len()];
        Ok(Encoder { group, path: path.to_path_buf(), schema, writer, columns })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let batch = to_file(batch, &self.schema)
            .map_err(|error| rows_error(self.group, "encode rows", &error.to_string()))?;
        for (running, column) in self.columns.iter_mut().zip(batch.columns()) {
            running.count(column);
        }
        self.writer.write(&batch).map_err(failed(self.group, &self.path))
    }

    /// Writes the footer and waits for the disk.
    pub(crate) fn finish(mut self) -> Result<Content, StoreError> {
        let metadata = self.writer.finish().map_err(failed(self.group, &self.path))?;
        let columns = self.statistics(&metadata)?;
        seal(self.writer.inner(), &self.path, columns)
    }

    fn statistics(&self, metadata: &ParquetMetaData) -> Result<Vec<ColumnStatistics>, StoreError> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (running, field) in self.columns.iter().zip(self.schema.fields()) {
            let (min, max) = match field.data_type() {
                DataType::Float32 | DataType::Float64 => running.float_bounds(field.data_type()),
                other if statistics::has_bounds(other) => {
                    bounds(metadata, &self.schema, field.name())
                        .map_err(failed(self.group, &self.path))?
                }
                _ => (None, None),
            };
            let (name, null_count) = (field.name().clone(), running.null_count);
            columns.push(ColumnStatistics { name, min, max, null_count });
        }
        Ok(columns)
    }
}

impl Running {
    fn count(&mut self, column: &ArrayRef) {
        self.null_count += column.null_count() as u64;
        match column.data_type() {
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>();
                self.not_a_number |= values.values().iter().any(|value| value.is_nan());
                let bounds = arrow::compute::min(values).zip(arrow::compute::max(values));
                self.widen(bounds.map(|(min, max)| (f64::from(min), f64::from(max))));
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>();
                self.not_a_number |= values.values().iter().any(|value| value.is_nan());
                self.widen(arrow::compute::min(values).zip(arrow::compute::max(values)));
            }
            _ => {}
        }
    }

    fn widen(&mut self, bounds: Option<(f64, f64)>) {
        let Some((min, max)) = bounds else { return };
        let (low, high) = self.bounds.unwrap_or((min, max));
        let low = if min.total_cmp(&low) == Ordering::Less { min } else { low };
        let high = if max.total_cmp(&high) == Ordering::Greater { max } else { high };
        self.bounds = Some((low, high));
    }

    fn float_bounds(&self, data_type: &DataType) -> (Option<ArrayRef>, Option<ArrayRef>) {
        let Some((min, max)) = self.bounds.filter(|_| !self.not_a_number) else {
            return (None, None);
        };
        let array = |value: f64| -> ArrayRef {
            if *data_type == DataType::Float32 {
                // It was widened from this type, so nothing is lost.
                Arc::new(Float32Array::from(vec![value as f32]))
            } else {
                Arc::new(Float64Array::from(vec![value]))
            }
        };
        (Some(array(min)), Some(array(max)))
    }
}

impl CheckedFile {
    pub(crate) fn new(file: File) -> CheckedFile {
        CheckedFile { file, hasher: crc32fast::Hasher::new(), bytes: 0, handed_over: 0..0 }
    }

    /// A file that may be there already, to go on at its end. Reads what it holds.
    pub(crate) fn resume(path: &Path) -> io::Result<CheckedFile> {
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    bytes += count as u64;
                }
            }
        }
        Ok(CheckedFile { file, hasher, bytes, handed_over: bytes..bytes })
    }

    /// Has the disk begin with the new bytes, once it is done with those before: never more than
    /// twice [`HAND_OVER_BYTES`] are on their way. Only for smoothness; the sync at the end is what
    /// counts.
    fn hand_over(&mut self) {
        use nix::libc::{
            SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE,
        };
        let next = self.handed_over.end..self.bytes;
        let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        sync_range(&self.file, &self.handed_over, wait);
        sync_range(&self.file, &next, SYNC_FILE_RANGE_WRITE);
        self.handed_over = next;
    }
}

#[allow(unsafe_code, reason = "no wrapper of this call is in the tree")]
fn sync_range(file: &File, range: &Range<u64>, flags: u32) {
    let (Ok(start), Ok(length)) =
        (i64::try_from(range.start), i64::try_from(range.end - range.start))
    else {
        return;
    };
    // A length of 0 would mean everything up to the end.
    if length == 0 {
        return;
    }
    // SAFETY: the call takes plain numbers, the descriptor is open as long as the file is borrowed,
    // and no memory of ours is touched.
    let refused =
        unsafe { nix::libc::sync_file_range(file.as_raw_fd(), start, length, flags) } != 0;
    if refused {
        // Not every file system knows this call; an error of the disk shows again in the sync.
        tracing::trace!("a range of a segment was not handed to the disk");
    }
}

impl Write for CheckedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        if HAND_OVER_BYTES <= self.bytes - self.handed_over.end {
            self.hand_over();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Waits for the disk, and says what the file is recognised by.
pub(crate) fn seal(
    checked: &CheckedFile,
    path: &Path,
    columns: Vec<ColumnStatistics>,
) -> Result<Content, StoreError> {
    checked.file.sync_all().map_err(StoreError::io("sync", path))?;
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let footer = read_footer(&mut file).map_err(StoreError::io("read", path))?;
    let checksums = Checksums {
        file: checked.hasher.clone().finalize(),
        footer: crc32fast::hash(&footer),
        footer_bytes: footer.len() as u64,
    };
    Ok(Content { file_bytes: checked.bytes, checksums, columns })
}

/// The schema as Parquet can hold it: intervals become text such as `1 mons 2 days`, which a reader
/// that asks for intervals gets back as intervals.
pub(crate) fn file_schema(segment_schema: &SchemaRef) -> SchemaRef {
    let fields = file_fields(segment_schema.fields());
    if &fields == segment_schema.fields() {
        return Arc::clone(segment_schema);
    }
    Arc::new(Schema::new_with_metadata(fields, segment_schema.metadata().clone()))
}

fn file_fields(fields: &Fields) -> Fields {
    fields.iter().map(file_field).collect()
}

fn file_field(field: &Arc<Field>) -> Arc<Field> {
    let data_type = match field.data_type() {
        DataType::Interval(_) => DataType::Utf8,
        DataType::List(item) => DataType::List(file_field(item)),
        DataType::Struct(fields) => DataType::Struct(file_fields(fields)),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// The rows with their columns in the types of `schema`.
pub(crate) fn to_file(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        if column.data_type() == field.data_type() {
            columns.push(Arc::clone(column));
        } else {
            columns.push(cast(column, field.data_type())?);
        }
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// How each column is written. Measured on an access log (CPU per value, release build): numbers as
/// steps cost a quarter of a dictionary or of compressed plain values and take half the space;
/// compressed floating point numbers cost four times as much as plain ones, for 40 % less space;
/// zstd saves a quarter of the space of LZ4 and makes scans two to three times as expensive.
pub(crate) fn properties(schema: &Schema) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("alluvium ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_truncate_length(Some(256));
    for field in schema.fields() {
        builder = column_properties(builder, field);
    }
    if let Some(column_idx) = offset_leaf(schema)? {
        let sorted = SortingColumn { column_idx, descending: false, nulls_first: false };
        builder = builder.set_sorting_columns(Some(vec![sorted]));
    }
    Ok(builder.build())
}

fn column_properties(builder: WriterPropertiesBuilder, field: &Field) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(field.name().as_str());
    match field.data_type() {
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        DataType::Float32 | DataType::Float64 => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_compression(path, Compression::UNCOMPRESSED),
        DataType::Decimal128(_, _) => {
            builder.set_column_dictionary_page_size_limit(path, DECIMAL_DICTIONARY_BYTES)
        }
        // Text and bytes go through a dictionary as long as it is small; nested columns as well.
        _ => builder,
    }
}

/// The place of the offset column among the leaves of the Parquet schema.
fn offset_leaf(schema: &Schema) -> Result<Option<i32>, ParquetError> {
    let parquet = ArrowSchemaConverter::new().convert(schema)?;
    let leaf = parquet.columns().iter().position(|column| {
        let parts = column.path().parts();
        parts.len() == 1 && parts[0] == OFFSET
    });
    Ok(leaf.and_then(|leaf| i32::try_from(leaf).ok()))
}

/// Exact bounds over all row groups.
fn bounds(
    metadata: &ParquetMetaData,
    schema: &Schema,
    name: &str,
) -> Result<(Option<ArrayRef>, Option<ArrayRef>), ParquetError> {
    let groups = || metadata.row_groups().iter();
    let parquet = metadata.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(name, schema, parquet)?;
    let nulls = converter.row_group_null_counts(groups())?;
    let exact = [
        converter.row_group_is_min_value_exact(groups())?,
        converter.row_group_is_max_value_exact(groups())?,
    ];
    let bounds = [converter.row_group_mins(groups())?, converter.row_group_maxes(groups())?];
    // A row group of nulls alone has no bounds and takes nothing away from the others.
    let complete = |place: usize| {
        metadata.row_groups().iter().enumerate().all(|(row, group)| {
            let all_null =
                nulls.is_valid(row) && i64::try_from(nulls.value(row)) == Ok(group.num_rows());
            let known = bounds[place].is_valid(row);
            let exact = exact[place].is_valid(row) && exact[place].value(row);
            all_null || (known && exact)
        })
    };
    let min = complete(0).then(|| statistics::extreme(&bounds[0], Ordering::Less)).flatten();
    let max = complete(1).then(|| statistics::extreme(&bounds[1], Ordering::Greater)).flatten();
    Ok((min, max))
}

/// What the Parquet writer says, as an error of ours: a full disk stays recognisable.
pub(crate) fn failed(group: GroupId, path: &Path) -> impl Fn(ParquetError) -> StoreError {
    let path = path.to_path_buf();
    move |error| match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => StoreError::Io { action: "write", path: path.clone(), source: *source },
            Err(other) => rows_error(group, "write a segment", &other.to_string()),
        },
        other => rows_error(group, "write a segment", &other.to_string()),
    }
}

fn rows_error(group: GroupId, action: &'static str, reason: &str) -> StoreError {
    StoreError::Rows { group, action, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Int16Array, Int32Array,
        StringArray, Time64MicrosecondArray,
    };

    use super::*;

    /// More than one row group, so that bounds have to be put together.
    const ROWS: usize = ROW_GROUP_ROWS + 1_000;

    /// Statistics of a file with this one column, written in uneven batches.
    fn written(column: ArrayRef) -> ColumnStatistics {
        let dir = tempfile::tempdir().unwrap();
        let field = Field::new("c", column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let path = dir.path().join("file");
        let mut encoder = Encoder::create(GroupId(1), &path, &schema).unwrap();
        let mut at = 0;
        while at < rows.num_rows() {
            let count = (7_777 + at % 3_001).min(rows.num_rows() - at);
            encoder.write(&rows.slice(at, count)).unwrap();
            at += count;
        }
        let content = encoder.finish().unwrap();
        assert_eq!(content.file_bytes, path.metadata().unwrap().len());
        assert_eq!(content.checksums.file, crc32fast::hash(&std::fs::read(&path).unwrap()));
        content.columns.into_iter().next().unwrap()
    }

    fn check(column: ArrayRef) {
        let found = written(Arc::clone(&column));
        let name = column.data_type().to_string();
        assert_eq!(found.null_count, column.null_count() as u64, "{name}");
        for (bound, wanted) in [(&found.min, Ordering::Less), (&found.max, Ordering::Greater)] {
            let expected = statistics::extreme(&column, wanted).expect("a bound");
            assert_eq!(bound.as_ref(), Some(&expected), "{name} {wanted:?}");
        }
    }

    fn scattered() -> impl Iterator<Item = Option<i64>> {
        // No null in the first thousand rows, only nulls at the end, and a third between.
        let some = |row: usize| row < 1_000 || (!row.is_multiple_of(3) && row < ROWS - 500);
        (0..ROWS).map(move |row| some(row).then(|| (row as i64 * 7_919) % 10_007 - 5_000))
    }

    #[test]
    fn bounds_are_exact_for_every_type_that_has_them() {
        let money = scattered().map(|n| n.map(i128::from)).collect::<Decimal128Array>();
        let text = scattered().map(|n| n.map(|n| format!("t{n}"))).collect::<StringArray>();
        let bytes: Vec<Option<[u8; 8]>> = scattered().map(|n| n.map(i64::to_be_bytes)).collect();
        let floats = || scattered().map(|n| n.map(|n| n as f64 / 7.0));
        check(Arc::new(scattered().map(|n| n.map(|n| n < 0)).collect::<BooleanArray>()));
        check(Arc::new(scattered().map(|n| n.map(|n| n as i16)).collect::<Int16Array>()));
        check(Arc::new(scattered().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()));
        check(Arc::new(scattered().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()));
        check(Arc::new(scattered().collect::<Time64MicrosecondArray>()));
        check(Arc::new(money.with_precision_and_scale(12, 2).unwrap()));
        check(Arc::new(text));
        check(Arc::new(bytes.iter().map(Option::as_ref).collect::<BinaryArray>()));
        check(Arc::new(floats().collect::<Float64Array>()));
        check(Arc::new(floats().map(|n| n.map(|n| n as f32)).collect::<Float32Array>()));
    }

    #[test]
    fn zeroes_keep_their_sign() {
        check(Arc::new(Float64Array::from(vec![0.0, -0.0])));
        check(Arc::new(Float64Array::from(vec![0.0, 0.0])));
        check(Arc::new(Float32Array::from(vec![-0.0, -0.0])));
    }

    #[test]
    fn a_bound_that_could_mislead_is_left_out() {
        let long = |letter: &str| letter.repeat(300);
        let columns: [(ArrayRef, [bool; 2]); 6] = [
            (Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0])), [false, false]),
            (Arc::new(Float32Array::from(vec![1.0, -f32::NAN, 2.0])), [false, false]),
            (Arc::new(Float64Array::from(vec![None, None])), [false, false]),
            (Arc::new(StringArray::from(vec![None::<&str>, None])), [false, false]),
            (Arc::new(StringArray::from(vec!["a".to_owned(), long("b")])), [true, false]),
            (Arc::new(StringArray::from(vec![long("a"), "b".to_owned()])), [false, true]),
        ];
        for (column, [min, max]) in columns {
            let found = written(Arc::clone(&column));
            assert_eq!([found.min.is_some(), found.max.is_some()], [min, max], "{column:?}");
        }
    }
}
