//! The columns of a stream, in our own words: what the catalogue keeps, free of any library's
//! types.

/// The type of a column. The SQL name of each is its PostgreSQL name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `BOOLEAN`
    Boolean,
    /// `SMALLINT`: 16 bits, signed.
    SmallInt,
    /// `INTEGER`: 32 bits, signed.
    Integer,
    /// `BIGINT`: 64 bits, signed.
    BigInt,
    /// `REAL`: 32-bit float.
    Real,
    /// `DOUBLE PRECISION`: 64-bit float.
    Double,
    /// `NUMERIC(precision, scale)`: exact, precision 1 to 38, scale 0 to precision.
    Numeric {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `TEXT`, `VARCHAR`: UTF-8.
    Text,
    /// `BYTEA`
    Bytes,
    /// `DATE`: days.
    Date,
    /// `TIME`: microseconds of a day.
    Time,
    /// `TIMESTAMP`: microseconds, no zone.
    Timestamp,
    /// `TIMESTAMPTZ`: microseconds, UTC.
    TimestampTz,
    /// `INTERVAL`: months, days, nanoseconds.
    Interval,
    /// `JSON`: text that is checked to be JSON when it comes in.
    Json,
    /// `T[]`
    List(Box<ColumnType>),
    /// `STRUCT<a T, b U>`
    Struct(Vec<Column>),
}

/// One column: a name, a type, and whether null may stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Lower case unless it was quoted.
    pub name: String,
    /// What it holds.
    pub column_type: ColumnType,
    /// False for `NOT NULL`.
    pub nullable: bool,
}

/// The columns of a stream in the order of its definition. Never empty, names unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSchema {
    columns: Vec<Column>,
}

/// Names that every stream has beside its own columns.
pub const HIDDEN_COLUMNS: [&str; 3] = ["_partition", "_offset", "_appended_at"];

/// Columns one stream may have: a row of 1,024 nulls still fits the wire's limits many times over.
pub const COLUMNS_MAX: usize = 1_024;

/// Why a list of columns is not a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    /// No column at all.
    #[error("a stream needs at least one column")]
    Empty,
    /// More than [`COLUMNS_MAX`].
    #[error("{count} columns are more than a stream may have ({COLUMNS_MAX})")]
    TooManyColumns {
        /// How many were given.
        count: usize,
    },
    /// The name is taken twice.
    #[error("column \"{name}\" is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// The name belongs to a hidden column.
    #[error("column name \"{name}\" is kept for the node's own columns; choose another")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Precision or scale out of range.
    #[error(
        "column \"{name}\": NUMERIC({precision}, {scale}) needs 1 <= precision <= 38 and scale <= precision"
    )]
    Numeric {
        /// The column.
        name: String,
        /// As given.
        precision: u8,
        /// As given.
        scale: u8,
    },
}

impl StreamSchema {
    /// Checks names and numbers.
    pub fn new(columns: Vec<Column>) -> Result<StreamSchema, InvalidSchema> {
        if columns.is_empty() {
            return Err(InvalidSchema::Empty);
        }
        if COLUMNS_MAX < columns.len() {
            return Err(InvalidSchema::TooManyColumns { count: columns.len() });
        }
        let mut seen = std::collections::BTreeSet::new();
        for column in &columns {
            if HIDDEN_COLUMNS.contains(&column.name.as_str()) {
                return Err(InvalidSchema::Reserved { name: column.name.clone() });
            }
            if !seen.insert(column.name.as_str()) {
                return Err(InvalidSchema::Twice { name: column.name.clone() });
            }
            column.column_type.check(&column.name)?;
        }
        Ok(StreamSchema { columns })
    }

    /// The columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The place of a column by its exact name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl ColumnType {
    fn check(&self, name: &str) -> Result<(), InvalidSchema> {
        match self {
            &ColumnType::Numeric { precision, scale } => {
                if precision == 0 || 38 < precision || precision < scale {
                    return Err(InvalidSchema::Numeric { name: name.into(), precision, scale });
                }
                Ok(())
            }
            ColumnType::List(item) => item.check(name),
            ColumnType::Struct(fields) => {
                fields.iter().try_for_each(|field| field.column_type.check(&field.name))
            }
            ColumnType::Boolean
            | ColumnType::SmallInt
            | ColumnType::Integer
            | ColumnType::BigInt
            | ColumnType::Real
            | ColumnType::Double
            | ColumnType::Text
            | ColumnType::Bytes
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
            | ColumnType::Interval
            | ColumnType::Json => Ok(()),
        }
    }
}

impl std::fmt::Display for ColumnType {
    /// The SQL name: what `DESCRIBE` prints and `CREATE STREAM` reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnType::Boolean => f.write_str("BOOLEAN"),
            ColumnType::SmallInt => f.write_str("SMALLINT"),
            ColumnType::Integer => f.write_str("INTEGER"),
            ColumnType::BigInt => f.write_str("BIGINT"),
            ColumnType::Real => f.write_str("REAL"),
            ColumnType::Double => f.write_str("DOUBLE PRECISION"),
            ColumnType::Numeric { precision, scale } => write!(f, "NUMERIC({precision}, {scale})"),
            ColumnType::Text => f.write_str("TEXT"),
            ColumnType::Bytes => f.write_str("BYTEA"),
            ColumnType::Date => f.write_str("DATE"),
            ColumnType::Time => f.write_str("TIME"),
            ColumnType::Timestamp => f.write_str("TIMESTAMP"),
            ColumnType::TimestampTz => f.write_str("TIMESTAMPTZ"),
            ColumnType::Interval => f.write_str("INTERVAL"),
            ColumnType::Json => f.write_str("JSON"),
            ColumnType::List(item) => write!(f, "{item}[]"),
            ColumnType::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (place, field) in fields.iter().enumerate() {
                    if place != 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{} {}", field.name, field.column_type)?;
                }
                f.write_str(">")
            }
        }
    }
}
