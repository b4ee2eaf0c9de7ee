//! Spellings that only PostgreSQL has, written as every SQL has them.
//!
//! | written | read as |
//! |---|---|
//! | `pg_catalog.f(…)` | `f(…)` |
//! | `OPERATOR(pg_catalog.~)` | `~` |
//! | `COLLATE …` | nothing: text has one order here |
//! | `current_schema` | `current_schema()` |
//! | `'x'::regclass` | the number of table `x` |
//! | `'x'::regtype` | the number of type `x` |
//! | `::name`, `::"char"`, `::regclass`, … | `::TEXT` |
//! | `::oid`, `::xid` | `::INTEGER` |
//!
//! Works on tokens, so that places in the text stay what they are.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use super::{tables, types};
use crate::catalog::PG_CATALOG;
use crate::dialect::Sql;

/// The number that PostgreSQL gives `pg_class`; here it stands for every table of `pg_catalog`.
const PG_CLASS: i32 = 1_259;

/// See the module. `tokens` has no whitespace.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut plain = Vec::with_capacity(tokens.len());
    // For each open parenthesis, whether it is that of a `CAST`.
    let mut casts = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].token {
            Token::LParen => {
                casts.push(at.checked_sub(1).is_some_and(|at| is_word(&tokens[at].token, "cast")));
            }
            Token::RParen => {
                casts.pop();
            }
            _ => {}
        }
        at += step(&tokens[at..], casts.last() == Some(&true), &mut plain);
    }
    plain
}

/// Takes one thing; says how many tokens it was.
fn step(rest: &[TokenWithSpan], in_cast: bool, plain: &mut Vec<TokenWithSpan>) -> usize {
    let token = |place: usize| rest.get(place).map(|token| &token.token);
    let is = |place: usize, word: &str| token(place).is_some_and(|token| is_word(token, word));
    let dot = |place: usize| token(place) == Some(&Token::Period);
    let after_dot = plain.last().is_some_and(|last| last.token == Token::Period);
    if is(0, PG_CATALOG) && dot(1) && token(3) == Some(&Token::LParen) && !after_dot {
        return 2;
    }
    if is(0, "operator") && token(1) == Some(&Token::LParen) && is(2, PG_CATALOG) && dot(3) {
        plain.extend(rest.get(4).cloned());
        return 6;
    }
    if is(0, "collate") && !after_dot {
        return if dot(2) { 4 } else { 2 };
    }
    if is(0, "current_schema") && token(1) != Some(&Token::LParen) && !after_dot && !dot(1) {
        plain.push(rest[0].clone());
        for part in [Token::LParen, Token::RParen] {
            plain.push(TokenWithSpan::new(part, rest[0].span));
        }
        return 1;
    }
    if token(0) == Some(&Token::DoubleColon) {
        return cast(rest, plain, 1);
    }
    // The end of `CAST(… AS type)`.
    if in_cast && is(0, "as") {
        let length = if is(1, PG_CATALOG) && dot(2) { 4 } else { 2 };
        let is_type = token(length) == Some(&Token::RParen)
            && token(length - 1).and_then(plain_type).is_some();
        if is_type {
            return cast(rest, plain, 1);
        }
    }
    plain.push(rest[0].clone());
    1
}

/// A cast whose type begins at `start`: writes the type plainly.
fn cast(rest: &[TokenWithSpan], plain: &mut Vec<TokenWithSpan>, start: usize) -> usize {
    let named = |place: usize| rest.get(place).map(|token| &token.token);
    let has_schema = named(start).is_some_and(|token| is_word(token, PG_CATALOG))
        && named(start + 1) == Some(&Token::Period);
    let place = if has_schema { start + 2 } else { start };
    let Some(name) = rest.get(place) else {
        plain.push(rest[0].clone());
        return 1;
    };
    if let Some(number) = number_of(&name.token, plain) {
        plain.pop();
        let tokens = Tokenizer::new(&Sql, &number).tokenize().unwrap_or_default();
        let tokens = tokens.into_iter().filter(|part| !matches!(part, Token::Whitespace(_)));
        plain.extend(tokens.map(|part| TokenWithSpan::new(part, name.span)));
        // What began as `CAST(` ends as one.
        if rest[0].token != Token::DoubleColon {
            plain.push(rest[0].clone());
            plain.push(TokenWithSpan::new(keyword("INTEGER", Keyword::INTEGER), name.span));
        }
        return place + 1;
    }
    plain.push(rest[0].clone());
    let token = plain_type(&name.token).unwrap_or_else(|| name.token.clone());
    plain.push(TokenWithSpan::new(token, name.span));
    place + 1
}

/// The number of a table or a type that is written as a text.
fn number_of(name: &Token, plain: &[TokenWithSpan]) -> Option<String> {
    let Token::SingleQuotedString(text) = &plain.last()?.token else {
        return None;
    };
    if is_word(name, "regtype") {
        let number = types::by_name(text);
        return Some(number.map_or("CAST(NULL AS INTEGER)".into(), |oid| oid.to_string()));
    }
    if !is_word(name, "regclass") {
        return None;
    }
    if let Ok(number) = text.parse::<i32>() {
        return Some(number.to_string());
    }
    let table = text.rsplit('.').next().unwrap_or_default().trim_matches('"');
    // Those of `pg_catalog` stand in joins, where no subquery may, and are not listed anyway.
    if tables::is_table(table) {
        return Some(PG_CLASS.to_string());
    }
    let table = table.replace('\'', "''");
    Some(format!("(SELECT max(oid) FROM pg_catalog.pg_class WHERE relname = '{table}')"))
}

/// The plain name of a type that only PostgreSQL has.
fn plain_type(token: &Token) -> Option<Token> {
    const TEXTS: [&str; 11] = [
        "name",
        "char",
        "regclass",
        "regtype",
        "regproc",
        "regprocedure",
        "regnamespace",
        "regoper",
        "cstring",
        "yes_or_no",
        "sql_identifier",
    ];
    const NUMBERS: [&str; 4] = ["oid", "xid", "cid", "cardinal_number"];
    let Token::Word(word) = token else {
        return None;
    };
    let name = word.value.to_lowercase();
    // `CHAR` without quotes is a type of every SQL.
    if name == "char" && word.quote_style.is_none() {
        return None;
    }
    if TEXTS.contains(&name.as_str()) {
        return Some(keyword("TEXT", Keyword::TEXT));
    }
    NUMBERS.contains(&name.as_str()).then(|| keyword("INTEGER", Keyword::INTEGER))
}

fn keyword(value: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: value.into(), quote_style: None, keyword })
}

fn is_word(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && word.value.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(sql: &str) -> String {
        let tokens = Tokenizer::new(&Sql, sql).tokenize_with_location().unwrap();
        let is_space = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
        let tokens = tokens.into_iter().filter(|token| !is_space(token)).collect();
        let texts = rewrite(tokens).into_iter().map(|token| token.token.to_string());
        texts.collect::<Vec<_>>().join(" ").trim().to_string()
    }

    #[test]
    fn postgres_spellings_are_written_plainly() {
        let cases = [
            ("pg_catalog.format_type(a, b)", "format_type ( a , b )"),
            ("SELECT * FROM pg_catalog.pg_class", "SELECT * FROM pg_catalog . pg_class"),
            ("a OPERATOR(pg_catalog.~) '^x$' COLLATE pg_catalog.default", "a ~ '^x$'"),
            ("a::pg_catalog.regtype::pg_catalog.text", "a :: TEXT :: text"),
            ("'integer'::regtype", "23"),
            ("x = current_schema AND y", "x = current_schema ( ) AND y"),
            ("CAST(a AS REGCLASS)", "CAST ( a AS TEXT )"),
            ("CAST('integer' AS REGTYPE)", "CAST ( 23 AS INTEGER )"),
            ("SELECT name AS name FROM t", "SELECT name AS name FROM t"),
            ("(SELECT a AS name)", "( SELECT a AS name )"),
            ("CAST((SELECT a AS name) AS name)", "CAST ( ( SELECT a AS name ) AS TEXT )"),
        ];
        for (sql, wanted) in &cases {
            assert_eq!(plain(sql), *wanted, "{sql}");
        }
    }
}
