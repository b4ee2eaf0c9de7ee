//! `AUDIT VIEW`: computes what a view maintains once more, from the log by an ordinary query over
//! exactly the events that the view has folded, and compares the two group by group.
//!
//! Each partition is audited by itself. Values must be equal; of doubles, whose sums depend on the
//! order of addition, but for [`DOUBLE_TOLERANCE`]. The digest says whether the stored state is the
//! one that the fold left.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_core::ids::Offset;
use alluvium_core::stream::{Frontier, Stream};
use alluvium_core::view::View;
use alluvium_views::columns;
use alluvium_views::fold::{Definition, WindowKind, group_hash};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;

use crate::cut::{Cut, to_i64};
use crate::engine::{Answer, Statements};
use crate::error::SqlError;
use crate::host::{Freshness, PartitionPin, ViewPartition};
use crate::system::{Rows, big, maybe_text, partition, text};
use crate::table::{Hidden, StreamTable};
use crate::views::compile::{CompiledView, Maintained};
use crate::views::expand::{self, Tables};
use crate::views::windowed;

/// How far two doubles may lie apart, as a share of the larger one.
const DOUBLE_TOLERANCE: f64 = 1e-12;

/// What came out for one partition.
struct Finding {
    part: ViewPartition,
    groups: usize,
    /// Of the groups as they are shown, whatever their order: equal on every replica.
    digest: u128,
    /// Differing groups as text, in the order of their keys.
    differing: Vec<String>,
    verdict: Verdict,
}

enum Verdict {
    Equal,
    Differs(Option<String>),
    NotComparable(String),
}

impl Statements {
    pub(crate) async fn audit(&self, name: &str) -> Result<Answer, SqlError> {
        let compiled = self.compiled_view(name)?;
        let Some(maintained) = &compiled.maintained else {
            return Err(SqlError::invalid(format!(
                "\"{name}\" keeps no state of its own: it is computed when it is read"
            )));
        };
        let views = self.host.views();
        let view = views.get(name).map(|entry| Arc::clone(&entry.current));
        let view: Arc<View> =
            view.ok_or_else(|| SqlError::invalid(format!("view \"{name}\" was dropped")))?;
        let parts = self.host.audit_view(&view).await?;
        let ends = parts.iter().map(|part| (part.partition, part.next)).collect();
        let as_of = Frontier(ends);
        let freshness = Freshness::AsOf(vec![(maintained.stream.id, as_of.clone())]);
        let pins = self.host.pin(&maintained.stream, &freshness).await?;
        let mut findings = Vec::new();
        for part in parts {
            let pin = pins.iter().find(|pin| pin.partition == part.partition);
            let pin = pin.ok_or_else(|| SqlError::internal("a partition was not pinned"))?;
            findings.push(self.audit_part(&compiled, maintained, part, pin).await?);
        }
        let mut answer = Answer::of(table(&findings)?, "AUDIT VIEW");
        answer.as_of = vec![(maintained.stream.definition.name.clone(), as_of)];
        Ok(answer)
    }

    async fn audit_part(
        &self,
        compiled: &CompiledView,
        maintained: &Maintained,
        part: ViewPartition,
        pin: &PartitionPin,
    ) -> Result<Finding, SqlError> {
        let definition = &maintained.definition;
        let none =
            |part, verdict| Finding { part, groups: 0, digest: 0, differing: Vec::new(), verdict };
        if part.start < pin.start && part.start < part.next {
            let reason = format!(
                "retention has taken the events before {}, and the view has folded them from {} on",
                pin.start, part.start
            );
            return Ok(none(part, Verdict::NotComparable(reason)));
        }
        if let Some(damage) = part.damage.clone() {
            return Ok(none(part, Verdict::Differs(Some(damage))));
        }
        let schema = definition.group_schema();
        let state = concat_batches(&schema, &part.batches).map_err(broken)?;
        let plan = self.part_plan(compiled, &maintained.stream, &cut_of(&part, pin))?;
        let again = self.compute(plan, &schema).await?;
        let again = retained(definition, &again, &part)?;
        let differing = compare(definition, &state, &again)?;
        let damage = (part.digest != part.digest_read)
            .then(|| format!("the digest of what is stored is {:032x}", part.digest_read));
        let verdict = if differing.is_empty() && damage.is_none() {
            Verdict::Equal
        } else {
            Verdict::Differs(damage)
        };
        let digest = digest_of(&state)?;
        Ok(Finding { part, groups: state.num_rows(), digest, differing, verdict })
    }

    /// The maintained part over the events of a cut.
    fn part_plan(
        &self,
        compiled: &CompiledView,
        stream: &Stream,
        cut: &Cut,
    ) -> Result<LogicalPlan, SqlError> {
        let part = compiled.plan.part();
        let part = part.ok_or_else(|| SqlError::internal("a view without a maintained part"))?;
        let scan = columns::scan_schema(&stream.definition.schema);
        let provide = |name: &str, shown: &SchemaRef| {
            let is_whole = scan.fields().len() == shown.fields().len();
            let hidden = if is_whole { Hidden::Shown } else { Hidden::Left };
            let table =
                StreamTable::new(name, Arc::clone(&scan), hidden, cut.clone(), self.footers());
            let table: Arc<dyn TableProvider> = Arc::new(table);
            Ok(table)
        };
        let tables = Tables { stream: &provide, plans: &Default::default(), groups: None };
        windowed::rewrite(expand::expand(part, &tables)?)
    }

    /// The maintained part, computed once more.
    async fn compute(
        &self,
        plan: LogicalPlan,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, SqlError> {
        let mut state = datafusion::execution::SessionState::clone(&self.base);
        // One after the other, as the fold takes them.
        state.config_mut().options_mut().execution.target_partitions = 1;
        let plan = state.create_physical_plan(&plan).await?;
        let batches = collect(plan, state.task_ctx()).await?;
        let batches = batches.into_iter().map(|batch| conform(schema, &batch));
        concat_batches(schema, &batches.collect::<Result<Vec<_>, _>>()?).map_err(broken)
    }
}

fn broken(error: impl std::fmt::Display) -> SqlError {
    SqlError::internal(format!("compare a view with its events: {error}"))
}

/// The events that the view has folded: those of its offsets, without those it has set aside.
fn cut_of(part: &ViewPartition, pin: &PartitionPin) -> Cut {
    let mut cut = Cut::default();
    let mut start = part.start;
    let mut quarantined = part.quarantined.clone();
    quarantined.sort_unstable();
    let mut add = |start: Offset, end: Offset| {
        if start < end {
            let between = Cut::of(&[PartitionPin { start, end, ..pin.clone() }]);
            cut.segments.extend(between.segments);
            cut.tails.extend(between.tails);
        }
    };
    for offset in quarantined {
        add(start, offset);
        start = offset.advance(1);
    }
    add(start, part.next);
    cut
}

/// Columns in the types of the groups.
fn conform(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(broken)
}

/// Leaves out the windows that the view has dropped.
fn retained(
    definition: &Definition,
    groups: &RecordBatch,
    part: &ViewPartition,
) -> Result<RecordBatch, SqlError> {
    let (Some(window), Some(retention), Some(watermark)) =
        (definition.window, definition.options.retention, part.watermark)
    else {
        return Ok(groups.clone());
    };
    let size = match window.kind {
        WindowKind::Tumble { size } | WindowKind::Hop { size, .. } => size,
        WindowKind::Session { .. } => {
            return Err(SqlError::unsupported(
                "sessions that retention drops are not audited: the events do not say when a \
                 session was dropped",
            ));
        }
    };
    let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let cutoff = watermark.0.saturating_sub(retention);
    let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let starts = cast(groups.column(window.group), &micros).map_err(broken)?;
    let starts = cast(&starts, &DataType::Int64).map_err(broken)?;
    let starts: &Int64Array = starts.as_primitive();
    let keep = starts.iter().map(|start| start.is_none_or(|start| cutoff < start + size));
    let keep: arrow::array::BooleanArray = keep.map(Some).collect();
    arrow::compute::filter_record_batch(groups, &keep).map_err(broken)
}

/// The groups of which the two say different things, as text in the order of their keys.
fn compare(
    definition: &Definition,
    state: &RecordBatch,
    again: &RecordBatch,
) -> Result<Vec<String>, SqlError> {
    let count = definition.groups.len();
    let (left, right) = (keys(state, count)?, keys(again, count)?);
    let places: HashMap<&[u8], usize> =
        (0..).zip(&right).map(|(row, key)| (key.as_slice(), row)).collect();
    let mut differing: Vec<(Vec<u8>, String)> = Vec::new();
    let mut pairs = Vec::new();
    for (row, key) in left.iter().enumerate() {
        match places.get(key.as_slice()) {
            Some(&other) => pairs.push((row, other)),
            None => differing.push((key.clone(), key_text(state, count, row)?)),
        }
    }
    let known: std::collections::HashSet<&[u8]> = left.iter().map(Vec::as_slice).collect();
    for (row, key) in right.iter().enumerate() {
        if !known.contains(key.as_slice()) {
            differing.push((key.clone(), key_text(again, count, row)?));
        }
    }
    let mut is_equal = vec![true; pairs.len()];
    for column in count..state.num_columns() {
        mark(state.column(column), again.column(column), &pairs, &mut is_equal)?;
    }
    for ((row, _), _) in pairs.iter().zip(&is_equal).filter(|(_, equal)| !**equal) {
        differing.push((left[*row].clone(), key_text(state, count, *row)?));
    }
    differing.sort();
    Ok(differing.into_iter().map(|(_, text)| text).collect())
}

/// The group columns as bytes that are equal where the values are.
fn keys(groups: &RecordBatch, count: usize) -> Result<Vec<Vec<u8>>, SqlError> {
    if count == 0 {
        return Ok(vec![Vec::new(); groups.num_rows()]);
    }
    let columns = &groups.columns()[..count];
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(broken)?;
    let rows = converter.convert_columns(columns).map_err(broken)?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}

fn key_text(groups: &RecordBatch, count: usize, row: usize) -> Result<String, SqlError> {
    let options = FormatOptions::default().with_null("NULL");
    let values = groups.columns()[..count].iter().map(|column| {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(broken)?;
        Ok::<_, SqlError>(formatter.value(row).to_string())
    });
    Ok(format!("({})", values.collect::<Result<Vec<_>, _>>()?.join(", ")))
}

/// Marks the pairs of rows in which two columns differ.
fn mark(
    left: &ArrayRef,
    right: &ArrayRef,
    pairs: &[(usize, usize)],
    is_equal: &mut [bool],
) -> Result<(), SqlError> {
    if left.data_type() == &DataType::Float64 {
        let (left, right) =
            (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
        for (&(row, other), equal) in pairs.iter().zip(is_equal) {
            let same = match (left.is_null(row), right.is_null(other)) {
                (false, false) => is_close(left.value(row), right.value(other)),
                (left, right) => left == right,
            };
            *equal &= same;
        }
        return Ok(());
    }
    let options = arrow::compute::SortOptions::default();
    let comparator = arrow::array::make_comparator(left, right, options).map_err(broken)?;
    for (&(row, other), equal) in pairs.iter().zip(is_equal) {
        *equal &= comparator(row, other).is_eq();
    }
    Ok(())
}

/// The wrapping sum over all groups of a hash of each.
fn digest_of(groups: &RecordBatch) -> Result<u128, SqlError> {
    let fields = groups.schema_ref().fields().iter();
    let fields = fields.map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(broken)?;
    let rows = converter.convert_columns(groups.columns()).map_err(broken)?;
    let hashes = rows.iter().map(|row| group_hash(row.as_ref(), &[]));
    Ok(hashes.fold(0_u128, u128::wrapping_add))
}

fn is_close(left: f64, right: f64) -> bool {
    left == right
        || (left.is_nan() && right.is_nan())
        || (left - right).abs() <= DOUBLE_TOLERANCE * left.abs().max(right.abs())
}

fn table(findings: &[Finding]) -> Result<RecordBatch, SqlError> {
    let parts = || findings.iter().map(|finding| &finding.part);
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Rows::default()
        .add("partition", partition(parts().map(|part| part.partition)))
        .add("from_offset", big(parts().map(|part| to_i64(part.start))))
        .add("to_offset", big(parts().map(|part| to_i64(part.next))))
        .add("groups", big(findings.iter().map(|finding| count(finding.groups))))
        .add("digest", text(findings.iter().map(|finding| format!("{:032x}", finding.digest))))
        .add(
            "verdict",
            text(findings.iter().map(|finding| match finding.verdict {
                Verdict::Equal => "equal".into(),
                Verdict::Differs(_) => "differs".into(),
                Verdict::NotComparable(_) => "not comparable".into(),
            })),
        )
        .add("differing", big(findings.iter().map(|finding| count(finding.differing.len()))))
        .add("first", maybe_text(findings.iter().map(|finding| finding.differing.first().cloned())))
        .add("last", maybe_text(findings.iter().map(|finding| finding.differing.last().cloned())))
        .add(
            "detail",
            maybe_text(findings.iter().map(|finding| match &finding.verdict {
                Verdict::Equal => None,
                Verdict::Differs(detail) => detail.clone(),
                Verdict::NotComparable(reason) => Some(reason.clone()),
            })),
        )
        .build()
}
