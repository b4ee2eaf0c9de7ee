//! The node's own tables, `SHOW STREAMS` and `DESCRIBE`: what the host says, as rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::meta::access::Privilege;
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::access::{Caller, Rights, run as access};
use crate::create::retention_text;
use crate::cut::{to_i32, to_i64};
use crate::error::SqlError;
use crate::host::{
    Catalogue, Host, MoveRow, NodeRow, PartitionRow, ProducerRow, QuarantineRow, QueryRow,
    SegmentRow, ViewCatalogue, ViewRow,
};
use crate::nearest;

/// The tables of schema `system`.
pub(crate) const TABLES: [&str; 12] = [
    "grants",
    "moves",
    "nodes",
    "partitions",
    "policies",
    "producers",
    "quarantine",
    "queries",
    "segments",
    "streams",
    "users",
    "views",
];

/// Reads one table of schema `system`: of what concerns streams and views, the rows of those that
/// the caller may read; of the cluster, all or nothing.
pub(crate) async fn table(
    host: &dyn Host,
    catalogue: &Catalogue,
    rights: &Rights,
    name: &str,
) -> Result<RecordBatch, SqlError> {
    let operates = || rights.on_cluster(Privilege::Operate);
    let sees = |name: &str| rights.sees(name);
    match name {
        "streams" => {
            let seen = catalogue.iter().filter(|(name, _)| sees(name));
            let seen = seen.map(|(name, stream)| (name.clone(), Arc::clone(stream))).collect();
            streams(&Arc::new(seen), &host.partitions().await?)
        }
        "partitions" => partitions(&kept(host.partitions().await?, |row| sees(&row.stream))),
        "nodes" => {
            operates()?;
            nodes(&host.nodes().await?)
        }
        "moves" => {
            operates()?;
            moves(&host.moves().await?)
        }
        "producers" => producers(&kept(host.producers().await?, |row| sees(&row.stream))),
        "segments" => segments(&kept(host.segments().await?, |row| sees(&row.stream))),
        "views" => views(&kept(host.view_rows().await?, |row| sees(&row.view))),
        // Its rows show events.
        "quarantine" => {
            let rows = host.quarantine_rows().await?;
            quarantine(&kept(rows, |row| rights.sees_all(&row.stream)))
        }
        // Texts of statements hold data.
        "queries" => {
            let shows_all = operates().is_ok();
            queries(&kept(host.queries(), |row| shows_all || row.caller == *rights.caller()))
        }
        "users" => access::users(rights, false),
        "grants" => access::grants(rights, catalogue, &host.views()),
        "policies" => access::policies(rights),
        _ => {
            let hint = nearest::hint(name, TABLES.into_iter());
            let known = TABLES.join(", ");
            Err(SqlError::NotFound {
                reason: format!("table \"system.{name}\" does not exist{hint}; there are {known}"),
            })
        }
    }
}

/// The columns of a table of schema `system`, without asking the host.
pub(crate) fn empty_table(name: &str) -> Result<RecordBatch, SqlError> {
    match name {
        "streams" => streams(&Catalogue::default(), &[]),
        "partitions" => partitions(&[]),
        "nodes" => nodes(&[]),
        "moves" => moves(&[]),
        "producers" => producers(&[]),
        "segments" => segments(&[]),
        "views" => views(&[]),
        "quarantine" => quarantine(&[]),
        "queries" => queries(&[]),
        "users" => access::users(&nobody(), false),
        "grants" => access::grants(&nobody(), &Catalogue::default(), &ViewCatalogue::default()),
        "policies" => access::policies(&nobody()),
        _ => Err(SqlError::NotFound { reason: format!("table \"system.{name}\" does not exist") }),
    }
}

fn kept<T>(rows: Vec<T>, is_seen: impl Fn(&T) -> bool) -> Vec<T> {
    rows.into_iter().filter(is_seen).collect()
}

/// Who has no role, and so sees none.
fn nobody() -> Rights {
    Rights::new(Caller::Role("".into()), Arc::default())
}

/// What of a stream's partitions adds up.
#[derive(Default)]
struct Sums {
    events: i64,
    segment_count: i64,
    segment_bytes: i64,
    tail_bytes: i64,
}

fn streams(catalogue: &Catalogue, partitions: &[PartitionRow]) -> Result<RecordBatch, SqlError> {
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for row in partitions {
        let sum = sums.entry(&row.stream).or_default();
        sum.events += signed(row.end.since(row.start));
        sum.segment_count += signed(row.segment_count);
        sum.segment_bytes += signed(row.segment_bytes);
        sum.tail_bytes += signed(row.tail_bytes);
    }
    let none = Sums::default();
    let of = |stream: &Arc<Stream>, field: fn(&Sums) -> i64| {
        field(sums.get(stream.definition.name.as_str()).unwrap_or(&none))
    };
    let list: Vec<&Arc<Stream>> = catalogue.values().collect();
    let definitions = || list.iter().map(|stream| &stream.definition);
    let big = |field: fn(&Sums) -> i64| big(list.iter().map(|stream| of(stream, field)));
    Rows::default()
        .add("name", text(definitions().map(|definition| definition.name.clone())))
        .add("stream_id", self::big(list.iter().map(|stream| signed(stream.id.0))))
        .add("partitions", small(definitions().map(|definition| definition.partitions)))
        .add("events", big(|sums| sums.events))
        .add("segments", big(|sums| sums.segment_count))
        .add("segment_bytes", big(|sums| sums.segment_bytes))
        .add("tail_bytes", big(|sums| sums.tail_bytes))
        .add("partition_by", maybe_text(definitions().map(partition_by)))
        .add("event_time", maybe_text(definitions().map(event_time)))
        .add(
            "retention",
            text(definitions().map(|definition| retention_text(definition.retention))),
        )
        .add("replicas", small(definitions().map(|definition| definition.replicas)))
        .add("created_at", time(list.iter().map(|stream| Some(stream.created_at))))
        .build()
}

fn partition_by(definition: &StreamDefinition) -> Option<String> {
    let columns = definition.schema.columns();
    let names = definition.partition_by.iter().filter_map(|&place| columns.get(place));
    let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
    if names.is_empty() { None } else { Some(names.join(", ")) }
}

fn event_time(definition: &StreamDefinition) -> Option<String> {
    let column = definition.schema.columns().get(definition.event_time?)?;
    Some(column.name.clone())
}

fn partitions(rows: &[PartitionRow]) -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("stream", text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("group_id", big(rows.iter().map(|row| signed(row.group))))
        .add("owner", big(rows.iter().map(|row| signed(row.owner))))
        .add("term", big(rows.iter().map(|row| signed(row.term))))
        .add("state", text(rows.iter().map(|row| row.state.clone())))
        .add("replicas", text(rows.iter().map(|row| list(&row.replicas))))
        .add("lag", maybe_big(rows.iter().map(|row| row.lag)))
        .add("start_offset", big(rows.iter().map(|row| to_i64(row.start))))
        .add("end_offset", big(rows.iter().map(|row| to_i64(row.end))))
        .add("events", big(rows.iter().map(|row| signed(row.end.since(row.start)))))
        .add("sealed_end", big(rows.iter().map(|row| to_i64(row.sealed_end))))
        .add("tail_bytes", big(rows.iter().map(|row| signed(row.tail_bytes))))
        .add("segments", big(rows.iter().map(|row| signed(row.segment_count))))
        .add("segment_bytes", big(rows.iter().map(|row| signed(row.segment_bytes))))
        .build()
}

fn nodes(rows: &[NodeRow]) -> Result<RecordBatch, SqlError> {
    let words = |field: fn(&NodeRow) -> &String| text(rows.iter().map(|row| field(row).clone()));
    Rows::default()
        .add("node", big(rows.iter().map(|row| signed(row.node))))
        .add("name", words(|row| &row.name))
        .add("state", words(|row| &row.state))
        .add("alive", flag(rows.iter().map(|row| row.alive)))
        .add("client", words(|row| &row.client))
        .add("peer", words(|row| &row.peer))
        .add("http", words(|row| &row.http))
        .add("pg", words(|row| &row.pg))
        .add("locality", words(|row| &row.locality))
        .add("replicas", big(rows.iter().map(|row| signed(row.replicas))))
        .add("owned", big(rows.iter().map(|row| signed(row.owned))))
        .add("leads_meta", flag(rows.iter().map(|row| row.leads_meta)))
        .build()
}

fn moves(rows: &[MoveRow]) -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("stream", text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("group_id", big(rows.iter().map(|row| signed(row.group))))
        .add("replicas", text(rows.iter().map(|row| list(&row.replicas))))
        .add("wanted", text(rows.iter().map(|row| list(&row.wanted))))
        .add("owner_wanted", big(rows.iter().map(|row| signed(row.owner_wanted))))
        .build()
}

/// Ids as people write them: `1, 2, 3`.
fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn maybe_big(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(signed)).collect::<Int64Array>())
}

fn producers(rows: &[ProducerRow]) -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("producer", text(rows.iter().map(|row| row.producer.clone())))
        .add("producer_id", big(rows.iter().map(|row| signed(row.producer_id))))
        .add("stream", text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("epoch", big(rows.iter().map(|row| i64::from(row.epoch))))
        .add("last_sequence", big(rows.iter().map(|row| signed(row.last_sequence))))
        .add("position", big(rows.iter().map(|row| signed(row.position))))
        .add("last_appended_at", time(rows.iter().map(|row| Some(row.last_appended_at))))
        .build()
}

fn segments(rows: &[SegmentRow]) -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("stream", text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("segment_id", big(rows.iter().map(|row| signed(row.segment))))
        .add("first_offset", big(rows.iter().map(|row| to_i64(row.first))))
        .add("end_offset", big(rows.iter().map(|row| to_i64(row.end))))
        .add("events", big(rows.iter().map(|row| signed(row.end.since(row.first)))))
        .add("file_bytes", big(rows.iter().map(|row| signed(row.file_bytes))))
        .add("level", big(rows.iter().map(|row| i64::from(row.level))))
        .add("event_time_min", time(rows.iter().map(|row| row.event_time_min)))
        .add("event_time_max", time(rows.iter().map(|row| row.event_time_max)))
        .add("created_at", time(rows.iter().map(|row| Some(row.created_at))))
        .add("file", text(rows.iter().map(|row| row.file.clone())))
        .build()
}

fn views(rows: &[ViewRow]) -> Result<RecordBatch, SqlError> {
    let count = |field: fn(&ViewRow) -> u64| big(rows.iter().map(|row| signed(field(row))));
    Rows::default()
        .add("view", text(rows.iter().map(|row| row.view.clone())))
        .add("stream", maybe_text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("state", text(rows.iter().map(|row| row.state.clone())))
        .add("next_offset", big(rows.iter().map(|row| to_i64(row.next_offset))))
        .add("lag_events", count(|row| row.lag_events))
        .add("lag_ms", count(|row| u64::try_from(row.lag.as_millis()).unwrap_or(u64::MAX)))
        .add("groups", count(|row| row.groups))
        .add("state_bytes", count(|row| row.state_bytes))
        .add("folded", count(|row| row.folded))
        .add("filtered", count(|row| row.filtered))
        .add("expired", count(|row| row.expired))
        .add("quarantined", count(|row| row.quarantined))
        .add("watermark", time(rows.iter().map(|row| row.watermark)))
        .add("last_error", maybe_text(rows.iter().map(|row| row.last_error.clone())))
        .add("id", count(|row| row.id))
        .build()
}

fn quarantine(rows: &[QuarantineRow]) -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("view", text(rows.iter().map(|row| row.view.clone())))
        .add("stream", text(rows.iter().map(|row| row.stream.clone())))
        .add("partition", partition(rows.iter().map(|row| row.partition)))
        .add("offset", big(rows.iter().map(|row| to_i64(row.offset))))
        .add("reason", text(rows.iter().map(|row| row.reason.clone())))
        .add("event", text(rows.iter().map(|row| row.event.clone())))
        .build()
}

fn queries(rows: &[QueryRow]) -> Result<RecordBatch, SqlError> {
    let words = |field: fn(&QueryRow) -> &String| text(rows.iter().map(|row| field(row).clone()));
    let elapsed = |row: &QueryRow| i64::try_from(row.elapsed.as_millis()).unwrap_or(i64::MAX);
    Rows::default()
        .add("id", words(|row| &row.id))
        .add("door", words(|row| &row.door))
        .add("role", maybe_text(rows.iter().map(|row| row.caller.owner())))
        .add("client", maybe_text(rows.iter().map(|row| row.client.clone())))
        .add("state", words(|row| &row.state))
        .add("started_at", time(rows.iter().map(|row| Some(row.started_at))))
        .add("elapsed_ms", big(rows.iter().map(elapsed)))
        .add("rows", big(rows.iter().map(|row| signed(row.rows))))
        .add("statement", words(|row| &row.statement))
        .build()
}

/// The columns of a stream, one row each.
pub(crate) fn describe_stream(definition: &StreamDefinition) -> Result<RecordBatch, SqlError> {
    let columns = definition.schema.columns();
    let role = |place: usize| {
        let mut roles = Vec::new();
        if definition.partition_by.contains(&place) {
            roles.push("partition key");
        }
        if definition.event_time == Some(place) {
            roles.push("event time");
        }
        if roles.is_empty() { None } else { Some(roles.join(", ")) }
    };
    Rows::default()
        .add("column_name", text(columns.iter().map(|column| column.name.clone())))
        .add("data_type", text(columns.iter().map(|column| column.column_type.to_string())))
        .add("nullable", flag(columns.iter().map(|column| column.nullable)))
        .add("role", maybe_text((0..columns.len()).map(role)))
        .build()
}

/// The columns of any other table, one row each.
pub(crate) fn describe_schema(schema: &SchemaRef) -> Result<RecordBatch, SqlError> {
    describe_columns(schema, vec![None; schema.fields().len()])
}

/// Columns with what each of them is, one row each.
pub(crate) fn describe_columns(
    schema: &SchemaRef,
    roles: Vec<Option<String>>,
) -> Result<RecordBatch, SqlError> {
    let type_name = |field: &Arc<Field>| {
        let known = alluvium_views::columns::column_type_of(field.data_type());
        known.map_or_else(|| field.data_type().to_string(), |known| known.to_string())
    };
    let fields = schema.fields();
    Rows::default()
        .add("column_name", text(fields.iter().map(|field| field.name().clone())))
        .add("data_type", text(fields.iter().map(type_name)))
        .add("nullable", flag(fields.iter().map(|field| field.is_nullable())))
        .add("role", maybe_text(roles.into_iter()))
        .build()
}

/// A batch, column by column.
#[derive(Default)]
pub(crate) struct Rows {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Rows {
    pub(crate) fn add(mut self, name: &str, column: ArrayRef) -> Rows {
        self.fields.push(Field::new(name, column.data_type().clone(), true));
        self.columns.push(column);
        self
    }

    pub(crate) fn build(self) -> Result<RecordBatch, SqlError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.columns)
            .map_err(|error| SqlError::internal(format!("a system table does not add up: {error}")))
    }
}

pub(crate) fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(crate) fn maybe_text(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

pub(crate) fn flag(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.map(Some)))
}

pub(crate) fn big(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn small(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(
        values.map(|value| i32::try_from(value).unwrap_or(i32::MAX)),
    ))
}

pub(crate) fn partition(
    values: impl Iterator<Item = alluvium_core::ids::PartitionNumber>,
) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values.map(to_i32)))
}

pub(crate) fn time(values: impl Iterator<Item = Option<Time>>) -> ArrayRef {
    let micros = values.map(|value| value.map(|Time(micros)| micros));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

/// Counts beyond 2^63 are never reached, and SQL shows them as BIGINT.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
