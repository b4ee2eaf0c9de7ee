//! A part of a view for a node that holds no replica of its partition.
//!
//! What goes over the network are groups as they are stored: whoever asked merges them with those
//! of other partitions as if all of them were here.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{GroupId, NodeId, Offset, ViewId};
use alluvium_proto::peer::v1 as proto;
use alluvium_proto::peer::v1::read_view_request::Ask;
use alluvium_proto::peer::v1::read_view_response::Part;
use alluvium_views::fold::{Collected, KeyRange, Keys, Merge};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::calls::{PeerError, Peers, Route, in_time};
use super::convert;
use crate::streams::Streams;
use crate::views::{Audited, ViewPart, Views};

/// Bytes of groups in one message.
const PIECE_BYTES: usize = 1 << 20;

/// Messages on their way.
const PARTS_IN_FLIGHT: usize = 4;

/// Bytes of one part that are taken in.
const BYTES_MAX: usize = 512 << 20;

/// How long a part may take to fold what was asked for.
const FOLDED_MAX: Duration = Duration::from_secs(5);

/// How long a question for news waits for some.
const NEWS_MAX: Duration = Duration::from_secs(1);

/// Silence after which the other side is given up: longer than it may take to fold.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// What is asked of one part of a view.
#[derive(Clone, Debug)]
pub struct ViewQuestion {
    /// The group of its partition.
    pub group: GroupId,
    /// The life of the view.
    pub view: ViewId,
    /// Every event before this must be folded.
    pub at_least: Offset,
    /// What.
    pub ask: ViewAsk,
}

/// See [`ViewQuestion`].
#[derive(Clone, Debug)]
pub enum ViewAsk {
    /// Groups.
    Groups(Keys),
    /// Groups that events changed.
    Changed {
        /// Events at or after this offset.
        since: Offset,
        /// About so many, those changed first first.
        groups_max: usize,
    },
    /// No groups; answered as soon as events at or after `since` are folded, or after a moment.
    News {
        /// The offset.
        since: Offset,
    },
    /// All groups, for comparing them with the log.
    Audit,
}

/// A part of a view as it came.
#[derive(Clone, Debug)]
pub struct RemoteView {
    /// Every event before this is in the groups; for changed groups, see
    /// [`alluvium_views::fold::Changes::next`].
    pub next: Offset,
    /// No earlier event time is expected, in microseconds.
    pub watermark: Option<i64>,
    /// The groups.
    pub collected: Collected,
    /// Keys of groups that are no more.
    pub removed: Vec<Vec<u8>>,
    /// From which offset on these are known.
    pub removed_from: Offset,
    /// What an audit found beside.
    pub audit: Option<RemoteAudit>,
}

/// What an audit of a part found beside its groups; see
/// [`alluvium_query::host::ViewPartition`].
#[derive(Clone, Debug, Default)]
pub struct RemoteAudit {
    /// The offset the fold began at.
    pub start: Offset,
    /// Digest of the state as the fold keeps it.
    pub digest: u128,
    /// Digest of the state as it was read.
    pub digest_read: u128,
    /// Offsets of the events it has set aside.
    pub quarantined: Vec<Offset>,
    /// What could not be read.
    pub damage: Option<String>,
}

/// What an asking node is told.
pub(super) type Parts = mpsc::Receiver<Result<proto::ReadViewResponse, Status>>;

/// Answers a question about a part of a view that is here.
pub(super) async fn send(
    streams: &Streams,
    views: &Views,
    request: proto::ReadViewRequest,
) -> Result<Parts, Status> {
    let (parts, received) = mpsc::channel(PARTS_IN_FLIGHT);
    let question = question(request)?;
    match part_of(streams, views, &question) {
        Ok(part) => {
            tokio::spawn(async move {
                if let Err(reason) = answer(part, question, &parts).await {
                    // A reader that left needs no reason.
                    let _ = parts.send(Ok(response(Part::NotServed(reason)))).await;
                }
            });
        }
        Err(reason) => {
            // The receiver is in this very function.
            let _ = parts.send(Ok(response(Part::NotServed(reason)))).await;
        }
    }
    Ok(received)
}

fn response(part: Part) -> proto::ReadViewResponse {
    proto::ReadViewResponse { part: Some(part) }
}

fn part_of(
    streams: &Streams,
    views: &Views,
    question: &ViewQuestion,
) -> Result<Arc<ViewPart>, String> {
    let partition = streams.partition(question.group).ok_or("its partition is not known here")?;
    let served = views.life(question.view).ok_or("the view is not known here")?;
    let part = served.parts.get(partition.number.0 as usize).ok_or("it has no such part")?;
    part.clone()
}

async fn answer(
    part: Arc<ViewPart>,
    question: ViewQuestion,
    parts: &mpsc::Sender<Result<proto::ReadViewResponse, Status>>,
) -> Result<(), String> {
    let reached = tokio::time::timeout(FOLDED_MAX, part.reach(question.at_least)).await;
    reached
        .map_err(|_| format!("it is behind offset {}", question.at_least))?
        .map_err(|error| error.to_string())?;
    if let ViewAsk::News { since } = question.ask {
        // Without news it says where it stands.
        let _ = tokio::time::timeout(NEWS_MAX, part.reach(since.advance(1))).await;
    }
    let (parts, ask) = (parts.clone(), question.ask);
    let sent = tokio::task::spawn_blocking(move || {
        let (head, collected) = look(&part, &ask)?;
        let head = proto::ViewHead { cutoff: collected.cutoff, ..head };
        send_all(head, collected, &parts);
        Ok(())
    });
    sent.await.map_err(|error| error.to_string())?
}

/// What a part has, as the wire has it.
fn look(part: &ViewPart, ask: &ViewAsk) -> Result<(proto::ViewHead, Collected), String> {
    let merge = || Merge::new(part.definition().clone()).map_err(|error| error.to_string());
    // Looked at before the groups: what is said to be final must be in them.
    let progress = part.progress();
    let mut head = proto::ViewHead {
        next: progress.next.0,
        watermark: progress.watermark,
        ..proto::ViewHead::default()
    };
    let mut groups = merge()?;
    match ask {
        ViewAsk::News { .. } => {}
        ViewAsk::Groups(keys) => {
            head.next = part.read(keys, &mut groups).map_err(|error| error.to_string())?.0;
        }
        ViewAsk::Changed { since, groups_max } => {
            let changes = part.changed(*since, *groups_max, &mut groups);
            let changes = changes.map_err(|error| error.to_string())?;
            head.next = changes.next.0;
            head.removed = changes.removed.into_iter().map(Into::into).collect();
            head.removed_from = changes.removed_from.0;
        }
        ViewAsk::Audit => {
            let quarantined = part.quarantined().map_err(|error| error.to_string())?;
            let Audited { progress, digest, digest_read, damage } = part.audit(&mut groups);
            head.next = progress.next.0;
            head.watermark = progress.watermark;
            head.audit = Some(proto::ViewAudit {
                start: progress.start.0,
                digest: digest.to_be_bytes().to_vec().into(),
                digest_read: digest_read.to_be_bytes().to_vec().into(),
                quarantined: quarantined.into_iter().map(|offset| offset.0).collect(),
                damage,
            });
        }
    }
    Ok((head, groups.collected()))
}

fn send_all(
    head: proto::ViewHead,
    collected: Collected,
    parts: &mpsc::Sender<Result<proto::ReadViewResponse, Status>>,
) {
    let send = |part| parts.blocking_send(Ok(response(part))).is_ok();
    if !send(Part::Head(head)) {
        return;
    }
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for (key, value) in collected.groups {
        bytes += key.len() + value.len();
        piece.push(proto::ViewGroup { key: key.into(), value: value.into() });
        if PIECE_BYTES <= bytes {
            bytes = 0;
            let groups = std::mem::take(&mut piece);
            if !send(Part::Groups(proto::ViewGroups { groups })) {
                return;
            }
        }
    }
    if !piece.is_empty() {
        send(Part::Groups(proto::ViewGroups { groups: piece }));
    }
}

impl Peers {
    /// Asks a node about its part of a view.
    ///
    /// # Errors
    /// When it does not answer, or says that it cannot.
    pub async fn read_view(
        &self,
        node: NodeId,
        question: &ViewQuestion,
    ) -> Result<RemoteView, PeerError> {
        let mut client = self.client(node, Route::Calls)?;
        let mut request = request(question);
        request.to = Some(self.addressed(node));
        let parts = in_time(node, client.read_view(request)).await?;
        receive(node, parts).await
    }
}

/// Takes everything in.
async fn receive(
    node: NodeId,
    mut parts: Streaming<proto::ReadViewResponse>,
) -> Result<RemoteView, PeerError> {
    let peer = || node.to_string();
    let refused = |reason: String| PeerError::Refused { peer: peer(), reason };
    let (mut found, mut bytes) = (None, 0);
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, parts.message()).await;
        let next = next.map_err(|_| PeerError::Unreachable {
            peer: peer(),
            reason: format!("no answer within {SILENCE_MAX:?}"),
        })?;
        let Some(response) = next.map_err(|status| convert::peer_error(peer(), &status))? else {
            return found.ok_or_else(|| refused("its answer is empty".into()));
        };
        match (response.part, &mut found) {
            (Some(Part::Head(head)), None) => found = Some(remote_view(head)),
            (Some(Part::Groups(piece)), Some(view)) => {
                for group in piece.groups {
                    bytes += group.key.len() + group.value.len();
                    view.collected.groups.push((group.key.into(), group.value.into()));
                }
                if BYTES_MAX < bytes {
                    return Err(refused(format!(
                        "the groups of one partition are larger than the {} MiB that a node takes \
                         in which does not hold it; ask a node that holds it (alluvium node locate)",
                        BYTES_MAX >> 20
                    )));
                }
            }
            (Some(Part::NotServed(reason)), _) => return Err(refused(reason)),
            (Some(Part::Head(_) | Part::Groups(_)) | None, _) => {
                return Err(refused("its answer cannot be understood".into()));
            }
        }
    }
}

fn remote_view(head: proto::ViewHead) -> RemoteView {
    let digest = |bytes: &[u8]| bytes.try_into().map_or(0, u128::from_be_bytes);
    RemoteView {
        next: Offset(head.next),
        watermark: head.watermark,
        collected: Collected { cutoff: head.cutoff, groups: Vec::new() },
        removed: head.removed.into_iter().map(Into::into).collect(),
        removed_from: Offset(head.removed_from),
        audit: head.audit.map(|audit| RemoteAudit {
            start: Offset(audit.start),
            digest: digest(&audit.digest),
            digest_read: digest(&audit.digest_read),
            quarantined: audit.quarantined.into_iter().map(Offset).collect(),
            damage: audit.damage,
        }),
    }
}

fn request(question: &ViewQuestion) -> proto::ReadViewRequest {
    let ask = match &question.ask {
        ViewAsk::Groups(keys) => Ask::Keys(keys_to_wire(keys)),
        ViewAsk::Changed { since, groups_max } => {
            let (since, groups_max) = (since.0, *groups_max as u64);
            Ask::Changed(proto::ChangedGroups { since, groups_max })
        }
        ViewAsk::News { since } => Ask::News(since.0),
        ViewAsk::Audit => Ask::Audit(true),
    };
    proto::ReadViewRequest {
        to: None,
        group: question.group.0,
        view: question.view.0,
        at_least: question.at_least.0,
        ask: Some(ask),
    }
}

fn question(request: proto::ReadViewRequest) -> Result<ViewQuestion, Status> {
    let unknown = || Status::invalid_argument("what is asked of the view is not known here");
    let ask = match request.ask.ok_or_else(unknown)? {
        Ask::Keys(keys) => ViewAsk::Groups(keys_of_wire(keys).ok_or_else(unknown)?),
        Ask::Changed(changed) => ViewAsk::Changed {
            since: Offset(changed.since),
            groups_max: usize::try_from(changed.groups_max).unwrap_or(usize::MAX),
        },
        Ask::News(since) => ViewAsk::News { since: Offset(since) },
        Ask::Audit(_) => ViewAsk::Audit,
    };
    Ok(ViewQuestion {
        group: GroupId(request.group),
        view: ViewId(request.view),
        at_least: Offset(request.at_least),
        ask,
    })
}

fn keys_to_wire(keys: &Keys) -> proto::ViewKeys {
    use proto::view_keys::Keys as Wire;
    let keys = match keys {
        Keys::All => Wire::All(true),
        Keys::These(keys) => {
            Wire::These(proto::KeyList { keys: keys.iter().cloned().map(Into::into).collect() })
        }
        Keys::Range(KeyRange { start, end }) => Wire::Range(proto::KeySpan {
            start: start.clone().into(),
            end: end.clone().map(Into::into),
        }),
    };
    proto::ViewKeys { keys: Some(keys) }
}

fn keys_of_wire(keys: proto::ViewKeys) -> Option<Keys> {
    use proto::view_keys::Keys as Wire;
    Some(match keys.keys? {
        Wire::All(_) => Keys::All,
        Wire::These(list) => Keys::These(list.keys.into_iter().map(Into::into).collect()),
        Wire::Range(span) => {
            Keys::Range(KeyRange { start: span.start.into(), end: span.end.map(Into::into) })
        }
    })
}
