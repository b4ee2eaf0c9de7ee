//! What clients of PostgreSQL look for in `pg_catalog`: enough for psql's `\d`, for the drivers and
//! for tools that show what there is. Read only, computed for each statement that names it.
//!
//! Tables that tell of things this node does not have (indexes, constraints, triggers, …) are there
//! and always empty. Clients join them in ways that the engine underneath does not plan; whatever
//! can hold no row because of them is taken out before it is planned (`empty`). Spellings that only
//! PostgreSQL has (`OPERATOR(pg_catalog.~)`, `::regclass`, …) are written plainly (`spelling`).
//!
//! Not a catalogue of its own: streams and views are shown as tables and views, and their types by
//! PostgreSQL's numbers ([`pg_type`]).

mod empty;
mod functions;
mod relations;
mod spelling;
mod tables;
mod types;
pub mod values;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

pub(crate) use functions::register;

pub(crate) use tables::{is_table, table};
pub use types::{PgType, column_type_of, oid_of, pg_type};

/// The version of PostgreSQL that clients may take this for: they choose their queries by it.
pub const SERVER_VERSION: &str = "15.0";

/// Writes plainly what only PostgreSQL writes.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    spelling::rewrite(tokens)
}

/// Takes out what tables that are always empty leave no row of.
pub(crate) fn simplify(statement: Parsed) -> Parsed {
    empty::simplify(statement)
}
