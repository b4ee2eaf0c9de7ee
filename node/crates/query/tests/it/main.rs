//! The SQL engine over a host in memory whose segments are real Parquet files.

mod access;
mod aggregates;
mod cuts;
mod early;
mod errors;
mod files;
mod hidden;
mod insert;
mod print;
mod pruning;
mod statements;
mod types;
mod view_properties;
mod view_statements;
mod views;
mod world;
