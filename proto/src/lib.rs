//! The wire: protobuf messages and gRPC services, and nothing else.
//!
//! [`v1`] is public and stable: fields are added, never changed. [`peer::v1`] is spoken between
//! nodes.

/// What clients speak.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("alluvium.v1");
}

/// What nodes speak among themselves.
pub mod peer {
    /// First version.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("alluvium.peer.v1");
    }
}

/// The compiled descriptors of every service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/alluvium.bin"));
