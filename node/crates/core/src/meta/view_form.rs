//! The stored form of views, shared by commands and checkpoints, and what a definition must keep
//! to.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! definition: name text | query text | materialized flag | reads: list of text
//!             | folds: optional u64 | retention: optional u64 | lateness u64
//!             | emit_final_after: optional u64 | on_error u8, 1 quarantine, 2 park
//! view:       id u64 | created_at i64 | definition
//! ```
//!
//! Durations are in microseconds.

use std::time::Duration;

use super::names::{InvalidName, check_name};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{StreamId, ViewId};
use crate::time::Time;
use crate::view::{OnError, QUERY_BYTES_MAX, View, ViewDefinition, ViewOptions};

/// Streams and views one view may read: more than anyone joins, few enough to look through for each
/// change of the catalogue.
pub const READS_MAX: usize = 64;

/// The longest duration of an option, about a thousand years: far from the ends of [`Time`], so
/// that nobody who adds one to a time of our days has to think of overflow.
pub const OPTION_DURATION_MAX: Duration = Duration::from_secs(365_250 * 24 * 3_600);

const READ_BYTES_MIN: usize = 5;
const QUARANTINE: u8 = 1;
const PARK: u8 = 2;

/// Why a definition is none. Another definition is needed; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidView {
    /// The view's name, or one of those it reads.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No text after `AS`.
    #[error("view \"{name}\" has no query")]
    NoQuery {
        /// The view.
        name: String,
    },
    /// More text than [`QUERY_BYTES_MAX`].
    #[error("the query of view \"{name}\" has {bytes} bytes; at most {QUERY_BYTES_MAX} are kept")]
    QueryTooLong {
        /// The view.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// More than [`READS_MAX`].
    #[error("view \"{name}\" reads {count} streams and views; at most {READS_MAX} are allowed")]
    TooManyReads {
        /// The view.
        name: String,
        /// How many.
        count: usize,
    },
    /// The names it reads are not in order, each once.
    #[error("view \"{name}\" must name what it reads in order, each once")]
    ReadsUnordered {
        /// The view.
        name: String,
    },
    /// Folding without keeping.
    #[error("view \"{name}\" folds a stream but is not materialized")]
    FoldsUnkept {
        /// The view.
        name: String,
    },
    /// Folding a stream that it does not name.
    #[error("view \"{name}\" folds a stream but reads none")]
    FoldsUnread {
        /// The view.
        name: String,
    },
    /// An option above [`OPTION_DURATION_MAX`].
    #[error("{option} of view \"{name}\" is longer than a thousand years")]
    TooLong {
        /// The view.
        name: String,
        /// Which option.
        option: &'static str,
    },
}

/// Checks what the types leave open. What does not pass cannot be decoded, so whoever proposes a
/// view asks first.
pub fn check_view(definition: &ViewDefinition) -> Result<(), InvalidView> {
    let ViewDefinition { name, query, materialized, reads, folds, options } = definition;
    check_name(name)?;
    let named = || name.clone();
    if query.is_empty() {
        return Err(InvalidView::NoQuery { name: named() });
    }
    if QUERY_BYTES_MAX < query.len() {
        return Err(InvalidView::QueryTooLong { name: named(), bytes: query.len() });
    }
    if READS_MAX < reads.len() {
        return Err(InvalidView::TooManyReads { name: named(), count: reads.len() });
    }
    reads.iter().try_for_each(|read| check_name(read))?;
    if !reads.is_sorted_by(|before, after| before < after) {
        return Err(InvalidView::ReadsUnordered { name: named() });
    }
    if folds.is_some() && !materialized {
        return Err(InvalidView::FoldsUnkept { name: named() });
    }
    if folds.is_some() && reads.is_empty() {
        return Err(InvalidView::FoldsUnread { name: named() });
    }
    let durations = [
        ("retention", options.retention),
        ("lateness", Some(options.lateness)),
        ("emit_final_after", options.emit_final_after),
    ];
    let too_long = |&(_, duration): &(_, Option<Duration>)| {
        duration.is_some_and(|duration| OPTION_DURATION_MAX < duration)
    };
    match durations.into_iter().find(too_long) {
        Some((option, _)) => Err(InvalidView::TooLong { name: named(), option }),
        None => Ok(()),
    }
}

/// Writes a definition.
pub fn encode_view_definition(writer: &mut Writer, definition: &ViewDefinition) {
    writer.text(&definition.name);
    writer.text(&definition.query);
    writer.flag(definition.materialized);
    writer.count(definition.reads.len());
    for read in &definition.reads {
        writer.text(read);
    }
    encode_optional(writer, definition.folds.map(|stream| stream.0));
    let options = &definition.options;
    encode_optional(writer, options.retention.map(micros));
    writer.u64(micros(options.lateness));
    encode_optional(writer, options.emit_final_after.map(micros));
    writer.u8(match options.on_error {
        OnError::Quarantine => QUARANTINE,
        OnError::Park => PARK,
    });
}

/// Reads a definition and checks it.
pub fn decode_view_definition(reader: &mut Reader<'_>) -> Result<ViewDefinition, Malformed> {
    let name = reader.text()?.to_owned();
    let query = reader.text()?.to_owned();
    let materialized = reader.flag()?;
    let mut reads = Vec::new();
    for _ in 0..reader.count(READ_BYTES_MIN)? {
        reads.push(reader.text()?.to_owned());
    }
    let folds = decode_optional(reader)?.map(StreamId);
    let retention = decode_optional(reader)?.map(Duration::from_micros);
    let lateness = Duration::from_micros(reader.u64()?);
    let emit_final_after = decode_optional(reader)?.map(Duration::from_micros);
    let at = reader.position();
    let on_error = match reader.u8()? {
        QUARANTINE => OnError::Quarantine,
        PARK => OnError::Park,
        found => {
            let what = "answer to errors";
            return Err(Malformed::Unknown { what, found: u64::from(found), at });
        }
    };
    let options = ViewOptions { retention, lateness, emit_final_after, on_error };
    let definition = ViewDefinition { name, query, materialized, reads, folds, options };
    check_view(&definition).map_err(|invalid| Malformed::inconsistent(invalid.to_string()))?;
    Ok(definition)
}

/// Writes one life of a view.
pub fn encode_view(writer: &mut Writer, view: &View) {
    writer.u64(view.id.0);
    writer.i64(view.created_at.0);
    encode_view_definition(writer, &view.definition);
}

/// Reads one life of a view.
pub fn decode_view(reader: &mut Reader<'_>) -> Result<View, Malformed> {
    let id = ViewId(reader.u64()?);
    let created_at = Time(reader.i64()?);
    Ok(View { id, created_at, definition: decode_view_definition(reader)? })
}

fn encode_optional(writer: &mut Writer, value: Option<u64>) {
    writer.flag(value.is_some());
    if let Some(value) = value {
        writer.u64(value);
    }
}

fn decode_optional(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    match reader.flag()? {
        true => Ok(Some(reader.u64()?)),
        false => Ok(None),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("options are checked to be shorter")
}
