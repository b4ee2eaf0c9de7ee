//! What a node does with its replicas: the same that the real shell does, on simulated parts.
//!
//! Sends at once, makes writes of all groups durable in order, and only then releases what waited
//! for them.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::invariant::Invariant;
use alluvium_core::partition::Outcome;
use alluvium_core::replica::{
    Applied, Effects, Held, Input, LogPosition, Machine as _, Members, Replica, ReplicaConfig,
    Reply, Role, RoleChange, Writes,
};

use super::faults::Write;
use super::hosted::{Done, Hosted};
use super::node::Slot;
use super::{Cluster, Group, Happening, TICK, Twist};
use crate::coverage::Event;
use crate::disk::{LogWrite, Op, Then};
use crate::oracle::Oracle;
use crate::plan::SECOND;
use crate::quorum::founded;
use crate::violation::{Violation, ensure};

impl Cluster {
    /// Starts a node's process: its clocks and its replica of the meta group.
    pub(super) fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let skew = self.chance.between(0, self.plan.skew + 1);
        let drift = TICK * self.chance.between(0, 2 * self.plan.drift + 1) / 1000;
        let first = self.chance.between(0, TICK);
        let node = self.node(id);
        node.up = true;
        node.skew = skew;
        node.tick = TICK + drift - drift / 2;
        let boot = node.boot;
        self.after(first, Happening::Tick(id, boot));
        self.after(first, Happening::Beat(id, boot));
        self.start_replica(id, GroupId::META, vec![NodeId(1)])
    }

    /// Starts a replica from what is on the disk, or a fresh one.
    pub(super) fn start_replica(
        &mut self,
        id: NodeId,
        group: GroupId,
        initial: Vec<NodeId>,
    ) -> Result<(), Violation> {
        let forgetful = self.twist == Some(Twist::DuplicateNotRecognised);
        let overlooks = self.twist == Some(Twist::MovedOverlooked) && id.0.is_multiple_of(2);
        let (seed, number) = (self.chance.seed(), self.number());
        let configurations = founded(&initial);
        let oracle = Oracle::default();
        self.groups.entry(group).or_insert(Group { oracle, configurations, told: 0, read_end: 0 });
        let retained_bytes_max = self.plan.retained;
        let node = self.node(id);
        let known = node.disk.groups.contains_key(&group);
        let blank = Hosted::blank(group, forgetful);
        let again = node.disk.create(group, Members::of_voters(initial), blank);
        let stored = node.disk.of(group);
        let refused = |error: &dyn std::fmt::Display| Violation::panic(format!("{id}: {error}"));
        let mut machine = Hosted::restore(&stored.state).map_err(|error| refused(&error))?;
        if let Hosted::Catalogue(catalogue) = &mut machine {
            catalogue.overlooks_moves = overlooks;
        }
        let mut config = ReplicaConfig::new(group, id, seed);
        config.retained_bytes_max = retained_bytes_max;
        let replica =
            Replica::new(config, machine, stored.restored()).map_err(|error| refused(&error))?;
        let members = replica.members();
        let slot = Slot {
            replica,
            number,
            gathered: Vec::new(),
            fetch: None,
            offers: false,
            witnessed: 0,
            told: 0,
            asks: 0,
            has_led: false,
        };
        node.slots.insert(group, slot);
        let shall = node.meta().and_then(|meta| meta.placement(group)).map(|it| it.leader);
        if !known && group != GroupId::META {
            self.coverage.count(if again { Event::ReplicaBack } else { Event::ReplicaAdded });
        }
        self.trace.line(self.now, format_args!("{id} starts {group} among {members:?}"));
        let checkpoint = self.chance.around(self.plan.checkpoint_every);
        self.after(checkpoint, Happening::Checkpoint(id, group, number));
        // The only voter leads at once, and so does the one that shall own the partition; else
        // Raft's own timeouts decide.
        if members.voters == [id] || group != GroupId::META && shall == Some(id) {
            return self.feed(id, group, Input::Campaign);
        }
        Ok(())
    }

    /// A tick. After a pause there is one, however many were missed.
    pub(super) fn tick(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if !self.running(id, boot) {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Tick(id, boot));
            return Ok(());
        }
        let node = self.node(id);
        let (tick, groups) = (node.tick, node.groups());
        self.after(tick, Happening::Tick(id, boot));
        for group in groups {
            self.feed(id, group, Input::Tick)?;
            if !self.running(id, boot) {
                return Ok(());
            }
            if group == GroupId::META {
                self.ask_where(id)?;
                self.lead(id)?;
            } else {
                self.keep_place(id, group)?;
                self.consider_removal(id, group)?;
            }
            if !self.running(id, boot) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives an input to a node's replica, unless it does not run, and does what comes back.
    pub(super) fn feed(
        &mut self,
        id: NodeId,
        group: GroupId,
        input: Input,
    ) -> Result<(), Violation> {
        let Some(slot) = self.node(id).slots.get_mut(&group) else { return Ok(()) };
        let effects = slot.replica.step(input);
        self.perform(id, group, effects)
    }

    fn perform(
        &mut self,
        id: NodeId,
        group: GroupId,
        effects: Effects<Done>,
    ) -> Result<(), Violation> {
        let Effects { sends, writes, held, applied, replies, .. } = effects;
        if let Some(stopped) = effects.stopped {
            return Err(Violation::panic(format!("{id} {group} stopped: {stopped}")));
        }
        if let Some(refused) = effects.refused.first() {
            return Err(Violation::panic(format!("{id} {group}: {refused}")));
        }
        let boot = self.node(id).boot;
        if let Some(change) = effects.role_changed {
            self.role_changed(id, group, change)?;
        }
        if let Some(position) = effects.installed {
            self.installed(id, group, position)?;
        }
        self.see_configuration(id, group)?;
        let news = effects.installed.is_some() || !applied.is_empty();
        self.applied(id, group, applied)?;
        for reply in replies {
            self.reply(id, group, &reply)?;
        }
        self.send(sends);
        if let Some(fetch) = effects.fetch {
            self.begin_fetch(id, group, fetch);
        }
        match writes {
            Some(writes) => self.write(id, group, writes, held)?,
            None => ensure(Invariant::ProofMatchesWrites, held.is_empty(), || {
                format!("{id} holds envelopes without writes")
            })?,
        }
        if effects.checkpoint_wanted && self.running(id, boot) {
            self.offer(id, group)?;
        }
        if news && self.running(id, boot) {
            if group == GroupId::META {
                self.catalogue_news(id)?;
            } else {
                self.answer_reads(id, group)?;
            }
        }
        Ok(())
    }

    fn role_changed(
        &mut self,
        id: NodeId,
        group: GroupId,
        change: RoleChange,
    ) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} {group} {:?} {}", change.role, change.term));
        if let Some(leader) = change.leader {
            self.node(id).owners.insert(group, leader);
        }
        if change.role != Role::Leader {
            return Ok(());
        }
        self.coverage.count(Event::LeaderElected);
        if self.handed.get(&group) == Some(&id) {
            self.handed.remove(&group);
            self.coverage.count(Event::TransferDone);
        }
        if let Some(slot) = self.node(id).slots.get_mut(&group) {
            slot.has_led = true;
        }
        let Cluster { groups, nodes, .. } = self;
        let oracle = &mut groups.get_mut(&group).expect("it has a replica").oracle;
        oracle.leads(id, change.term, nodes[&id].disk.of(group))
    }

    fn installed(&mut self, id: NodeId, group: GroupId, at: LogPosition) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} {group} installed checkpoint {at}"));
        self.coverage.count(Event::CheckpointInstalled);
        if group == GroupId::META {
            self.coverage.count(Event::CatalogueInstalled);
        }
        let slot = self.node(id).slots.get_mut(&group).expect("it just took a step");
        slot.witnessed = 0;
        let state = slot.replica.machine().state();
        self.group(group).oracle.installed(id, at, state)
    }

    /// Shows the oracle what a replica executed, then tells whoever waited for it.
    fn applied(
        &mut self,
        id: NodeId,
        group: GroupId,
        applied: Vec<Applied<Done>>,
    ) -> Result<(), Violation> {
        if applied.is_empty() {
            return Ok(());
        }
        let slot = self.node(id).slots.get_mut(&group).expect("it just took a step");
        let term = slot.replica.status().term;
        let steps = slot.replica.machine().steps()[slot.witnessed..].to_vec();
        slot.witnessed += steps.len();
        let same = steps.len() == applied.len();
        ensure(Invariant::AppliedInOrder, same, || format!("{id} told less than it did"))?;
        for (one, (index, state)) in applied.into_iter().zip(steps) {
            let at = LogPosition { index: one.index, term: one.term };
            ensure(Invariant::AppliedInOrder, index == one.index, || format!("{id} at {at}"))?;
            if self.group(group).oracle.executed(id, at, term, state)? {
                self.trace.line(self.now, format_args!("{id} {group} first to execute {at}"));
                self.durable_on_majority(id, group, at)?;
                match &one.outcome {
                    Done::Partition(Outcome::Appended(appended)) => {
                        self.group(group).oracle.appended(appended)?;
                    }
                    Done::Partition(_) => {}
                    Done::Catalogue(outcome) => self.agreed(id, outcome)?,
                }
            }
            if let Some(request) = one.request {
                self.done(id, group, request, one.outcome)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, id: NodeId, group: GroupId, reply: &Reply) -> Result<(), Violation> {
        match reply {
            Reply::NotOwner { request, owner } => {
                self.coverage.count(Event::NotOwner);
                self.refused(id, group, *request, *owner)
            }
            Reply::Busy { request } => self.undone(id, group, *request),
            Reply::Lost { request } => {
                self.coverage.count(Event::ProposalLost);
                self.undone(id, group, *request)
            }
            Reply::ReadReady { request, index } => self.read_ready(id, group, *request, *index),
            Reply::MembersChanged { request } => self.members_changed(id, *request),
        }
    }

    fn write(
        &mut self,
        id: NodeId,
        group: GroupId,
        writes: Writes,
        held: Held,
    ) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} {group} writes {writes}"));
        let write = LogWrite::of(&writes);
        let boot = self.node(id).boot;
        if self.twist == Some(Twist::AckBeforeSync) {
            self.promise(id, group, &writes)?;
            self.node(id).disk.write(group, Op::Log(write), Then::Nothing);
            self.begin_sync(id);
            self.release(id, group, writes, held)?;
        } else {
            let then = Then::Release(Box::new(writes), held);
            self.node(id).disk.write(group, Op::Log(write), then);
            self.begin_sync(id);
        }
        if self.running(id, boot) { self.crash_at(id, Write::Entries) } else { Ok(()) }
    }

    /// Begins a sync when there is something to sync and none is under way.
    pub(super) fn begin_sync(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.disk.begin_sync() {
            return;
        }
        let (boot, full_until) = (node.boot, node.full_until);
        let stalled = if self.plan.full_stalls { full_until } else { 0 };
        let mut time = self.chance.around(self.plan.sync) + stalled.saturating_sub(self.now);
        if !self.calm && self.chance.per_mille(self.plan.slow_sync) {
            self.coverage.count(Event::SlowSync);
            time += self.chance.between(SECOND / 20, 2 * SECOND);
        }
        self.after(time, Happening::Synced(id, boot));
    }

    /// A sync is done: what waited for it may go.
    pub(super) fn synced(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if !self.running(id, boot) {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Synced(id, boot));
            return Ok(());
        }
        let (told, replaced) = self.node(id).disk.finish_sync();
        self.coverage.add(Event::EntryOverwritten, replaced as u64);
        for (group, then) in told {
            if !self.running(id, boot) {
                return Ok(());
            }
            // It may have been removed by what came before it.
            if self.node(id).slots.contains_key(&group) {
                self.written(id, group, then)?;
            }
        }
        if self.running(id, boot) {
            self.begin_sync(id);
        }
        Ok(())
    }

    fn written(&mut self, id: NodeId, group: GroupId, then: Then) -> Result<(), Violation> {
        let Cluster { groups, nodes, .. } = self;
        let oracle = &mut groups.get_mut(&group).expect("it has a replica").oracle;
        oracle.synced(id, nodes[&id].disk.of(group))?;
        match then {
            Then::Release(writes, held) => {
                oracle.kept(&writes.entries, true)?;
                self.promise(id, group, &writes)?;
                self.release(id, group, *writes, held)
            }
            Then::Truncate(through) => {
                self.coverage.count(Event::Truncation);
                self.feed(id, group, Input::Truncate { through })?;
                let slot = self.node(id).slots.get_mut(&group);
                if slot.is_some_and(|slot| std::mem::take(&mut slot.offers)) {
                    return self.offer_stored(id, group);
                }
                Ok(())
            }
            Then::Nothing => Ok(()),
        }
    }

    fn promise(&mut self, id: NodeId, group: GroupId, writes: &Writes) -> Result<(), Violation> {
        match writes.hard_state {
            Some(state) => self.group(group).oracle.promised(id, state),
            None => Ok(()),
        }
    }

    fn release(
        &mut self,
        id: NodeId,
        group: GroupId,
        writes: Writes,
        held: Held,
    ) -> Result<(), Violation> {
        let (envelopes, persisted) = held.release(writes.into_durable());
        self.send(envelopes);
        self.feed(id, group, Input::Persisted(persisted))
    }
}
