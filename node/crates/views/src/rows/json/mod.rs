//! Rows from JSON: objects one a line, or following each other.
//!
//! One pass over the text, each value written straight into its column. The type of a column says
//! how its values are read:
//!
//! | column | JSON |
//! |---|---|
//! | integers | a number without fraction, or a string of one |
//! | floats | a number: the nearest float; or a string, also `"NaN"`, `"Infinity"` |
//! | NUMERIC | a number or a string, exact: digits the column does not keep are refused |
//! | BOOLEAN | `true`, `false`, or a string of PostgreSQL's words for them |
//! | TEXT | a string |
//! | BYTEA | a string of `\x` and hex, as PostgreSQL prints it |
//! | DATE, TIME, TIMESTAMP, TIMESTAMPTZ | ISO 8601; timestamps also microseconds since 1970 |
//! | INTERVAL | a string: `1 day 02:30:00`, or ISO 8601 |
//! | JSON | any value, kept as it was written |
//! | list, struct | array, object |
//!
//! `null`, or no key, is null. Keys are the names of columns; where none is exactly so, the one
//! that differs only in case. Unknown keys and keys given twice are refused.

mod column;
mod object;
mod scan;

use alluvium_core::schema::StreamSchema;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use self::object::Object;
use self::scan::Scanner;
use super::conform::row_bytes_min;
use super::misfit::Misfit;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, InvalidRows, UNPACKED_BYTES_MAX};

/// Checks that a text is one JSON value.
pub(super) use self::scan::check_value;

/// Room for values is made as if rows were so long. Wrong guesses cost a little time or memory.
const ROW_BYTES_USUAL: usize = 128;

/// Reads rows written as JSON objects.
pub fn decode_json(
    schema: &StreamSchema,
    log: &SchemaRef,
    bytes: &[u8],
) -> Result<RecordBatch, InvalidRows> {
    if BATCH_BYTES_MAX < bytes.len() {
        return Err(InvalidRows::TooManyBytes { bytes: bytes.len() });
    }
    // What comes before a byte that is not UTF-8 is read first: an error there is an earlier one,
    // and reading it says in which row the bad byte is.
    let (text, is_utf8) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            (std::str::from_utf8(good).expect("valid up to here"), false)
        }
    };
    let mut rows = Object::new(schema.columns(), text.len() / ROW_BYTES_USUAL + 1);
    let mut scanner = Scanner::new(text);
    let read = read_rows(&mut rows, &mut scanner, log);
    if !is_utf8 && scanner.is_at_end() {
        let reason = "the text is not UTF-8".to_owned();
        return Err(InvalidRows::Row { row: rows.len() as u64, reason });
    }
    read?;
    RecordBatch::try_new(SchemaRef::clone(log), rows.finish())
        .map_err(|error| InvalidRows::malformed(error.to_string()))
}

/// Reads small bodies of several senders as one batch: far cheaper than one by one. With the batch
/// comes the number of rows that each body ends at.
///
/// `None` where any body is refused, or all together are too many: read alone, each is good or gets
/// a refusal of its own.
#[must_use]
pub fn decode_json_joined(
    schema: &StreamSchema,
    log: &SchemaRef,
    bodies: &[Bytes],
) -> Option<(RecordBatch, Vec<usize>)> {
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    if BATCH_BYTES_MAX < bytes {
        return None;
    }
    let mut rows = Object::new(schema.columns(), bytes / ROW_BYTES_USUAL + 1);
    let mut ends = Vec::with_capacity(bodies.len());
    for body in bodies {
        // Each has a scanner of its own: no object may begin in one body and end in the next.
        let mut scanner = Scanner::new(std::str::from_utf8(body).ok()?);
        read_rows(&mut rows, &mut scanner, log).ok()?;
        ends.push(rows.len());
    }
    let batch = RecordBatch::try_new(SchemaRef::clone(log), rows.finish()).ok()?;
    Some((batch, ends))
}

fn read_rows(
    rows: &mut Object,
    scanner: &mut Scanner<'_>,
    log: &SchemaRef,
) -> Result<(), InvalidRows> {
    let row_count_max = BATCH_EVENTS_MAX.min(UNPACKED_BYTES_MAX / row_bytes_min(log));
    scanner.space();
    while !scanner.is_at_end() {
        let row = rows.len();
        if row == row_count_max {
            return Err(InvalidRows::TooManyEvents { count: row + 1 });
        }
        let in_row = |misfit: Box<Misfit>| misfit.at_row(row).into_invalid(true);
        rows.read(scanner).map_err(in_row)?;
        scanner.space();
    }
    Ok(())
}
