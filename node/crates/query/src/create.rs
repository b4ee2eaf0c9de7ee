//! Reads the statements that are ours alone: `CREATE STREAM`, `DROP STREAM`, `DESCRIBE`.
//!
//! ```text
//! CREATE STREAM [IF NOT EXISTS] name (column TYPE [NOT NULL], …)
//!     [PARTITION BY (column, …)]
//!     [WITH (event_time = 'column', partitions = 8, retention = '90 days', replicas = 3)]
//! ```
//!
//! Defaults: one partition, one replica, kept for ever, no event time. Types: see `types.rs`.

use std::time::Duration;

use alluvium_core::meta::check_name;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{PARTITIONS_MAX, StreamDefinition};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::Sql;
use crate::error::SqlError;
use crate::nearest;
use crate::statement::Statement;
use crate::types;

/// Copies one partition may have: more than this many nodes for one partition is a mistake.
const REPLICAS_MAX: u32 = 9;

/// Copies of each partition unless the statement says otherwise: the fewest that survive a loss.
const REPLICAS_DEFAULT: u32 = 3;

const OPTIONS: [&str; 4] = ["event_time", "partitions", "retention", "replicas"];

impl From<ParserError> for SqlError {
    fn from(error: ParserError) -> SqlError {
        let text = error.to_string();
        SqlError::syntax(
            text.strip_prefix("sql parser error: ").unwrap_or(&text).to_lowercase_first(),
        )
    }
}

trait LowercaseFirst {
    fn to_lowercase_first(&self) -> String;
}

impl LowercaseFirst for str {
    fn to_lowercase_first(&self) -> String {
        let mut letters = self.chars();
        match letters.next() {
            Some(first) => first.to_lowercase().chain(letters).collect(),
            None => String::new(),
        }
    }
}

/// Reads `CREATE STREAM …`; the tokens hold no whitespace.
pub(crate) fn parse_create(tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    parser.next_token(); // CREATE
    parser.next_token(); // STREAM
    let if_not_exists = words(&mut parser, &["IF", "NOT", "EXISTS"]);
    let name = stream_name(&mut parser)?;
    let columns = columns(&mut parser)?;
    let mut partition_by = None;
    let mut options = None;
    loop {
        if words(&mut parser, &["PARTITION", "BY"]) {
            set_once(&mut partition_by, names(&mut parser)?, "PARTITION BY")?;
        } else if words(&mut parser, &["WITH"]) {
            set_once(&mut options, pairs(&mut parser)?, "WITH")?;
        } else {
            break;
        }
    }
    end(&mut parser, "PARTITION BY, WITH or the end of the statement")?;
    let schema =
        StreamSchema::new(columns).map_err(|error| SqlError::invalid(error.to_string()))?;
    let mut definition = StreamDefinition {
        name,
        partition_by: Vec::new(),
        schema,
        event_time: None,
        partitions: 1,
        retention: None,
        replicas: REPLICAS_DEFAULT,
    };
    for column in partition_by.unwrap_or_default() {
        let place = place(&definition.schema, &column)?;
        if definition.partition_by.contains(&place) {
            return Err(SqlError::invalid(format!("PARTITION BY names \"{column}\" twice")));
        }
        definition.partition_by.push(place);
    }
    let mut seen = Vec::new();
    for (key, value) in options.unwrap_or_default() {
        if seen.contains(&key) {
            return Err(SqlError::invalid(format!("option \"{key}\" is given twice")));
        }
        set_option(&mut definition, &key, &value)?;
        seen.push(key);
    }
    Ok(Statement::CreateStream { definition, if_not_exists })
}

/// Reads `DROP STREAM [IF EXISTS] name`.
pub(crate) fn parse_drop(tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    parser.next_token(); // DROP
    parser.next_token(); // STREAM
    let if_exists = words(&mut parser, &["IF", "EXISTS"]);
    let name = stream_name(&mut parser)?;
    end(&mut parser, "the end of the statement")?;
    Ok(Statement::DropStream { name, if_exists })
}

/// Reads the name after `DESCRIBE` or `SHOW COLUMNS FROM`, which are the first `skip` tokens.
pub(crate) fn parse_describe(
    tokens: Vec<TokenWithSpan>,
    skip: usize,
) -> Result<Statement, SqlError> {
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    for _ in 0..skip {
        parser.next_token();
    }
    // `DESCRIBE STREAM x`, `DESCRIBE TABLE x`; a stream may itself be called "stream".
    let second = parser.peek_nth_token(1).token;
    if matches!(second, Token::Word(_)) && !words(&mut parser, &["STREAM"]) {
        let _ = words(&mut parser, &["TABLE"]) || words(&mut parser, &["VIEW"]);
    }
    let mut name = vec![identifier(&mut parser)?];
    while parser.consume_token(&Token::Period) {
        name.push(identifier(&mut parser)?);
    }
    end(&mut parser, "the end of the statement")?;
    Ok(Statement::Describe { name })
}

/// Takes these bare words, all or none.
pub(crate) fn words(parser: &mut Parser, expected: &[&str]) -> bool {
    for (place, word) in expected.iter().enumerate() {
        match parser.peek_nth_token(place).token {
            Token::Word(found)
                if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word) => {}
            _ => return false,
        }
    }
    for _ in expected {
        parser.next_token();
    }
    true
}

/// A name: in small letters unless it was quoted.
pub(crate) fn identifier(parser: &mut Parser) -> Result<String, SqlError> {
    let token = parser.next_token();
    match token.token {
        Token::Word(word) if word.quote_style.is_some() => Ok(word.value),
        Token::Word(word) => Ok(word.value.to_lowercase()),
        _ => parser.expected("a name", token).map_err(SqlError::from),
    }
}

pub(crate) fn stream_name(parser: &mut Parser) -> Result<String, SqlError> {
    let mut name = identifier(parser)?;
    if parser.consume_token(&Token::Period) {
        if name != "public" {
            return Err(SqlError::invalid(format!(
                "streams and views are in schema \"public\", not in \"{name}\""
            )));
        }
        name = identifier(parser)?;
    }
    check_name(&name).map_err(|error| SqlError::invalid(error.to_string()))?;
    Ok(name)
}

fn columns(parser: &mut Parser) -> Result<Vec<Column>, SqlError> {
    parser.expect_token(&Token::LParen)?;
    let mut columns = Vec::new();
    loop {
        let name = identifier(parser)?;
        let column_type = types::column_type(parser)?;
        let nullable = nullable(parser, &name)?;
        columns.push(Column { name, column_type, nullable });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}

/// Reads `NOT NULL` or `NULL` after a type, and refuses the constraints a log cannot keep.
pub(crate) fn nullable(parser: &mut Parser, column: &str) -> Result<bool, SqlError> {
    let nullable = !words(parser, &["NOT", "NULL"]);
    if nullable {
        words(parser, &["NULL"]);
    }
    if let Token::Word(word) = &parser.peek_token_ref().token {
        return Err(SqlError::unsupported(format!(
            "column \"{column}\": {} is not supported; after its type a column may say NOT NULL",
            word.value.to_uppercase()
        )));
    }
    Ok(nullable)
}

/// `(a, b)` or a single `a`.
fn names(parser: &mut Parser) -> Result<Vec<String>, SqlError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(vec![identifier(parser)?]);
    }
    let mut names = vec![identifier(parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(identifier(parser)?);
    }
    parser.expect_token(&Token::RParen)?;
    Ok(names)
}

/// `(key = value, …)`: a value is a string, a number or a bare word.
pub(crate) fn pairs(parser: &mut Parser) -> Result<Vec<(String, String)>, SqlError> {
    parser.expect_token(&Token::LParen)?;
    let mut pairs = Vec::new();
    loop {
        let key = identifier(parser)?;
        parser.expect_token(&Token::Eq)?;
        let token = parser.next_token();
        let value = match token.token {
            Token::SingleQuotedString(text) => text,
            Token::Number(digits, _) => digits,
            Token::Word(word) if word.quote_style.is_some() => word.value,
            Token::Word(word) => word.value.to_lowercase(),
            _ => return parser.expected("a value", token).map_err(SqlError::from),
        };
        pairs.push((key, value));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(pairs)
}

pub(crate) fn set_once<T>(place: &mut Option<T>, value: T, clause: &str) -> Result<(), SqlError> {
    if place.is_some() {
        return Err(SqlError::syntax(format!("{clause} is given twice")));
    }
    *place = Some(value);
    Ok(())
}

pub(crate) fn end(parser: &mut Parser, expected: &str) -> Result<(), SqlError> {
    let token = parser.next_token();
    match token.token {
        Token::EOF => Ok(()),
        _ => parser.expected(expected, token).map_err(SqlError::from),
    }
}

fn place(schema: &StreamSchema, column: &str) -> Result<usize, SqlError> {
    schema.position(column).ok_or_else(|| {
        let hint = nearest::hint(column, schema.columns().iter().map(|known| known.name.as_str()));
        SqlError::NotFound { reason: format!("column \"{column}\" does not exist{hint}") }
    })
}

fn set_option(definition: &mut StreamDefinition, key: &str, value: &str) -> Result<(), SqlError> {
    match key {
        "event_time" => {
            let place = place(&definition.schema, value)?;
            let column = &definition.schema.columns()[place];
            match column.column_type {
                ColumnType::Timestamp | ColumnType::TimestampTz => {}
                _ => {
                    return Err(SqlError::invalid(format!(
                        "event_time must be a TIMESTAMP or TIMESTAMPTZ column; \"{value}\" is {}",
                        column.column_type
                    )));
                }
            }
            definition.event_time = Some(place);
        }
        "partitions" => definition.partitions = whole(key, value, PARTITIONS_MAX)?,
        "replicas" => definition.replicas = whole(key, value, REPLICAS_MAX)?,
        "retention" => definition.retention = parse_length(key, value)?,
        _ => {
            let hint = nearest::hint(key, OPTIONS.into_iter());
            return Err(SqlError::invalid(format!(
                "\"{key}\" is no option of a stream{hint}; options are {}",
                OPTIONS.join(", ")
            )));
        }
    }
    Ok(())
}

fn whole(key: &str, value: &str, max: u32) -> Result<u32, SqlError> {
    value.parse::<u32>().ok().filter(|number| (1..=max).contains(number)).ok_or_else(|| {
        SqlError::invalid(format!("{key} must be a whole number from 1 to {max}, not '{value}'"))
    })
}

const UNITS: [(&str, u64); 5] =
    [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400), ("week", 604_800)];

/// `'90 days'`, `'1 day 12 hours'`, `'forever'`.
pub(crate) fn parse_length(key: &str, text: &str) -> Result<Option<Duration>, SqlError> {
    let wrong = || {
        SqlError::invalid(format!(
            "{key} '{text}' is not understood: write '90 days', '12 hours', '1 week' or 'forever'"
        ))
    };
    if text.eq_ignore_ascii_case("forever") {
        return Ok(None);
    }
    let mut seconds: u64 = 0;
    let mut parts = text.split_whitespace();
    while let Some(number) = parts.next() {
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = parts.next().ok_or_else(wrong)?.to_lowercase();
        let unit = unit.strip_suffix('s').unwrap_or(&unit);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.checked_mul(*length).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
    }
    // A century: beyond it, arithmetic on microseconds would be at risk and 'forever' is meant.
    if seconds == 0 || 100 * 366 * 86_400 < seconds {
        return Err(wrong());
    }
    Ok(Some(Duration::from_secs(seconds)))
}

/// The text that [`parse_length`] reads back.
pub(crate) fn retention_text(retention: Option<Duration>) -> String {
    let Some(retention) = retention else {
        return "forever".into();
    };
    let mut seconds = retention.as_secs();
    let mut parts = Vec::new();
    for (name, length) in UNITS.iter().rev().filter(|(name, _)| *name != "week") {
        let number = seconds / length;
        seconds %= length;
        if number != 0 {
            parts.push(format!("{number} {name}{}", if number == 1 { "" } else { "s" }));
        }
    }
    parts.join(" ")
}
