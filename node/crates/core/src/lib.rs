//! Decisions about replicas, partitions, the catalogue and routing.
//!
//! Everything here is a function of its inputs: no IO, clock, randomness, threads or hash-map
//! order. The shell (actors, store, gRPC) hands in what happened and carries out what comes back.
//!
//! Reading order: [`ids`] and [`time`] (numbers with rules), [`schema`] and [`stream`] (what a
//! stream is), [`view`] (what a view is), [`routing`] (which partition an event belongs to),
//! [`partition`] (what an append means), [`meta`] (the catalogue), [`replica`] (how commands become
//! agreed), [`invariant`] (promises).

pub mod codec;
#[cfg(test)]
mod fuzz;
pub mod ids;
pub mod invariant;
pub mod meta;
pub mod partition;
pub mod replica;
pub mod routing;
pub mod schema;
pub mod stream;
pub mod time;
pub mod view;
