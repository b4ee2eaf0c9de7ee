//! Front doors that speak SQL protocols other than our own gRPC. They translate; nothing is planned
//! here.
//!
//! [`run`] is the one way of their statements: admitted, bounded in time, stopped when nobody waits
//! for the answer any more, and listed while they run. [`append`] and [`producers`] are the way of
//! rows, exactly once where the client says who it is. [`errors`] says what went wrong in the codes
//! of SQL.

pub mod append;
pub mod errors;
pub mod pgwire;
pub mod producers;
pub mod run;
