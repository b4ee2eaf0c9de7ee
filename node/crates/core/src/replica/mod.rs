//! How commands become agreed: one replica of one Raft group.
//!
//! [`Replica::step`] takes what happened and says what to do; it touches no disk, socket or clock.
//! The shell sends `sends` at once, makes `writes` durable, and only then may release `held`. A
//! command is executed by the [`Machine`] once it is agreed and durable here; who proposed it gets
//! the outcome.
//!
//! Not here: what commands mean ([`crate::partition`], [`crate::meta`]), where bytes are kept (the
//! store), who the members of the cluster are (the meta group).
//!
//! Invariants: every request is answered exactly once. Nothing is acknowledged, voted or answered
//! before the writes it rests on are durable, in groups of one voter too. Entries are executed in
//! order, without gap. The log is cut only below an executed index.

mod config;
mod describe;
mod effects;
mod entry;
mod fetch;
#[cfg(test)]
mod fuzz;
mod input;
mod log;
mod machine;
mod members;
mod message;
mod outstanding;
mod pending;
mod promises;
mod raft;
mod reads;
mod round;
mod status;
mod steps;
mod timeout;

pub use config::{ReplicaConfig, ReplicaError};
pub use effects::{
    Applied, Durable, Effects, Fetch, Held, Reply, Role, RoleChange, Stopped, Writes,
};
pub use entry::{Checkpoint, EntryKind, Envelope, HardState, LogEntry, LogPosition, Restored};
pub use input::{Input, Persisted};
pub use machine::{CorruptCheckpoint, CorruptCommand, Machine};
pub use members::Members;
pub use message::InvalidMessage;
pub use status::{Progress, Status};
pub use steps::{Goal, Step, lets_go, next_step};

use bytes::Bytes;

use self::fetch::Fetching;
use self::message::{MessageKind, PeerMessage};
use self::outstanding::Outstanding;
use self::pending::Pending;
use self::promises::Promises;
use self::raft::Consensus;
use self::reads::Reads;
use self::round::Round;
use crate::ids::{GroupId, NodeId, RequestId};
use crate::invariant::{Invariant, hold};

/// One replica of one group.
pub struct Replica<M> {
    group: GroupId,
    node: NodeId,
    read_ticks_max: u32,
    machine: M,
    applied: LogPosition,
    consensus: Consensus,
    pending: Pending,
    reads: Reads,
    outstanding: Outstanding,
    fetching: Option<Fetching>,
    installing: Option<Installing<M>>,
    announced: RoleChange,
    promises: Promises,
    stopped: Option<Stopped>,
}

/// A checkpoint of the leader on its way to the disk.
struct Installing<M> {
    round: u64,
    position: LogPosition,
    machine: M,
}

impl<M: Machine> Replica<M> {
    /// A replica as the store found it. `machine` is the state at `restored.truncated`.
    ///
    /// # Errors
    /// [`ReplicaError`] when settings or stored state contradict themselves.
    pub fn new(
        config: ReplicaConfig,
        machine: M,
        restored: Restored,
    ) -> Result<Replica<M>, ReplicaError> {
        let applied = restored.truncated;
        let consensus = Consensus::new(&config, restored)?;
        let announced = consensus.role();
        Ok(Replica {
            group: config.group,
            node: config.node,
            read_ticks_max: config.election_ticks.start,
            machine,
            applied,
            consensus,
            pending: Pending::default(),
            reads: Reads::default(),
            outstanding: Outstanding::default(),
            fetching: None,
            installing: None,
            announced,
            promises: Promises::default(),
            stopped: None,
        })
    }

    /// Takes one thing that happened.
    pub fn step(&mut self, input: Input) -> Effects<M::Outcome> {
        self.step_all([input])
    }

    /// Takes several things that happened. Proposals taken together share writes and messages.
    pub fn step_all(&mut self, inputs: impl IntoIterator<Item = Input>) -> Effects<M::Outcome> {
        let mut effects = Effects::default();
        for input in inputs {
            if self.stopped.is_some() {
                input.refuse(&mut effects.replies);
            } else {
                self.accept(input, &mut effects);
            }
        }
        if self.stopped.is_none() {
            self.settle(&mut effects);
        }
        effects
    }

    /// The machine, as of the last executed entry.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// What can be seen from outside.
    #[must_use]
    pub fn status(&self) -> Status {
        let RoleChange { role, term, leader } = self.announced;
        let log = self.consensus.log();
        Status {
            role,
            term,
            leader,
            commit: self.consensus.commit(),
            applied: self.applied.index,
            last_index: log.last().index,
            first_index: log.truncated().index.next(),
            covered: log.covered(),
            changing: self.consensus.is_changing(),
            log_bytes: log.bytes(),
        }
    }

    /// The members, as of the last executed entry.
    #[must_use]
    pub fn members(&self) -> Members {
        self.consensus.members()
    }

    /// While voters change, those before: their majority counts too. Empty otherwise.
    #[must_use]
    pub fn outgoing_voters(&self) -> Vec<NodeId> {
        self.consensus.outgoing_voters()
    }

    /// How far the members are, by name; empty unless this replica leads.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.consensus.progress()
    }

    /// Whether a checkpoint can be taken: not while a change of members is half done, because a
    /// checkpoint names one set of voters.
    #[must_use]
    pub fn can_checkpoint(&self) -> bool {
        self.consensus.settled()
    }

    /// The state as of the last executed entry.
    ///
    /// # Panics
    /// When [`Replica::can_checkpoint`] says no.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        assert!(self.can_checkpoint(), "a checkpoint is not taken during a change of members");
        let members = self.members();
        Checkpoint { position: self.applied, members, state: self.machine.checkpoint() }
    }

    fn accept(&mut self, input: Input, effects: &mut Effects<M::Outcome>) {
        match input {
            Input::Propose { request, command } => self.propose(request, command, effects),
            Input::ReadIndex { request } => self.read(request, effects),
            Input::ChangeMembers { request, members } => self.change(request, &members, effects),
            Input::TransferLeader { to } => self.consensus.transfer(to),
            Input::OfferCheckpoint { checkpoint } => {
                let executed = checkpoint.position <= self.applied;
                hold(Invariant::TruncatedBelowCheckpoint, executed);
                self.consensus.offer(checkpoint);
            }
            Input::Fetched { checkpoint } => self.fetched(checkpoint),
            Input::FetchFailed => self.fetching = None,
            Input::Message(envelope) => self.receive(envelope, effects),
            Input::Persisted(persisted) => self.persisted(&persisted, effects),
            Input::Tick => {
                self.consensus.tick();
                self.reads.tick(self.read_ticks_max);
            }
            Input::Campaign => self.consensus.campaign(),
            Input::Truncate { through } => {
                hold(Invariant::TruncatedBelowCheckpoint, through <= self.applied.index);
                self.consensus.truncate(through);
            }
            Input::Unreachable { node } => self.consensus.unreachable(node),
        }
    }

    fn propose(&mut self, request: RequestId, command: Bytes, effects: &mut Effects<M::Outcome>) {
        assert!(!command.is_empty(), "a command has bytes: an empty entry is Raft's own");
        let now = self.announce(effects);
        if now.role != Role::Leader {
            effects.replies.push(Reply::NotOwner { request, owner: now.leader });
            return;
        }
        match self.consensus.propose(command) {
            Some(position) => self.pending.push(position, request),
            None => effects.replies.push(Reply::Busy { request }),
        }
    }

    fn read(&mut self, request: RequestId, effects: &mut Effects<M::Outcome>) {
        let now = self.announce(effects);
        if now.role == Role::Leader {
            self.reads.push(request);
        } else {
            effects.replies.push(Reply::NotOwner { request, owner: now.leader });
        }
    }

    fn change(&mut self, request: RequestId, to: &Members, effects: &mut Effects<M::Outcome>) {
        assert!(to.make_a_group(), "a group has one voter or at least three: {to:?}");
        let now = self.announce(effects);
        if now.role != Role::Leader {
            effects.replies.push(Reply::NotOwner { request, owner: now.leader });
            return;
        }
        match self.consensus.propose_members(to) {
            Some(position) => self.pending.push(position, request),
            None => effects.replies.push(Reply::Busy { request }),
        }
    }

    fn receive(&mut self, envelope: Envelope, effects: &mut Effects<M::Outcome>) {
        let Envelope { group, from, to, bytes } = envelope;
        let message = if group != self.group || to != self.node || from == self.node {
            Err("addressed to another replica")
        } else {
            PeerMessage::decode(&bytes)
        };
        let message = match message {
            Ok(message) => message,
            Err(reason) => {
                effects.refused.push(InvalidMessage { from, reason });
                return;
            }
        };
        // Requests for votes wait for the writes before them, so an answer that comes while writes
        // are outstanding belongs to an earlier election. Counting it could elect a leader whose
        // own log is not durable.
        let vote = matches!(message.kind, MessageKind::VoteAnswer | MessageKind::PreVoteAnswer);
        if vote && !message.reject && !self.outstanding.is_empty() {
            return;
        }
        if message.kind == MessageKind::Checkpoint {
            self.behind(from, message, effects);
        } else {
            self.consensus.receive(from, to, message);
        }
    }

    fn persisted(&mut self, persisted: &Persisted, effects: &mut Effects<M::Outcome>) {
        hold(Invariant::ProofMatchesWrites, persisted.group == self.group);
        let Some((round, envelopes)) = self.outstanding.finish(persisted.step) else { return };
        self.consensus.persisted(round);
        self.promises.persisted(round);
        effects.sends.extend(envelopes);
        if let Some(done) = self.installing.take_if(|installing| installing.round <= round) {
            self.machine = done.machine;
            self.advance(done.position);
            self.consensus.applied_to(done.position.index);
            effects.installed = Some(done.position);
        }
    }

    /// Carries out rounds until nothing is left to do.
    fn settle(&mut self, effects: &mut Effects<M::Outcome>) {
        loop {
            self.begin_reads();
            self.consensus.leave_joint_when_due();
            let Some(round) = self.consensus.next_round() else { break };
            self.carry_out(round, effects);
            if self.stopped.is_some() {
                return;
            }
        }
        self.reads.answer(self.applied.index, &mut effects.replies);
        self.announce(effects);
        if let Some(writes) = &effects.writes {
            effects.held.group = self.group;
            effects.held.step = writes.step;
            self.outstanding.push(writes.step);
        }
        effects.checkpoint_wanted |= self.consensus.take_checkpoint_wanted();
    }

    fn begin_reads(&mut self) {
        if !self.reads.wants_attempt() || !self.consensus.may_read() {
            return;
        }
        let context = self.reads.begin(self.consensus.role().term);
        if self.consensus.alone() {
            self.reads.confirm(context, self.consensus.commit());
        } else {
            self.consensus.read_index(context);
        }
    }

    fn carry_out(&mut self, round: Round, effects: &mut Effects<M::Outcome>) {
        // Who does not lead any more answers no read, whatever was confirmed in the same round.
        if self.consensus.role().role != Role::Leader {
            self.reads.refuse_all(self.consensus.role().leader, &mut effects.replies);
        }
        for (context, index) in round.reads {
            self.reads.confirm(context, index);
        }
        let number = round.number;
        if let Some(state) = round.hard_state {
            self.promises.written(number, state.term);
        }
        let sent: Vec<Envelope> =
            round.send.iter().map(|(to, message)| self.envelope(*to, message)).collect();
        let mut held = Vec::new();
        if self.promises.term_is_durable() { &mut effects.sends } else { &mut held }.extend(sent);
        if let Some(checkpoint) = &round.install {
            match M::restore(&checkpoint.state) {
                Ok(machine) => {
                    let position = checkpoint.position;
                    self.installing = Some(Installing { round: number, position, machine });
                }
                Err(source) => {
                    let index = checkpoint.position.index;
                    self.stop(Stopped::CorruptCheckpoint { index, source }, effects);
                    return;
                }
            }
        }
        let waiting = round.send_when_durable;
        held.extend(waiting.iter().map(|(to, message)| self.envelope(*to, message)));
        let writes = round.install.is_some()
            || round.hard_state.is_some()
            || !round.entries.is_empty()
            || effects.writes.is_some();
        if writes {
            self.add_writes(number, round.install, round.hard_state, round.entries, effects);
            effects.held.envelopes.extend(held);
        } else if let Some(free) = self.outstanding.wait(number, held) {
            self.consensus.persisted(number);
            self.promises.persisted(number);
            effects.sends.extend(free);
        }
        self.execute(round.committed, effects);
    }

    /// Adds a round's writes to those of the step: rounds of one step follow each other.
    fn add_writes(
        &mut self,
        number: u64,
        install: Option<Checkpoint>,
        hard_state: Option<HardState>,
        entries: Vec<LogEntry>,
        effects: &mut Effects<M::Outcome>,
    ) {
        let writes = effects.writes.get_or_insert_with(|| Writes {
            group: self.group,
            step: number,
            install: None,
            hard_state: None,
            entries: Vec::new(),
            must_sync: true,
        });
        writes.step = number;
        if install.is_some() {
            hold(Invariant::AppliedInOrder, writes.entries.is_empty());
            writes.install = install;
        }
        writes.hard_state = hard_state.or(writes.hard_state);
        if let (Some(last), Some(first)) = (writes.entries.last(), entries.first()) {
            hold(Invariant::AppliedInOrder, first.index == last.index.next());
        }
        if writes.entries.is_empty() {
            writes.entries = entries;
        } else {
            writes.entries.extend(entries);
        }
    }

    fn execute(&mut self, committed: Vec<LogEntry>, effects: &mut Effects<M::Outcome>) {
        if committed.is_empty() {
            return;
        }
        for entry in committed {
            if let Err(stopped) = self.execute_one(&entry, effects) {
                self.stop(stopped, effects);
                return;
            }
        }
        self.consensus.applied_to(self.applied.index);
    }

    fn execute_one(
        &mut self,
        entry: &LogEntry,
        effects: &mut Effects<M::Outcome>,
    ) -> Result<(), Stopped> {
        let LogEntry { index, term, .. } = *entry;
        hold(Invariant::AppliedInOrder, index == self.applied.index.next());
        let request = self.pending.take(entry.position(), &mut effects.replies);
        match entry.kind {
            // A change of members that came at a bad time was made empty by Raft.
            EntryKind::Normal if entry.data.is_empty() => {
                effects.replies.extend(request.map(|request| Reply::Busy { request }));
            }
            EntryKind::Normal => match self.machine.apply(index, &entry.data) {
                Ok(outcome) => effects.applied.push(Applied { index, term, request, outcome }),
                Err(source) => {
                    effects.replies.extend(request.map(|request| Reply::Lost { request }));
                    return Err(Stopped::CorruptEntry { index, source });
                }
            },
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                self.consensus.apply_members(entry);
                effects.replies.extend(request.map(|request| Reply::MembersChanged { request }));
            }
        }
        self.advance(entry.position());
        Ok(())
    }

    fn advance(&mut self, to: LogPosition) {
        hold(Invariant::ProgressNeverGoesBack, self.applied <= to);
        self.applied = to;
    }

    /// Notices a change of role. Whoever waited under the former term gets no certain answer any
    /// more.
    fn announce(&mut self, effects: &mut Effects<M::Outcome>) -> RoleChange {
        let now = self.consensus.role();
        if now == self.announced {
            return now;
        }
        let led_on = now.role == Role::Leader && now.term == self.announced.term;
        hold(Invariant::ProgressNeverGoesBack, self.announced.term <= now.term);
        if !led_on {
            self.pending.lose_all(&mut effects.replies);
            self.reads.refuse_all(now.leader, &mut effects.replies);
        }
        self.announced = now;
        effects.role_changed = Some(now);
        now
    }

    fn stop(&mut self, stopped: Stopped, effects: &mut Effects<M::Outcome>) {
        self.pending.lose_all(&mut effects.replies);
        self.reads.refuse_all(None, &mut effects.replies);
        effects.sends.clear();
        effects.writes = None;
        effects.held = Held::default();
        self.announced = RoleChange { role: Role::Follower, leader: None, ..self.announced };
        effects.role_changed = Some(self.announced);
        effects.stopped = Some(stopped.clone());
        self.stopped = Some(stopped);
    }

    fn envelope(&self, to: NodeId, message: &PeerMessage) -> Envelope {
        Envelope { group: self.group, from: self.node, to, bytes: message.encode() }
    }
}
