//! PostgreSQL's numbers and names of types, and which of ours they are.

use alluvium_core::schema::ColumnType;
use alluvium_views::columns;
use arrow::datatypes::{DataType, Field};

/// A type as PostgreSQL's protocol and catalogue name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgType {
    /// Its number.
    pub oid: u32,
    /// Bytes of a value; -1 where they differ.
    pub size: i16,
    /// What is said in parentheses; -1 where nothing is.
    pub modifier: i32,
}

/// A row of `pg_type`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub oid: u32,
    pub name: &'static str,
    /// As SQL writes it.
    pub shown: &'static str,
    pub size: i16,
    /// As `typcategory` has it.
    pub category: &'static str,
    /// The type of arrays of it; 0 for none.
    pub array: u32,
}

const fn known(
    oid: u32,
    name: &'static str,
    shown: &'static str,
    size: i16,
    category: &'static str,
    array: u32,
) -> Known {
    Known { oid, name, shown, size, category, array }
}

/// Text, which everything can be shown as.
const TEXT: u32 = 25;

/// The types there are, without their arrays.
pub(super) const KNOWN: [Known; 25] = [
    known(16, "bool", "boolean", 1, "B", 1000),
    known(17, "bytea", "bytea", -1, "U", 1001),
    known(18, "char", "\"char\"", 1, "Z", 1002),
    known(19, "name", "name", 64, "S", 1003),
    known(20, "int8", "bigint", 8, "N", 1016),
    known(21, "int2", "smallint", 2, "N", 1005),
    known(23, "int4", "integer", 4, "N", 1007),
    known(24, "regproc", "regproc", 4, "N", 1008),
    known(TEXT, "text", "text", -1, "S", 1009),
    known(26, "oid", "oid", 4, "N", 1028),
    known(114, "json", "json", -1, "U", 199),
    known(700, "float4", "real", 4, "N", 1021),
    known(701, "float8", "double precision", 8, "N", 1022),
    known(705, "unknown", "unknown", -2, "X", 0),
    known(1042, "bpchar", "character", -1, "S", 1014),
    known(1043, "varchar", "character varying", -1, "S", 1015),
    known(1082, "date", "date", 4, "D", 1182),
    known(1083, "time", "time without time zone", 8, "D", 1183),
    known(1114, "timestamp", "timestamp without time zone", 8, "D", 1115),
    known(1184, "timestamptz", "timestamp with time zone", 8, "D", 1185),
    known(1186, "interval", "interval", 16, "T", 1187),
    known(1700, "numeric", "numeric", -1, "N", 1231),
    known(2205, "regclass", "regclass", 4, "N", 2210),
    known(2206, "regtype", "regtype", 4, "N", 2211),
    known(3802, "jsonb", "jsonb", -1, "U", 3807),
];

/// The type of a column of an answer or a table. What PostgreSQL has no type for is text.
pub fn pg_type(field: &Field) -> PgType {
    columns::column_type_of_field(field).map_or(plain(TEXT), |column_type| of(&column_type))
}

pub(super) fn of(column_type: &ColumnType) -> PgType {
    let oid = match column_type {
        ColumnType::Boolean => 16,
        ColumnType::SmallInt => 21,
        ColumnType::Integer => 23,
        ColumnType::BigInt => 20,
        ColumnType::Real => 700,
        ColumnType::Double => 701,
        ColumnType::Numeric { precision, scale } => {
            let modifier = (i32::from(*precision) << 16 | i32::from(*scale)) + 4;
            return PgType { modifier, ..plain(1700) };
        }
        ColumnType::Text => TEXT,
        ColumnType::Bytes => 17,
        ColumnType::Date => 1082,
        ColumnType::Time => 1083,
        ColumnType::Timestamp => 1114,
        ColumnType::TimestampTz => 1184,
        ColumnType::Interval => 1186,
        ColumnType::Json | ColumnType::Struct(_) => 114,
        ColumnType::List(item) => match by_oid(of(item).oid) {
            Some(item) => return PgType { oid: item.array, size: -1, modifier: -1 },
            // Lists of lists are shown as JSON.
            None => 114,
        },
    };
    plain(oid)
}

/// The number of one of our types.
pub fn oid_of(column_type: &ColumnType) -> u32 {
    of(column_type).oid
}

fn plain(oid: u32) -> PgType {
    let size = by_oid(oid).map_or(-1, |known| known.size);
    PgType { oid, size, modifier: -1 }
}

pub(super) fn by_oid(oid: u32) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.oid == oid)
}

/// Our type for one of PostgreSQL's; `None` where there is none, or it is not said (0, `unknown`).
pub fn column_type_of(oid: u32) -> Option<ColumnType> {
    let column_type = match oid {
        16 => ColumnType::Boolean,
        17 => ColumnType::Bytes,
        20 => ColumnType::BigInt,
        21 => ColumnType::SmallInt,
        23 | 26 => ColumnType::Integer,
        18 | 19 | TEXT | 1042 | 1043 => ColumnType::Text,
        114 | 3802 => ColumnType::Json,
        700 => ColumnType::Real,
        701 => ColumnType::Double,
        1082 => ColumnType::Date,
        1083 => ColumnType::Time,
        1114 => ColumnType::Timestamp,
        1184 => ColumnType::TimestampTz,
        1186 => ColumnType::Interval,
        1700 => ColumnType::Numeric { precision: 38, scale: 10 },
        0 => return None,
        array => {
            let item = KNOWN.iter().find(|known| known.array == array)?;
            ColumnType::List(Box::new(column_type_of(item.oid)?))
        }
    };
    Some(column_type)
}

/// A type by one of its names.
pub(super) fn by_name(name: &str) -> Option<u32> {
    let name = name.trim().to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let (name, is_array) = match name.strip_suffix("[]") {
        Some(item) => (item, true),
        None => (name, false),
    };
    let name = match name {
        "int" => "int4",
        "timestamp" => "timestamp",
        "decimal" => "numeric",
        other => other,
    };
    let known = KNOWN.iter().find(|known| known.name == name || known.shown == name)?;
    Some(if is_array { known.array } else { known.oid })
}

/// A type as SQL writes it.
pub(super) fn shown(oid: u32, modifier: Option<i32>) -> Option<String> {
    if let Some(array) = KNOWN.iter().find(|known| known.array == oid && oid != 0) {
        return Some(format!("{}[]", array.shown));
    }
    let known = by_oid(oid)?;
    match modifier {
        Some(modifier) if oid == 1700 && 4 <= modifier => {
            let (precision, scale) = ((modifier - 4) >> 16, (modifier - 4) & 0xffff);
            Some(format!("numeric({precision},{scale})"))
        }
        Some(_) | None => Some(known.shown.into()),
    }
}

/// The Arrow form of numbers of types and tables.
pub(super) const OID: DataType = DataType::Int32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_there_and_back() {
        for known in KNOWN.iter().filter(|known| column_type_of(known.oid).is_some()) {
            let ours = column_type_of(known.oid).unwrap();
            let theirs = of(&ours).oid;
            assert_eq!(column_type_of(theirs), Some(ours), "{}", known.name);
        }
    }

    #[test]
    fn types_are_found_by_their_names() {
        assert_eq!(by_name("integer[]"), Some(1007));
        assert_eq!(by_name("hstore"), None);
        assert_eq!(shown(1700, Some((10 << 16 | 2) + 4)).as_deref(), Some("numeric(10,2)"));
        assert_eq!(shown(1009, None).as_deref(), Some("text[]"));
    }
}
