//! Rows from an Arrow IPC stream.
//!
//! The stream comes from anyone, so its numbers are not believed: [`check`] looks at every message
//! before it is decoded, and what dictionaries and views stand for is counted before it is copied
//! out.

mod check;

use alluvium_core::schema::StreamSchema;
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;

use self::check::{SameSchema, check_messages};
use super::pieces::concat;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, InvalidRows, UNPACKED_BYTES_MAX, conform};

/// Reads what a client sends: a schema and any number of batches, which become one.
pub fn decode_ipc(
    schema: &StreamSchema,
    log: &SchemaRef,
    bytes: Bytes,
) -> Result<RecordBatch, InvalidRows> {
    if BATCH_BYTES_MAX < bytes.len() {
        return Err(InvalidRows::TooManyBytes { bytes: bytes.len() });
    }
    check_messages(&bytes)?;
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let mut row_count = 0;
    let mut unpacked = 0;
    loop {
        let Some(batch) = decode_next(&mut decoder, &mut buffer)? else {
            break;
        };
        row_count += batch.num_rows();
        if BATCH_EVENTS_MAX < row_count {
            return Err(InvalidRows::TooManyEvents { count: row_count });
        }
        unpacked += batch.columns().iter().map(unpacked_bytes).sum::<u64>();
        if UNPACKED_BYTES_MAX as u64 <= unpacked {
            return Err(InvalidRows::TooManyUnpackedBytes { bytes: unpacked });
        }
        batches.push((row_count - batch.num_rows(), conform(log, schema, batch)));
    }
    let Some(sent) = decoder.schema() else {
        return Err(InvalidRows::malformed("an Arrow IPC stream begins with a schema"));
    };
    if batches.is_empty() {
        // A stream without batches is an empty batch, and its columns must be right as well.
        return conform(log, schema, RecordBatch::new_empty(sent));
    }
    let mut rows = Vec::with_capacity(batches.len());
    for (first, batch) in batches {
        rows.push(batch.map_err(|invalid| invalid.behind(first as u64))?);
    }
    check_total(log, &rows)?;
    Ok(concat(log, &rows))
}

/// Reads small bodies of several senders as one batch: far cheaper than one by one. With the batch
/// comes the number of rows that each body ends at.
///
/// `None` where their schemas differ or have dictionaries, where any body is refused, or all
/// together are too many: read alone, each is good or gets a refusal of its own.
#[must_use]
pub fn decode_ipc_joined(
    schema: &StreamSchema,
    log: &SchemaRef,
    bodies: &[Bytes],
) -> Option<(RecordBatch, Vec<usize>)> {
    if BATCH_BYTES_MAX < bodies.iter().map(Bytes::len).sum() {
        return None;
    }
    let mut same = SameSchema::of(bodies.first()?)?;
    let mut decoder = StreamDecoder::new();
    let mut ends = Vec::with_capacity(bodies.len());
    let mut batches = Vec::with_capacity(bodies.len());
    let mut row_count = 0;
    let mut unpacked = 0;
    for body in bodies {
        let messages = same.check(body)?;
        // The schema is read once, from the first body.
        let start = if ends.is_empty() { 0 } else { messages.start };
        let mut buffer = Buffer::from(body.slice(start..messages.end));
        while !buffer.is_empty() {
            let batch = decode_next(&mut decoder, &mut buffer).ok()??;
            row_count += batch.num_rows();
            unpacked += batch.columns().iter().map(unpacked_bytes).sum::<u64>();
            if BATCH_EVENTS_MAX < row_count || UNPACKED_BYTES_MAX as u64 <= unpacked {
                return None;
            }
            batches.push(batch);
        }
        ends.push(row_count);
    }
    let sent = concat(&decoder.schema()?, &batches);
    Some((conform(log, schema, sent).ok()?, ends))
}

fn decode_next(
    decoder: &mut StreamDecoder,
    buffer: &mut Buffer,
) -> Result<Option<RecordBatch>, InvalidRows> {
    // What is known to make decoding panic is refused before. Should there be more, it is refused
    // here, and the node goes on.
    let decode = std::panic::AssertUnwindSafe(|| -> Result<_, ArrowError> {
        if buffer.is_empty() {
            decoder.finish()?;
            return Ok(None);
        }
        decoder.decode(buffer)
    });
    match std::panic::catch_unwind(decode) {
        Ok(Ok(Some(batch))) => Ok(Some(batch)),
        // A schema or a dictionary at the end, or nothing: then the stream must be complete.
        Ok(Ok(None)) => match decoder.finish() {
            Ok(()) => Ok(None),
            Err(error) => Err(InvalidRows::malformed(error.to_string())),
        },
        Ok(Err(error)) => Err(InvalidRows::malformed(format!("not an Arrow IPC stream: {error}"))),
        Err(_panic) => Err(InvalidRows::malformed("not an Arrow IPC stream")),
    }
}

/// Several batches that are each small enough may be too large together.
fn check_total(log: &SchemaRef, batches: &[RecordBatch]) -> Result<(), InvalidRows> {
    let row_count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let bytes = row_count as u64 * super::conform::row_bytes_min(log) as u64;
    if UNPACKED_BYTES_MAX as u64 <= bytes {
        return Err(InvalidRows::TooManyUnpackedBytes { bytes });
    }
    Ok(())
}

/// Bytes a column takes once its dictionaries and views are written out, as far as that may be more
/// than what was sent.
fn unpacked_bytes(array: &ArrayRef) -> u64 {
    const BYTES_PER_EMPTY_ITEM: u64 = 8;
    match array.data_type() {
        DataType::Utf8View => lengths(array.as_string_view().views()),
        DataType::BinaryView => lengths(array.as_binary_view().views()),
        DataType::Dictionary(_, _) => dictionary_bytes(array),
        DataType::Null => array.len() as u64 * BYTES_PER_EMPTY_ITEM,
        DataType::Struct(_) => {
            let fields = array.as_struct().columns();
            let own = array.len() as u64 * BYTES_PER_EMPTY_ITEM;
            own + fields.iter().map(unpacked_bytes).sum::<u64>()
        }
        DataType::List(_) => unpacked_bytes(array.as_list::<i32>().values()),
        DataType::LargeList(_) => unpacked_bytes(array.as_list::<i64>().values()),
        DataType::FixedSizeList(_, _) => unpacked_bytes(array.as_fixed_size_list().values()),
        _other => 0,
    }
}

/// The length of a text or bytes is in the low half of its view.
fn lengths(views: &[u128]) -> u64 {
    views.iter().map(|&view| u64::from(view as u32)).sum()
}

fn dictionary_bytes(array: &ArrayRef) -> u64 {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    if let Some(width) = values.data_type().primitive_width() {
        return width as u64 * array.len() as u64;
    }
    if values.is_empty() {
        return 0;
    }
    let lengths = arrow::compute::kernels::length::length(values)
        .and_then(|lengths| cast(&lengths, &DataType::Int64));
    let Ok(lengths) = lengths else {
        // Neither text nor bytes: refused by its type later, before anything is copied.
        return 0;
    };
    let lengths = lengths.as_primitive::<Int64Type>();
    let of_key = |key: usize| u64::try_from(lengths.value(key)).unwrap_or(0);
    dictionary.normalized_keys().into_iter().map(of_key).sum()
}
