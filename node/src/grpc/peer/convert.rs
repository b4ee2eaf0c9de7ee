//! Forms of the peer wire to our own and back.

use alluvium_core::ids::{
    Epoch, GroupId, Index, NodeId, Offset, ProducerId, SegmentId, Sequence, Term,
};
use alluvium_core::meta::{Addresses, NodeReport};
use alluvium_core::partition::{Part, PartOutcome, ProducerState, Remembered, Stamp};
use alluvium_core::replica::{Checkpoint, LogPosition, Members};
use alluvium_core::time::Time;
use alluvium_proto::peer::v1 as proto;
use alluvium_store::{GroupSnapshot, SegmentOffer, SnapshotOffer};
use bytes::Bytes;
use tonic::{Code, Status};

use super::calls::{Answered, PeerError};
use crate::actors::meta::ChangeError;
use crate::actors::partition::ReadError;
use crate::ingest::AppendError;

/// What a node without an identity says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Drawn once for its data directory.
    pub token: u128,
    /// What people call it.
    pub name: String,
    /// Where it answers.
    pub addresses: Addresses,
    /// Where it stands.
    pub locality: Vec<(String, String)>,
    /// Oldest and newest cluster version it can live in.
    pub versions: (u32, u32),
}

/// What a node that asked to join is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// It is a member.
    Joined {
        /// Of which cluster.
        cluster_id: u128,
        /// Under which id.
        node: NodeId,
    },
    /// Somebody else decides.
    Ask {
        /// Where that one listens for nodes, when known.
        peer_addr: Option<String>,
    },
}

/// Who listens at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its cluster, if it belongs to one.
    pub cluster_id: Option<String>,
    /// Of the seeds it was given.
    pub seed_hash: u64,
    /// Drawn by its process.
    pub process: u64,
}

/// What came of a change that another node proposed for this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Applied there; its outcome can be seen at this index of the log.
    Applied(Index),
    /// Another node leads.
    Elsewhere(Option<NodeId>),
    /// Not made, or nobody knows.
    Failed(ChangeError),
}

pub(super) fn node_id(id: u64) -> Option<NodeId> {
    (id != 0).then_some(NodeId(id))
}

pub(super) fn elsewhere(owner: Option<NodeId>) -> proto::NotOwner {
    proto::NotOwner { node_id: owner.map_or(0, |node| node.0), peer_addr: String::new() }
}

/// A call that failed, in our words.
pub(super) fn peer_error(peer: String, status: &Status) -> PeerError {
    let reason = status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied => {
            PeerError::Refused { peer, reason }
        }
        code => PeerError::Unreachable { peer, reason: format!("{code:?}: {reason}") },
    }
}

pub(super) fn join_request(joining: &Joining) -> proto::JoinRequest {
    let Joining { token, name, addresses, locality, versions } = joining;
    let locality = locality
        .iter()
        .map(|(key, value)| proto::LocalityTier { key: key.clone(), value: value.clone() });
    proto::JoinRequest {
        token: Bytes::copy_from_slice(&token.to_le_bytes()),
        name: name.clone(),
        addresses: Some(proto::NodeAddresses {
            client: addresses.client.clone(),
            peer: addresses.peer.clone(),
            http: addresses.http.clone(),
            pg: addresses.pg.clone(),
        }),
        locality: locality.collect(),
        version_min: versions.0,
        version_max: versions.1,
    }
}

pub(super) fn joining(request: proto::JoinRequest) -> Result<Joining, Status> {
    let token = <[u8; 16]>::try_from(&request.token[..])
        .map_err(|_| Status::invalid_argument("the token has 16 bytes"))?;
    let addresses = request.addresses.unwrap_or_default();
    let locality = request.locality.into_iter().map(|tier| (tier.key, tier.value));
    Ok(Joining {
        token: u128::from_le_bytes(token),
        name: request.name,
        addresses: Addresses {
            client: addresses.client,
            peer: addresses.peer,
            http: addresses.http,
            pg: addresses.pg,
        },
        locality: locality.collect(),
        versions: (request.version_min, request.version_max),
    })
}

pub(super) fn welcome(addr: &str, answer: proto::JoinResponse) -> Result<Welcome, PeerError> {
    use proto::join_response::Answer;
    let refused = |reason: &str| PeerError::Refused { peer: addr.into(), reason: reason.into() };
    match answer.answer {
        Some(Answer::Joined(joined)) => Ok(Welcome::Joined {
            cluster_id: u128::from_str_radix(&joined.cluster_id, 16)
                .map_err(|_| refused("its cluster id is not one"))?,
            node: NodeId(joined.node_id),
        }),
        Some(Answer::NotLeader(ask)) => {
            let peer_addr = (!ask.peer_addr.is_empty()).then_some(ask.peer_addr);
            Ok(Welcome::Ask { peer_addr })
        }
        None => Err(refused("its answer is empty")),
    }
}

pub(super) fn change_answer(answer: proto::ChangeResponse) -> Fetched {
    use proto::change_response::Answer;
    match answer.answer {
        Some(Answer::Index(index)) => Fetched::Applied(Index(index)),
        Some(Answer::NotLeader(ask)) => Fetched::Elsewhere(node_id(ask.node_id)),
        Some(Answer::Busy(_)) => Fetched::Failed(ChangeError::Busy),
        Some(Answer::Lost(_)) | None => Fetched::Failed(ChangeError::Lost),
    }
}

pub(super) fn change_response(
    result: Result<Index, ChangeError>,
) -> Result<proto::ChangeResponse, Status> {
    use proto::change_response::Answer;
    let answer = match result {
        Ok(index) => Answer::Index(index.0),
        Err(ChangeError::NotLeader { leader }) => Answer::NotLeader(elsewhere(leader)),
        Err(ChangeError::Busy) => Answer::Busy(ChangeError::Busy.to_string()),
        Err(error @ ChangeError::Lost) => Answer::Lost(error.to_string()),
        Err(
            error @ (ChangeError::NotStarted { .. }
            | ChangeError::Refused { .. }
            | ChangeError::Stopping),
        ) => {
            return Err(Status::unavailable(error.to_string()));
        }
    };
    Ok(proto::ChangeResponse { answer: Some(answer) })
}

pub(super) fn catalogue_index_answer(answer: proto::CatalogueIndexResponse) -> Answered<Index> {
    use proto::catalogue_index_response::Answer;
    match answer.answer {
        Some(Answer::Index(index)) => Answered::Here(Index(index)),
        Some(Answer::NotLeader(ask)) => Answered::Elsewhere(node_id(ask.node_id)),
        None => Answered::Elsewhere(None),
    }
}

pub(super) fn frontier_answer(answer: proto::FrontierResponse) -> Answered<Offset> {
    use proto::group_frontier::Answer;
    match answer.groups.into_iter().next().and_then(|group| group.answer) {
        Some(Answer::End(end)) => Answered::Here(Offset(end)),
        Some(Answer::NotOwner(ask)) => Answered::Elsewhere(node_id(ask.node_id)),
        Some(Answer::NotServed(reason)) => Answered::NotServed(reason),
        None => Answered::Elsewhere(None),
    }
}

pub(super) fn report(request: &proto::HeartbeatRequest) -> NodeReport {
    NodeReport {
        disk_used_bytes: request.disk_used_bytes,
        disk_total_bytes: request.disk_total_bytes,
        groups_led: request.groups_led,
    }
}

pub(super) fn heartbeat(to: proto::Addressed, report: NodeReport) -> proto::HeartbeatRequest {
    let NodeReport { disk_used_bytes, disk_total_bytes, groups_led } = report;
    proto::HeartbeatRequest { to: Some(to), disk_used_bytes, disk_total_bytes, groups_led }
}

pub(super) fn greeting(answer: proto::HelloResponse) -> Greeting {
    let cluster_id = (!answer.cluster_id.is_empty()).then_some(answer.cluster_id);
    Greeting { cluster_id, seed_hash: answer.seed_hash, process: answer.process }
}

pub(super) fn snapshot(id: u64, snapshot: &GroupSnapshot) -> proto::Snapshot {
    let GroupSnapshot { checkpoint, offer, .. } = snapshot;
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let segments = offer.segments.iter().map(|segment| proto::SnapshotSegment {
        id: segment.id.0,
        first: segment.first.0,
        end: segment.end.0,
        file_bytes: segment.file_bytes,
        file_crc: segment.file_crc,
        row: segment.row.clone(),
    });
    proto::Snapshot {
        id,
        index: checkpoint.position.index.0,
        term: checkpoint.position.term.0,
        voters: ids(&checkpoint.members.voters),
        learners: ids(&checkpoint.members.learners),
        state: checkpoint.state.clone(),
        start: offer.start.0,
        sealed_end: offer.sealed_end.0,
        segments: segments.collect(),
    }
}

pub(super) fn opened_snapshot(
    peer: NodeId,
    answer: proto::OpenSnapshotResponse,
) -> Result<(u64, Checkpoint, SnapshotOffer), PeerError> {
    use proto::open_snapshot_response::Answer;
    let refused = |reason: String| PeerError::Refused { peer: peer.to_string(), reason };
    let snapshot = match answer.answer {
        Some(Answer::Snapshot(snapshot)) => snapshot,
        Some(Answer::Refused(reason)) => return Err(refused(reason)),
        None => return Err(refused("its answer is empty".into())),
    };
    let position = LogPosition { index: Index(snapshot.index), term: Term(snapshot.term) };
    let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId);
    let members = Members::new(nodes(snapshot.voters), nodes(snapshot.learners));
    let segments = snapshot.segments.into_iter().map(|segment| SegmentOffer {
        id: SegmentId(segment.id),
        first: Offset(segment.first),
        end: Offset(segment.end),
        file_bytes: segment.file_bytes,
        file_crc: segment.file_crc,
        row: segment.row,
    });
    let offer = SnapshotOffer {
        position,
        start: Offset(snapshot.start),
        sealed_end: Offset(snapshot.sealed_end),
        segments: segments.collect(),
    };
    Ok((snapshot.id, Checkpoint { position, members, state: snapshot.state }, offer))
}

pub(super) fn group_frontier(result: Result<Offset, ReadError>) -> proto::GroupFrontier {
    use proto::group_frontier::Answer;
    let answer = match result {
        Ok(end) => Answer::End(end.0),
        Err(ReadError::NoOwner { owner, .. }) => Answer::NotOwner(elsewhere(owner)),
        Err(ReadError::Moved { .. }) => Answer::NotOwner(elsewhere(None)),
        Err(error @ (ReadError::Busy { .. } | ReadError::NotServed { .. })) => {
            Answer::NotServed(error.to_string())
        }
    };
    proto::GroupFrontier { answer: Some(answer) }
}

pub(super) fn fence_answer(answer: proto::FenceResponse) -> Answered<ProducerState> {
    use proto::fence_response::Answer;
    match answer.answer {
        Some(Answer::Known(known)) => Answered::Here(producer_state(&known)),
        Some(Answer::NotOwner(ask)) => Answered::Elsewhere(node_id(ask.node_id)),
        Some(Answer::NotServed(reason)) => Answered::NotServed(reason),
        None => Answered::Elsewhere(None),
    }
}

fn producer_state(known: &proto::ProducerKnown) -> ProducerState {
    let window = known.window.iter().map(|batch| Remembered {
        sequence: Sequence(batch.sequence),
        first: Offset(batch.first),
        end: Offset(batch.end),
        position: batch.position,
    });
    ProducerState {
        epoch: Epoch(known.epoch),
        next: Sequence(known.next_sequence),
        window: window.collect(),
        last_appended_at: Time(known.last_appended_at_us),
    }
}

pub(super) fn fence_response(result: Result<ProducerState, ReadError>) -> proto::FenceResponse {
    use proto::fence_response::Answer;
    let answer = match result {
        Ok(state) => {
            let window = state.window.iter().map(|batch| proto::RememberedBatch {
                sequence: batch.sequence.0,
                first: batch.first.0,
                end: batch.end.0,
                position: batch.position,
            });
            Answer::Known(proto::ProducerKnown {
                epoch: state.epoch.0,
                next_sequence: state.next.0,
                last_appended_at_us: state.last_appended_at.0,
                window: window.collect(),
            })
        }
        Err(ReadError::NoOwner { owner, .. }) => Answer::NotOwner(elsewhere(owner)),
        Err(ReadError::Moved { .. }) => Answer::NotOwner(elsewhere(None)),
        Err(error @ (ReadError::Busy { .. } | ReadError::NotServed { .. })) => {
            Answer::NotServed(error.to_string())
        }
    };
    proto::FenceResponse { answer: Some(answer) }
}

pub(super) fn part_request(
    to: Option<proto::Addressed>,
    group: GroupId,
    part: &Part,
    payload: Bytes,
) -> proto::PartRequest {
    let stamp = part.producer.map(|stamp| proto::Stamp {
        producer: stamp.producer.0,
        epoch: stamp.epoch.0,
        sequence: stamp.sequence.0,
        position: stamp.position,
    });
    proto::PartRequest { to, group: group.0, stamp, event_count: part.event_count, payload }
}

pub(super) fn part(request: &proto::PartRequest) -> Part {
    let producer = request.stamp.as_ref().map(|stamp| Stamp {
        producer: ProducerId(stamp.producer),
        epoch: Epoch(stamp.epoch),
        sequence: Sequence(stamp.sequence),
        position: stamp.position,
    });
    Part { producer, event_count: request.event_count }
}

pub(super) fn part_answer(answer: proto::PartResponse) -> Result<PartOutcome, AppendError> {
    use proto::part_response::Outcome;
    let range = |range: proto::Appended| (Offset(range.first), Offset(range.end));
    match answer.outcome {
        Some(Outcome::Appended(appended)) => {
            let (first, end) = range(appended);
            Ok(PartOutcome::Appended { first, end })
        }
        Some(Outcome::Duplicate(duplicate)) => {
            Ok(PartOutcome::Duplicate { offsets: duplicate.offsets.map(range) })
        }
        Some(Outcome::Fenced(epoch)) => Ok(PartOutcome::Fenced { current: Epoch(epoch) }),
        Some(Outcome::OutOfSequence(expected)) => {
            Ok(PartOutcome::OutOfSequence { expected: Sequence(expected) })
        }
        Some(Outcome::NotOwner(ask)) => Err(AppendError::NotOwner { owner: node_id(ask.node_id) }),
        Some(Outcome::Busy(_)) => {
            Err(AppendError::Busy { reason: "the partition's owner has too much to do" })
        }
        Some(Outcome::DiskFull(_)) => Err(AppendError::DiskFull),
        Some(Outcome::Damaged(reason) | Outcome::Malformed(reason)) => {
            Err(AppendError::Refused { reason })
        }
        Some(Outcome::Lost(_)) | None => Err(AppendError::Lost),
    }
}

pub(super) fn part_response(result: Result<PartOutcome, AppendError>) -> proto::PartResponse {
    use proto::part_response::Outcome;
    let range = |(first, end): (Offset, Offset)| proto::Appended { first: first.0, end: end.0 };
    let outcome = match result {
        Ok(PartOutcome::Appended { first, end }) => Outcome::Appended(range((first, end))),
        Ok(PartOutcome::Duplicate { offsets }) => {
            Outcome::Duplicate(proto::Duplicate { offsets: offsets.map(range) })
        }
        Ok(PartOutcome::Fenced { current }) => Outcome::Fenced(current.0),
        Ok(PartOutcome::OutOfSequence { expected }) => Outcome::OutOfSequence(expected.0),
        Err(AppendError::NotOwner { owner }) => Outcome::NotOwner(elsewhere(owner)),
        Err(error @ (AppendError::Busy { .. } | AppendError::Stopping)) => {
            Outcome::Busy(error.to_string())
        }
        Err(error @ AppendError::DiskFull) => Outcome::DiskFull(error.to_string()),
        Err(error @ AppendError::Lost) => Outcome::Lost(error.to_string()),
        Err(
            error @ (AppendError::Damaged { .. }
            | AppendError::Refused { .. }
            | AppendError::UnknownStream { .. }
            | AppendError::Invalid(_)
            | AppendError::Fenced { .. }
            | AppendError::OutOfSequence { .. }),
        ) => Outcome::Damaged(error.to_string()),
    };
    proto::PartResponse { outcome: Some(outcome) }
}
