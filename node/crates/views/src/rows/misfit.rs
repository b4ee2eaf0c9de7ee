//! What is wrong with one value, before anyone knows where it stands.
//!
//! Made where the value is read, it is handed outwards and learns its place on the way: the item of
//! a list, the field of a struct, the column, the row.

use super::InvalidRows;

/// Something wrong with one value or one field. Boxed, because it is rare and large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The row, or the item in the array looked at.
    pub row: usize,
    /// The column and what is inside it, as in `address.city` or `tags[2]`; empty for a whole row.
    pub path: String,
    /// What is wrong.
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Null,
    Missing,
    Twice,
    Unknown {
        nearest: Option<String>,
    },
    Type {
        found: String,
        expected: String,
    },
    Value(String),
    /// The text is not what it should be at all; no column is to blame.
    Syntax(String),
}

impl Misfit {
    pub fn new(row: usize, what: What) -> Box<Misfit> {
        Box::new(Misfit { row, path: String::new(), what })
    }

    pub fn value(row: usize, reason: impl Into<String>) -> Box<Misfit> {
        Misfit::new(row, What::Value(reason.into()))
    }

    pub fn syntax(reason: impl Into<String>) -> Box<Misfit> {
        Misfit::new(0, What::Syntax(reason.into()))
    }

    /// Inside the field or column of this name.
    pub fn inside(mut self: Box<Misfit>, name: &str) -> Box<Misfit> {
        self.path = match self.path.as_str() {
            "" => name.to_owned(),
            path if path.starts_with('[') => format!("{name}{path}"),
            path => format!("{name}.{path}"),
        };
        self
    }

    /// Inside this item of a list.
    pub fn item(mut self: Box<Misfit>, item: usize) -> Box<Misfit> {
        self.path = match self.path.as_str() {
            path if path.is_empty() || path.starts_with('[') => format!("[{item}]{path}"),
            path => format!("[{item}].{path}"),
        };
        self
    }

    /// In this row.
    pub fn at_row(mut self: Box<Misfit>, row: usize) -> Box<Misfit> {
        self.row = row;
        self
    }

    /// As the caller sees it. `rows_have_columns` where each row says its own columns, so that an
    /// unknown one belongs to a row.
    pub fn into_invalid(self, rows_have_columns: bool) -> InvalidRows {
        let row = self.row as u64;
        let row_of_column = rows_have_columns.then_some(row);
        let column = self.path;
        match self.what {
            What::Null => InvalidRows::Null { row, column },
            What::Missing if rows_have_columns => InvalidRows::Null { row, column },
            What::Missing => InvalidRows::MissingColumn { column },
            What::Twice => InvalidRows::Twice { row: row_of_column, column },
            What::Unknown { nearest } => {
                InvalidRows::UnknownColumn { row: row_of_column, column, nearest }
            }
            What::Type { found, expected } => InvalidRows::Type { column, found, expected },
            What::Value(reason) => InvalidRows::Value { row, column, reason },
            What::Syntax(reason) if column.is_empty() => InvalidRows::Row { row, reason },
            What::Syntax(reason) => InvalidRows::Value { row, column, reason },
        }
    }
}
