//! Wire forms to our own and back.

use std::collections::BTreeMap;

use alluvium_core::ids::{Epoch, Offset, PartitionNumber, ProducerId, Sequence, StreamId};
use alluvium_core::partition::Stamp;
use alluvium_core::stream::Frontier;
use alluvium_proto::v1 as proto;
use alluvium_query::access::Rights;
use alluvium_query::host::Freshness;
use tonic::Status;

use super::view::{Begin, LookedUp, Lookup, Subscribe, Subscribed, Wait, WrittenKeys};
use crate::ingest::{AppendAck, ClientRows};
use crate::streams::Streams;

/// An append as the node takes it.
#[derive(Debug)]
pub struct AppendCall {
    /// Stream name.
    pub stream: String,
    /// Who sends it.
    pub stamp: Option<Stamp>,
    /// The events.
    pub rows: ClientRows,
    /// Bytes on the wire.
    pub byte_count: usize,
}

/// Takes an append apart.
pub fn append_call(request: proto::AppendRequest) -> Result<AppendCall, Status> {
    let (rows, byte_count) = match request.rows {
        Some(proto::append_request::Rows::ArrowIpc(bytes)) => {
            let byte_count = bytes.len();
            (ClientRows::ArrowIpc(bytes), byte_count)
        }
        Some(proto::append_request::Rows::Json(bytes)) => {
            let byte_count = bytes.len();
            (ClientRows::Json(bytes), byte_count)
        }
        None => return Err(Status::invalid_argument("rows are missing; set arrow_ipc or json")),
    };
    let stamp = request.producer.map(|producer| Stamp {
        producer: ProducerId(producer.producer_id),
        epoch: Epoch(producer.epoch),
        sequence: Sequence(producer.sequence),
        position: producer.position,
    });
    Ok(AppendCall { stream: request.stream, stamp, rows, byte_count })
}

/// An acknowledgement for the wire.
pub fn append_response(stream: &str, ack: AppendAck) -> proto::AppendResponse {
    let partitions = ack.partitions.iter().map(|part| proto::PartitionAck {
        partition: part.partition.0,
        first: part.offsets.map(|(first, _)| first.0),
        end: part.offsets.map(|(_, end)| end.0),
        duplicate: part.duplicate,
    });
    proto::AppendResponse {
        partitions: partitions.collect(),
        frontier: Some(frontier(stream, &ack.frontier)),
        duplicate: ack.duplicate,
        event_count: ack.event_count,
    }
}

/// A frontier for the wire.
pub fn frontier(stream: &str, frontier: &Frontier) -> proto::Frontier {
    let offsets = frontier.0.iter().map(|(partition, offset)| (partition.0, offset.0));
    proto::Frontier { stream: stream.to_string(), offsets: offsets.collect() }
}

/// The streams there are, and which of them a caller knows.
#[derive(Debug)]
pub struct Known<'a> {
    /// All of them.
    pub streams: &'a Streams,
    /// The caller's.
    pub rights: &'a Rights,
}

/// What freshness a query asked for.
pub fn freshness(
    asked: Option<proto::query_request::Freshness>,
    known: &Known<'_>,
) -> Result<Freshness, Status> {
    let (exact, frontiers) = match asked {
        None => return Ok(Freshness::Linearizable),
        Some(proto::query_request::Freshness::AtLeast(frontiers)) => (false, frontiers),
        Some(proto::query_request::Freshness::AsOf(frontiers)) => (true, frontiers),
    };
    let named = named(frontiers, known)?;
    Ok(if exact { Freshness::AsOf(named) } else { Freshness::AtLeast(named) })
}

/// Frontiers with the streams they name. A caller who may not read a stream may name it, as a view
/// of it says its frontiers, and is not told what of that is not there: it is waited for nowhere.
fn named(
    frontiers: proto::Frontiers,
    known: &Known<'_>,
) -> Result<Vec<(StreamId, Frontier)>, Status> {
    let mut named = Vec::with_capacity(frontiers.frontiers.len());
    for frontier in frontiers.frontiers {
        let is_told = known.rights.sees(&frontier.stream);
        let Some(served) = known.streams.get(&frontier.stream) else {
            if !is_told {
                continue;
            }
            let message =
                format!("freshness names stream \"{}\", which does not exist", frontier.stream);
            return Err(Status::not_found(message));
        };
        let partition_count = served.stream.groups.len();
        let mut offsets = BTreeMap::new();
        for (partition, offset) in frontier.offsets {
            if partition_count <= partition as usize {
                if !is_told {
                    continue;
                }
                let message = format!(
                    "freshness names partition {partition} of stream \"{}\", which has \
                     {partition_count}",
                    frontier.stream
                );
                return Err(Status::invalid_argument(message));
            }
            offsets.insert(PartitionNumber(partition), Offset(offset));
        }
        named.push((served.stream.id, Frontier(offsets)));
    }
    Ok(named)
}

/// A lookup as the views' door takes it.
pub fn lookup(request: proto::LookupRequest, known: &Known<'_>) -> Result<Lookup, Status> {
    use proto::lookup_request::{Freshness as Asked, Keys};
    let keys = match request.keys {
        Some(Keys::Json(bytes)) => WrittenKeys::Json(bytes),
        Some(Keys::ArrowIpc(bytes)) => WrittenKeys::ArrowIpc(bytes),
        None => return Err(Status::invalid_argument("keys are missing; set json or arrow_ipc")),
    };
    let wait = match request.freshness {
        None | Some(Asked::AsItIs(false)) => Wait::For(Freshness::Linearizable),
        Some(Asked::AsItIs(true)) => Wait::Not,
        Some(Asked::AtLeast(frontiers)) => Wait::For(Freshness::AtLeast(named(frontiers, known)?)),
    };
    let limit = match request.limit {
        0 => None,
        // A limit that no address space reaches is above every limit there is.
        limit => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    Ok(Lookup {
        view: request.view,
        keys,
        limit,
        columns: request.columns,
        wait,
        json_rows: request.json_rows,
    })
}

/// What a lookup found.
pub fn lookup_response(found: LookedUp, json_rows: bool) -> proto::LookupResponse {
    use proto::lookup_response::Rows;
    let LookedUp { rows, frontier: (stream, at) } = found;
    let rows = if json_rows { Rows::Json(rows) } else { Rows::ArrowIpc(rows) };
    proto::LookupResponse { rows: Some(rows), frontier: Some(frontier(&stream, &at)) }
}

/// A subscription as the views' door takes it.
pub fn subscribe(request: proto::SubscribeRequest) -> Subscribe {
    use proto::subscribe_request::From;
    let from = match request.from {
        None | Some(From::Snapshot(false)) => Begin::Now,
        Some(From::Snapshot(true)) => Begin::Snapshot,
        Some(From::Frontier(frontier)) => {
            let offsets = frontier.offsets.into_iter();
            let offsets =
                offsets.map(|(partition, offset)| (PartitionNumber(partition), Offset(offset)));
            Begin::Frontier { stream: frontier.stream, frontier: Frontier(offsets.collect()) }
        }
    };
    Subscribe { view: request.view, condition: request.r#where, from }
}

/// A part of what a subscriber is told.
pub fn subscribe_response(part: Subscribed) -> proto::SubscribeResponse {
    use proto::subscribe_response::Part;
    let part = match part {
        Subscribed::Schema(schema) => Part::Schema(schema),
        Subscribed::Changes { batch, frontier: at } => {
            let frontier = at.map(|(stream, at)| frontier(&stream, &at));
            Part::Changes(proto::Changes { batch, frontier })
        }
    };
    proto::SubscribeResponse { part: Some(part) }
}
