//! Front doors that speak SQL protocols other than our own gRPC. They translate; nothing is planned
//! here.

pub mod pgwire;
