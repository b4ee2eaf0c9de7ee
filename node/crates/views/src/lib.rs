//! Compute over Arrow, without IO.
//!
//! [`columns`] says which Arrow type each column of a stream has in the log, in segments and in
//! scans; [`rows`] turns what clients send into batches of the log and cuts them to size;
//! [`distinct`] counts the distinct values of groups in SQL; [`group`] tells groups apart;
//! [`aggregate`] keeps what is computed for each; [`fold`] folds events into the groups of a view.
//!
//! Everything here is a function of its arguments: no files, sockets, clocks or threads.

pub mod aggregate;
mod bytes_column;
pub mod columns;
pub mod distinct;
pub mod fold;
pub mod group;
pub mod rows;
