//! Reads the statements about roles, as PostgreSQL writes them.
//!
//! ```text
//! CREATE USER | ROLE [IF NOT EXISTS] name [WITH] [LOGIN | NOLOGIN] [PASSWORD '…']
//! ALTER USER | ROLE name [WITH] [LOGIN | NOLOGIN] [PASSWORD '…']
//! DROP USER | ROLE [IF EXISTS] name
//! GRANT SELECT, INSERT | ALL [PRIVILEGES] ON [STREAM | VIEW | TABLE] name, … TO role, …
//! GRANT CREATE, OPERATE, ADMIN ON CLUSTER TO role, …
//! GRANT role, … TO role, …
//! REVOKE … FROM role, …
//! CREATE POLICY name ON table TO role, … USING (condition)
//! DROP POLICY [IF EXISTS] name ON table
//! ALTER STREAM | VIEW name OWNER TO role
//! SHOW USERS | ROLES | GRANTS
//! ```
//!
//! No error repeats what stands where a password stands.

use std::collections::BTreeSet;

use alluvium_core::meta::access::{
    AccessCommand, CONDITION_BYTES_MAX, Granted, Object, Policy, Privilege,
};
use alluvium_core::meta::check_role_name;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Secret;
use crate::create::{end, identifier, stream_name, words};
use crate::dialect::Sql;
use crate::error::SqlError;
use crate::statement::byte_finder;

/// Bytes of the longest password: what stretches it reads all of it.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// What is said about roles.
#[derive(Debug)]
pub(crate) enum AccessStatement {
    CreateRole {
        name: String,
        login: bool,
        password: Option<Secret>,
        if_not_exists: bool,
        tag: &'static str,
    },
    AlterRole {
        name: String,
        login: Option<bool>,
        password: Option<Secret>,
        tag: &'static str,
    },
    DropRole {
        name: String,
        if_exists: bool,
        tag: &'static str,
    },
    Grant {
        granted: Granted,
        to: BTreeSet<String>,
    },
    Revoke {
        granted: Granted,
        from: BTreeSet<String>,
    },
    CreatePolicy {
        name: String,
        table: String,
        policy: Policy,
    },
    DropPolicy {
        name: String,
        table: String,
        if_exists: bool,
    },
    SetOwner {
        table: String,
        owner: String,
        tag: &'static str,
    },
    Show(Shown),
}

/// What `SHOW` shows of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Users,
    Roles,
    Grants,
}

impl AccessStatement {
    /// Whether rows come out.
    pub(crate) fn has_rows(&self) -> bool {
        matches!(self, AccessStatement::Show(_))
    }

    /// The command, where a statement is one as it stands.
    pub(super) fn command(&self) -> Option<AccessCommand> {
        match self {
            AccessStatement::DropRole { name, if_exists, .. } => {
                Some(AccessCommand::DropRole { name: name.clone(), if_exists: *if_exists })
            }
            AccessStatement::Grant { granted, to } => {
                Some(AccessCommand::Grant { granted: granted.clone(), to: to.clone() })
            }
            AccessStatement::Revoke { granted, from } => {
                Some(AccessCommand::Revoke { granted: granted.clone(), from: from.clone() })
            }
            AccessStatement::CreatePolicy { name, table, policy } => {
                let (name, table, policy) = (name.clone(), table.clone(), policy.clone());
                Some(AccessCommand::CreatePolicy { name, table, policy })
            }
            AccessStatement::DropPolicy { name, table, if_exists } => {
                let (name, table, if_exists) = (name.clone(), table.clone(), *if_exists);
                Some(AccessCommand::DropPolicy { name, table, if_exists })
            }
            AccessStatement::SetOwner { table, owner, .. } => {
                Some(AccessCommand::SetOwner { table: table.clone(), owner: owner.clone() })
            }
            AccessStatement::CreateRole { .. }
            | AccessStatement::AlterRole { .. }
            | AccessStatement::Show(_) => None,
        }
    }
}

/// Whether a statement that begins with these words is about roles.
pub(crate) fn is_access_statement(words: &[&str]) -> bool {
    matches!(
        words,
        ["CREATE" | "DROP", "USER" | "ROLE" | "POLICY", ..]
            | ["ALTER", "USER" | "ROLE", ..]
            | ["ALTER", "STREAM" | "VIEW", _, "OWNER", ..]
            | ["GRANT" | "REVOKE", ..]
            | ["SHOW", "USERS" | "ROLES" | "GRANTS"]
    )
}

/// Reads a statement about roles; the tokens hold no whitespace.
pub(crate) fn parse(
    sql: &str,
    leading: &[&str],
    tokens: Vec<TokenWithSpan>,
) -> Result<AccessStatement, SqlError> {
    if let ["CREATE", "POLICY", ..] = leading {
        return create_policy(sql, tokens);
    }
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    parser.next_token();
    let statement = match leading {
        ["GRANT", ..] => {
            let granted = granted(&mut parser)?;
            expect(&mut parser, "TO")?;
            AccessStatement::Grant { granted, to: roles(&mut parser)? }
        }
        ["REVOKE", ..] => {
            let granted = granted(&mut parser)?;
            expect(&mut parser, "FROM")?;
            AccessStatement::Revoke { granted, from: roles(&mut parser)? }
        }
        ["SHOW", what, ..] => {
            parser.next_token();
            AccessStatement::Show(match *what {
                "USERS" => Shown::Users,
                "ROLES" => Shown::Roles,
                _ => Shown::Grants,
            })
        }
        ["ALTER", what @ ("STREAM" | "VIEW"), ..] => {
            parser.next_token();
            let table = stream_name(&mut parser)?;
            expect(&mut parser, "OWNER")?;
            expect(&mut parser, "TO")?;
            let tag = if *what == "VIEW" { "ALTER VIEW" } else { "ALTER STREAM" };
            AccessStatement::SetOwner { table, owner: role(&mut parser)?, tag }
        }
        ["DROP", "POLICY", ..] => {
            parser.next_token();
            let if_exists = words(&mut parser, &["IF", "EXISTS"]);
            let name = role(&mut parser)?;
            expect(&mut parser, "ON")?;
            AccessStatement::DropPolicy { name, table: table(&mut parser)?, if_exists }
        }
        [verb, what, ..] => {
            parser.next_token();
            about_role(&mut parser, verb, *what == "USER")?
        }
        _ => return Err(SqlError::syntax("a statement about roles was expected")),
    };
    end(&mut parser, "the end of the statement")?;
    Ok(statement)
}

fn about_role(parser: &mut Parser, verb: &str, is_user: bool) -> Result<AccessStatement, SqlError> {
    let tag = |user, role| if is_user { user } else { role };
    if verb == "DROP" {
        let if_exists = words(parser, &["IF", "EXISTS"]);
        let tag = tag("DROP USER", "DROP ROLE");
        return Ok(AccessStatement::DropRole { name: role(parser)?, if_exists, tag });
    }
    let is_new = verb == "CREATE";
    let if_not_exists = is_new && words(parser, &["IF", "NOT", "EXISTS"]);
    let name = role(parser)?;
    let (mut login, mut password) = (None, None);
    words(parser, &["WITH"]);
    loop {
        if words(parser, &["LOGIN"]) {
            login = Some(true);
        } else if words(parser, &["NOLOGIN"]) {
            login = Some(false);
        } else if words(parser, &["ENCRYPTED", "PASSWORD"]) || words(parser, &["PASSWORD"]) {
            password = Some(secret(parser)?);
        } else if matches!(parser.peek_token_ref().token, Token::EOF) {
            break;
        } else {
            return Err(SqlError::syntax(
                "after the name of a role come LOGIN, NOLOGIN and PASSWORD '…'",
            ));
        }
    }
    if is_new {
        let login = login.unwrap_or(is_user);
        let tag = tag("CREATE USER", "CREATE ROLE");
        return Ok(AccessStatement::CreateRole { name, login, password, if_not_exists, tag });
    }
    if login.is_none() && password.is_none() {
        return Err(SqlError::syntax("nothing is altered: say LOGIN, NOLOGIN or PASSWORD '…'"));
    }
    let tag = tag("ALTER USER", "ALTER ROLE");
    Ok(AccessStatement::AlterRole { name, login, password, tag })
}

fn secret(parser: &mut Parser) -> Result<Secret, SqlError> {
    let Token::SingleQuotedString(text) = parser.next_token().token else {
        return Err(SqlError::syntax("a password is written between single quotes"));
    };
    if text.is_empty() {
        return Err(SqlError::invalid("an empty password lets everybody in"));
    }
    if PASSWORD_BYTES_MAX < text.len() {
        return Err(SqlError::invalid(format!(
            "a password has at most {PASSWORD_BYTES_MAX} bytes"
        )));
    }
    Ok(Secret::new(text))
}

/// What stands between GRANT and TO, or REVOKE and FROM.
fn granted(parser: &mut Parser) -> Result<Granted, SqlError> {
    let mut names = Vec::new();
    let mut all = false;
    loop {
        let name = identifier(parser)?;
        all |= name == "all";
        names.push(name);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    if all {
        words(parser, &["PRIVILEGES"]);
    }
    if !words(parser, &["ON"]) {
        return names.into_iter().map(checked).collect::<Result<_, _>>().map(Granted::Roles);
    }
    let is_cluster = words(parser, &["CLUSTER"]);
    let objects: BTreeSet<Object> = if is_cluster {
        BTreeSet::from([Object::Cluster])
    } else {
        tables(parser)?.into_iter().map(Object::Table).collect()
    };
    let privileges = if all {
        let of_object = |privilege: &Privilege| privilege.is_of_tables() != is_cluster;
        Privilege::ALL.into_iter().filter(of_object).collect()
    } else {
        names.iter().map(|name| privilege(name)).collect::<Result<_, _>>()?
    };
    Ok(Granted::Privileges(privileges, objects))
}

fn privilege(name: &str) -> Result<Privilege, SqlError> {
    let found = Privilege::ALL
        .into_iter()
        .find(|privilege| privilege.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let known = Privilege::ALL.map(|privilege| privilege.to_string()).join(", ");
        SqlError::unsupported(format!("\"{name}\" is no privilege; there are {known} and ALL"))
    })
}

fn tables(parser: &mut Parser) -> Result<Vec<String>, SqlError> {
    let mut tables = vec![table(parser)?];
    while parser.consume_token(&Token::Comma) {
        tables.push(table(parser)?);
    }
    Ok(tables)
}

/// `orders`, `STREAM orders`; a stream may itself be called "stream".
fn table(parser: &mut Parser) -> Result<String, SqlError> {
    if matches!(parser.peek_nth_token(1).token, Token::Word(_)) {
        let is_named =
            |word: &str| word.eq_ignore_ascii_case("TO") || word.eq_ignore_ascii_case("FROM");
        let next_ends = match parser.peek_nth_token(1).token {
            Token::Word(word) => word.quote_style.is_none() && is_named(&word.value),
            _ => false,
        };
        if !next_ends {
            let _ = words(parser, &["MATERIALIZED"]);
            let _ =
                words(parser, &["STREAM"]) || words(parser, &["VIEW"]) || words(parser, &["TABLE"]);
        }
    }
    stream_name(parser)
}

fn roles(parser: &mut Parser) -> Result<BTreeSet<String>, SqlError> {
    let mut roles = BTreeSet::from([role(parser)?]);
    while parser.consume_token(&Token::Comma) {
        roles.insert(role(parser)?);
    }
    Ok(roles)
}

fn role(parser: &mut Parser) -> Result<String, SqlError> {
    checked(identifier(parser)?)
}

fn checked(name: String) -> Result<String, SqlError> {
    check_role_name(&name).map_err(|error| SqlError::invalid(error.to_string()))?;
    Ok(name)
}

fn expect(parser: &mut Parser, word: &str) -> Result<(), SqlError> {
    if words(parser, &[word]) {
        return Ok(());
    }
    let token = parser.next_token();
    parser.expected(word, token).map_err(SqlError::from)
}

/// The condition is kept as it was written.
fn create_policy(sql: &str, mut tokens: Vec<TokenWithSpan>) -> Result<AccessStatement, SqlError> {
    let is_using = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("USING"),
        _ => false,
    };
    let odd = || {
        SqlError::syntax("CREATE POLICY name ON table TO role, … USING (condition) was expected")
    };
    let using = tokens.iter().position(is_using).ok_or_else(odd)?;
    let condition = tokens.split_off(using);
    let condition = match condition.as_slice() {
        [_, open, .., close] if open.token == Token::LParen && close.token == Token::RParen => {
            let byte_of = byte_finder(sql);
            sql[byte_of(open.span.start) + 1..byte_of(close.span.start)].trim().to_owned()
        }
        _ => return Err(odd()),
    };
    if condition.is_empty() || CONDITION_BYTES_MAX < condition.len() {
        return Err(SqlError::invalid(format!(
            "the condition of a policy has 1 to {CONDITION_BYTES_MAX} bytes"
        )));
    }
    let mut parser = Parser::new(&Sql).with_tokens_with_locations(tokens);
    parser.next_token(); // CREATE
    parser.next_token(); // POLICY
    let name = role(&mut parser)?;
    expect(&mut parser, "ON")?;
    let table = table(&mut parser)?;
    words(&mut parser, &["FOR", "SELECT"]);
    expect(&mut parser, "TO")?;
    let roles = roles(&mut parser)?;
    end(&mut parser, "USING (condition)")?;
    Ok(AccessStatement::CreatePolicy { name, table, policy: Policy { roles, condition } })
}
