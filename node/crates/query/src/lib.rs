//! SQL over streams: statements, tables and answers, on DataFusion.
//!
//! This crate is the only one that names DataFusion. It plans and computes; it stores nothing and
//! reads storage only through [`host::Host`], which the node implements. Runtime, admission and
//! deadlines are the caller's: a statement runs on the runtime that calls [`Engine::run`] and stops
//! when its [`Answer`] is dropped.
//!
//! Invariants: every stream of a statement is read at one cut, and the answer says which; an answer
//! holds each event of its cut exactly once; no statement reaches a file that is not a pinned
//! segment.
//!
//! Reading order: [`host`] (what a node gives), `statement` and `create` (what may be said),
//! `engine` (the way of a statement), `cut` and `table` (what is read), `segments` (how),
//! `functions`, `distinct` and `early` (what we compute or plan in another way than DataFusion),
//! `insert`, `copy`, `parameters` and `describe` (prepared statements), [`pg_catalog`] (what
//! clients of PostgreSQL look for), [`views`] (what is maintained and how it is read), [`print`]
//! and [`wire`] (the forms of an answer), [`files`] (rows from files), [`access`] (who asks, and
//! what they may touch).

pub mod access;
mod aggregates;
mod answer;
mod bounded;
mod breath;
mod catalog;
mod copy;
mod create;
mod cut;
mod describe;
mod dialect;
mod distinct;
mod early;
mod engine;
mod error;
pub mod files;
mod functions;
mod hidden;
pub mod host;
mod insert;
mod like;
mod listing;
mod literals;
mod nearest;
mod output;
mod parameters;
pub mod pg_catalog;
pub mod print;
mod segments;
mod session;
mod statement;
mod system;
mod table;
pub mod testing;
mod types;
pub mod views;
pub mod wire;

pub use copy::{CopyIn, CopyRows};
pub use describe::{Described, DescribedRows};
pub use engine::{Answer, Engine};
pub use error::{ErrorKind, SqlError};
pub use output::BatchStream;
pub use parameters::{PARAMETERS_MAX, Parameter};
pub use session::{EngineError, EngineOptions};
pub use statement::{is_unfinished, split_statements};
