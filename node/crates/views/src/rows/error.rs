//! Why rows are refused.

use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, UNPACKED_BYTES_MAX};

/// Why a batch was refused as a whole. The same batch is refused again. Rows count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRows {
    /// The bytes are not what they should be, at no particular row.
    #[error("{reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A row cannot be read.
    #[error("row {row}: {reason}")]
    Row {
        /// Which.
        row: u64,
        /// What is wrong.
        reason: String,
    },
    /// A value does not fit its column.
    #[error("row {row}, column \"{column}\": {reason}")]
    Value {
        /// Which row.
        row: u64,
        /// Which column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// Null, or nothing, in a column that is NOT NULL.
    #[error("row {row}, column \"{column}\": null in a column that is NOT NULL")]
    Null {
        /// Which row.
        row: u64,
        /// Which column.
        column: String,
    },
    /// A column that is NOT NULL was not sent.
    #[error("column \"{column}\" is NOT NULL and is missing")]
    MissingColumn {
        /// Which.
        column: String,
    },
    /// A column was sent that the stream does not have.
    #[error("{}there is no column \"{column}\"{}", at(.row), did_you_mean(.nearest))]
    UnknownColumn {
        /// The row that has it, where rows have columns of their own (JSON).
        row: Option<u64>,
        /// As sent.
        column: String,
        /// The column that is spelled most alike.
        nearest: Option<String>,
    },
    /// Two of the columns sent are the same column of the stream.
    #[error("{}column \"{column}\" is given twice", at(.row))]
    Twice {
        /// The row that has it twice (JSON).
        row: Option<u64>,
        /// Which.
        column: String,
    },
    /// The type sent is never stored in this column.
    #[error("column \"{column}\" is {expected} and cannot take {found}")]
    Type {
        /// Which.
        column: String,
        /// The type sent.
        found: String,
        /// The type of the column.
        expected: String,
    },
    /// More events than one batch may have.
    #[error("{count} events are more than a batch may have ({BATCH_EVENTS_MAX})")]
    TooManyEvents {
        /// How many, or at least how many.
        count: usize,
    },
    /// More bytes than one batch may have.
    #[error("{bytes} bytes are more than a batch may have ({BATCH_BYTES_MAX})")]
    TooManyBytes {
        /// How many.
        bytes: usize,
    },
    /// More bytes than one batch may unpack to.
    #[error("the batch unpacks to {bytes} bytes, more than it may ({UNPACKED_BYTES_MAX})")]
    TooManyUnpackedBytes {
        /// How many.
        bytes: u64,
    },
}

impl InvalidRows {
    /// The row that is wrong, counted from 0, where one is.
    #[must_use]
    pub fn row(&self) -> Option<u64> {
        match self {
            InvalidRows::Row { row, .. }
            | InvalidRows::Value { row, .. }
            | InvalidRows::Null { row, .. } => Some(*row),
            InvalidRows::UnknownColumn { row, .. } | InvalidRows::Twice { row, .. } => *row,
            InvalidRows::Malformed { .. }
            | InvalidRows::MissingColumn { .. }
            | InvalidRows::Type { .. }
            | InvalidRows::TooManyEvents { .. }
            | InvalidRows::TooManyBytes { .. }
            | InvalidRows::TooManyUnpackedBytes { .. } => None,
        }
    }

    /// The column that is wrong, where one is.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        match self {
            InvalidRows::Value { column, .. }
            | InvalidRows::Null { column, .. }
            | InvalidRows::MissingColumn { column }
            | InvalidRows::UnknownColumn { column, .. }
            | InvalidRows::Twice { column, .. }
            | InvalidRows::Type { column, .. } => Some(column),
            InvalidRows::Malformed { .. }
            | InvalidRows::Row { .. }
            | InvalidRows::TooManyEvents { .. }
            | InvalidRows::TooManyBytes { .. }
            | InvalidRows::TooManyUnpackedBytes { .. } => None,
        }
    }

    /// The same, of a batch that has `count` rows before it.
    pub(super) fn behind(mut self, count: u64) -> InvalidRows {
        match &mut self {
            InvalidRows::Row { row, .. }
            | InvalidRows::Value { row, .. }
            | InvalidRows::Null { row, .. } => *row += count,
            InvalidRows::UnknownColumn { row, .. } | InvalidRows::Twice { row, .. } => {
                *row = row.map(|row| row + count);
            }
            InvalidRows::Malformed { .. }
            | InvalidRows::MissingColumn { .. }
            | InvalidRows::Type { .. }
            | InvalidRows::TooManyEvents { .. }
            | InvalidRows::TooManyBytes { .. }
            | InvalidRows::TooManyUnpackedBytes { .. } => {}
        }
        self
    }

    pub(super) fn malformed(reason: impl Into<String>) -> InvalidRows {
        InvalidRows::Malformed { reason: reason.into() }
    }
}

/// The name among `known` that is spelled most like `name`, if any is much like it.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // At least so much of the longer name must be the same.
    const LIKENESS_MIN: f64 = 0.6;
    let lower = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let likeness = strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
        let is_better = best.is_none_or(|(best, _)| best < likeness);
        if LIKENESS_MIN <= likeness && is_better {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate.to_owned())
}

fn at(row: &Option<u64>) -> String {
    row.map_or_else(String::new, |row| format!("row {row}: "))
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean \"{nearest}\"?"),
        None => String::new(),
    }
}
