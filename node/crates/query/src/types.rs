//! Reads a column type by its PostgreSQL name, or one of the names other databases give it.
//!
//! Lengths of `VARCHAR(n)` and precisions of times are read and not enforced: text has no limit,
//! times have microseconds. `NUMERIC` without numbers is `NUMERIC(38, 10)`.

use alluvium_core::schema::{Column, ColumnType};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::create::{identifier, nullable, words};
use crate::error::SqlError;
use crate::nearest;

/// Types inside types.
const NESTING_MAX: u32 = 16;

const NAMES: [&str; 24] = [
    "BOOLEAN",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "REAL",
    "DOUBLE",
    "FLOAT",
    "NUMERIC",
    "DECIMAL",
    "TEXT",
    "VARCHAR",
    "CHAR",
    "STRING",
    "BYTEA",
    "BLOB",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "JSON",
    "JSONB",
    "ARRAY",
    "STRUCT",
];

/// Reads one type.
pub(crate) fn column_type(parser: &mut Parser) -> Result<ColumnType, SqlError> {
    let mut types = Types { closing: 0, depth: 0 };
    let column_type = types.read(parser)?;
    if types.closing != 0 {
        return Err(SqlError::syntax("there is a > too many after a type"));
    }
    Ok(column_type)
}

struct Types {
    /// `>` read as part of `>>` and not used yet.
    closing: usize,
    depth: u32,
}

impl Types {
    fn read(&mut self, parser: &mut Parser) -> Result<ColumnType, SqlError> {
        self.depth += 1;
        if NESTING_MAX < self.depth {
            return Err(SqlError::invalid(format!(
                "types are nested more than {NESTING_MAX} deep"
            )));
        }
        let mut column_type = self.read_plain(parser)?;
        loop {
            if self.closing == 0 && parser.consume_token(&Token::LBracket) {
                if matches!(parser.peek_token_ref().token, Token::Number(..)) {
                    parser.next_token();
                }
                parser.expect_token(&Token::RBracket)?;
            } else if self.closing != 0 || !words(parser, &["ARRAY"]) {
                break;
            }
            column_type = ColumnType::List(Box::new(column_type));
        }
        self.depth -= 1;
        Ok(column_type)
    }

    fn read_plain(&mut self, parser: &mut Parser) -> Result<ColumnType, SqlError> {
        let token = parser.next_token();
        let Token::Word(word) = &token.token else {
            return parser.expected("a type", token).map_err(SqlError::from);
        };
        let name = word.value.to_uppercase();
        let column_type = match name.as_str() {
            "BOOL" | "BOOLEAN" => ColumnType::Boolean,
            "INT2" | "SMALLINT" => ColumnType::SmallInt,
            "INT" | "INT4" | "INTEGER" => ColumnType::Integer,
            "INT8" | "BIGINT" => ColumnType::BigInt,
            "FLOAT4" | "REAL" => ColumnType::Real,
            "FLOAT8" => ColumnType::Double,
            "DOUBLE" => {
                words(parser, &["PRECISION"]);
                ColumnType::Double
            }
            "FLOAT" => match self.numbers(parser)?.first() {
                Some(bits) if *bits <= 24 => ColumnType::Real,
                Some(_) | None => ColumnType::Double,
            },
            "NUMERIC" | "DECIMAL" | "DEC" => self.numeric(parser)?,
            "TEXT" | "STRING" => ColumnType::Text,
            "VARCHAR" | "CHAR" | "CHARACTER" | "BPCHAR" => {
                words(parser, &["VARYING"]);
                self.numbers(parser)?;
                ColumnType::Text
            }
            "BYTEA" | "BLOB" | "BYTES" => ColumnType::Bytes,
            "BINARY" | "VARBINARY" => {
                self.numbers(parser)?;
                ColumnType::Bytes
            }
            "DATE" => ColumnType::Date,
            "TIME" | "TIMESTAMP" | "DATETIME" | "TIMESTAMPTZ" => self.read_time(parser, &name)?,
            "INTERVAL" => ColumnType::Interval,
            "JSON" | "JSONB" => ColumnType::Json,
            "ARRAY" | "LIST" => {
                parser.expect_token(&Token::Lt)?;
                let item = self.read(parser)?;
                self.close(parser)?;
                ColumnType::List(Box::new(item))
            }
            "STRUCT" | "ROW" => self.fields(parser)?,
            _ => {
                let hint = nearest::hint(&name, NAMES.into_iter());
                return Err(SqlError::invalid(format!(
                    "\"{}\" is no type{hint}; types are those of PostgreSQL: {}",
                    word.value,
                    NAMES.join(", ")
                )));
            }
        };
        Ok(column_type)
    }

    fn read_time(&mut self, parser: &mut Parser, name: &str) -> Result<ColumnType, SqlError> {
        self.numbers(parser)?;
        if name == "TIMESTAMPTZ" {
            return Ok(ColumnType::TimestampTz);
        }
        let has_zone = words(parser, &["WITH", "TIME", "ZONE"]);
        if !has_zone {
            words(parser, &["WITHOUT", "TIME", "ZONE"]);
        }
        match (name, has_zone) {
            ("TIME", true) => {
                Err(SqlError::unsupported("TIME WITH TIME ZONE is not supported; use TIMESTAMPTZ"))
            }
            ("TIME", false) => Ok(ColumnType::Time),
            (_, true) => Ok(ColumnType::TimestampTz),
            (_, false) => Ok(ColumnType::Timestamp),
        }
    }

    fn numeric(&mut self, parser: &mut Parser) -> Result<ColumnType, SqlError> {
        let numbers = self.numbers(parser)?;
        let small = |number: u64| {
            u8::try_from(number).map_err(|_| {
                SqlError::invalid(format!("NUMERIC has at most 38 digits, not {number}"))
            })
        };
        match numbers.as_slice() {
            [] => Ok(ColumnType::Numeric { precision: 38, scale: 10 }),
            [precision] => Ok(ColumnType::Numeric { precision: small(*precision)?, scale: 0 }),
            [precision, scale] => {
                Ok(ColumnType::Numeric { precision: small(*precision)?, scale: small(*scale)? })
            }
            _ => Err(SqlError::syntax("NUMERIC takes a precision and a scale")),
        }
    }

    /// `(1, 2)`, or nothing.
    fn numbers(&self, parser: &mut Parser) -> Result<Vec<u64>, SqlError> {
        let mut numbers = Vec::new();
        if self.closing != 0 || !parser.consume_token(&Token::LParen) {
            return Ok(numbers);
        }
        loop {
            numbers.push(parser.parse_literal_uint()?);
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
        Ok(numbers)
    }

    /// `<a T, b U>` or `(a T, b U)`.
    fn fields(&mut self, parser: &mut Parser) -> Result<ColumnType, SqlError> {
        let in_angles = parser.consume_token(&Token::Lt);
        if !in_angles {
            parser.expect_token(&Token::LParen)?;
        }
        let mut fields = Vec::new();
        loop {
            let name = identifier(parser)?;
            let _ = parser.consume_token(&Token::Colon);
            let column_type = self.read(parser)?;
            let nullable = if self.closing == 0 { nullable(parser, &name)? } else { true };
            fields.push(Column { name, column_type, nullable });
            if self.closing != 0 || !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if in_angles {
            self.close(parser)?;
        } else {
            parser.expect_token(&Token::RParen)?;
        }
        Ok(ColumnType::Struct(fields))
    }

    /// Takes one `>`, which may be the first letter of a longer operator.
    fn close(&mut self, parser: &mut Parser) -> Result<(), SqlError> {
        if self.closing != 0 {
            self.closing -= 1;
            return Ok(());
        }
        let token = parser.next_token();
        match &token.token {
            Token::Gt => Ok(()),
            Token::ShiftRight => {
                self.closing = 1;
                Ok(())
            }
            Token::CustomBinaryOperator(text) if text.chars().all(|letter| letter == '>') => {
                self.closing = text.len() - 1;
                Ok(())
            }
            _ => parser.expected(">", token).map_err(SqlError::from),
        }
    }
}
