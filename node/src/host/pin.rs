//! What a query reads of a stream: one cut of each partition, of this node's replica or, where it
//! has none, of what the owner sends.

use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber, StreamId};
use alluvium_core::stream::{Frontier, Stream};
use alluvium_query::host::{
    ColumnStatistics, Freshness, HostError, PartitionPin, SegmentPin, TailPin,
};
use alluvium_store::{PartitionView, Segment};
use alluvium_views::{columns, rows};

use super::read_error;
use crate::actors::partition::{PartitionHandle, ReadError};
use crate::streams::ServedStream;

/// Why a partition was not pinned.
#[derive(Debug)]
pub(super) enum PinError {
    /// It moved between nodes meanwhile.
    Moved,
    /// It could not be read.
    Read(ReadError),
    /// The cut cannot be had.
    Host(HostError),
}

impl PinError {
    /// For whoever asked.
    pub fn into_host(self, served: &ServedStream) -> HostError {
        match self {
            PinError::Moved => {
                let partition = PartitionNumber(0);
                read_error(served, &ReadError::Moved { partition })
            }
            PinError::Read(error) => read_error(served, &error),
            PinError::Host(error) => error,
        }
    }
}

impl From<ReadError> for PinError {
    fn from(error: ReadError) -> PinError {
        match error {
            ReadError::Moved { .. } => PinError::Moved,
            error @ (ReadError::NoOwner { .. }
            | ReadError::Busy { .. }
            | ReadError::NotServed { .. }) => PinError::Read(error),
        }
    }
}

impl From<HostError> for PinError {
    fn from(error: HostError) -> PinError {
        PinError::Host(error)
    }
}

/// One partition, wherever it lives.
pub(super) async fn pin(
    served: &ServedStream,
    handle: &Arc<PartitionHandle>,
    freshness: &Freshness,
) -> Result<PartitionPin, PinError> {
    if !handle.is_here() {
        return pin_elsewhere(served, handle, freshness).await;
    }
    let past = asked_of(&served.stream, handle.number, freshness);
    if let Some(view) = handle.read_soon(past).await? {
        return pin_here(served, handle, &view, freshness).await;
    }
    // The replica here is behind. Where nobody else can help, it is waited for.
    match pin_elsewhere(served, handle, freshness).await {
        Ok(pinned) => Ok(pinned),
        Err(_) => {
            let view = read_one(&served.stream, handle, freshness).await?;
            pin_here(served, handle, &view, freshness).await
        }
    }
}

/// A partition that other nodes hold: its owner sends everything.
async fn pin_elsewhere(
    served: &ServedStream,
    handle: &PartitionHandle,
    freshness: &Freshness,
) -> Result<PartitionPin, PinError> {
    let sent = handle.read_elsewhere().await?;
    let cut = cut_of(&served.stream, handle.number, (sent.start, sent.end), freshness)?;
    let mut tail = Vec::with_capacity(sent.payloads.len());
    for (first, payload) in sent.payloads {
        let rows = rows::decode_payload(payload, &served.scan_schema);
        let rows = rows.map_err(|error| HostError::Unavailable { reason: error.to_string() })?;
        if first < cut {
            tail.push(TailPin { first, rows });
        }
    }
    let (partition, start) = (handle.number, sent.start);
    Ok(PartitionPin { partition, start, end: cut, segments: Vec::new(), tail })
}

/// A partition of which this node has a replica.
async fn pin_here(
    served: &ServedStream,
    handle: &Arc<PartitionHandle>,
    view: &Arc<PartitionView>,
    freshness: &Freshness,
) -> Result<PartitionPin, PinError> {
    verify(served, handle, view).await?;
    let end = cut_of(&served.stream, handle.number, (view.start, view.end), freshness)?;
    Ok(pin_of(served, handle, view, end))
}

/// A partition, as fresh as asked: who names how far an answer must go needs no owner.
pub(super) async fn read_one(
    stream: &Stream,
    partition: &PartitionHandle,
    freshness: &Freshness,
) -> Result<Arc<PartitionView>, ReadError> {
    match asked_of(stream, partition.number, freshness) {
        Some(offset) => partition.read_past(offset).await,
        None => partition.read().await,
    }
}

/// How far an answer must go in one partition, where the question says.
pub(super) fn asked_of(
    stream: &Stream,
    partition: PartitionNumber,
    freshness: &Freshness,
) -> Option<Offset> {
    let frontiers = match freshness {
        Freshness::Linearizable => return None,
        Freshness::AtLeast(frontiers) | Freshness::AsOf(frontiers) => frontiers,
    };
    let named = frontiers.iter().find(|(id, _)| *id == stream.id);
    match (named, freshness) {
        (Some((_, frontier)), _) => {
            Some(frontier.0.get(&partition).copied().unwrap_or(Offset::ZERO))
        }
        (None, Freshness::AtLeast(_)) => Some(Offset::ZERO),
        (None, Freshness::AsOf(_) | Freshness::Linearizable) => None,
    }
}

/// Segments from before this process are compared with their checksums before the first answer
/// rests on them.
async fn verify(
    served: &ServedStream,
    handle: &PartitionHandle,
    view: &Arc<PartitionView>,
) -> Result<(), HostError> {
    let Some(log) = handle.log().filter(|_| view.segments.iter().any(|s| !s.is_verified())) else {
        return Ok(());
    };
    let (log, view) = (log.clone(), view.clone());
    let verified = tokio::task::spawn_blocking(move || log.verify(&view)).await;
    if matches!(verified, Ok(Ok(()))) {
        return Ok(());
    }
    let (partition, reason) = (handle.number, handle.damage().unwrap_or_default());
    Err(read_error(served, &ReadError::NotServed { partition, reason }))
}

/// Where the cut of one partition ends, for the freshness asked.
pub(super) fn cut_of(
    stream: &Stream,
    partition: PartitionNumber,
    (start, end): (Offset, Offset),
    freshness: &Freshness,
) -> Result<Offset, HostError> {
    let asked = |frontiers: &[(StreamId, Frontier)]| {
        let (_, frontier) = frontiers.iter().find(|(id, _)| *id == stream.id)?;
        Some(frontier.0.get(&partition).copied())
    };
    let (exact, offset) = match freshness {
        Freshness::Linearizable => return Ok(end),
        Freshness::AtLeast(frontiers) => {
            (false, asked(frontiers).flatten().unwrap_or(Offset::ZERO))
        }
        Freshness::AsOf(frontiers) => match asked(frontiers) {
            // A partition that the frontier does not name had no events then.
            Some(offset) => (true, offset.unwrap_or(Offset::ZERO)),
            None => return Ok(end),
        },
    };
    if end < offset {
        return Err(out_of_range(stream, partition, offset, (start, end), "is not reached yet"));
    }
    if exact && offset < start {
        return Err(out_of_range(stream, partition, offset, (start, end), "is past retention"));
    }
    Ok(if exact { offset } else { end })
}

fn out_of_range(
    stream: &Stream,
    partition: PartitionNumber,
    offset: Offset,
    (start, end): (Offset, Offset),
    what: &str,
) -> HostError {
    let name = &stream.definition.name;
    let reason = format!(
        "offset {offset} of partition {partition} of stream \"{name}\" {what}: it holds \
         [{start}, {end})"
    );
    HostError::OutOfRange { reason }
}

fn pin_of(
    served: &ServedStream,
    handle: &PartitionHandle,
    view: &PartitionView,
    end: Offset,
) -> PartitionPin {
    let mut segments = Vec::new();
    for segment in view.segments.iter() {
        if segment.first < end && view.start < segment.end {
            segments.push(segment_pin(segment));
        }
    }
    let mut tail = Vec::new();
    for batch in view.tail.iter() {
        if end <= batch.first {
            break;
        }
        let scan = batch
            .scan
            .get_or_init(|| columns::to_scan(&batch.rows, handle.number, &served.scan_schema));
        tail.push(TailPin { first: batch.first, rows: scan.clone() });
    }
    PartitionPin { partition: handle.number, start: view.start, end, segments, tail }
}

fn segment_pin(segment: &Arc<Segment>) -> SegmentPin {
    let columns = segment.columns.iter().map(|column| ColumnStatistics {
        name: column.name.clone(),
        min: column.min.clone(),
        max: column.max.clone(),
        null_count: column.null_count,
    });
    SegmentPin {
        path: segment.path.clone(),
        file_bytes: segment.file_bytes,
        first: segment.first,
        end: segment.end,
        columns: Arc::new(columns.collect()),
        guard: segment.clone(),
    }
}
