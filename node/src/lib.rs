//! The node: a thin shell around the core, the store and the SQL engine.
//!
//! In reading order: [`config`] says what to run, [`bootstrap`] runs it, [`streams`] is what there
//! is, [`views`] what is maintained, [`ingest`] takes events in, [`actors`] own partitions and fold
//! views, [`contain`] keeps a view's panic to itself, [`host`] shows them to SQL, [`grpc`],
//! [`sql`] and [`http`] are the front doors, [`cli`] is the other side of them.

pub mod access;
pub mod actors;
pub mod bootstrap;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod contain;
pub mod grpc;
pub mod host;
pub mod http;
pub mod ingest;
pub mod sql;
pub mod streams;
pub mod telemetry;
pub mod tls;
pub mod views;
