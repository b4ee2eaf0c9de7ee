//! The stored form of a stream's definition, shared by commands and checkpoints.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! definition: name text | column list | partition_by: list of u32 | event_time: optional u32
//!             | partitions u32 | retention in microseconds: optional u64 | replicas u32
//! column:     name text | nullable flag | type
//! type:       tag u8, then numeric: precision u8, scale u8; list: type; struct: column list
//! ```

use std::time::Duration;

use super::names::check_name;
use crate::codec::{Malformed, Reader, Writer};
use crate::schema::{Column, ColumnType, StreamSchema};
use crate::stream::{PARTITIONS_MAX, StreamDefinition};

/// How deep lists and structs may stand in each other: deeper than anyone reads, shallow enough for
/// every stack.
pub const TYPE_DEPTH_MAX: usize = 32;

const COLUMN_BYTES_MIN: usize = 6;

const TAG_BOOLEAN: u8 = 1;
const TAG_SMALL_INT: u8 = 2;
const TAG_INTEGER: u8 = 3;
const TAG_BIG_INT: u8 = 4;
const TAG_REAL: u8 = 5;
const TAG_DOUBLE: u8 = 6;
const TAG_NUMERIC: u8 = 7;
const TAG_TEXT: u8 = 8;
const TAG_BYTES: u8 = 9;
const TAG_DATE: u8 = 10;
const TAG_TIME: u8 = 11;
const TAG_TIMESTAMP: u8 = 12;
const TAG_TIMESTAMP_TZ: u8 = 13;
const TAG_INTERVAL: u8 = 14;
const TAG_JSON: u8 = 15;
const TAG_LIST: u8 = 16;
const TAG_STRUCT: u8 = 17;

/// Checks what the types leave open: the name, the numbers, the places of columns.
pub fn check_definition(definition: &StreamDefinition) -> Result<(), Malformed> {
    let name = &definition.name;
    check_name(name).map_err(|invalid| Malformed::inconsistent(invalid.to_string()))?;
    let columns = definition.schema.columns();
    let places = definition.partition_by.iter().chain(&definition.event_time);
    if let Some(place) = places.into_iter().find(|&&place| columns.len() <= place) {
        let reason = format!("stream \"{name}\" has {} columns, none at {place}", columns.len());
        return Err(Malformed::inconsistent(reason));
    }
    let partitions = definition.partitions;
    if partitions == 0 || PARTITIONS_MAX < partitions {
        let reason = format!("stream \"{name}\" cannot have {partitions} partitions");
        return Err(Malformed::inconsistent(reason));
    }
    if definition.replicas == 0 {
        return Err(Malformed::inconsistent(format!("stream \"{name}\" has no replica")));
    }
    let depth = columns.iter().map(|column| depth_of(&column.column_type)).max().unwrap_or(0);
    if TYPE_DEPTH_MAX < depth {
        let reason = format!("stream \"{name}\" nests types {depth} deep");
        return Err(Malformed::inconsistent(reason));
    }
    Ok(())
}

/// Writes a definition.
pub fn encode_definition(writer: &mut Writer, definition: &StreamDefinition) {
    writer.text(&definition.name);
    encode_columns(writer, definition.schema.columns());
    writer.count(definition.partition_by.len());
    for &place in &definition.partition_by {
        writer.count(place);
    }
    writer.flag(definition.event_time.is_some());
    if let Some(place) = definition.event_time {
        writer.count(place);
    }
    writer.u32(definition.partitions);
    writer.flag(definition.retention.is_some());
    if let Some(retention) = definition.retention {
        // Half a million years; longer is the same as for ever.
        writer.u64(u64::try_from(retention.as_micros()).unwrap_or(u64::MAX));
    }
    writer.u32(definition.replicas);
}

/// Reads a definition and checks it.
pub fn decode_definition(reader: &mut Reader<'_>) -> Result<StreamDefinition, Malformed> {
    let name = reader.text()?.to_owned();
    let columns = decode_columns(reader, 0)?;
    let schema = StreamSchema::new(columns)
        .map_err(|invalid| Malformed::inconsistent(format!("stream \"{name}\": {invalid}")))?;
    let mut partition_by = Vec::new();
    for _ in 0..reader.count(4)? {
        partition_by.push(reader.u32()? as usize);
    }
    let event_time = match reader.flag()? {
        true => Some(reader.u32()? as usize),
        false => None,
    };
    let partitions = reader.u32()?;
    let retention = match reader.flag()? {
        true => Some(Duration::from_micros(reader.u64()?)),
        false => None,
    };
    let replicas = reader.u32()?;
    let definition = StreamDefinition {
        name,
        schema,
        partition_by,
        event_time,
        partitions,
        retention,
        replicas,
    };
    check_definition(&definition)?;
    Ok(definition)
}

fn depth_of(column_type: &ColumnType) -> usize {
    match column_type {
        ColumnType::List(item) => 1 + depth_of(item),
        ColumnType::Struct(fields) => {
            1 + fields.iter().map(|field| depth_of(&field.column_type)).max().unwrap_or(0)
        }
        ColumnType::Boolean
        | ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double
        | ColumnType::Numeric { .. }
        | ColumnType::Text
        | ColumnType::Bytes
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval
        | ColumnType::Json => 0,
    }
}

fn encode_columns(writer: &mut Writer, columns: &[Column]) {
    writer.count(columns.len());
    for column in columns {
        writer.text(&column.name);
        writer.flag(column.nullable);
        encode_type(writer, &column.column_type);
    }
}

fn encode_type(writer: &mut Writer, column_type: &ColumnType) {
    match column_type {
        ColumnType::Boolean => writer.u8(TAG_BOOLEAN),
        ColumnType::SmallInt => writer.u8(TAG_SMALL_INT),
        ColumnType::Integer => writer.u8(TAG_INTEGER),
        ColumnType::BigInt => writer.u8(TAG_BIG_INT),
        ColumnType::Real => writer.u8(TAG_REAL),
        ColumnType::Double => writer.u8(TAG_DOUBLE),
        ColumnType::Numeric { precision, scale } => {
            writer.raw(&[TAG_NUMERIC, *precision, *scale]);
        }
        ColumnType::Text => writer.u8(TAG_TEXT),
        ColumnType::Bytes => writer.u8(TAG_BYTES),
        ColumnType::Date => writer.u8(TAG_DATE),
        ColumnType::Time => writer.u8(TAG_TIME),
        ColumnType::Timestamp => writer.u8(TAG_TIMESTAMP),
        ColumnType::TimestampTz => writer.u8(TAG_TIMESTAMP_TZ),
        ColumnType::Interval => writer.u8(TAG_INTERVAL),
        ColumnType::Json => writer.u8(TAG_JSON),
        ColumnType::List(item) => {
            writer.u8(TAG_LIST);
            encode_type(writer, item);
        }
        ColumnType::Struct(fields) => {
            writer.u8(TAG_STRUCT);
            encode_columns(writer, fields);
        }
    }
}

fn decode_columns(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Column>, Malformed> {
    let count = reader.count(COLUMN_BYTES_MIN)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text()?.to_owned();
        let nullable = reader.flag()?;
        let column_type = decode_type(reader, depth)?;
        columns.push(Column { name, column_type, nullable });
    }
    Ok(columns)
}

fn decode_type(reader: &mut Reader<'_>, depth: usize) -> Result<ColumnType, Malformed> {
    if TYPE_DEPTH_MAX < depth {
        return Err(Malformed::inconsistent(format!("types nest more than {TYPE_DEPTH_MAX} deep")));
    }
    let at = reader.position();
    let column_type = match reader.u8()? {
        TAG_BOOLEAN => ColumnType::Boolean,
        TAG_SMALL_INT => ColumnType::SmallInt,
        TAG_INTEGER => ColumnType::Integer,
        TAG_BIG_INT => ColumnType::BigInt,
        TAG_REAL => ColumnType::Real,
        TAG_DOUBLE => ColumnType::Double,
        TAG_NUMERIC => ColumnType::Numeric { precision: reader.u8()?, scale: reader.u8()? },
        TAG_TEXT => ColumnType::Text,
        TAG_BYTES => ColumnType::Bytes,
        TAG_DATE => ColumnType::Date,
        TAG_TIME => ColumnType::Time,
        TAG_TIMESTAMP => ColumnType::Timestamp,
        TAG_TIMESTAMP_TZ => ColumnType::TimestampTz,
        TAG_INTERVAL => ColumnType::Interval,
        TAG_JSON => ColumnType::Json,
        TAG_LIST => ColumnType::List(Box::new(decode_type(reader, depth + 1)?)),
        TAG_STRUCT => ColumnType::Struct(decode_columns(reader, depth + 1)?),
        found => {
            return Err(Malformed::Unknown { what: "column type", found: u64::from(found), at });
        }
    };
    Ok(column_type)
}
