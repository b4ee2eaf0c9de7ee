//! `SUBSCRIBE TO view [WHERE condition] [FROM SNAPSHOT | FROM frontier]`: prints changes as they
//! come, until it is given up.
//!
//! Tables and JSON are written for each batch by itself, since there is no end to wait for; CSV and
//! NDJSON go on as one. Where to go on after a break is said beside tables.

use std::convert::Infallible;
use std::io::Write;

use alluvium_query::print::{Format, Printer, to_text};
use alluvium_query::wire::{CorruptBatches, decode_batches};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::cli::freshness;
use crate::cli::{CliError, say};
use crate::grpc::client::{Begin, Change, Client};

/// The statement, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The view's name.
    pub view: String,
    /// A condition over its columns; empty for none.
    pub condition: String,
    /// Where to begin.
    pub from: Begin,
}

const FORM: &str = "SUBSCRIBE TO view [WHERE condition] [FROM SNAPSHOT | FROM stream=0:5,1:7]";

impl Subscribe {
    /// Reads a statement; none where it is another one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(sql: &str) -> Option<Result<Subscribe, String>> {
        let text = without_comments(sql).trim().trim_end_matches(';').trim_end();
        let rest = word(text, "SUBSCRIBE")?;
        Some(Self::parse_rest(rest))
    }

    fn parse_rest(text: &str) -> Result<Subscribe, String> {
        let rest = word(text, "TO").ok_or_else(|| format!("write {FORM}"))?;
        let (view, rest) = name(rest)?;
        let (rest, from) = begin(rest)?;
        let condition = match (rest.trim(), word(rest, "WHERE")) {
            ("", _) => "",
            (_, Some(condition)) if !condition.trim().is_empty() => condition.trim(),
            (other, _) => return Err(format!("\"{other}\" cannot be read; write {FORM}")),
        };
        Ok(Subscribe { view, condition: condition.into(), from })
    }
}

/// Comments stand before a statement in scripts.
fn without_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest
}

/// What follows a word, where the text begins with it in any case.
fn word<'a>(text: &'a str, expected: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let (first, rest) = text.split_at_checked(expected.len())?;
    let is_whole = rest.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    (first.eq_ignore_ascii_case(expected) && is_whole).then_some(rest)
}

/// A name, in quotes or without, and what follows it.
fn name(text: &str) -> Result<(String, &str), String> {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = quoted.split_once('"').ok_or("a quote is not closed")?;
        return Ok((name.to_owned(), rest));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    match &text[..end] {
        "" => Err(format!("the name of a view is missing; write {FORM}")),
        name => Ok((name.to_lowercase(), &text[end..])),
    }
}

/// Takes `FROM …` from the end. A condition may hold the word too, as in `extract(year FROM t)`,
/// so it counts only before what a subscription can begin with.
fn begin(text: &str) -> Result<(&str, Begin), String> {
    let text = text.trim_end();
    let Some((before, last)) = text.rsplit_once(char::is_whitespace) else {
        return Ok((text, Begin::Now));
    };
    let before = before.trim_end();
    let keyword = before.len().checked_sub("FROM".len()).filter(|&at| before.is_char_boundary(at));
    let Some(at) = keyword.filter(|&at| {
        let stands_alone = before[..at].chars().next_back().is_none_or(char::is_whitespace);
        before[at..].eq_ignore_ascii_case("FROM") && stands_alone
    }) else {
        return Ok((text, Begin::Now));
    };
    if last.eq_ignore_ascii_case("SNAPSHOT") {
        return Ok((&before[..at], Begin::Snapshot));
    }
    if last.contains('=') || before[..at].trim().is_empty() {
        return Ok((&before[..at], Begin::After(freshness::parse(last)?)));
    }
    Ok((text, Begin::Now))
}

/// Prints changes until the caller stops waiting, or the node says why there are no more.
///
/// # Errors
/// When the node ends it, or the output is closed.
pub async fn run(
    client: &Client,
    subscribe: &Subscribe,
    format: Format,
    out: &mut dyn Write,
) -> Result<Infallible, CliError> {
    let Subscribe { view, condition, from } = subscribe;
    let mut changes = client.subscribe(view, condition, from).await?;
    let mut printing = None;
    loop {
        match changes.next().await? {
            Change::Schema(bytes) => {
                let (schema, _) = decode_batches(bytes).map_err(garbled)?;
                printing = Some(Printing::new(format, schema));
            }
            Change::Rows { rows, frontier } => {
                let Some(printing) = &mut printing else { continue };
                let has_rows = !rows.is_empty();
                if has_rows {
                    let (_, batches) = decode_batches(rows).map_err(garbled)?;
                    printing.print(&batches, out)?;
                    out.flush()?;
                }
                let at = frontier.filter(|_| has_rows && format == Format::Table);
                if let Some(at) = at {
                    say(&format!("as of {}", freshness::format(&at.stream, &at.frontier)));
                }
            }
        }
    }
}

/// Batches without an end.
enum Printing {
    /// Each by itself.
    Each(Format, SchemaRef),
    /// One after the other.
    On(Printer),
}

impl Printing {
    fn new(format: Format, schema: SchemaRef) -> Printing {
        match format {
            Format::Table | Format::Json => Printing::Each(format, schema),
            Format::Csv | Format::NdJson => Printing::On(Printer::new(format, schema)),
        }
    }

    fn print(&mut self, batches: &[RecordBatch], out: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Printing::Each(format, schema) => {
                out.write_all(to_text(*format, schema, batches)?.as_bytes())
            }
            Printing::On(printer) => batches.iter().try_for_each(|batch| printer.batch(batch, out)),
        }
    }
}

fn garbled(error: CorruptBatches) -> CliError {
    CliError::Failed(format!("the node's rows cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> (String, String, Begin) {
        let Subscribe { view, condition, from } = Subscribe::parse(sql).unwrap().unwrap();
        (view, condition, from)
    }

    #[test]
    fn statements_are_taken_apart() {
        let is = |view: &str, condition: &str, from| (view.into(), condition.into(), from);
        let at = || Begin::After(freshness::parse("s=0:5,1:7").unwrap());
        assert_eq!(read("SUBSCRIBE TO v"), is("v", "", Begin::Now));
        assert_eq!(read("subscribe to \"v\" from snapshot;"), is("v", "", Begin::Snapshot));
        assert_eq!(read("SUBSCRIBE TO Totals FROM s=0:5,1:7"), is("totals", "", at()));
        assert_eq!(read("-- live\nsubscribe to v where n > 1"), is("v", "n > 1", Begin::Now));
        let year = "extract(year FROM t) = 2026";
        let sql = format!("SUBSCRIBE TO v WHERE {year} FROM SNAPSHOT");
        assert_eq!(read(&sql), is("v", year, Begin::Snapshot));
        assert_eq!(read(&format!("SUBSCRIBE TO v WHERE {year}")), is("v", year, Begin::Now));
        assert_eq!(
            read("SUBSCRIBE TO v\nWHERE a = 'x'\n  FROM s=0:5,1:7"),
            is("v", "a = 'x'", at())
        );
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in ["SELECT 1", "", "SUBSCRIBED TO x", "-- SUBSCRIBE TO v"] {
            assert!(Subscribe::parse(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("SUBSCRIBE v", "write SUBSCRIBE TO view"),
            ("SUBSCRIBE TO", "the name of a view is missing"),
            ("SUBSCRIBE TO v WHERE", "cannot be read"),
            ("SUBSCRIBE TO v LIMIT 3", "\"LIMIT 3\" cannot be read"),
            ("SUBSCRIBE TO v FROM yesterday", "a frontier is STREAM="),
            ("SUBSCRIBE TO v FROM s=x", "is not PARTITION:OFFSET"),
            ("SUBSCRIBE TO \"v", "a quote is not closed"),
        ];
        for (sql, expected) in cases {
            let error = Subscribe::parse(sql).unwrap().unwrap_err();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
