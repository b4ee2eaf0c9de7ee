//! What a node does with its replica: the same that the real shell does, on simulated parts.
//!
//! Sends at once, makes writes durable in order, and only then releases what waited for them. The
//! mutants of this file are the ways to get that wrong.

use alluvium_core::ids::NodeId;
use alluvium_core::invariant::Invariant;
use alluvium_core::partition::Outcome;
use alluvium_core::replica::{
    Applied, Effects, Envelope, Held, Input, LogEntry, LogPosition, Replica, Reply, Role, Writes,
};

use crate::coverage::Event;
use crate::disk::{LogWrite, Op, Sync, Then};
use crate::faults::Write;
use crate::machine::Witnessed;
use crate::mutant::Mutant;
use crate::plan::SECOND;
use crate::violation::{Violation, ensure};
use crate::world::{Happening, World};

impl World {
    /// A tick. After a pause there is one, however many were missed: a node that was away must not
    /// think that it heard nothing all that time.
    pub(crate) fn tick(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Tick(id, boot));
            return Ok(());
        }
        let tick = self.node(id).tick;
        self.after(tick, Happening::Tick(id, boot));
        self.feed(id, Input::Tick)?;
        self.drive(id)
    }

    /// A message arrives. One that was under way when its link was cut may be lost, or stay in some
    /// queue for long and arrive all the same.
    pub(crate) fn arrive(&mut self, envelope: Envelope) -> Result<(), Violation> {
        if !self.blocked.contains(&(envelope.from, envelope.to)) {
            return self.deliver(envelope);
        }
        if self.chance.coin() {
            self.coverage.count(Event::MessageHeldUp);
            // The worst moment is when a node that paused goes on.
            let (from, most) = match self.paused(envelope.to) {
                Some(until) => (until, SECOND),
                None => (self.now, 4 * SECOND),
            };
            let late = self.chance.between(0, most);
            self.at(from + late, Happening::HeldUp(envelope));
        }
        Ok(())
    }

    /// A message is there.
    pub(crate) fn deliver(&mut self, envelope: Envelope) -> Result<(), Violation> {
        let to = envelope.to;
        if let Some(until) = self.paused(to) {
            self.at(until, Happening::HeldUp(envelope));
            return Ok(());
        }
        if self.node(to).replica.is_some() {
            self.trace.line(self.now, format_args!("{envelope}"));
        }
        let envelope = self.misread(envelope);
        self.feed(to, Input::Message(envelope))
    }

    /// Gives an input to a node's replica, unless it is down, and does what comes back. In some
    /// runs inputs wait for each other and are taken together, as from a mailbox.
    pub(crate) fn feed(&mut self, id: NodeId, input: Input) -> Result<(), Violation> {
        let drain = self.plan.drain;
        let node = self.node(id);
        let Some(replica) = &mut node.replica else { return Ok(()) };
        if drain == 0 {
            let effects = replica.step(input);
            return self.perform(id, effects);
        }
        node.inbox.push(input);
        if node.inbox.len() == 1 {
            let boot = node.boot;
            let delay = self.chance.between(0, drain);
            self.after(delay, Happening::Drain(id, boot));
        }
        Ok(())
    }

    /// A node takes what waits in its mailbox.
    pub(crate) fn drain(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Drain(id, boot));
            return Ok(());
        }
        let node = self.node(id);
        let inputs = std::mem::take(&mut node.inbox);
        if 1 < inputs.len() {
            self.coverage.count(Event::InputsTogether);
        }
        let Some(replica) = &mut self.node(id).replica else { return Ok(()) };
        let effects = replica.step_all(inputs);
        self.perform(id, effects)
    }

    /// A node hears that its messages to another one do not get through.
    pub(crate) fn cut_off(&mut self, id: NodeId, node: NodeId) -> Result<(), Violation> {
        self.coverage.count(Event::Unreachable);
        self.feed(id, Input::Unreachable { node })
    }

    fn perform(&mut self, id: NodeId, effects: Effects<Outcome>) -> Result<(), Violation> {
        let Effects { sends, writes, held, applied, replies, .. } = effects;
        if let Some(stopped) = effects.stopped {
            return Err(Violation::panic(format!("{id} stopped: {stopped}")));
        }
        if let Some(refused) = effects.refused.first() {
            return Err(Violation::panic(format!("{id}: {refused}")));
        }
        if let Some(change) = effects.role_changed {
            self.trace.line(self.now, format_args!("{id} {:?} {}", change.role, change.term));
            if change.role == Role::Leader {
                self.coverage.count(Event::LeaderElected);
                if self.handed_to.take() == Some(id) {
                    self.coverage.count(Event::TransferDone);
                }
                let World { oracle, nodes, .. } = self;
                let place = usize::try_from(id.0 - 1).expect("a small number");
                oracle.leads(id, change.term, &nodes[place].disk.stored)?;
            }
        }
        if let Some(position) = effects.installed {
            self.installed(id, position)?;
        }
        self.see_configuration(id)?;
        self.applied(id, applied)?;
        for reply in replies {
            self.reply(id, &reply)?;
        }
        self.send(sends);
        if let Some(fetch) = effects.fetch {
            self.begin_fetch(id, fetch);
        }
        let boot = self.node(id).boot;
        match writes {
            Some(writes) => self.write(id, writes, held)?,
            None => ensure(Invariant::ProofMatchesWrites, held.is_empty(), || {
                format!("{id} holds envelopes without writes")
            })?,
        }
        if effects.checkpoint_wanted && self.node(id).boot == boot {
            self.offer(id)?;
        }
        Ok(())
    }

    fn installed(&mut self, id: NodeId, at: LogPosition) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} installed checkpoint {at}"));
        self.coverage.count(Event::CheckpointInstalled);
        let node = self.node(id);
        node.witnessed = 0;
        let state = replica(node.replica.as_ref()).machine().state();
        self.oracle.installed(id, at, state)
    }

    /// Shows the oracle what a replica executed, then tells whoever waited for it.
    fn applied(&mut self, id: NodeId, applied: Vec<Applied<Outcome>>) -> Result<(), Violation> {
        if applied.is_empty() {
            return Ok(());
        }
        let node = self.node(id);
        let machine = replica(node.replica.as_ref()).machine();
        let term = replica(node.replica.as_ref()).status().term;
        let steps = machine.steps()[node.witnessed..].to_vec();
        node.witnessed += steps.len();
        let same = steps.len() == applied.len();
        ensure(Invariant::AppliedInOrder, same, || format!("{id} told less than it did"))?;
        for (one, (index, state)) in applied.into_iter().zip(steps) {
            let at = LogPosition { index: one.index, term: one.term };
            ensure(Invariant::AppliedInOrder, index == one.index, || format!("{id} at {at}"))?;
            if self.oracle.executed(id, at, term, state)? {
                self.trace.line(self.now, format_args!("{id} first to execute {at}"));
                self.durable_on_majority(id, at)?;
                if let Outcome::Appended(appended) = &one.outcome {
                    self.oracle.appended(appended)?;
                }
            }
            if let Some(request) = one.request {
                self.done(id, request, one.outcome)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, id: NodeId, reply: &Reply) -> Result<(), Violation> {
        match reply {
            Reply::NotOwner { request, owner } => {
                self.coverage.count(Event::NotOwner);
                self.refused(id, *request, *owner)
            }
            Reply::Busy { request } => self.undone(id, *request),
            Reply::Lost { request } => {
                self.coverage.count(Event::ProposalLost);
                self.undone(id, *request)
            }
            Reply::ReadReady { request, .. } => self.read_ready(id, *request),
            Reply::MembersChanged { request } => self.members_changed(id, *request),
        }
    }

    fn write(&mut self, id: NodeId, writes: Writes, held: Held) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} writes {writes}"));
        let write = LogWrite::of(&writes);
        let only_vote = write.only_vote();
        let hasty = match self.mutant {
            Some(Mutant::AckBeforeSync) => true,
            Some(Mutant::VoteNotSynced) => only_vote,
            Some(
                Mutant::DuplicateNotRecognised
                | Mutant::TruncateTooEarly
                | Mutant::LearnerCounted
                | Mutant::ReadContextReused
                | Mutant::PositionApart
                | Mutant::CheckpointWithoutMembers
                | Mutant::LeaveJointSkipped
                | Mutant::RemovedLogForgotten,
            )
            | None => false,
        };
        let sync = if only_vote && self.mutant == Some(Mutant::VoteNotSynced) {
            Sync::Skipped
        } else {
            Sync::Wanted
        };
        if hasty {
            self.promise(id, &writes)?;
            self.node(id).disk.write(Op::Log(write), Then::Nothing, sync);
            self.begin_sync(id);
            let boot = self.node(id).boot;
            self.release(id, writes, held)?;
            if self.node(id).boot != boot {
                return Ok(());
            }
        } else {
            self.node(id).disk.write(Op::Log(write), Then::Release(Box::new(writes), held), sync);
            self.begin_sync(id);
        }
        self.crash_at(id, if only_vote { Write::Vote } else { Write::Entries })
    }

    /// Begins a sync when one is wanted and none is under way.
    pub(crate) fn begin_sync(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.disk.begin_sync() {
            return;
        }
        let boot = node.boot;
        let full_until = node.full_until;
        let stalled = if self.plan.full_stalls { full_until } else { 0 };
        let mut time = self.chance.around(self.plan.sync) + stalled.saturating_sub(self.now);
        if !self.calm && self.chance.per_mille(self.plan.slow_sync) {
            self.coverage.count(Event::SlowSync);
            time += self.chance.between(SECOND / 20, 2 * SECOND);
        }
        self.after(time, Happening::Synced(id, boot));
    }

    /// A sync is done: what waited for it may go.
    pub(crate) fn synced(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Synced(id, boot));
            return Ok(());
        }
        let (told, replaced) = self.node(id).disk.finish_sync();
        self.coverage.add(Event::EntryOverwritten, replaced as u64);
        let World { oracle, nodes, .. } = self;
        let place = usize::try_from(id.0 - 1).expect("a small number");
        oracle.synced(id, &nodes[place].disk.stored)?;
        for then in told {
            if self.node(id).boot != boot {
                return Ok(());
            }
            match then {
                Then::Release(writes, held) => {
                    self.kept(&writes.entries)?;
                    self.promise(id, &writes)?;
                    self.release(id, *writes, held)?;
                }
                Then::Truncate(through) => {
                    self.coverage.count(Event::Truncation);
                    self.feed(id, Input::Truncate { through })?;
                    if std::mem::take(&mut self.node(id).offers) {
                        self.offer_stored(id)?;
                    }
                }
                Then::Nothing => {}
            }
        }
        if self.node(id).boot == boot {
            self.begin_sync(id);
        }
        Ok(())
    }

    /// Entries are on a disk.
    pub(crate) fn kept<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a LogEntry>,
    ) -> Result<(), Violation> {
        let joint_matters = self.mutant != Some(Mutant::LeaveJointSkipped);
        self.oracle.kept(entries, joint_matters)
    }

    fn promise(&mut self, id: NodeId, writes: &Writes) -> Result<(), Violation> {
        match writes.hard_state {
            Some(state) => self.oracle.promised(id, state),
            None => Ok(()),
        }
    }

    fn release(&mut self, id: NodeId, writes: Writes, held: Held) -> Result<(), Violation> {
        let (envelopes, persisted) = held.release(writes.into_durable());
        self.send(envelopes);
        self.feed(id, Input::Persisted(persisted))
    }
}

/// The replica of a node that is up.
pub(crate) fn replica(replica: Option<&Replica<Witnessed>>) -> &Replica<Witnessed> {
    replica.expect("the node is up: its boot is the one that was asked for")
}
