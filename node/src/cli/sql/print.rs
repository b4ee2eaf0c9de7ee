//! Answers as tables, CSV and JSON.
//!
//! CSV and NDJSON go out as they come in, so that an answer may be longer than memory. A table
//! needs all its rows to know how wide it is, so it has a longest length, and what is said below it
//! tells when that was reached.

use std::io::Write;
use std::time::Duration;

use alluvium_query::print::{Format, Printer};
use alluvium_query::wire::{CorruptBatches, decode_batches};

use crate::cli::CliError;
use crate::cli::freshness;
use crate::cli::status::format_count;
use crate::grpc::client::{Answer, Part, Summary};

/// Rows of a table: more than anybody reads, and a few megabytes of text.
pub const TABLE_ROWS_MAX: u64 = 10_000;

/// What was printed.
#[derive(Debug)]
pub struct Printed {
    /// How the answer ended.
    pub summary: Summary,
    /// Rows that were written: fewer than there are only for a long table.
    pub shown: u64,
    /// Whether the statement has rows at all.
    pub has_rows: bool,
}

/// Prints one answer to its end. A statement without rows prints its tag for people and nothing for
/// programs.
pub async fn print_answer(
    answer: &mut Answer,
    format: Format,
    out: &mut dyn Write,
) -> Result<Printed, CliError> {
    let mut printer = None;
    let mut summary = None;
    while let Some(part) = answer.next().await? {
        match part {
            Part::Schema(bytes) => {
                let (schema, _) = decode_batches(bytes).map_err(garbled)?;
                if !schema.fields().is_empty() {
                    printer = Some(Printer::new(format, schema));
                }
            }
            Part::Rows(bytes) => {
                let (_, batches) = decode_batches(bytes).map_err(garbled)?;
                let Some(printer) = &mut printer else { continue };
                for batch in batches {
                    let room = room(format, printer.row_count());
                    printer.batch(&batch.slice(0, batch.num_rows().min(room)), out)?;
                }
            }
            Part::Summary(said) => summary = Some(said),
        }
    }
    let summary = summary.expect("an answer ends with a summary or an error");
    let shown = printer.as_ref().map_or(0, Printer::row_count);
    let has_rows = printer.is_some();
    match printer {
        Some(printer) => printer.finish(out)?,
        None if format == Format::Table => writeln!(out, "{}", summary.tag)?,
        None => {}
    }
    Ok(Printed { summary, shown, has_rows })
}

fn garbled(error: CorruptBatches) -> CliError {
    CliError::Failed(format!("the node's rows cannot be read: {error}"))
}

/// How many more rows may be printed.
fn room(format: Format, shown: u64) -> usize {
    match format {
        Format::Table => usize::try_from(TABLE_ROWS_MAX - shown).unwrap_or(usize::MAX),
        Format::Csv | Format::Json | Format::NdJson => usize::MAX,
    }
}

/// What is said below a table: how long it took and what the answer reflects.
pub fn note(printed: &Printed, elapsed: Duration) -> String {
    let Printed { summary, shown, has_rows } = printed;
    let mut parts = Vec::new();
    if *has_rows && *shown < summary.row_count {
        let (shown, all) = (format_count(*shown), format_count(summary.row_count));
        parts.push(format!("the first {shown} of {all} rows (--format csv writes all)"));
    }
    parts.push(format!("{:.1} ms", elapsed.as_secs_f64() * 1_000.0));
    let as_of = summary.as_of.iter().map(|at| freshness::format(&at.stream, &at.frontier));
    let as_of: Vec<String> = as_of.collect();
    if !as_of.is_empty() {
        parts.push(format!("as of {}", as_of.join(" ")));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::client::StreamFrontier;

    fn summary(row_count: u64, as_of: &[&str]) -> Summary {
        let as_of = as_of.iter().map(|text| freshness::parse(text).unwrap());
        let as_of: Vec<StreamFrontier> = as_of.collect();
        Summary { as_of, row_count, elapsed: Duration::ZERO, tag: "SELECT".into() }
    }

    #[test]
    fn the_note_says_time_and_frontier() {
        let ms = Duration::from_micros(12_340);
        let printed = |row_count, shown, has_rows, as_of| Printed {
            summary: summary(row_count, as_of),
            shown,
            has_rows,
        };
        let cases = [
            (printed(1, 1, true, &["a=0:5"][..]), "12.3 ms, as of a=0:5"),
            (printed(2, 2, true, &["a=0:5,1:6", "b=0:1"]), "12.3 ms, as of a=0:5,1:6 b=0:1"),
            (printed(0, 0, false, &[]), "12.3 ms"),
            (
                printed(20_000, 10_000, true, &[]),
                "the first 10,000 of 20,000 rows (--format csv writes all), 12.3 ms",
            ),
        ];
        for (printed, expected) in cases {
            assert_eq!(note(&printed, ms), expected);
        }
    }

    #[test]
    fn only_tables_have_a_longest_length() {
        assert_eq!(room(Format::Table, 9_999), 1);
        assert_eq!(room(Format::Table, 10_000), 0);
        assert_eq!(room(Format::Csv, 10_000), usize::MAX);
    }
}
