//! The events of a partition for a node that holds no replica of it.
//!
//! All of them go over the network, so this is for partitions that fit into memory; larger ones are
//! asked of a node that holds them.

use std::sync::Arc;

use alluvium_core::ids::{NodeId, Offset};
use alluvium_proto::peer::v1 as proto;
use alluvium_proto::peer::v1::scan_response::Part;
use alluvium_store::{EventReader, PartitionLog, PartitionView};
use alluvium_views::rows;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::calls::{Answered, PeerError};
use super::convert;
use crate::actors::partition::{PartitionHandle, ReadError};

/// Events of one message.
const ROWS_MAX: usize = 8_192;

/// Messages on their way.
const PARTS_IN_FLIGHT: usize = 4;

/// Bytes of one partition that are taken in.
const BYTES_MAX: usize = 512 << 20;

/// The events of a partition as they came.
#[derive(Debug)]
pub struct RemoteRows {
    /// The first offset that retention has not taken.
    pub start: Offset,
    /// The offset after the last event.
    pub end: Offset,
    /// Encoded batches with their first offsets, in order.
    pub payloads: Vec<(Offset, Bytes)>,
}

/// What a scanning node is told.
pub(super) type Parts = mpsc::Receiver<Result<proto::ScanResponse, Status>>;

/// Sends what the owner has.
pub(super) async fn send(partition: &PartitionHandle, schema: SchemaRef) -> Parts {
    let (parts, received) = mpsc::channel(PARTS_IN_FLIGHT);
    let (view, log) = match (partition.read_here().await, partition.log()) {
        (Ok(view), Some(log)) => (view, log.clone()),
        (Err(ReadError::NoOwner { owner, .. }), _) => {
            let part = Part::NotOwner(convert::elsewhere(owner));
            // The receiver is in this very function.
            let _ = parts.send(Ok(proto::ScanResponse { part: Some(part) })).await;
            return received;
        }
        (Err(error), _) => return refused(parts, received, error.to_string()).await,
        (Ok(_), None) => {
            return refused(parts, received, "it has no event log here".into()).await;
        }
    };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send_all(&view, &log, &schema, &parts) {
            // A reader that left needs no reason.
            let _ = parts.blocking_send(Err(Status::data_loss(error)));
        }
    });
    received
}

async fn refused(
    parts: mpsc::Sender<Result<proto::ScanResponse, Status>>,
    received: Parts,
    reason: String,
) -> Parts {
    let _ = parts.send(Ok(proto::ScanResponse { part: Some(Part::NotServed(reason)) })).await;
    received
}

fn send_all(
    view: &PartitionView,
    log: &Arc<PartitionLog>,
    schema: &SchemaRef,
    parts: &mpsc::Sender<Result<proto::ScanResponse, Status>>,
) -> Result<(), String> {
    let send = |part: Part| {
        let response = proto::ScanResponse { part: Some(part) };
        parts.blocking_send(Ok(response)).is_ok()
    };
    log.verify(view).map_err(|error| error.to_string())?;
    let (start, end) = (view.start, view.end);
    if !send(Part::Head(proto::ScanHead { start: start.0, end: end.0 })) {
        return Ok(());
    }
    let mut reader =
        EventReader::new(log.clone(), schema.clone(), start).map_err(|error| error.to_string())?;
    while reader.offset() < end {
        let Some(batch) = reader.next(ROWS_MAX).map_err(|error| error.to_string())? else {
            return Err(format!("the event log ends before offset {end}"));
        };
        let wanted = end.since(batch.first).min(batch.rows.num_rows() as u64);
        let rows = batch.rows.slice(0, usize::try_from(wanted).unwrap_or(usize::MAX));
        let payload = rows::encode_payload(&rows);
        if !send(Part::Rows(proto::ScanRows { first: batch.first.0, payload })) {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes everything in.
pub(super) async fn receive(
    owner: NodeId,
    mut parts: Streaming<proto::ScanResponse>,
) -> Result<Answered<RemoteRows>, PeerError> {
    let failed = |status: &Status| convert::peer_error(owner.to_string(), status);
    let refused = |reason: String| PeerError::Refused { peer: owner.to_string(), reason };
    let mut rows = RemoteRows { start: Offset::ZERO, end: Offset::ZERO, payloads: Vec::new() };
    let (mut is_begun, mut bytes) = (false, 0);
    while let Some(response) = parts.message().await.map_err(|status| failed(&status))? {
        match response.part {
            Some(Part::Head(head)) => {
                (rows.start, rows.end) = (Offset(head.start), Offset(head.end));
                is_begun = true;
            }
            Some(Part::Rows(piece)) => {
                bytes += piece.payload.len();
                if BYTES_MAX < bytes {
                    let reason = format!(
                        "the partition is larger than the {} MiB that a node takes in which does \
                         not hold it; ask a node that holds it (alluvium node locate)",
                        BYTES_MAX >> 20
                    );
                    return Ok(Answered::NotServed(reason));
                }
                rows.payloads.push((Offset(piece.first), piece.payload));
            }
            Some(Part::NotOwner(ask)) => {
                return Ok(Answered::Elsewhere(convert::node_id(ask.node_id)));
            }
            Some(Part::NotServed(reason)) => return Ok(Answered::NotServed(reason)),
            None => return Err(refused("its answer cannot be understood".into())),
        }
    }
    if is_begun { Ok(Answered::Here(rows)) } else { Err(refused("its answer is empty".into())) }
}
