//! Rows: what clients send becomes batches of the log, checked; and batches are cut to size.
//!
//! [`decode_ipc`] and [`decode_json`] read what came over the wire, [`conform`] fits Arrow columns
//! to those of a stream, [`split`] deals rows out to partitions, [`encode_payload`] and
//! [`decode_payload`] are the form rows have in the log, [`concat()`] and [`keep`] join and pick.
//!
//! A batch is good as a whole or refused as a whole; the refusal names the row, counted from 0, and
//! the column. Nothing here panics on what a client sends.

mod cast;
mod conform;
mod error;
mod interval;
mod ipc;
mod json;
mod key;
mod misfit;
mod number;
mod payload;
mod pieces;
mod shown;
mod split;
#[cfg(test)]
mod tests;
mod text;
mod values;

pub use conform::conform;
pub use error::InvalidRows;
pub use ipc::{decode_ipc, decode_ipc_joined};
pub use json::{decode_json, decode_json_joined};
pub use payload::{CorruptPayload, decode_payload, encode_payload, own_bytes};
pub use pieces::{concat, keep};
pub use shown::to_json;
pub use split::{deal, partitions_of, split};

/// Events one batch may have: with one byte each they would still be a megabyte, and the work on
/// one batch stays well under a second.
pub const BATCH_EVENTS_MAX: usize = 1_000_000;

/// Bytes one batch may have as sent: half of what one message on the wire may have, so that the
/// columns of a batch still fit into one log entry after decoding.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes the columns of one batch may have after unpacking compression, dictionaries and views. A
/// few bytes can stand for very many; this is what one batch may ask of the node's memory.
pub const UNPACKED_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
