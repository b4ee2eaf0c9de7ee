//! Values for the `$1`, `$2`, … of a statement.
//!
//! A value is put in as the literal that a person would have written, before the statement is
//! parsed: a prepared statement is planned exactly like a written one, with the same tables pruned
//! and the same lookups found. A value never becomes anything but one literal, whatever it holds.

use alluvium_core::schema::ColumnType;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::Sql;
use crate::error::SqlError;

/// Parameters one statement may have: what the PostgreSQL protocol can count.
pub const PARAMETERS_MAX: usize = 65_535;

/// A value for one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What it is.
    pub column_type: ColumnType,
    /// As PostgreSQL writes it; `None` for null.
    pub text: Option<String>,
}

/// What stands for the parameters of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Placeholders<'a> {
    /// There are none, or they are left for the planner to find types for. A type that is known
    /// already is said to it.
    Typed(&'a [Option<ColumnType>]),
    /// Values.
    Values(&'a [Parameter]),
}

impl Placeholders<'_> {
    /// No parameters.
    pub(crate) const NONE: Placeholders<'static> = Placeholders::Values(&[]);

    /// Puts in what is known of each parameter.
    pub(crate) fn put_into(
        self,
        tokens: Vec<TokenWithSpan>,
    ) -> Result<Vec<TokenWithSpan>, SqlError> {
        if !tokens.iter().any(|token| place(&token.token).is_some()) {
            return Ok(tokens);
        }
        let mut put = Vec::with_capacity(tokens.len());
        for token in tokens {
            let Some(place) = place(&token.token) else {
                put.push(token);
                continue;
            };
            let text = self.text(place?)?;
            let literal = Tokenizer::new(&Sql, &text).tokenize();
            let literal = literal.map_err(|error| SqlError::syntax(error.message))?;
            let literal = literal.into_iter().filter(|part| !matches!(part, Token::Whitespace(_)));
            put.extend(literal.map(|part| TokenWithSpan::new(part, token.span)));
        }
        Ok(put)
    }

    /// The SQL that stands for one parameter, counted from 0.
    fn text(self, place: usize) -> Result<String, SqlError> {
        match self {
            Placeholders::Typed(types) => Ok(match types.get(place) {
                Some(Some(known)) => format!("CAST(${} AS {known})", place + 1),
                Some(None) | None => format!("${}", place + 1),
            }),
            Placeholders::Values(values) => match values.get(place) {
                Some(value) => literal(&value.column_type, value.text.as_deref()),
                None => Err(SqlError::invalid(format!("no value was given for ${}", place + 1))),
            },
        }
    }
}

/// Gives values that are selected as they stand names of their own: two of them may be the same
/// value, and columns of one name are not planned.
pub(crate) fn name_values(statement: &mut Statement) {
    let Statement::Query(query) = statement else {
        return;
    };
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    for (place, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && is_value(expr)
        {
            let name = match place {
                0 => "?column?".into(),
                _ => format!("?column?{}", place + 1),
            };
            let alias = Ident::with_quote('"', name);
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_value(expr),
        _ => false,
    }
}

/// How many parameters a list of tokens has: the highest number.
pub(crate) fn count(tokens: &[TokenWithSpan]) -> Result<usize, SqlError> {
    let mut count = 0;
    for place in tokens.iter().filter_map(|token| place(&token.token)) {
        count = count.max(place? + 1);
    }
    Ok(count)
}

/// The number of a parameter, from 0, if this token is one.
fn place(token: &Token) -> Option<Result<usize, SqlError>> {
    let Token::Placeholder(text) = token else {
        return None;
    };
    let number = text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
    Some(match number {
        Some(number @ 1..=PARAMETERS_MAX) => Ok(number - 1),
        Some(_) | None => Err(SqlError::syntax(format!(
            "\"{text}\" is no parameter: they are $1 to ${PARAMETERS_MAX}"
        ))),
    })
}

fn literal(column_type: &ColumnType, text: Option<&str>) -> Result<String, SqlError> {
    let Some(text) = text else {
        return Ok(format!("CAST(NULL AS {column_type})"));
    };
    let text = match column_type {
        ColumnType::Text | ColumnType::Json => return Ok(quoted(text)),
        // The engine's own cast would take the text's bytes.
        ColumnType::Bytes => return bytes(text),
        ColumnType::List(item) => return list(column_type, item, text),
        ColumnType::Struct(_) => {
            return Err(SqlError::unsupported("a parameter cannot be a struct"));
        }
        ColumnType::Boolean
        | ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double
        | ColumnType::Numeric { .. }
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval => text.trim(),
    };
    if let ColumnType::Numeric { .. } = column_type {
        return Ok(format!("CAST({} AS {})", quoted(text), numeric_of(text)));
    }
    Ok(format!("CAST({} AS {column_type})", quoted(text)))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The narrowest NUMERIC that holds a number as it is written: a client says no precision.
fn numeric_of(text: &str) -> ColumnType {
    let digits = |part: &str| part.bytes().filter(u8::is_ascii_digit).count();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = digits(fraction).min(38);
    let precision = (digits(whole) + scale).clamp(1, 38);
    let small = |number: usize| u8::try_from(number).expect("at most 38");
    ColumnType::Numeric { precision: small(precision), scale: small(scale) }
}

fn bytes(text: &str) -> Result<String, SqlError> {
    let hex = text.strip_prefix("\\x").unwrap_or_default();
    let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit()) && hex.len().is_multiple_of(2);
    if !text.starts_with("\\x") || !is_hex {
        return Err(SqlError::invalid("a BYTEA parameter is \\x and hex digits"));
    }
    Ok(format!("X'{hex}'"))
}

/// `{1,2,NULL,"a b"}`: one dimension, as clients send arrays.
fn list(whole: &ColumnType, item: &ColumnType, text: &str) -> Result<String, SqlError> {
    let invalid = || SqlError::invalid(format!("a {whole} parameter is written {{…,…}}"));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or_else(invalid)?;
    let mut items = Vec::new();
    let mut letters = inner.chars().peekable();
    while letters.peek().is_some() {
        let mut value = String::new();
        let mut is_quoted = false;
        while let Some(letter) = letters.next() {
            match letter {
                ',' => break,
                '"' => {
                    is_quoted = true;
                    loop {
                        match letters.next().ok_or_else(invalid)? {
                            '"' => break,
                            '\\' => value.push(letters.next().ok_or_else(invalid)?),
                            other => value.push(other),
                        }
                    }
                }
                '\\' => value.push(letters.next().ok_or_else(invalid)?),
                '{' => return Err(SqlError::unsupported("a parameter has one dimension")),
                other => value.push(other),
            }
        }
        let is_null = !is_quoted && value.eq_ignore_ascii_case("null");
        items.push(literal(item, (!is_null).then_some(value.as_str()))?);
    }
    Ok(format!("CAST(ARRAY[{}] AS {whole})", items.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(sql: &str, values: &[(ColumnType, Option<&str>)]) -> Result<String, SqlError> {
        let values: Vec<Parameter> = values
            .iter()
            .map(|(column_type, text)| Parameter {
                column_type: column_type.clone(),
                text: text.map(str::to_owned),
            })
            .collect();
        let tokens = Tokenizer::new(&Sql, sql).tokenize_with_location().unwrap();
        let tokens = Placeholders::Values(&values).put_into(tokens)?;
        let texts = tokens.iter().map(|token| match &token.token {
            // The parser writes what stands between the quotes as it is.
            Token::SingleQuotedString(text) => quoted(text),
            token => token.to_string(),
        });
        Ok(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_value_is_one_literal_whatever_it_holds() {
        let text = put("$1", &[(ColumnType::Text, Some("'; DROP STREAM a; --"))]).unwrap();
        assert_eq!(text, "'''; DROP STREAM a; --'");
        let text = put("$1", &[(ColumnType::BigInt, Some("1) OR (1=1"))]).unwrap();
        assert_eq!(text, "CAST ( '1) OR (1=1' AS BIGINT )");
        assert!(put("$1", &[(ColumnType::Bytes, Some("\\x0g"))]).is_err());
        let list = ColumnType::List(Box::new(ColumnType::Text));
        let text = put("$1", &[(list, Some("{a,NULL,\"b,\\\"'\"}"))]).unwrap();
        assert_eq!(text, "CAST ( ARRAY [ 'a' , CAST ( NULL AS TEXT ) , 'b,\"''' ] AS TEXT [ ] )");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let numeric = ColumnType::Numeric { precision: 38, scale: 10 };
        let text = put("$1", &[(numeric, Some("-35.95"))]).unwrap();
        assert_eq!(text, "CAST ( '-35.95' AS NUMERIC ( 4 , 2 ) )");
    }

    #[test]
    fn a_parameter_without_a_value_is_an_error() {
        assert!(put("$2", &[(ColumnType::Text, None)]).is_err());
        assert!(put("$0", &[]).is_err());
    }
}
