//! What went wrong, in SQL's five letters, and where in the text.

use alluvium_query::{ErrorKind, SqlError};

use super::run::RunError;

/// The SQLSTATE of an error.
pub fn sql_state(error: &RunError) -> &'static str {
    match error {
        RunError::Sql(error) => of_sql(error),
        RunError::Deadline { .. } | RunError::Cancelled => "57014",
        RunError::Full => "53400",
    }
}

fn of_sql(error: &SqlError) -> &'static str {
    let message = error.to_string();
    let says = |part: &str| message.contains(part);
    match error.kind() {
        ErrorKind::Syntax => "42601",
        ErrorKind::NotFound if message.starts_with("column ") => "42703",
        ErrorKind::NotFound if says("function") => "42883",
        ErrorKind::NotFound => "42P01",
        ErrorKind::AlreadyExists => "42P07",
        ErrorKind::Unsupported => "0A000",
        ErrorKind::InvalidArgument if says("divide by zero") => "22012",
        ErrorKind::InvalidArgument if says("cannot cast") || says("is no ") => "22P02",
        ErrorKind::InvalidArgument if says("overflow") || says("out of range") => "22003",
        ErrorKind::InvalidArgument if says("is in more than one table") => "42702",
        ErrorKind::InvalidArgument if says("null") && says("NOT NULL") => "23502",
        ErrorKind::InvalidArgument => "22023",
        ErrorKind::ResourceExhausted => "53200",
        ErrorKind::Unavailable => "57P03",
        ErrorKind::OutOfRange => "22023",
        ErrorKind::Cancelled => "57014",
        ErrorKind::Denied => "42501",
        ErrorKind::Internal => "XX000",
    }
}

/// Where in the statement it went wrong: the letter, counted from 1. Taken from the place that the
/// message says, or else from the name that it quotes.
pub fn place(sql: &str, message: &str) -> Option<usize> {
    said_place(sql, message).or_else(|| quoted_name(sql, message))
}

fn said_place(sql: &str, message: &str) -> Option<usize> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (line, column) = (line.parse::<usize>().ok()?, rest[..digits].parse::<usize>().ok()?);
    let before = sql.split_inclusive('\n').take(line.checked_sub(1)?);
    let before: usize = before.map(|line| line.chars().count()).sum();
    let place = before + column;
    (1..=sql.chars().count() + 1).contains(&place).then_some(place)
}

/// The first place where the name stands as a word of its own.
fn quoted_name(sql: &str, message: &str) -> Option<usize> {
    let (_, rest) = message.split_once('"')?;
    let (name, _) = rest.split_once('"')?;
    let name = name.rsplit('.').next().filter(|name| !name.is_empty())?;
    let (lower, name) = (sql.to_lowercase(), name.to_lowercase());
    if lower.len() != sql.len() {
        return None;
    }
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let found = lower.match_indices(&name).find(|(at, _)| {
        let is_begun = lower[..*at].chars().next_back().is_some_and(is_part);
        let goes_on = lower[at + name.len()..].chars().next().is_some_and(is_part);
        !is_begun && !goes_on
    });
    found.map(|(at, _)| sql[..at].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_what_the_message_says() {
        let sql = "SELECT é,\n  FRM t";
        assert_eq!(place(sql, "expected: x at Line: 2, Column: 3"), Some(13));
        assert_eq!(place(sql, "column \"t\" does not exist"), Some(17));
        assert_eq!(place("SELECT at, t", "column \"a.t\" does not exist"), Some(12));
        assert_eq!(place("SELECT 1", "out of memory"), None);
    }
}
