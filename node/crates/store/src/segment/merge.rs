//! Puts small neighbours together, and drops what retention has passed.
//!
//! Size-tiered: four or more neighbours that were merged equally often become one that was merged
//! once more, so an event is written again about once for each factor of four. Inputs and output
//! change places in one manifest batch and in one view.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use rocksdb::WriteBatch;

use super::bites::Bites;
use super::encode::{
    CheckedFile, Content, Encoder, ROW_GROUP_ROWS, failed, file_schema, properties, seal,
};
use super::{ColumnStatistics, Segment, cut, manifest, statistics};
use crate::error::StoreError;
use crate::keys;
use crate::options::SealStep;
use crate::partition_log::PartitionLog;

/// Neighbours of one level that are worth merging.
const INPUTS_MIN: usize = 4;

/// Most inputs of one merge: bounds open files, and how much is lost when the node stops in the
/// middle.
const INPUTS_MAX: usize = 64;

/// Largest output. Larger files would save little and make retention coarse.
const OUTPUT_BYTES_MAX: u64 = 128 << 20;

/// What choosing looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    level: u32,
    bytes: u64,
}

impl From<&Arc<Segment>> for Candidate {
    fn from(segment: &Arc<Segment>) -> Candidate {
        Candidate { level: segment.level, bytes: segment.file_bytes }
    }
}

/// Which neighbours to merge next: of the lowest level that has enough, the first ones that fit.
pub(crate) fn choose(segments: &[Candidate]) -> Option<Range<usize>> {
    let mut best: Option<(u32, Range<usize>)> = None;
    let mut start = 0;
    for run in segments.chunk_by(|one, next| one.level == next.level) {
        let level = run[0].level;
        let better = best.as_ref().is_none_or(|&(found, _)| level < found);
        if let Some(range) = choose_of_run(run).filter(|_| better) {
            best = Some((level, start + range.start..start + range.end));
        }
        start += run.len();
    }
    best.map(|(_, range)| range)
}

fn choose_of_run(run: &[Candidate]) -> Option<Range<usize>> {
    let mut start = 0;
    let mut bytes = 0;
    for (place, candidate) in run.iter().enumerate() {
        bytes += candidate.bytes;
        let full = OUTPUT_BYTES_MAX < bytes || place - start == INPUTS_MAX;
        if full && INPUTS_MIN <= place - start {
            return Some(start..place);
        }
        // Too few before a large one: the merge has to begin behind them.
        while OUTPUT_BYTES_MAX < bytes {
            bytes -= run[start].bytes;
            start += 1;
        }
    }
    (INPUTS_MIN <= run.len() - start).then_some(start..run.len())
}

/// Merges once; false when there is nothing to merge.
pub(crate) fn merge_once(log: &PartitionLog, stopping: &AtomicBool) -> Result<bool, StoreError> {
    let shared = log.shared();
    let view = log.view();
    let candidates: Vec<Candidate> = view.segments.iter().map(Candidate::from).collect();
    let Some(range) = choose(&candidates) else { return Ok(false) };
    let inputs = &view.segments[range];
    let bytes = inputs.iter().map(|input| input.file_bytes).sum();
    if !shared.room.is_enough_for(bytes) {
        return Err(StoreError::NoRoom);
    }
    // A damaged input must not become a segment whose checksum is right.
    for input in inputs {
        input.verify_unless(stopping)?;
    }
    if stopping.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(StoreError::Closing);
    }
    let output = Arc::new(write_merged(log, inputs, stopping)?);
    let swapped = swap(log, inputs, &output).inspect_err(|_| output.condemn())?;
    if !swapped {
        output.condemn();
        return Ok(false);
    }
    shared.metrics.merges.increment();
    shared.metrics.segments_merged.add(inputs.len() as u64);
    Ok(true)
}

/// Drops segments that hold only events before the start; true if there were any.
pub(crate) fn expire(log: &PartitionLog) -> Result<bool, StoreError> {
    let shared = log.shared();
    let _manifest = shared.manifest.lock();
    if log.check_open().is_err() {
        return Ok(false);
    }
    let view = log.view();
    let count = view.segments.iter().take_while(|segment| segment.end <= view.start).count();
    let expired = &view.segments[..count];
    if expired.is_empty() {
        return Ok(false);
    }
    let mut batch = WriteBatch::default();
    for segment in expired {
        let key = keys::segment::encode(log.group(), segment.id);
        batch.delete_cf(shared.databases.meta(), key);
    }
    shared.write_manifest(batch)?;
    log.publish_expired(expired);
    shared.metrics.segments_expired.add(count as u64);
    Ok(true)
}

/// Writes the manifest and shows readers what it says, unless an input is gone by now.
fn swap(
    log: &PartitionLog,
    inputs: &[Arc<Segment>],
    output: &Arc<Segment>,
) -> Result<bool, StoreError> {
    let shared = log.shared();
    let _manifest = shared.manifest.lock();
    if log.check_open().is_err() {
        return Ok(false);
    }
    let view = log.view();
    let there = |input: &Arc<Segment>| view.segments.iter().any(|other| other.id == input.id);
    if !inputs.iter().all(there) {
        return Ok(false);
    }
    let meta = shared.databases.meta();
    let mut batch = WriteBatch::default();
    for input in inputs {
        batch.delete_cf(meta, keys::segment::encode(log.group(), input.id));
    }
    batch.put_cf(meta, keys::segment::encode(log.group(), output.id), manifest::encode(output));
    shared.write_manifest(batch)?;
    shared.reach(SealStep::MergeManifestWritten);
    log.publish_merge(inputs, Arc::clone(output));
    Ok(true)
}

fn write_merged(
    log: &PartitionLog,
    inputs: &[Arc<Segment>],
    stopping: &AtomicBool,
) -> Result<Segment, StoreError> {
    let shared = log.shared();
    let (first, end) = (inputs[0].first, inputs[inputs.len() - 1].end);
    let level = 1 + inputs.iter().map(|input| input.level).max().unwrap_or(0);
    let footers = inputs.iter().map(read_metadata).collect::<Result<Vec<_>, _>>()?;
    let groups: usize = footers.iter().map(ParquetMetaData::num_row_groups).sum();
    let events = usize::try_from(end.since(first)).unwrap_or(usize::MAX);
    let id = shared.take_segment_id();
    let content = cut::write_file(shared, log.group(), id, |temporary| {
        // Row groups of a good size are taken over as they are: no event is decoded.
        if ROW_GROUP_ROWS / 2 <= events / groups.max(1) {
            splice(log, inputs, &footers, temporary)
        } else {
            encode_again(log, inputs, temporary, stopping)
        }
    })?;
    shared.reach(SealStep::MergeNamed);
    Ok(cut::segment(log, id, first, end, level, content))
}

fn encode_again(
    log: &PartitionLog,
    inputs: &[Arc<Segment>],
    temporary: &Path,
    stopping: &AtomicBool,
) -> Result<Content, StoreError> {
    let mut encoder = Encoder::create(log.group(), temporary, log.schema())?;
    let mut bites = Bites::of_care(log.shared());
    for input in inputs {
        for batch in input.read(log.schema())? {
            if stopping.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(StoreError::Closing);
            }
            bites.encode(&mut encoder, &batch?)?;
        }
    }
    encoder.finish()
}

fn splice(
    log: &PartitionLog,
    inputs: &[Arc<Segment>],
    footers: &[ParquetMetaData],
    temporary: &Path,
) -> Result<Content, StoreError> {
    let group = log.group();
    let columns: Vec<&[ColumnStatistics]> =
        inputs.iter().map(|input| input.columns.as_slice()).collect();
    let Some(columns) = statistics::unite(&columns) else {
        return Err(log.wrong_rows("neighbours have other columns".into()));
    };
    let file = std::fs::File::create(temporary).map_err(StoreError::io("create", temporary))?;
    let schema = file_schema(log.schema());
    let properties = properties(&schema).map_err(failed(group, temporary))?;
    let options = ArrowWriterOptions::new().with_properties(properties);
    let (mut writer, _) =
        ArrowWriter::try_new_with_options(CheckedFile::new(file), schema, options)
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(failed(group, temporary))?;
    for (input, footer) in inputs.iter().zip(footers) {
        let file = input.open()?;
        for (place, row_group) in footer.row_groups().iter().enumerate() {
            let mut output = writer.next_row_group().map_err(failed(group, temporary))?;
            for (column, metadata) in row_group.columns().iter().enumerate() {
                let column_index = footer.column_index().map(|all| all[place][column].clone());
                let offset_index = footer.offset_index().map(|all| all[place][column].clone());
                let written = ColumnCloseResult {
                    bytes_written: u64::try_from(metadata.compressed_size()).unwrap_or(0),
                    rows_written: u64::try_from(row_group.num_rows()).unwrap_or(0),
                    metadata: metadata.clone(),
                    bloom_filter: None,
                    column_index,
                    offset_index,
                };
                output.append_column(&file, written).map_err(failed(group, temporary))?;
            }
            output.close().map_err(failed(group, temporary))?;
        }
    }
    writer.finish().map_err(failed(group, temporary))?;
    seal(writer.inner(), temporary, columns)
}

fn read_metadata(segment: &Arc<Segment>) -> Result<ParquetMetaData, StoreError> {
    let file = segment.open()?;
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&file)
        .map_err(|error| segment.corrupt(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(text: &str) -> Vec<Candidate> {
        let parse = |word: &str| {
            let (level, bytes) = word.split_once(':').unwrap();
            Candidate { level: level.parse().unwrap(), bytes: bytes.parse::<u64>().unwrap() << 20 }
        };
        text.split_whitespace().map(parse).collect()
    }

    fn check(segments: &str, expected: Option<Range<usize>>) {
        assert_eq!(choose(&candidates(segments)), expected, "{segments}");
    }

    #[test]
    fn neighbours_of_the_lowest_level_are_chosen() {
        check("", None);
        check("0:1 0:1 0:1", None);
        check("0:1 0:1 0:1 0:1", Some(0..4));
        check("1:4 0:1 0:1 0:1 0:1 0:1", Some(1..6));
        check("1:4 1:4 1:4 1:4 0:1 0:1 0:1 0:1", Some(4..8));
        check("1:4 1:4 1:4 1:4 0:1 0:1 0:1", Some(0..4));
        check("0:1 0:1 1:4 0:1 0:1", None);
    }

    #[test]
    fn outputs_stay_below_the_limit() {
        check("1:40 1:40 1:40 1:40", None);
        check("1:100 1:20 1:20 1:20 1:20", Some(1..5));
        check("1:40 1:40 1:10 1:10 1:10 1:100", Some(0..5));
        check("1:30 1:30 1:30 1:30 1:30 1:30 1:30", Some(0..4));
    }

    #[test]
    fn a_month_of_small_cuts_ends_in_few_files() {
        let mut segments: Vec<Candidate> = Vec::new();
        let mut written = 0;
        for _ in 0..9_000 {
            segments.push(Candidate { level: 0, bytes: 100 << 10 });
            while let Some(range) = choose(&segments) {
                let inputs = &segments[range.clone()];
                let level = 1 + inputs[0].level;
                let bytes = inputs.iter().map(|input| input.bytes).sum();
                written += bytes;
                segments.splice(range, [Candidate { level, bytes }]);
            }
        }
        assert!(segments.len() <= 30, "{} files", segments.len());
        assert!(written <= 9_000 * (100 << 10) * 6, "{} MiB written again", written >> 20);
    }

    proptest! {
        #[test]
        fn every_choice_keeps_the_rules(
            sizes in prop::collection::vec((0_u32..3, 0_u64..60), 0..80),
        ) {
            let segments: Vec<Candidate> =
                sizes.iter().map(|&(level, mib)| Candidate { level, bytes: mib << 20 }).collect();
            let Some(range) = choose(&segments) else { return Ok(()) };
            let chosen = &segments[range];
            prop_assert!((INPUTS_MIN..=INPUTS_MAX).contains(&chosen.len()));
            prop_assert!(chosen.iter().all(|input| input.level == chosen[0].level));
            prop_assert!(chosen.iter().map(|input| input.bytes).sum::<u64>() <= OUTPUT_BYTES_MAX);
        }
    }
}
