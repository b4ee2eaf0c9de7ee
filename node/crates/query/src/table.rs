//! A stream as a table: one pinned cut, planned as a scan of its segments beside its tail.
//!
//! The cut is pinned once for each stream of a statement, before planning, so every mention of a
//! stream in one statement reads the same events. Nothing here waits or reads a file.
//!
//! Invariant: a plan made here yields each event of the cut exactly once.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use alluvium_core::schema::HIDDEN_COLUMNS;

use crate::cut::{Cut, SegmentBounds, SegmentPart, TailBounds, TailPart, to_i32, to_i64};
use crate::segments::{Footers, Pinned, SegmentReaders, store_url};

/// Rows of a tail from which it is read by more than one core.
const TAIL_SPLIT_ROWS: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(crate) struct StreamTable {
    name: String,
    /// What SQL sees: the scan schema, or only its visible columns, which stand first in it.
    shown: SchemaRef,
    /// Hidden columns included.
    scan: SchemaRef,
    cut: Cut,
    footers: Arc<Footers>,
}

/// Whether a table has the columns that `*` leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    Shown,
    Left,
}

impl StreamTable {
    pub(crate) fn new(
        name: &str,
        scan: SchemaRef,
        hidden: Hidden,
        cut: Cut,
        footers: Arc<Footers>,
    ) -> StreamTable {
        let shown = match hidden {
            Hidden::Shown => Arc::clone(&scan),
            Hidden::Left => visible(&scan),
        };
        StreamTable { name: name.into(), shown, scan, cut, footers }
    }

    /// Drops the parts in which no row can pass the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> Result<Cut> {
        let mut cut = self.cut.clone();
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(cut);
        };
        let schema = DFSchema::try_from(Arc::clone(&self.shown))?;
        let filter = state.create_physical_expr(filter, &schema)?;
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.shown));
        let Ok(predicate) = builder.try_build(filter) else {
            // A filter that says nothing about bounds prunes nothing.
            return Ok(cut);
        };
        let bounds = SegmentBounds { parts: &cut.segments, schema: &self.scan };
        let kept = keep(&predicate, &bounds)?;
        cut.segments = select(cut.segments, &kept);
        let kept = keep(&predicate, &TailBounds(&cut.tails))?;
        cut.tails = select(cut.tails, &kept);
        Ok(cut)
    }

    fn scan_segments(
        &self,
        state: &dyn Session,
        segments: Vec<SegmentPart>,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (partition, file_fields): (Vec<FieldRef>, Vec<FieldRef>) =
            self.scan.fields().iter().cloned().partition(|field| field.name() == "_partition");
        let file_schema = Arc::new(Schema::new(file_fields));
        let table_schema = TableSchema::builder(Arc::clone(&file_schema))
            .with_table_partition_cols(partition)
            .build();
        let whole = Arc::clone(table_schema.table_schema());
        let places = projection
            .iter()
            .map(|&place| whole.index_of(self.scan.field(place).name()))
            .collect::<Result<Vec<usize>, _>>()?;
        let files = segments
            .iter()
            .map(|part| self.file(part, &file_schema))
            .collect::<Result<Vec<PartitionedFile>>>()?;
        let statistics = Statistics::try_merge_iter(
            files.iter().filter_map(|file| file.statistics.as_deref()),
            &whole,
        )?;
        let groups = groups(files, state.config().target_partitions(), &whole)?;
        let parquet = &state.config_options().execution.parquet;
        let options = TableParquetOptions { global: parquet.clone(), ..Default::default() };
        let readers = SegmentReaders { footers: Arc::clone(&self.footers) };
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let scan = FileScanConfigBuilder::new(store_url(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(places))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn file(&self, part: &SegmentPart, file_schema: &SchemaRef) -> Result<PartitionedFile> {
        let file_name = part.segment.path.file_name().unwrap_or_default().to_string_lossy();
        let shown_path = format!("{}/{}/{file_name}", self.name, part.partition);
        let mut file = PartitionedFile::new(shown_path, part.segment.file_bytes)
            .with_extension(Pinned(part.segment.clone()))
            .with_partition_values(vec![ScalarValue::Int32(Some(to_i32(part.partition)))]);
        if !part.is_whole() {
            // Rows lie in the file in offset order without gaps, so the cut is a range of rows.
            let skipped = count(part.first.since(part.segment.first));
            let behind = count(part.segment.end.since(part.end));
            let selectors = [
                RowSelector::skip(skipped),
                RowSelector::select(part.row_count()),
                RowSelector::skip(behind),
            ];
            let selectors = selectors.into_iter().filter(|selector| selector.row_count != 0);
            let selection: RowSelection = selectors.collect::<Vec<_>>().into();
            file = file.with_extension(ParquetRowSelection::new(selection));
        }
        Ok(file.with_statistics(Arc::new(statistics(part, file_schema)?)))
    }

    fn scan_tails(
        &self,
        state: &dyn Session,
        tails: Vec<TailPart>,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows: usize = tails.iter().map(|part| part.rows.num_rows()).sum();
        let wanted = if rows < TAIL_SPLIT_ROWS { 1 } else { state.config().target_partitions() };
        let wanted = wanted.clamp(1, tails.len());
        let mut plan_partitions = vec![Vec::new(); wanted];
        let share = rows.div_ceil(wanted);
        let mut before = 0;
        for part in tails {
            let place = (before / share.max(1)).min(wanted - 1);
            before += part.rows.num_rows();
            plan_partitions[place].push(part.rows);
        }
        plan_partitions.retain(|batches| !batches.is_empty());
        let source = MemorySourceConfig::try_new(
            &plan_partitions,
            Arc::clone(&self.scan),
            Some(projection.to_vec()),
        )?;
        let source = source.with_show_sizes(false).with_limit(limit);
        Ok(DataSourceExec::from_data_source(source))
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shown)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // Inexact: bounds and pages prune, and a filter above decides each row.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.shown.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let cut = self.prune(state, filters)?;
        let mut inputs = Vec::new();
        if !cut.segments.is_empty() {
            inputs.push(self.scan_segments(state, cut.segments, projection, limit)?);
        }
        if !cut.tails.is_empty() {
            inputs.push(self.scan_tails(state, cut.tails, projection, limit)?);
        }
        match (inputs.pop(), inputs.pop()) {
            (None, _) => Ok(Arc::new(EmptyExec::new(Arc::new(self.shown.project(projection)?)))),
            (Some(only), None) => Ok(only),
            (Some(tail), Some(segments)) => UnionExec::try_new(vec![segments, tail]),
        }
    }
}

/// The columns that `*` stands for.
pub(crate) fn visible(scan: &SchemaRef) -> SchemaRef {
    let fields = scan.fields().iter();
    let fields = fields.filter(|field| !HIDDEN_COLUMNS.contains(&field.name().as_str())).cloned();
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), scan.metadata().clone()))
}

/// Which containers may hold a row that passes.
fn keep(predicate: &PruningPredicate, bounds: &dyn PruningStatistics) -> Result<Vec<bool>> {
    if bounds.num_containers() == 0 {
        return Ok(Vec::new());
    }
    predicate.prune(bounds)
}

fn select<T>(parts: Vec<T>, kept: &[bool]) -> Vec<T> {
    parts.into_iter().zip(kept).filter(|(_, kept)| **kept).map(|(part, _)| part).collect()
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).expect("rows of one file are counted in a usize")
}

/// Spreads files over plan partitions, largest first, each to the one with the fewest bytes so far.
fn groups(
    mut files: Vec<PartitionedFile>,
    wanted: usize,
    schema: &Schema,
) -> Result<Vec<FileGroup>> {
    files.sort_by_key(|file| std::cmp::Reverse(file.object_meta.size));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![Default::default(); wanted.max(1)];
    for file in files {
        let emptiest = groups.iter_mut().min_by_key(|(bytes, _)| *bytes);
        let (bytes, group) = emptiest.expect("there is at least one plan partition");
        *bytes += file.object_meta.size;
        group.push(file);
    }
    let groups = groups.into_iter().map(|(_, files)| files).filter(|files| !files.is_empty());
    groups
        .map(|files| {
            let known = files.iter().filter_map(|file| file.statistics.as_deref());
            let statistics = Statistics::try_merge_iter(known, schema)?;
            Ok(FileGroup::new(files).with_statistics(Arc::new(statistics)))
        })
        .collect()
}

/// What is known of the rows that are read of one file.
fn statistics(part: &SegmentPart, file_schema: &SchemaRef) -> Result<Statistics> {
    let columns = file_schema
        .fields()
        .iter()
        .map(|field| column_statistics(part, field))
        .collect::<Result<Vec<ColumnStatistics>>>()?;
    Ok(Statistics {
        num_rows: Precision::Exact(part.row_count()),
        total_byte_size: Precision::Absent,
        column_statistics: columns,
    })
}

fn column_statistics(part: &SegmentPart, field: &FieldRef) -> Result<ColumnStatistics> {
    let mut known = ColumnStatistics::new_unknown();
    if field.name() == "_offset" {
        known.null_count = Precision::Exact(0);
        known.min_value = Precision::Exact(ScalarValue::Int64(Some(to_i64(part.first))));
        known.max_value = Precision::Exact(ScalarValue::Int64(Some(to_i64(part.end) - 1)));
        known.distinct_count = Precision::Exact(part.row_count());
        return Ok(known);
    }
    let Some(column) = part.column(field.name()) else {
        return Ok(known);
    };
    let value = |array: &Option<arrow::array::ArrayRef>| -> Result<Precision<ScalarValue>> {
        let Some(array) = array else {
            return Ok(Precision::Absent);
        };
        let value = ScalarValue::try_from_array(array, 0)?.cast_to(field.data_type())?;
        Ok(Precision::Exact(value))
    };
    known.null_count = Precision::Exact(count(column.null_count));
    known.min_value = value(&column.min)?;
    known.max_value = value(&column.max)?;
    // Of a part of a file the bounds still hold, and are bounds only.
    if !part.is_whole() {
        known.null_count = known.null_count.to_inexact();
        known.min_value = known.min_value.to_inexact();
        known.max_value = known.max_value.to_inexact();
    }
    Ok(known)
}
