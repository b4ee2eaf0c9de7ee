//! Certificates and encrypted connections: what every door and every link between nodes uses.
//!
//! [`identity`] is who is at the other end.

pub mod identity;
