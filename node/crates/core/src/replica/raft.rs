//! The Raft library in our words. No other file names it.
//!
//! Drives `RawNode` with asynchronous readies: a [`Round`] hands out what must be written and what
//! may be sent; word that it is durable comes back through [`Consensus::persisted`]. The library's
//! own randomness is overwritten after every call, its wire format is not used, and commands share
//! their bytes with it.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, HardState as RaftHardState, Message, MessageType, Snapshot,
};
use raft::{
    Config, GetEntriesContext, ProgressState, RaftState, RawNode, SnapshotStatus, StateRole,
    Storage, StorageError,
};

use super::config::{
    CHECKPOINT_TICKS_MAX, CONF_CHANGE_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGES_IN_FLIGHT_MAX,
    ROUND_BYTES_MAX, ReplicaConfig, ReplicaError, UNCOMMITTED_BYTES_MAX,
};
use super::effects::{Role, RoleChange};
use super::entry::{Checkpoint, EntryKind, HardState, LogEntry, LogPosition, Restored};
use super::log::MemoryLog;
use super::members::Members;
use super::message::{MessageKind, PeerMessage};
use super::reads::ReadContext;
use super::round::Round;
use super::timeout::Timeouts;
use crate::ids::{Index, NodeId, Term};

/// One replica's share in the agreement.
pub(super) struct Consensus {
    node: RawNode<Mirror>,
    timeouts: Timeouts,
    timeout: usize,
    drawn_for: (Term, StateRole),
    sent_checkpoints: BTreeMap<u64, u32>,
}

impl Consensus {
    pub(super) fn new(config: &ReplicaConfig, restored: Restored) -> Result<Self, ReplicaError> {
        let settings = settings(config, restored.truncated)?;
        let mirror = Mirror::restore(restored)?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&settings, mirror, &logger)
            .map_err(|error| ReplicaError::Config { reason: error.to_string() })?;
        let mut timeouts = Timeouts::new(config.seed, config.election_ticks.clone());
        let timeout = timeouts.draw();
        let drawn_for = (Term(node.raft.term), node.raft.state);
        let sent_checkpoints = BTreeMap::new();
        let mut consensus = Consensus { node, timeouts, timeout, drawn_for, sent_checkpoints };
        consensus.overwrite_timeout();
        Ok(consensus)
    }

    /// Offers a command; gives the place its entry got, or nothing when there is no room.
    pub(super) fn propose(&mut self, command: Bytes) -> Option<LogPosition> {
        self.propose_entry(Entry { data: command, ..Entry::default() })
    }

    /// Offers a change to `voters` through a joint configuration, which the leader leaves later by
    /// [`Consensus::leave_joint_when_due`].
    pub(super) fn propose_voters(&mut self, voters: &[NodeId]) -> Option<LogPosition> {
        let now = self.voters();
        let added = voters.iter().filter(|voter| !now.contains(voter));
        let removed = now.iter().filter(|voter| !voters.contains(voter));
        let mut change = ConfChangeV2::default();
        change.set_transition(ConfChangeTransition::Explicit);
        for (voter, kind) in added
            .map(|voter| (voter, ConfChangeType::AddNode))
            .chain(removed.map(|voter| (voter, ConfChangeType::RemoveNode)))
        {
            let mut single = ConfChangeSingle::default();
            single.set_change_type(kind);
            single.node_id = voter.0;
            change.mut_changes().push(single);
        }
        self.propose_change(&change)
    }

    /// Leads out of a joint configuration. Asked after every step by whoever leads: the leader that
    /// led into it may be gone.
    pub(super) fn leave_joint_when_due(&mut self) {
        let raft = &self.node.raft;
        let joint = !raft.store().members.voters_outgoing.is_empty();
        if joint && raft.state == StateRole::Leader && !raft.has_pending_conf() {
            self.propose_change(&ConfChangeV2::default());
        }
    }

    pub(super) fn receive(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        // An error means that the sender is not in the group: its message is dropped.
        let _dropped = self.node.step(incoming(from, to, message));
        self.overwrite_timeout();
    }

    pub(super) fn tick(&mut self) {
        self.node.tick();
        self.give_up_checkpoints();
        self.overwrite_timeout();
    }

    pub(super) fn campaign(&mut self) {
        let _refused = self.node.campaign();
        self.overwrite_timeout();
    }

    pub(super) fn unreachable(&mut self, node: NodeId) {
        self.node.report_unreachable(node.0);
    }

    /// Whether a read attempt may begin: the leader must have committed in its own term.
    pub(super) fn may_read(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.commit_to_current_term()
    }

    /// Whether this node alone decides.
    pub(super) fn alone(&self) -> bool {
        self.node.raft.prs().is_singleton()
    }

    pub(super) fn read_index(&mut self, context: ReadContext) {
        self.node.read_index(context.encode());
    }

    /// The next round, when there is something to do. Its entries are in the log in memory by then.
    pub(super) fn next_round(&mut self) -> Option<Round> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let hard_state = ready.must_sync().then(|| self.hard_state());
        let install = match ready.snapshot().get_metadata().index {
            0 => None,
            _ => Some(checkpoint_of(ready.snapshot())),
        };
        let mirror = self.node.mut_store();
        if let Some(checkpoint) = &install {
            mirror.log.install(checkpoint.position);
            mirror.members = ready.snapshot().get_metadata().get_conf_state().clone();
        }
        let entries: Vec<LogEntry> = ready.take_entries().into_iter().map(ours).collect();
        mirror.log.append(entries.iter().cloned());
        let reads = ready
            .take_read_states()
            .into_iter()
            .filter_map(|read| Some((ReadContext::decode(&read.request_ctx)?, Index(read.index))));
        let reads = reads.collect();
        let send: Vec<_> = ready.take_messages().into_iter().filter_map(outgoing).collect();
        for (to, message) in &send {
            if message.kind == MessageKind::Checkpoint {
                self.sent_checkpoints.insert(to.0, 0);
            }
        }
        let waiting = ready.take_persisted_messages();
        let round = Round {
            number: ready.number(),
            reads,
            install,
            hard_state,
            entries,
            committed: ready.take_committed_entries().into_iter().map(ours).collect(),
            send,
            send_when_durable: waiting.into_iter().filter_map(outgoing).collect(),
        };
        self.node.advance_append_async(ready);
        Some(round)
    }

    /// Rounds up to `number` are durable.
    pub(super) fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Everything up to `index` is executed. Who is no voter any more gives up leading.
    pub(super) fn applied_to(&mut self, index: Index) {
        self.node.advance_apply_to(index.0);
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.promotable() {
            raft.become_follower(raft.term, raft::INVALID_ID);
            self.overwrite_timeout();
        }
    }

    /// Executes a change of voters. One that cannot be made is refused alike on every replica, so
    /// that leaving it out keeps them equal.
    pub(super) fn apply_voters(&mut self, entry: &LogEntry) {
        let Some(change) = change_of(entry) else { return };
        if let Ok(members) = self.node.apply_conf_change(&change) {
            self.node.mut_store().members = members;
        }
        self.overwrite_timeout();
    }

    /// Drops the log up to `through`, which is executed and covered by a durable checkpoint.
    pub(super) fn truncate(&mut self, through: Index) {
        self.node.mut_store().log.truncate(through);
        self.node.mut_store().offered = None;
    }

    /// Whether a follower needs a checkpoint that has not been offered yet.
    pub(super) fn take_checkpoint_wanted(&mut self) -> bool {
        self.node.store().wanted.take()
    }

    /// Offers a checkpoint for followers that are behind the log. Sent with the next heartbeat.
    pub(super) fn offer(&mut self, checkpoint: Checkpoint) {
        self.node.mut_store().offered = Some(checkpoint);
    }

    pub(super) fn role(&self) -> RoleChange {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate | StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        };
        RoleChange { role, term: Term(raft.term), leader: node_id(raft.leader_id) }
    }

    pub(super) fn commit(&self) -> Index {
        Index(self.node.raft.raft_log.committed)
    }

    pub(super) fn log(&self) -> &MemoryLog {
        &self.node.store().log
    }

    /// The voters of the newer configuration.
    pub(super) fn voters(&self) -> Vec<NodeId> {
        self.node.store().members.voters.iter().copied().map(NodeId).collect()
    }

    /// Whether one plain set of voters describes the group.
    pub(super) fn settled(&self) -> bool {
        self.node.store().members.voters_outgoing.is_empty()
    }

    fn hard_state(&self) -> HardState {
        let state = self.node.raft.hard_state();
        let vote = node_id(state.vote);
        HardState { term: Term(state.term), vote, commit: Index(state.commit) }
    }

    fn propose_change(&mut self, change: &ConfChangeV2) -> Option<LogPosition> {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = change.write_to_bytes().expect("writing to memory does not fail").into();
        self.propose_entry(entry)
    }

    fn propose_entry(&mut self, entry: Entry) -> Option<LogPosition> {
        let raft = &mut self.node.raft;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = raft.id;
        message.mut_entries().push(entry);
        raft.step(message).ok()?;
        Some(LogPosition { index: Index(raft.raft_log.last_index()), term: Term(raft.term) })
    }

    /// A checkpoint may get lost on its way; without word from us the follower would wait for ever.
    fn give_up_checkpoints(&mut self) {
        let peers = self.node.raft.prs();
        self.sent_checkpoints.retain(|&node, _| {
            peers.get(node).is_some_and(|peer| peer.state == ProgressState::Snapshot)
        });
        for (&node, ticks) in &mut self.sent_checkpoints {
            *ticks += 1;
            if *ticks == CHECKPOINT_TICKS_MAX {
                self.node.report_snapshot(node, SnapshotStatus::Failure);
            }
        }
    }

    fn overwrite_timeout(&mut self) {
        let now = (Term(self.node.raft.term), self.node.raft.state);
        if self.drawn_for != now {
            self.drawn_for = now;
            self.timeout = self.timeouts.draw();
        }
        self.node.raft.set_randomized_election_timeout(self.timeout);
    }
}

/// What the library reads as its storage: the log in memory and the voters.
struct Mirror {
    log: MemoryLog,
    hard_state: RaftHardState,
    members: ConfState,
    offered: Option<Checkpoint>,
    wanted: Cell<bool>,
}

impl Mirror {
    fn restore(restored: Restored) -> Result<Mirror, ReplicaError> {
        let Restored { hard_state, members, truncated, entries } = restored;
        let log = MemoryLog::restore(truncated, entries, hard_state.term)?;
        // The commit index on disk may lag behind what the checkpoint proves to be committed.
        let commit = hard_state.commit.max(truncated.index);
        let last = log.last().index;
        if last < commit {
            return Err(ReplicaError::CommitBeyondLog { commit, last });
        }
        let (term, vote) = (hard_state.term.0, hard_state.vote.map_or(0, |vote| vote.0));
        let stored = RaftHardState { term, vote, commit: commit.0, ..RaftHardState::default() };
        let members = conf_state_of(&members);
        Ok(Mirror { log, hard_state: stored, members, offered: None, wanted: Cell::new(false) })
    }
}

impl Storage for Mirror {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.log.truncated().index.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        Ok(self.log.range(Index(low), Index(high), max_size.into()).map(theirs).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.log.truncated().index.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let term = self.log.term(Index(index));
        term.map(|term| term.0).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.truncated().index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last().index.0)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.offered {
            Some(checkpoint) if request_index <= checkpoint.position.index.0 => {
                Ok(snapshot_of(checkpoint))
            }
            _ => {
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

fn settings(config: &ReplicaConfig, truncated: LogPosition) -> Result<Config, ReplicaError> {
    let settings = Config {
        id: config.node.0,
        election_tick: config.election_ticks.start as usize,
        heartbeat_tick: config.heartbeat_ticks as usize,
        applied: truncated.index.0,
        max_size_per_msg: MESSAGE_BYTES_MAX,
        max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: config.election_ticks.start as usize,
        max_election_tick: config.election_ticks.end as usize,
        batch_append: true,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: ROUND_BYTES_MAX,
        ..Config::default()
    };
    settings.validate().map_err(|error| ReplicaError::Config { reason: error.to_string() })?;
    Ok(settings)
}

fn node_id(id: u64) -> Option<NodeId> {
    (id != raft::INVALID_ID).then_some(NodeId(id))
}

fn ours(entry: Entry) -> LogEntry {
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    let (index, term) = (Index(entry.index), Term(entry.term));
    LogEntry { index, term, kind, context: entry.context, data: entry.data }
}

fn theirs(entry: &LogEntry) -> Entry {
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

/// We write changes of voters in the second form only.
fn change_of(entry: &LogEntry) -> Option<ConfChangeV2> {
    let known = entry.kind == EntryKind::ConfChangeV2;
    if !known || CONF_CHANGE_BYTES_MAX < entry.data.len() {
        return None;
    }
    ConfChangeV2::parse_from_bytes(&entry.data).ok()
}

/// One plain configuration, in the library's words.
fn conf_state_of(members: &Members) -> ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let (voters, learners) = (ids(&members.voters), ids(&members.learners));
    ConfState { voters, learners, ..ConfState::default() }
}

/// The newer configuration, in ours.
fn members_of(state: &ConfState) -> Members {
    let ids = |nodes: &[u64]| {
        let mut nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    Members { voters: ids(&state.voters), learners: ids(&state.learners) }
}

fn checkpoint_of(snapshot: &Snapshot) -> Checkpoint {
    let metadata = snapshot.get_metadata();
    Checkpoint {
        position: LogPosition { index: Index(metadata.index), term: Term(metadata.term) },
        members: members_of(metadata.get_conf_state()),
        state: snapshot.data.clone(),
    }
}

fn snapshot_of(checkpoint: &Checkpoint) -> Snapshot {
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
fn outgoing(mut message: Message) -> Option<(NodeId, PeerMessage)> {
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

fn incoming(from: NodeId, to: NodeId, ours: PeerMessage) -> Message {
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
