//! What the shell offers when Tab is pressed, and when it takes a line as a whole statement.

use alluvium_query::{is_unfinished, split_statements};
use rustyline::completion::{Completer, Pair};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Highlighter, Hinter};

use super::FORMATS;

/// Words of SQL worth completing: those that begin or join clauses, and types.
const KEYWORDS: &[&str] = &[
    "ALL",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "CREATE",
    "CROSS",
    "CURRENT",
    "DATE",
    "DATE_TRUNC",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE PRECISION",
    "DROP",
    "ELSE",
    "END",
    "EVENT_TIME",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP BY",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "JSON",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "NULLS",
    "NUMERIC",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OUTER",
    "OVER",
    "PARTITION BY",
    "PARTITIONS",
    "RANK",
    "REPLICAS",
    "RETENTION",
    "RIGHT",
    "ROW_NUMBER",
    "ROWS",
    "SELECT",
    "SHOW",
    "SNAPSHOT",
    "STREAM",
    "STREAMS",
    "STRUCT",
    "SUBSCRIBE TO",
    "SUM",
    "TEXT",
    "THEN",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "VARCHAR",
    "WHEN",
    "WHERE",
    "WITH",
];

/// What a backslash may begin.
pub(super) const COMMANDS: &[&str] = &["\\?", "\\d", "\\format", "\\q", "\\timing"];

/// Names the node knows.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Streams.
    pub streams: Vec<String>,
    /// Columns of all of them, each name once.
    pub columns: Vec<String>,
}

/// Sits beside the line editor.
#[derive(Debug, Default, Helper, Highlighter, Hinter)]
pub struct SqlHelper {
    /// Replaced by the shell whenever streams may have changed.
    pub names: Names,
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, candidates) = self.names.candidates(&line[..cursor]);
        let pair = |word: String| Pair { display: word.clone(), replacement: word };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_whole(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

/// Whether Enter sends this: a command of the shell, nothing at all, or statements up to a
/// semicolon.
pub fn is_whole(input: &str) -> bool {
    let trimmed = input.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') || is_farewell(trimmed) {
        return true;
    }
    if is_unfinished(input) {
        return false;
    }
    let count = |text: &str| split_statements(text).map(|statements| statements.len());
    // Behind a semicolon another word is another statement; else it belongs to the last one.
    match (count(input), count(&format!("{input}\nx"))) {
        (Ok(before), Ok(after)) => before < after,
        // What cannot be read is sent at its semicolon, for the node to say what is wrong.
        (Err(_), _) | (_, Err(_)) => trimmed.ends_with(';'),
    }
}

/// People type these, having learnt other shells.
pub(super) fn is_farewell(trimmed: &str) -> bool {
    matches!(trimmed.to_ascii_lowercase().as_str(), "quit" | "exit" | "quit;" | "exit;")
}

impl Names {
    /// Where the word at the end of the line begins, and what it may become.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        if let Some(command) = line.strip_prefix('\\') {
            return self.command_candidates(line, command);
        }
        let start =
            line.rfind(|c: char| !is_word(c)).map_or(0, |at| at + last_char_bytes(line, at));
        let word = &line[start..];
        if word.is_empty() {
            return (start, Vec::new());
        }
        let typed = word.to_lowercase();
        let mut found: Vec<String> = Vec::new();
        for name in self.streams.iter().chain(&self.columns) {
            if name.to_lowercase().starts_with(&typed) && !found.contains(name) {
                found.push(name.clone());
            }
        }
        // Keywords in the case the person writes them in.
        let lower = word.starts_with(|c: char| c.is_lowercase());
        for keyword in KEYWORDS {
            if keyword.to_lowercase().starts_with(&typed) {
                found.push(if lower { keyword.to_lowercase() } else { (*keyword).to_owned() });
            }
        }
        (start, found)
    }

    fn command_candidates(&self, line: &str, command: &str) -> (usize, Vec<String>) {
        let Some((name, rest)) = command.split_once(' ') else {
            let matching = COMMANDS.iter().filter(|known| known.starts_with(line));
            return (0, matching.map(|known| (*known).to_owned()).collect());
        };
        let known: Vec<String> = match name {
            "d" => self.streams.clone(),
            "format" => FORMATS.iter().map(|format| (*format).to_owned()).collect(),
            _ => Vec::new(),
        };
        let word = rest.trim_start();
        let start = line.len() - word.len();
        (start, known.into_iter().filter(|known| known.starts_with(word)).collect())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn last_char_bytes(line: &str, at: usize) -> usize {
    line[at..].chars().next().map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> (usize, Vec<String>) {
        let names = Names {
            streams: vec!["flights".into(), "flows".into()],
            columns: vec!["carrier".into(), "flight".into(), "Fl x".into()],
        };
        names.candidates(line)
    }

    fn check(line: &str, start: usize, words: &[&str]) {
        let (at, found) = offered(line);
        assert_eq!((at, found.iter().map(String::as_str).collect()), (start, words.to_vec()));
    }

    #[test]
    fn words_are_completed_with_names_before_keywords() {
        check("select * from fl", 14, &["flights", "flows", "flight", "Fl x"]);
        check("sel", 0, &["select"]);
        check("SEL", 0, &["SELECT"]);
        check("select count(car", 13, &["carrier"]);
        check("select é,car", 10, &["carrier"]);
        check("SELECT a GR", 9, &["GROUP BY"]);
        check("select ", 7, &[]);
        check("select 'zz", 8, &[]);
    }

    #[test]
    fn commands_are_completed_with_what_they_take() {
        check("\\f", 0, &["\\format"]);
        check("\\format n", 8, &["ndjson"]);
        check("\\d fli", 3, &["flights"]);
        check("\\d ", 3, &["flights", "flows"]);
        check("\\x y", 3, &[]);
    }

    #[test]
    fn a_statement_is_whole_at_its_semicolon() {
        let whole = ["", "  ", "\\d", "quit", "EXIT;", "select 1;", "select 1; -- done", "a; b;\n"];
        for input in whole {
            assert!(is_whole(input), "{input:?}");
        }
        let open = ["select", "select 1", "select ';", "select 1 -- ;", "/* ;", "select 1; select"];
        for input in open {
            assert!(!is_whole(input), "{input:?}");
        }
    }
}
