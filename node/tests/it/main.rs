//! One real node, used through its own command line.

mod access;
mod durability;
mod ingest;
mod node;
mod sql;
mod start;
mod tls;
