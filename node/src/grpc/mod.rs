//! The gRPC front door and its other side. The only folder that names tonic.
//!
//! Wire types stop in [`convert`]; errors become codes in [`status`].

pub mod admin;
pub mod client;
pub mod convert;
pub mod flight;
mod front;
pub mod ingest;
pub mod peer;
pub mod query;
pub mod server;
pub mod status;
pub mod transport;
pub mod view;
