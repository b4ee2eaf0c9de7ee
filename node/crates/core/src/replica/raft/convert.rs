//! Entries, members and messages: the library's words into ours and back.

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message, MessageType, Snapshot,
};

use super::super::config::CONF_CHANGE_BYTES_MAX;
use super::super::entry::{Checkpoint, EntryKind, LogEntry, LogPosition};
use super::super::members::Members;
use super::super::message::{MessageKind, PeerMessage};
use crate::ids::{Index, NodeId, Term};

pub(super) fn node_id(id: u64) -> Option<NodeId> {
    (id != raft::INVALID_ID).then_some(NodeId(id))
}

pub(super) fn ours(entry: Entry) -> LogEntry {
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    let (index, term) = (Index(entry.index), Term(entry.term));
    LogEntry { index, term, kind, context: entry.context, data: entry.data }
}

pub(super) fn theirs(entry: &LogEntry) -> Entry {
    let mut theirs = Entry::default();
    theirs.set_entry_type(match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    });
    theirs.index = entry.index.0;
    theirs.term = entry.term.0;
    theirs.context = entry.context.clone();
    theirs.data = entry.data.clone();
    theirs
}

/// The change that makes `now` into `members`, through a joint configuration that is left by an
/// entry of its own.
pub(super) fn change_to(members: &Members, now: &Members) -> ConfChangeV2 {
    let promoted = members.voters.iter().filter(|node| !now.voters.contains(node));
    let learning = members.learners.iter().filter(|node| !now.learners.contains(node));
    let all = now.voters.iter().chain(&now.learners);
    let removed = all.filter(|node| !members.contains(**node));
    let mut change = ConfChangeV2::default();
    change.set_transition(ConfChangeTransition::Explicit);
    for (node, kind) in promoted
        .map(|node| (node, ConfChangeType::AddNode))
        .chain(learning.map(|node| (node, ConfChangeType::AddLearnerNode)))
        .chain(removed.map(|node| (node, ConfChangeType::RemoveNode)))
    {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = node.0;
        change.mut_changes().push(single);
    }
    change
}

/// We write changes of members in the second form only.
pub(super) fn change_of(entry: &LogEntry) -> Option<ConfChangeV2> {
    let known = entry.kind == EntryKind::ConfChangeV2;
    if !known || CONF_CHANGE_BYTES_MAX < entry.data.len() {
        return None;
    }
    ConfChangeV2::parse_from_bytes(&entry.data).ok()
}

/// One plain configuration, in the library's words.
pub(super) fn conf_state_of(members: &Members) -> ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let (voters, learners) = (ids(&members.voters), ids(&members.learners));
    ConfState { voters, learners, ..ConfState::default() }
}

/// The newer configuration, in ours. A voter that is being made a learner is one there.
pub(super) fn members_of(state: &ConfState) -> Members {
    let ids = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<Vec<NodeId>>();
    let learners = [ids(&state.learners), ids(&state.learners_next)].concat();
    Members::new(ids(&state.voters), learners)
}

pub(super) fn checkpoint_of(snapshot: &Snapshot) -> Checkpoint {
    let metadata = snapshot.get_metadata();
    Checkpoint {
        position: LogPosition { index: Index(metadata.index), term: Term(metadata.term) },
        members: members_of(metadata.get_conf_state()),
        state: snapshot.data.clone(),
    }
}

pub(super) fn snapshot_of(checkpoint: &Checkpoint) -> Snapshot {
    let mut snapshot = Snapshot { data: checkpoint.state.clone(), ..Snapshot::default() };
    let metadata = snapshot.mut_metadata();
    metadata.index = checkpoint.position.index.0;
    metadata.term = checkpoint.position.term.0;
    metadata.set_conf_state(conf_state_of(&checkpoint.members));
    snapshot
}

/// The kinds that go between nodes, in our words and in the library's.
const KINDS: [(MessageKind, MessageType); 10] = [
    (MessageKind::Append, MessageType::MsgAppend),
    (MessageKind::AppendAnswer, MessageType::MsgAppendResponse),
    (MessageKind::Vote, MessageType::MsgRequestVote),
    (MessageKind::VoteAnswer, MessageType::MsgRequestVoteResponse),
    (MessageKind::PreVote, MessageType::MsgRequestPreVote),
    (MessageKind::PreVoteAnswer, MessageType::MsgRequestPreVoteResponse),
    (MessageKind::Heartbeat, MessageType::MsgHeartbeat),
    (MessageKind::HeartbeatAnswer, MessageType::MsgHeartbeatResponse),
    (MessageKind::Checkpoint, MessageType::MsgSnapshot),
    (MessageKind::TimeoutNow, MessageType::MsgTimeoutNow),
];

/// A message of the library as ours. Kinds that never leave a node give nothing, and neither does
/// an append whose entries do not follow its index: several inputs taken together can make the
/// library add entries to an append made before the place to send from moved. Taken at its word
/// such a message would damage a log; left out, it is as good as lost, which Raft can bear.
pub(super) fn outgoing(mut message: Message) -> Option<(NodeId, PeerMessage)> {
    let kind = KINDS.iter().find(|(_, theirs)| *theirs == message.get_msg_type())?.0;
    let first = message.get_entries().first();
    if first.is_some_and(|first| first.index != message.index + 1) {
        return None;
    }
    let checkpoint = kind == MessageKind::Checkpoint;
    let ours = PeerMessage {
        kind,
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: Index(message.index),
        commit: Index(message.commit),
        commit_term: Term(message.commit_term),
        reject: message.reject,
        reject_hint: Index(message.reject_hint),
        entries: message.take_entries().into_iter().map(ours).collect(),
        context: message.take_context(),
        checkpoint: checkpoint.then(|| checkpoint_of(message.get_snapshot())),
    };
    Some((NodeId(message.to), ours))
}

pub(super) fn incoming(from: NodeId, to: NodeId, ours: PeerMessage) -> Message {
    let found = KINDS.iter().find(|(kind, _)| *kind == ours.kind);
    let mut message = Message::default();
    message.set_msg_type(found.expect("the table has every kind").1);
    message.from = from.0;
    message.to = to.0;
    message.term = ours.term.0;
    message.log_term = ours.log_term.0;
    message.index = ours.index.0;
    message.commit = ours.commit.0;
    message.commit_term = ours.commit_term.0;
    message.reject = ours.reject;
    message.reject_hint = ours.reject_hint.0;
    message.context = ours.context;
    message.entries = ours.entries.iter().map(theirs).collect();
    if let Some(checkpoint) = &ours.checkpoint {
        message.set_snapshot(snapshot_of(checkpoint));
    }
    message
}
