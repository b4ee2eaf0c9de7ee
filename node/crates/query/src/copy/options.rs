//! Reads the statement itself: the stream, its columns, and how rows are written.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{CopyIn, Form};
use crate::dialect::Sql;
use crate::error::SqlError;
use crate::host::Catalogue;
use crate::nearest;

impl CopyIn {
    /// Reads `COPY stream [(columns)] FROM STDIN …`.
    /// `check` refuses streams before anything is told of them.
    pub(crate) fn parse(
        sql: &str,
        catalogue: &Catalogue,
        check: &dyn Fn(&str) -> Result<(), SqlError>,
    ) -> Result<CopyIn, SqlError> {
        let tokens = Tokenizer::new(&Sql, sql).tokenize();
        let tokens = tokens.map_err(|error| SqlError::syntax(error.to_string()))?;
        let tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
        let mut words = Words { tokens: tokens.collect(), at: 0 };
        words.expect("COPY")?;
        if words.takes(&Token::LParen) {
            return Err(SqlError::unsupported("COPY (query) is not supported: send the query"));
        }
        let mut name = words.name()?;
        while words.takes(&Token::Period) {
            name = words.name()?;
        }
        check(&name)?;
        let stream = catalogue
            .get(&name)
            .ok_or_else(|| SqlError::unknown_stream(&name, catalogue.keys().map(String::as_str)))?;
        let mut copy = CopyIn {
            stream: stream.clone(),
            columns: Vec::new(),
            form: Form::Text,
            delimiter: b'\t',
            quote: b'"',
            escape: b'"',
            null: "\\N".into(),
            has_header: false,
        };
        copy.columns = words.columns(&copy)?;
        if words.takes_word("TO") {
            return Err(SqlError::unsupported("COPY … TO is not supported: send a query"));
        }
        words.expect("FROM")?;
        if !words.takes_word("STDIN") {
            return Err(SqlError::unsupported(
                "COPY reads what the client sends: FROM STDIN (psql's \\copy sends a file)",
            ));
        }
        words.options(&mut copy)?;
        copy.check()?;
        Ok(copy)
    }

    fn check(&self) -> Result<(), SqlError> {
        let plain =
            |byte: u8| byte != b'\n' && byte != b'\r' && byte != b'\\' && byte != self.quote;
        if !plain(self.delimiter) {
            return Err(SqlError::invalid("COPY: this delimiter cannot be told from the rest"));
        }
        Ok(())
    }
}

/// What was said of the rows; what was not follows from the form.
#[derive(Default)]
struct Said {
    delimiter: Option<u8>,
    quote: Option<u8>,
    escape: Option<u8>,
    null: Option<String>,
}

struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    fn takes(&mut self, token: &Token) -> bool {
        let is_there = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(is_there);
        is_there
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.tokens.get(self.at), Some(Token::Word(there))
            if there.value.eq_ignore_ascii_case(word));
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.takes_word(word) {
            return Ok(());
        }
        Err(SqlError::syntax(format!("COPY: {word} was expected{}", self.here())))
    }

    fn here(&self) -> String {
        match self.tokens.get(self.at) {
            Some(Token::EOF) | None => ", the statement ends".into(),
            Some(token) => format!(", not {token}"),
        }
    }

    fn name(&mut self) -> Result<String, SqlError> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else {
            return Err(SqlError::syntax(format!("COPY: a name was expected{}", self.here())));
        };
        self.at += 1;
        let is_quoted = word.quote_style.is_some();
        Ok(if is_quoted { word.value.clone() } else { word.value.to_lowercase() })
    }

    fn columns(&mut self, copy: &CopyIn) -> Result<Vec<usize>, SqlError> {
        let columns = copy.stream.definition.schema.columns();
        if !self.takes(&Token::LParen) {
            return Ok((0..columns.len()).collect());
        }
        let mut places = Vec::new();
        loop {
            let name = self.name()?;
            let place = columns.iter().position(|column| column.name == name);
            let place = place.ok_or_else(|| {
                let hint = nearest::hint(&name, columns.iter().map(|column| column.name.as_str()));
                SqlError::NotFound { reason: format!("column \"{name}\" does not exist{hint}") }
            })?;
            if places.contains(&place) {
                return Err(SqlError::invalid(format!("COPY: column \"{name}\" is named twice")));
            }
            places.push(place);
            if self.takes(&Token::RParen) {
                return Ok(places);
            }
            if !self.takes(&Token::Comma) {
                return Err(SqlError::syntax(format!("COPY: , or ) was expected{}", self.here())));
            }
        }
    }

    fn options(&mut self, copy: &mut CopyIn) -> Result<(), SqlError> {
        self.takes_word("WITH");
        let in_parentheses = self.takes(&Token::LParen);
        let mut said = Said::default();
        loop {
            let is_over = if in_parentheses {
                self.takes(&Token::RParen)
            } else {
                matches!(self.tokens.get(self.at), Some(Token::SemiColon | Token::EOF) | None)
            };
            if is_over {
                break;
            }
            self.option(copy, &mut said)?;
            if in_parentheses {
                self.takes(&Token::Comma);
            }
        }
        let (delimiter, null) = match copy.form {
            Form::Csv => (b',', ""),
            Form::Text | Form::Binary => (b'\t', "\\N"),
        };
        copy.delimiter = said.delimiter.unwrap_or(delimiter);
        copy.null = said.null.unwrap_or_else(|| null.into());
        copy.quote = said.quote.unwrap_or(b'"');
        copy.escape = said.escape.unwrap_or(copy.quote);
        Ok(())
    }

    fn option(&mut self, copy: &mut CopyIn, said: &mut Said) -> Result<(), SqlError> {
        match self.name()?.as_str() {
            "format" => {
                let name = self.word_or_text()?;
                copy.form = form(&name.to_lowercase())?;
            }
            "csv" => copy.form = Form::Csv,
            "binary" => copy.form = Form::Binary,
            "header" => copy.has_header = self.flag()?,
            "delimiter" => said.delimiter = Some(self.letter()?),
            "null" => said.null = Some(self.text()?),
            "quote" => said.quote = Some(self.letter()?),
            "escape" => said.escape = Some(self.letter()?),
            "encoding" => {
                let name = self.text()?;
                if !name.replace('-', "").eq_ignore_ascii_case("utf8") {
                    return Err(SqlError::unsupported("COPY reads UTF-8"));
                }
            }
            "freeze" => {
                self.flag()?;
            }
            other => {
                return Err(SqlError::unsupported(format!(
                    "COPY has no option {other}; there are FORMAT, HEADER, DELIMITER, NULL, QUOTE, \
                     ESCAPE and ENCODING"
                )));
            }
        }
        Ok(())
    }

    fn flag(&mut self) -> Result<bool, SqlError> {
        match self.tokens.get(self.at) {
            Some(Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_)) => {}
            _ => return Ok(true),
        }
        match self.word_or_text()?.to_lowercase().as_str() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            "match" => Err(SqlError::unsupported("COPY: HEADER is true or false, not MATCH")),
            // The next option: without parentheses nothing stands between them.
            _ => {
                self.at -= 1;
                Ok(true)
            }
        }
    }

    fn word_or_text(&mut self) -> Result<String, SqlError> {
        let text = match self.tokens.get(self.at) {
            Some(Token::Word(word)) => word.value.clone(),
            Some(Token::SingleQuotedString(text) | Token::Number(text, _)) => text.clone(),
            _ => return Err(SqlError::syntax(format!("COPY: a word was expected{}", self.here()))),
        };
        self.at += 1;
        Ok(text)
    }

    fn text(&mut self) -> Result<String, SqlError> {
        self.takes_word("AS");
        let (Some(Token::SingleQuotedString(text)) | Some(Token::EscapedStringLiteral(text))) =
            self.tokens.get(self.at)
        else {
            return Err(SqlError::syntax(format!("COPY: a text was expected{}", self.here())));
        };
        self.at += 1;
        Ok(text.clone())
    }

    fn letter(&mut self) -> Result<u8, SqlError> {
        let text = self.text()?;
        match text.as_bytes() {
            [letter] => Ok(*letter),
            _ => Err(SqlError::invalid(format!("COPY: '{text}' is not one letter of one byte"))),
        }
    }
}

fn form(name: &str) -> Result<Form, SqlError> {
    match name {
        "text" => Ok(Form::Text),
        "csv" => Ok(Form::Csv),
        "binary" => Ok(Form::Binary),
        other => {
            Err(SqlError::unsupported(format!("COPY reads text, csv and binary, not {other}")))
        }
    }
}
