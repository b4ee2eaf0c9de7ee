//! The Raft library in our words. No other folder names it.
//!
//! Drives `RawNode` with asynchronous readies: a [`Round`] hands out what must be written and what
//! may be sent; word that it is durable comes back through [`Consensus::persisted`]. The library's
//! own randomness is overwritten after every call, its wire format is not used, and commands share
//! their bytes with it.

mod convert;
mod mirror;

use std::collections::BTreeMap;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, Message, MessageType};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};

use self::convert::{
    change_of, change_to, checkpoint_of, incoming, members_of, node_id, ours, outgoing,
};
use self::mirror::Mirror;
use super::config::{
    CHECKPOINT_TICKS_MAX, LAG_ENTRIES_MAX, MESSAGE_BYTES_MAX, MESSAGES_IN_FLIGHT_MAX,
    ROUND_BYTES_MAX, ReplicaConfig, ReplicaError, UNCOMMITTED_BYTES_MAX,
};
use super::effects::{Role, RoleChange};
use super::entry::{Checkpoint, HardState, LogEntry, LogPosition, Restored};
use super::log::MemoryLog;
use super::members::Members;
use super::message::{MessageKind, PeerMessage};
use super::reads::ReadContext;
use super::round::Round;
use super::status::Progress;
use super::timeout::Timeouts;
use crate::ids::{Index, NodeId, Term};

/// One replica's share in the agreement.
pub(super) struct Consensus {
    node: RawNode<Mirror>,
    timeouts: Timeouts,
    timeout: usize,
    drawn_for: (Term, StateRole),
    /// Ticks since followers were told of a checkpoint.
    sent_checkpoints: BTreeMap<u64, u32>,
    /// Ticks since the shell was asked for a checkpoint to offer.
    asked_for_checkpoint: Option<u32>,
    /// While leading: ticks since each member was heard.
    silent: BTreeMap<u64, u32>,
    silent_ticks_max: u32,
    retained_bytes_max: u64,
    /// Where the log of a former replica of this node ended: what it acknowledged, it was counted
    /// for, and the log that held it is gone.
    forgotten: LogPosition,
    /// A checkpoint on its way to the disk: the log begins after it, and what was executed does not
    /// reach it yet.
    installing: Option<Index>,
}

impl Consensus {
    pub(super) fn new(config: &ReplicaConfig, restored: Restored) -> Result<Self, ReplicaError> {
        let settings = settings(config, restored.truncated)?;
        let forgotten = restored.forgotten;
        let mirror = Mirror::restore(restored)?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&settings, mirror, &logger)
            .map_err(|error| ReplicaError::Config { reason: error.to_string() })?;
        let mut timeouts = Timeouts::new(config.seed, config.election_ticks.clone());
        let timeout = timeouts.draw();
        let drawn_for = (Term(node.raft.term), node.raft.state);
        let mut consensus = Consensus {
            node,
            timeouts,
            timeout,
            drawn_for,
            sent_checkpoints: BTreeMap::new(),
            asked_for_checkpoint: None,
            silent: BTreeMap::new(),
            silent_ticks_max: config.election_ticks.end,
            retained_bytes_max: config.retained_bytes_max,
            forgotten,
            installing: None,
        };
        consensus.overwrite_timeout();
        Ok(consensus)
    }

    /// Offers a command; gives the place its entry got, or nothing when there is no room.
    pub(super) fn propose(&mut self, command: Bytes) -> Option<LogPosition> {
        self.propose_entry(Entry { data: command, ..Entry::default() })
    }

    /// Offers a change to `members` through a joint configuration, which the leader leaves later by
    /// [`Consensus::leave_joint_when_due`].
    pub(super) fn propose_members(&mut self, members: &Members) -> Option<LogPosition> {
        self.propose_change(&change_to(members, &self.members()))
    }

    /// Leads out of a joint configuration. Asked after every step by whoever leads: the leader that
    /// led into it may be gone. One that will not be a voter hands over first: it would have to
    /// stop leading in the same moment, before anybody else knows that the change is done.
    pub(super) fn leave_joint_when_due(&mut self) {
        let raft = &self.node.raft;
        if self.settled() || raft.state != StateRole::Leader || raft.has_pending_conf() {
            return;
        }
        if raft.store().members.voters.contains(&raft.id) {
            self.propose_change(&ConfChangeV2::default());
        } else if raft.lead_transferee.is_none()
            && let Some(successor) = self.successor()
        {
            self.node.transfer_leader(successor);
        }
    }

    /// Hands leadership to another voter, unless that one would keep everybody waiting.
    pub(super) fn transfer(&mut self, to: NodeId) {
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader && self.is_near(to.0) {
            self.node.transfer_leader(to.0);
            self.overwrite_timeout();
        }
    }

    pub(super) fn receive(&mut self, from: NodeId, to: NodeId, mut message: PeerMessage) {
        if let Some(ticks) = self.silent.get_mut(&from.0) {
            *ticks = 0;
        }
        let ignored = match message.kind {
            MessageKind::Vote | MessageKind::PreVote => {
                let log = LogPosition { index: message.index, term: message.log_term };
                !reaches(log, self.forgotten)
            }
            MessageKind::TimeoutNow => !self.may_stand(),
            MessageKind::Append
            | MessageKind::AppendAnswer
            | MessageKind::VoteAnswer
            | MessageKind::PreVoteAnswer
            | MessageKind::Heartbeat
            | MessageKind::HeartbeatAnswer
            | MessageKind::Checkpoint => false,
        };
        if ignored {
            return;
        }
        // A leader that knew the former replica believes that its log is here. Of any other replica
        // that would be a broken promise, over which the library stops.
        if message.kind == MessageKind::Heartbeat && self.forgotten != LogPosition::default() {
            message.commit = message.commit.min(self.log().last().index);
        }
        // An error means that the sender is not in the group: its message is dropped.
        let _dropped = self.node.step(incoming(from, to, message));
        self.overwrite_timeout();
    }

    /// Whether a checkpoint at `position` brings nothing: everything up to there is committed here,
    /// or in the log and thereby known to be.
    pub(super) fn has(&self, position: LogPosition) -> bool {
        let log = &self.node.raft.raft_log;
        position.index.0 <= log.committed || log.match_term(position.index.0, position.term.0)
    }

    pub(super) fn tick(&mut self) {
        if !self.may_stand() {
            self.node.raft.election_elapsed = 0;
        }
        self.node.tick();
        self.give_up_checkpoints();
        self.asked_for_checkpoint = self
            .asked_for_checkpoint
            .map(|ticks| ticks + 1)
            .filter(|&it| it < CHECKPOINT_TICKS_MAX);
        self.count_silence();
        self.drop_covered();
        self.overwrite_timeout();
    }

    pub(super) fn campaign(&mut self) {
        if self.may_stand() {
            let _refused = self.node.campaign();
            self.overwrite_timeout();
        }
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
            self.installing = Some(checkpoint.position.index);
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
        self.installing.take_if(|installing| *installing <= index);
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.promotable() {
            raft.become_follower(raft.term, raft::INVALID_ID);
            self.overwrite_timeout();
        }
    }

    /// Executes a change of members. One that cannot be made is refused alike on every replica, so
    /// that leaving it out keeps them equal.
    pub(super) fn apply_members(&mut self, entry: &LogEntry) {
        let Some(change) = change_of(entry) else { return };
        if let Ok(members) = self.node.apply_conf_change(&change) {
            self.node.mut_store().members = members;
        }
        self.overwrite_timeout();
    }

    /// The log up to `through` is executed and covered by a durable checkpoint: it may go once
    /// nobody alive needs it, or when it becomes too large to wait for them.
    pub(super) fn truncate(&mut self, through: Index) {
        self.node.mut_store().log.cover(through);
        self.drop_covered();
    }

    /// Whether a follower needs a checkpoint, and the shell was not asked for one lately.
    pub(super) fn take_checkpoint_wanted(&mut self) -> bool {
        let wanted = self.node.store().wanted.take() && self.asked_for_checkpoint.is_none();
        if wanted {
            self.asked_for_checkpoint = Some(0);
        }
        wanted
    }

    /// Offers a checkpoint to followers that are behind the log. They hear of it with the next
    /// heartbeat.
    pub(super) fn offer(&mut self, checkpoint: Checkpoint) {
        self.asked_for_checkpoint = None;
        self.node.mut_store().offered = Some(Checkpoint { state: Bytes::new(), ..checkpoint });
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

    /// The members of the newer configuration.
    pub(super) fn members(&self) -> Members {
        members_of(&self.node.store().members)
    }

    /// The voters of the older configuration, while there are two.
    pub(super) fn outgoing_voters(&self) -> Vec<NodeId> {
        Members::of_voters(self.node.store().members.voters_outgoing.iter().copied().map(NodeId))
            .voters
    }

    /// Whether one plain configuration describes the group.
    pub(super) fn settled(&self) -> bool {
        self.node.store().members.voters_outgoing.is_empty()
    }

    /// Whether the leader would refuse a change of members now.
    pub(super) fn is_changing(&self) -> bool {
        self.node.raft.state == StateRole::Leader
            && (!self.settled() || self.node.raft.has_pending_conf())
    }

    /// How far the members are, as far as the leader knows.
    pub(super) fn progress(&self) -> Vec<Progress> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut all: Vec<Progress> = self
            .node
            .raft
            .prs()
            .iter()
            .map(|(&id, progress)| Progress {
                node: NodeId(id),
                matched: Index(progress.matched),
                active: self.is_alive(id),
            })
            .collect();
        all.sort_unstable_by_key(|progress| progress.node);
        all
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

    /// Whether this replica may stand for election, or leads: not without what its node once
    /// acknowledged, and not while it has a hole between what it executed and its log, in which
    /// the library would look for changes of members.
    fn may_stand(&self) -> bool {
        let whole = self.installing.is_none() && reaches(self.log().last(), self.forgotten);
        whole || self.node.raft.state == StateRole::Leader
    }

    fn is_alive(&self, id: u64) -> bool {
        let ticks = self.silent.get(&id).copied().unwrap_or_default();
        id == self.node.raft.id || ticks < self.silent_ticks_max
    }

    /// Whether a voter to be is alive and so close behind that it has the rest at once.
    fn is_near(&self, id: u64) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        raft.store().members.voters.contains(&id)
            && self.is_alive(id)
            && raft
                .prs()
                .get(id)
                .is_some_and(|it| it.matched != 0 && last <= it.matched + LAG_ENTRIES_MAX)
    }

    /// Who leads out of a joint configuration in place of this node: it must know that it is a
    /// voter, which it does once it knows that the change is committed.
    fn successor(&self) -> Option<u64> {
        let raft = &self.node.raft;
        let knows = |id: u64, change: u64| {
            raft.prs().get(id).is_some_and(|progress| change <= progress.committed_index)
        };
        let voters = raft.store().members.voters.iter().copied();
        let ready = voters.filter(|&id| self.is_near(id) && knows(id, raft.pending_conf_index));
        ready.min()
    }

    fn count_silence(&mut self) {
        let members = self.node.raft.prs();
        self.silent.retain(|&id, _| members.get(id).is_some());
        for (&id, _) in members.iter() {
            *self.silent.entry(id).or_default() += 1;
        }
    }

    fn drop_covered(&mut self) {
        let needed = self.needed();
        let bytes_max = self.retained_bytes_max;
        self.node.mut_store().log.drop_covered(needed, bytes_max);
    }

    /// The last entry that every member alive has, or gets with the checkpoint it fetches. Who does
    /// not lead serves nobody.
    fn needed(&self) -> Index {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Index(u64::MAX);
        }
        let others = raft.prs().iter().filter(|&(&id, _)| id != raft.id && self.is_alive(id));
        let having = others.map(|(_, progress)| match progress.state {
            ProgressState::Snapshot => progress.matched.max(progress.pending_snapshot),
            ProgressState::Probe | ProgressState::Replicate => progress.matched,
        });
        having.min().map_or(Index(u64::MAX), Index)
    }

    fn overwrite_timeout(&mut self) {
        let now = (Term(self.node.raft.term), self.node.raft.state);
        if self.drawn_for != now {
            self.drawn_for = now;
            // A new leader has heard nobody yet: everybody is taken to be alive for a while.
            self.silent.clear();
            self.timeout = self.timeouts.draw();
        }
        self.node.raft.set_randomized_election_timeout(self.timeout);
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

/// Whether a log that ends at `last` is at least as far as one that ended at `at`, in the sense of
/// elections: the later term counts first.
fn reaches(last: LogPosition, at: LogPosition) -> bool {
    (at.term, at.index) <= (last.term, last.index)
}
