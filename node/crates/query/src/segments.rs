//! Reads pinned segments, and nothing else.
//!
//! The engine underneath asks an object store for files by path. Ours is empty: every read goes
//! through [`SegmentReaders`], which opens only the files that a pin carries with it. A path that
//! reaches a plan in any other way has no pin and cannot be opened.
//!
//! Footers are parsed once and kept in memory, page index included: a segment never changes and its
//! path is never used again.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::host::SegmentPin;

/// The only store there is; see the module.
pub(crate) fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::parse("alluvium-segments://pinned").expect("the text is a URL without a path")
}

/// Travels with a planned file: proof that it may be opened, and what keeps it from being unlinked.
#[derive(Clone, Debug)]
pub(crate) struct Pinned(pub(crate) SegmentPin);

/// Parsed footers by path, the least recently used dropped first.
#[derive(Debug)]
pub(crate) struct Footers {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_path: HashMap<PathBuf, Footer>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Footer {
    metadata: Arc<ParquetMetaData>,
    bytes: usize,
    used: u64,
}

impl Footers {
    pub(crate) fn new(bytes_max: usize) -> Footers {
        Footers { bytes_max, kept: Mutex::default() }
    }

    /// The footer of a segment; `file` is that segment, open.
    fn get(&self, path: &Path, file: &File) -> ParquetResult<Arc<ParquetMetaData>> {
        if let Some(metadata) = self.lookup(path) {
            return Ok(metadata);
        }
        // Parsed outside the lock: two readers may both parse a new footer, and neither waits.
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(file)?;
        let metadata = Arc::new(metadata);
        self.keep(path, &metadata);
        Ok(metadata)
    }

    fn lookup(&self, path: &Path) -> Option<Arc<ParquetMetaData>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let footer = kept.by_path.get_mut(path)?;
        footer.used = now;
        Some(Arc::clone(&footer.metadata))
    }

    fn keep(&self, path: &Path, metadata: &Arc<ParquetMetaData>) {
        let bytes = metadata.memory_size();
        if self.bytes_max < bytes {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let footer = Footer { metadata: Arc::clone(metadata), bytes, used: kept.clock };
        if let Some(former) = kept.by_path.insert(path.to_path_buf(), footer) {
            kept.bytes -= former.bytes;
        }
        kept.bytes += bytes;
        while self.bytes_max < kept.bytes {
            let oldest = kept.by_path.iter().min_by_key(|(_, footer)| footer.used);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                break;
            };
            if let Some(dropped) = kept.by_path.remove(&path) {
                kept.bytes -= dropped.bytes;
            }
        }
    }
}

/// Opens pinned segments for the Parquet scan.
#[derive(Debug)]
pub(crate) struct SegmentReaders {
    pub(crate) footers: Arc<Footers>,
}

impl ParquetFileReaderFactory for SegmentReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(pinned) = file.extension::<Pinned>() else {
            return Err(DataFusionError::Plan(format!(
                "{} is not a segment of a stream",
                file.object_meta.location
            )));
        };
        let segment = pinned.0.clone();
        let opened = File::open(&segment.path).map_err(|error| {
            DataFusionError::IoError(std::io::Error::new(
                error.kind(),
                format!("open segment {}: {error}", segment.path.display()),
            ))
        })?;
        let location = file.object_meta.location.as_ref();
        Ok(Box::new(SegmentReader {
            metrics: ParquetFileMetrics::new(partition_index, location, metrics),
            footers: Arc::clone(&self.footers),
            segment,
            file: opened,
        }))
    }
}

/// One open segment. Reads block the calling thread: a query runs on the query runtime, and what it
/// reads is most often in the page cache.
struct SegmentReader {
    metrics: ParquetFileMetrics,
    footers: Arc<Footers>,
    segment: SegmentPin,
    file: File,
}

impl SegmentReader {
    fn read(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|error| ParquetError::General(error.to_string()))?;
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, range.start).map_err(|error| {
            ParquetError::General(format!(
                "bytes {}..{} of {}: {error}",
                range.start,
                range.end,
                self.segment.path.display()
            ))
        })?;
        self.metrics.bytes_scanned.add(length);
        Ok(Bytes::from(buffer))
    }
}

impl AsyncFileReader for SegmentReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let result = self.read(range);
        async move { result }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let result = ranges.into_iter().map(|range| self.read(range)).collect();
        async move { result }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let result = self.footers.get(&self.segment.path, &self.file).map_err(|error| {
            ParquetError::General(format!("footer of {}: {error}", self.segment.path.display()))
        });
        async move { result }.boxed()
    }
}
