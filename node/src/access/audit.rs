//! What was done and refused, for those who look later: log lines of the target `audit`.
//!
//! Written of every statement that changes the catalogue, roles or grants, of everything that is
//! refused to somebody, of every login that fails and of every change of a node. A statement is
//! told by its kind and by a hash of its text without passwords; the text itself is not written.
//! What strangers chose is written as text, which is escaped, and never with `%`.

use alluvium_core::ids::NodeId;
use alluvium_query::access::{Caller, redacted};
use alluvium_query::{ErrorKind, SqlError};

use super::{AuthError, Origin, password};

/// A statement that ran, or was refused. Statements that only read or append are written when they
/// are refused alone.
pub fn statement(caller: &Caller, door: &str, sql: &str, ended: Result<&str, &SqlError>) {
    match ended {
        Ok(tag) if !is_change(tag) => {}
        Ok(tag) => tracing::info!(
            target: "audit", who = %caller, door, kind = tag, statement = hash(sql), "audit: allowed"
        ),
        Err(error) if error.kind() == ErrorKind::Denied => tracing::warn!(
            target: "audit", who = %caller, door, kind = kind(sql), statement = hash(sql),
            reason = error.to_string(), "audit: refused"
        ),
        Err(_) => {}
    }
}

/// A call that was refused to somebody who is known.
pub fn call_refused(caller: &Caller, origin: &Origin, call: &str, reason: &str) {
    tracing::warn!(
        target: "audit", who = %caller, from = origin.text(), call, reason, "audit: refused"
    );
}

/// A stream or view that was refused to somebody without SQL.
pub fn table_refused(caller: &Caller, table: &str, reason: &str) {
    let table: String = table.chars().filter(|c| c.is_ascii_graphic()).take(63).collect();
    tracing::warn!(target: "audit", who = %caller, table, reason, "audit: refused");
}

/// Somebody who was not let in.
pub fn login_refused(user: &str, origin: &Origin, error: &AuthError) {
    // A name is what a stranger typed: it may be a password, or hold anything.
    let user: String = user.chars().filter(|c| c.is_ascii_graphic()).take(63).collect();
    tracing::warn!(
        target: "audit", who = user, from = origin.text(), reason = %error, "audit: login refused"
    );
}

/// A member of the cluster was told to be in another state.
pub fn member_changed(caller: &Caller, node: NodeId, state: &str) {
    tracing::info!(target: "audit", who = %caller, %node, state, "audit: member changed");
}

fn is_change(tag: &str) -> bool {
    const CHANGES: [&str; 10] = [
        "CREATE ", "DROP ", "ALTER ", "GRANT", "REVOKE", "REBUILD ", "RESUME ", "CANCEL ",
        "AUDIT ", "KILL ",
    ];
    CHANGES.iter().any(|change| tag.starts_with(change))
}

/// The first words of a statement.
fn kind(sql: &str) -> String {
    let words = sql.split_whitespace().take(2).map(str::to_uppercase);
    let words: Vec<String> = words.map(|word| word.chars().take(20).collect()).collect();
    redacted(&words.join(" ")).into_owned()
}

/// Tells a statement from others without saying it.
fn hash(sql: &str) -> String {
    let sum = password::sha256(redacted(sql).as_bytes());
    sum[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_from_questions() {
        for tag in ["CREATE STREAM", "GRANT", "DROP USER", "CREATE MATERIALIZED VIEW"] {
            assert!(is_change(tag), "{tag}");
        }
        for tag in ["SELECT", "INSERT 0 3", "SHOW STREAMS", "EXPLAIN", "DESCRIBE"] {
            assert!(!is_change(tag), "{tag}");
        }
    }

    #[test]
    fn a_hash_does_not_depend_on_the_password() {
        let one = hash("CREATE USER a PASSWORD 'x'");
        assert_eq!(one, hash("CREATE USER a PASSWORD 'y'"));
        assert_ne!(one, hash("CREATE USER b PASSWORD 'x'"));
        assert_eq!(kind("password'secret' x"), "PASSWORD '…'");
    }
}
