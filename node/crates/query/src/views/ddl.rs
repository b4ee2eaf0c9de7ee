//! Reads the statements about views.
//!
//! ```text
//! CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name
//!     [WITH (retention = '90 days', lateness = '1 minute', emit_final_after = '5 minutes',
//!            on_error = 'quarantine' | 'park')]
//!     AS SELECT … [EMIT FINAL AFTER '5 minutes']
//! CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name AS SELECT …
//! DROP [MATERIALIZED] VIEW [IF EXISTS] name
//! SHOW VIEWS
//! EXPLAIN | AUDIT | REBUILD | RESUME | CANCEL VIEW name
//! ```

use std::time::Duration;

use alluvium_core::view::{OnError, QUERY_BYTES_MAX, ViewDefinition, ViewOptions};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::create::{end, pairs, parse_length, set_once, stream_name, words};
use crate::dialect::Sql;
use crate::error::SqlError;
use crate::host::ViewChange;
use crate::nearest;
use crate::statement::byte_finder;

const OPTIONS: [&str; 4] = ["retention", "lateness", "emit_final_after", "on_error"];

/// What is said about a view.
#[derive(Debug)]
pub(crate) enum ViewStatement {
    /// `reads` and `folds` of the definition are not filled in yet.
    Create {
        definition: Box<ViewDefinition>,
        if_not_exists: bool,
        or_replace: bool,
    },
    Drop {
        name: String,
        materialized: bool,
        if_exists: bool,
    },
    Show,
    Explain {
        name: String,
    },
    Audit {
        name: String,
    },
    Change {
        name: String,
        change: ViewChange,
    },
}

impl ViewStatement {
    /// Whether rows come out.
    pub(crate) fn has_rows(&self) -> bool {
        match self {
            ViewStatement::Show | ViewStatement::Explain { .. } | ViewStatement::Audit { .. } => {
                true
            }
            ViewStatement::Create { .. }
            | ViewStatement::Drop { .. }
            | ViewStatement::Change { .. } => false,
        }
    }
}

/// Whether a statement that begins with these words is about views.
pub(crate) fn is_view_statement(words: &[&str]) -> bool {
    matches!(
        words,
        ["CREATE" | "DROP", "VIEW" | "MATERIALIZED", ..]
            | ["CREATE", "OR", "REPLACE", "VIEW" | "MATERIALIZED", ..]
            | ["SHOW", "VIEWS"]
            | ["EXPLAIN" | "AUDIT" | "REBUILD" | "RESUME" | "CANCEL", "VIEW" | "MATERIALIZED", ..]
    )
}

/// Reads a statement about views; the tokens hold no whitespace.
pub(crate) fn parse(
    sql: &str,
    leading: &[&str],
    tokens: Vec<TokenWithSpan>,
) -> Result<ViewStatement, SqlError> {
    if leading.first() == Some(&"CREATE") {
        return parse_create(sql, tokens);
    }
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    if words(&mut parser, &["SHOW", "VIEWS"]) {
        return Ok(ViewStatement::Show);
    }
    parser.next_token();
    let materialized = view_words(&mut parser)?;
    let if_exists = leading.first() == Some(&"DROP") && words(&mut parser, &["IF", "EXISTS"]);
    let name = stream_name(&mut parser)?;
    end(&mut parser, "the end of the statement")?;
    let change = |change| ViewStatement::Change { name: name.clone(), change };
    Ok(match leading.first().copied() {
        Some("DROP") => ViewStatement::Drop { name, materialized, if_exists },
        Some("EXPLAIN") => ViewStatement::Explain { name },
        Some("AUDIT") => ViewStatement::Audit { name },
        Some("REBUILD") => change(ViewChange::Rebuild),
        Some("RESUME") => change(ViewChange::Resume),
        _ => change(ViewChange::Cancel),
    })
}

/// `VIEW` or `MATERIALIZED VIEW`: whether it is the second.
fn view_words(parser: &mut Parser) -> Result<bool, SqlError> {
    let materialized = words(parser, &["MATERIALIZED"]);
    if !words(parser, &["VIEW"]) {
        let token = parser.next_token();
        return parser.expected("VIEW", token).map_err(SqlError::from);
    }
    Ok(materialized)
}

fn parse_create(sql: &str, mut tokens: Vec<TokenWithSpan>) -> Result<ViewStatement, SqlError> {
    let clause = take_emit(&mut tokens)?;
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    parser.next_token(); // CREATE
    let or_replace = words(&mut parser, &["OR", "REPLACE"]);
    let materialized = view_words(&mut parser)?;
    let if_not_exists = words(&mut parser, &["IF", "NOT", "EXISTS"]);
    if or_replace && if_not_exists {
        return Err(SqlError::syntax("a view is either replaced or left as it is, not both"));
    }
    let name = stream_name(&mut parser)?;
    if matches!(parser.peek_token_ref().token, Token::LParen) {
        return Err(SqlError::unsupported(
            "a view names its columns in its query: SELECT … AS name",
        ));
    }
    let mut given = None;
    while words(&mut parser, &["WITH"]) {
        set_once(&mut given, pairs(&mut parser)?, "WITH")?;
    }
    let mut options = options(given.unwrap_or_default())?;
    if let Some((_, length)) = clause {
        set_once(&mut options.emit_final_after, length, "EMIT FINAL AFTER")?;
    }
    if !words(&mut parser, &["AS"]) {
        let token = parser.next_token();
        return parser.expected("WITH or AS and a query", token).map_err(SqlError::from);
    }
    if !materialized && options != ViewOptions::default() {
        return Err(SqlError::invalid(
            "a plain view keeps nothing, so it has no options: CREATE MATERIALIZED VIEW",
        ));
    }
    let query = query_text(sql, parser.peek_token_ref().span.start, clause.map(|(at, _)| at));
    if query.is_empty() {
        return Err(SqlError::syntax("a query is expected after AS"));
    }
    if QUERY_BYTES_MAX < query.len() {
        return Err(SqlError::invalid(format!(
            "the query of a view has at most {QUERY_BYTES_MAX} bytes, and this one has {}",
            query.len()
        )));
    }
    let definition =
        ViewDefinition { name, query, materialized, reads: Vec::new(), folds: None, options };
    Ok(ViewStatement::Create { definition: Box::new(definition), if_not_exists, or_replace })
}

/// Takes `EMIT FINAL AFTER '…'` off the end: where it begins, and how long.
fn take_emit(tokens: &mut Vec<TokenWithSpan>) -> Result<Option<(Location, Duration)>, SqlError> {
    let Some(at) = tokens.len().checked_sub(4) else {
        return Ok(None);
    };
    let is_word = |place: usize, expected: &str| match &tokens[place].token {
        Token::Word(word) => {
            word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected)
        }
        _ => false,
    };
    if !(is_word(at, "EMIT") && is_word(at + 1, "FINAL") && is_word(at + 2, "AFTER")) {
        return Ok(None);
    }
    let Token::SingleQuotedString(text) = &tokens[at + 3].token else {
        return Err(SqlError::syntax("EMIT FINAL AFTER takes a length: '5 minutes'"));
    };
    let length = length("EMIT FINAL AFTER", text)?;
    let start = tokens[at].span.start;
    tokens.truncate(at);
    Ok(Some((start, length)))
}

/// The query as it was written: from its first token to the clause behind it, or to the end.
fn query_text(sql: &str, start: Location, end: Option<Location>) -> String {
    if start.line == 0 {
        // There is no token after AS.
        return String::new();
    }
    let byte_of = byte_finder(sql);
    let end = end.map_or(sql.len(), &byte_of);
    let text = sql.get(byte_of(start)..end).unwrap_or_default();
    text.trim().trim_end_matches(';').trim_end().to_string()
}

fn options(given: Vec<(String, String)>) -> Result<ViewOptions, SqlError> {
    let mut options = ViewOptions::default();
    let mut seen: Vec<String> = Vec::new();
    for (key, value) in given {
        if seen.contains(&key) {
            return Err(SqlError::invalid(format!("option \"{key}\" is given twice")));
        }
        match key.as_str() {
            "retention" => options.retention = parse_length(&key, &value)?,
            "lateness" => options.lateness = length(&key, &value)?,
            "emit_final_after" => options.emit_final_after = Some(length(&key, &value)?),
            "on_error" => {
                options.on_error = match value.to_lowercase().as_str() {
                    "quarantine" => OnError::Quarantine,
                    "park" => OnError::Park,
                    _ => {
                        return Err(SqlError::invalid(format!(
                            "on_error must be 'quarantine' or 'park', not '{value}'"
                        )));
                    }
                }
            }
            _ => {
                let hint = nearest::hint(&key, OPTIONS.into_iter());
                return Err(SqlError::invalid(format!(
                    "\"{key}\" is no option of a view{hint}; options are {}",
                    OPTIONS.join(", ")
                )));
            }
        }
        seen.push(key);
    }
    Ok(options)
}

/// A length that may be nothing.
fn length(key: &str, text: &str) -> Result<Duration, SqlError> {
    if text == "0" || text.starts_with("0 ") {
        return Ok(Duration::ZERO);
    }
    parse_length(key, text)?
        .ok_or_else(|| SqlError::invalid(format!("{key} has an end: write '5 minutes'")))
}
