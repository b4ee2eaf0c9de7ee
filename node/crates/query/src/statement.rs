//! From text to one statement of ours.
//!
//! An allow-list: what is not named in [`Statement`] is refused with what to do instead. The parser
//! underneath reads much more than this node does, so nothing reaches the planner by not being
//! forbidden.

use alluvium_core::schema::HIDDEN_COLUMNS;
use alluvium_core::stream::StreamDefinition;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::access::{self, AccessStatement};
use crate::create;
use crate::dialect::Sql;
use crate::error::SqlError;
use crate::like;
use crate::parameters::{self, Placeholders};
use crate::pg_catalog;
use crate::views::ddl::{self, ViewStatement};

/// What this node does.
#[derive(Debug)]
pub(crate) enum Statement {
    /// `SELECT`, `WITH`, `VALUES`, `EXPLAIN`: anything that only reads.
    Read(Read),
    /// `INSERT INTO stream …`
    Insert { insert: Box<ast::Insert>, names_hidden: bool },
    /// `CREATE STREAM`
    CreateStream { definition: StreamDefinition, if_not_exists: bool },
    /// `DROP STREAM`
    DropStream { name: String, if_exists: bool },
    /// `SHOW STREAMS`
    ShowStreams,
    /// `DESCRIBE x`, `SHOW COLUMNS FROM x`: the parts of the name.
    Describe { name: Vec<String> },
    /// What is said about views.
    View(ViewStatement),
    /// What is said about roles.
    Access(AccessStatement),
    /// `KILL QUERY 'id'`
    KillQuery { id: String },
}

/// A statement that only reads.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) statement: Parsed,
    /// Whether a word of the statement is the name of a hidden column. Only then do tables show
    /// them.
    pub(crate) names_hidden: bool,
    /// What it calls itself in the answer.
    pub(crate) tag: &'static str,
}

/// Nested parentheses, subqueries and operators the parser follows before it gives up: enough for
/// what people and tools write, little enough for a thread's stack.
const NESTING_MAX: usize = 50;

/// Operators in one expression, and parts of one UNION or JOIN: a chain of them is a tree as deep
/// as it is long, and trees are walked on a thread's stack.
const CHAIN_MAX: usize = 1_000;

/// Reads exactly one statement.
pub(crate) fn parse(sql: &str, parameters: Placeholders<'_>) -> Result<Statement, SqlError> {
    let tokens = tokenize(sql)?;
    let count = split_tokens(&tokens).count();
    if count == 0 {
        return Err(SqlError::syntax("there is no statement in this text"));
    }
    if 1 < count {
        return Err(SqlError::unsupported(format!(
            "{count} statements were sent as one; send each by itself (`alluvium sql -f` splits a \
             script)"
        )));
    }
    check_chains(&tokens)?;
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|token| !is_separator(&token.token)).collect();
    let words: Vec<String> = leading_words(&tokens);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if ddl::is_view_statement(&words) {
        // A definition is kept as it was written.
        if 0 < parameters::count(&tokens)? {
            return Err(SqlError::unsupported("statements about views take no parameters"));
        }
        return Ok(Statement::View(ddl::parse(sql, &words, tokens)?));
    }
    if access::is_access_statement(&words) {
        // What stands for a password is not to be sent apart from the statement that it is part of.
        if 0 < parameters::count(&tokens)? {
            return Err(SqlError::unsupported("statements about roles take no parameters"));
        }
        return Ok(Statement::Access(access::parse(sql, &words, tokens)?));
    }
    let has_parameters = 0 < parameters::count(&tokens)?;
    let tokens = parameters.put_into(tokens)?;
    let mut statement = parse_words(&words, tokens)?;
    if let Statement::Read(Read { statement: Parsed::Statement(read), .. }) = &mut statement
        && has_parameters
    {
        parameters::name_values(read);
    }
    Ok(statement)
}

fn parse_words(words: &[&str], tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    match words {
        ["CREATE", "STREAM", ..] => create::parse_create(tokens),
        ["DROP", "STREAM", ..] => create::parse_drop(tokens),
        ["SHOW", "STREAMS" | "TABLES"] => Ok(Statement::ShowStreams),
        ["DESCRIBE" | "DESC", ..] => create::parse_describe(tokens, 1),
        ["SHOW", "COLUMNS", "FROM" | "IN", ..] => create::parse_describe(tokens, 3),
        ["SELECT" | "WITH" | "VALUES" | "FROM" | "TABLE", ..] | [] => parse_read(tokens, "SELECT"),
        ["EXPLAIN", ..] => parse_read(tokens, "EXPLAIN"),
        ["INSERT", ..] => parse_insert(tokens),
        ["KILL", "QUERY", ..] => parse_kill(&tokens),
        _ => Err(refusal(words)),
    }
}

/// How many parameters a statement has.
pub(crate) fn parameter_count(sql: &str) -> Result<usize, SqlError> {
    parameters::count(&tokenize(sql)?)
}

/// Splits a script into its statements: at semicolons outside quotes and comments. Empty statements
/// are left out, comments stay with the statement they stand in.
pub fn split_statements(sql: &str) -> Result<Vec<String>, SqlError> {
    let tokens = tokenize(sql)?;
    let byte_of = byte_finder(sql);
    let mut statements = Vec::new();
    let mut start = 0;
    let mut is_empty = true;
    for token in &tokens {
        match &token.token {
            Token::SemiColon => {
                let end = byte_of(token.span.start);
                if !is_empty {
                    statements.push(sql[start..end].trim().to_string());
                }
                start = end + 1;
                is_empty = true;
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => is_empty = false,
        }
    }
    if !is_empty {
        statements.push(sql[start..].trim().to_string());
    }
    Ok(statements)
}

/// Finds the byte of a text at which a token starts.
pub(crate) fn byte_finder(sql: &str) -> impl Fn(Location) -> usize {
    let line_starts: Vec<usize> =
        std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
    move |at: Location| {
        let line = usize::try_from(at.line).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
        let start = line_starts.get(line).copied().unwrap_or(sql.len());
        let rest = &sql[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(byte, _)| byte)
    }
}

/// Whether a text ends inside a string, a quoted name or a comment: a shell then asks for another
/// line.
pub fn is_unfinished(sql: &str) -> bool {
    match tokenize(sql) {
        Ok(_) => false,
        Err(error) => {
            let text = error.to_string();
            text.contains("unterminated") || text.contains("EOF") || text.contains("close")
        }
    }
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    Tokenizer::new(&Sql, sql).tokenize_with_location().map_err(|error| {
        let message = error.message.replace("Unterminated", "unterminated");
        SqlError::syntax(format!("{message}{}", error.location))
    })
}

fn is_separator(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF)
}

/// The runs of tokens between semicolons that hold more than whitespace.
fn split_tokens(tokens: &[TokenWithSpan]) -> impl Iterator<Item = &[TokenWithSpan]> {
    tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|run| run.iter().any(|token| !is_separator(&token.token)))
}

/// As [`check_chains`], of an expression that stands by itself.
pub(crate) fn check_expression(sql: &str) -> Result<(), SqlError> {
    check_chains(&tokenize(sql)?)
}

/// Refuses expressions that are longer than a stack is deep. Counts operators between commas, for
/// each pair of parentheses by itself.
fn check_chains(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut counts = vec![0_usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => counts.push(0),
            Token::RParen | Token::RBracket if 1 < counts.len() => {
                counts.pop();
            }
            Token::Comma | Token::SemiColon => *last(&mut counts) = 0,
            Token::Word(word) if word.quote_style.is_none() && !is_chaining(&word.value) => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            token if is_separator(token) => {}
            _ => *last(&mut counts) += 1,
        }
        if CHAIN_MAX < *last(&mut counts) {
            return Err(SqlError::invalid(format!(
                "an expression has more than {CHAIN_MAX} operators; write IN (…) for many values, \
                 or split the statement"
            )));
        }
    }
    Ok(())
}

fn last(counts: &mut [usize]) -> &mut usize {
    counts.last_mut().expect("the count outside all parentheses is never taken away")
}

fn is_chaining(word: &str) -> bool {
    const WORDS: [&str; 8] = ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT", "JOIN", "WHEN"];
    WORDS.iter().any(|chaining| chaining.eq_ignore_ascii_case(word))
}

/// The first few words in capitals, up to the first token that is not a bare word.
fn leading_words(tokens: &[TokenWithSpan]) -> Vec<String> {
    tokens
        .iter()
        .take(4)
        .map_while(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        })
        .collect()
}

fn names_hidden(tokens: &[TokenWithSpan]) -> bool {
    tokens.iter().any(|token| match &token.token {
        Token::Word(word) => {
            HIDDEN_COLUMNS.iter().any(|hidden| hidden.eq_ignore_ascii_case(&word.value))
        }
        _ => false,
    })
}

fn parse_tokens(tokens: Vec<TokenWithSpan>) -> Result<Parsed, SqlError> {
    let mut parser = DFParserBuilder::new(tokens)
        .with_dialect(&Sql)
        .with_recursion_limit(NESTING_MAX)
        .build()?;
    let mut statements = parser.parse_statements()?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => Ok(statement),
        _ => Err(SqlError::syntax("one statement was expected")),
    }
}

fn parse_read(tokens: Vec<TokenWithSpan>, tag: &'static str) -> Result<Statement, SqlError> {
    let names_hidden = names_hidden(&tokens);
    let words = leading_words(&tokens);
    let statement = parse_tokens(pg_catalog::rewrite(tokens))?;
    if !is_read(&statement) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return Err(refusal(&words));
    }
    let mut statement = pg_catalog::simplify(statement);
    like::spell_escapes(&mut statement);
    Ok(Statement::Read(Read { statement, names_hidden, tag }))
}

fn is_read(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(inner) => matches!(inner.as_ref(), ast::Statement::Query(_)),
        Parsed::Explain(explain) => is_query(&explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => false,
    }
}

/// Explaining an explanation is refused with everything else that is not a query.
fn is_query(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(inner) => matches!(inner.as_ref(), ast::Statement::Query(_)),
        Parsed::Explain(_)
        | Parsed::CreateExternalTable(_)
        | Parsed::CopyTo(_)
        | Parsed::Reset(_) => false,
    }
}

fn parse_insert(tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    let names_hidden = names_hidden(&tokens);
    let Parsed::Statement(statement) = parse_tokens(tokens)? else {
        return Err(refusal(&["INSERT"]));
    };
    let ast::Statement::Insert(insert) = *statement else {
        return Err(refusal(&["INSERT"]));
    };
    if insert.on.is_some() || insert.overwrite || insert.replace_into {
        return Err(SqlError::unsupported(
            "events are never overwritten: INSERT has no ON CONFLICT, OVERWRITE or REPLACE",
        ));
    }
    if insert.returning.is_some() {
        return Err(SqlError::unsupported("INSERT … RETURNING is not supported"));
    }
    Ok(Statement::Insert { insert: Box::new(insert), names_hidden })
}

/// Reads `KILL QUERY 'id'`; the tokens hold no whitespace.
fn parse_kill(tokens: &[TokenWithSpan]) -> Result<Statement, SqlError> {
    match tokens {
        [_, _, TokenWithSpan { token: Token::SingleQuotedString(id), .. }] => {
            Ok(Statement::KillQuery { id: id.clone() })
        }
        _ => Err(SqlError::syntax(
            "KILL QUERY takes the id of a query in quotes, as system.queries shows it: KILL QUERY \
             '1-42'",
        )),
    }
}

const STATEMENTS: &str = "statements are SELECT, WITH, VALUES, EXPLAIN, INSERT, CREATE STREAM, DROP \
                          STREAM, CREATE [MATERIALIZED] VIEW, DROP [MATERIALIZED] VIEW, SHOW \
                          STREAMS, SHOW VIEWS, SHOW COLUMNS, DESCRIBE, EXPLAIN VIEW, AUDIT VIEW, \
                          REBUILD VIEW, RESUME VIEW, CANCEL VIEW, KILL QUERY, CREATE, ALTER and DROP \
                          USER, ROLE and POLICY, GRANT, REVOKE, SHOW USERS, SHOW ROLES and SHOW \
                          GRANTS";

/// Why a statement is refused, by how it begins.
fn refusal(words: &[&str]) -> SqlError {
    let first = words.first().copied().unwrap_or("this statement");
    let reason = match words {
        ["CREATE", "OR", ..] | ["CREATE", "TABLE" | "EXTERNAL" | "TEMP" | "TEMPORARY", ..] => {
            "tables are not created here: create a stream with CREATE STREAM".into()
        }
        ["CREATE", what, ..] => format!("CREATE {what} is not supported; {STATEMENTS}"),
        ["DROP", what, ..] => {
            format!("DROP {what} is not supported; use DROP STREAM or DROP [MATERIALIZED] VIEW")
        }
        ["ALTER", ..] => {
            "a stream is not altered: create another and INSERT … SELECT into it".into()
        }
        ["UPDATE" | "DELETE" | "TRUNCATE" | "MERGE", ..] => {
            format!("{first} is not supported: events are immutable; retention removes old ones")
        }
        ["COPY", ..] => {
            "COPY is not supported: use INSERT, the ingest command or the append call".into()
        }
        ["SET" | "RESET" | "SHOW", ..] => {
            format!("{first} of settings is not supported: a session has none; {STATEMENTS}")
        }
        ["BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "END" | "SAVEPOINT", ..] => {
            format!("{first} is not supported: each statement stands for itself")
        }
        ["KILL", ..] => {
            "KILL takes QUERY and the id that system.queries shows: KILL QUERY '1-42'".into()
        }
        ["EXPLAIN", ..] => {
            "EXPLAIN takes a query: SELECT, WITH or VALUES; or VIEW and a name".into()
        }
        ["SUBSCRIBE", ..] => {
            "SUBSCRIBE is answered by a stream of changes, not by one answer: give it to `alluvium \
             sql`, or use the Subscribe call"
                .into()
        }
        _ => {
            let known = [
                "SELECT", "WITH", "VALUES", "EXPLAIN", "INSERT", "CREATE", "DROP", "SHOW",
                "DESCRIBE",
            ];
            let hint = crate::nearest::hint(first, known.into_iter());
            if !hint.is_empty() {
                return SqlError::syntax(format!("\"{first}\" begins no statement{hint}"));
            }
            format!("{first} is not supported; {STATEMENTS}")
        }
    };
    SqlError::unsupported(reason)
}
