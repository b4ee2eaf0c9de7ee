//! What goes from node to node: messages of replicas, and what nodes say to each other beside them.

use alluvium_core::ids::{GroupId, Index, NodeId, Term};
use alluvium_core::meta::{MetaOutcome, NodeReport};
use alluvium_core::replica::{Envelope, Input};

use super::node::Change;
use super::{Cluster, Happening};
use crate::coverage::Event;
use crate::load::Ask;
use crate::plan::SECOND;
use crate::shapes::Shape;
use crate::violation::Violation;

/// What a node says to another one.
#[derive(Clone, Debug)]
pub enum Word {
    /// It lives, and how it is.
    Beat(NodeReport),
    /// The other one is no member; also of its own word that it is there.
    Refused { introduced: bool },
    /// A change of the catalogue, to the leader of the meta group.
    Change(Change),
    /// What became of the change by which the other one said that it is there.
    Told(MetaOutcome),
    /// Up to where was everything acknowledged in the catalogue?
    Where,
    /// Up to here; or it is not known here.
    WhereIs(Option<Index>),
    /// A request of a producer, passed on once.
    Ask(Ask),
    /// Where does the event log end, for this read?
    Frontier(GroupId, u64),
    /// Here; or it is not known here, but perhaps there.
    FrontierIs(u64, Option<u64>, Option<NodeId>),
    /// Can the group do without the asker's replica, which is in this term?
    Needless(GroupId, Term),
    /// It can.
    NeedlessIs(GroupId),
}

impl Cluster {
    /// Gives messages of replicas to the network.
    pub(super) fn send(&mut self, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            let times = self.times_sent(envelope.from, envelope.to);
            for _ in 0..times {
                let delay = self.way();
                self.after(delay, Happening::Arrive(envelope.clone()));
            }
        }
    }

    /// Says something to another node.
    pub(super) fn say(&mut self, from: NodeId, to: NodeId, word: Word) {
        // Calls are not doubled: the transport sees to that.
        if self.times_sent(from, to) != 0 {
            let delay = self.way();
            self.after(delay, Happening::Heard(from, to, word));
        }
    }

    /// Gives a message of a client, or to one, to the network; it may get lost.
    pub(super) fn call(&mut self, what: Happening) {
        if !self.calm && self.chance.per_mille(self.plan.client_loss) {
            return;
        }
        let delay = self.chance.around(self.plan.delay);
        self.after(delay, what);
    }

    fn way(&mut self) -> u64 {
        let jitter = self.chance.between(0, self.plan.jitter + 1);
        self.plan.delay / 2 + self.chance.between(0, self.plan.delay + 1) + jitter
    }

    fn times_sent(&mut self, from: NodeId, to: NodeId) -> u64 {
        if self.blocked.contains(&(from, to)) {
            if self.chance.once_in(20) {
                self.after(self.plan.delay, Happening::CutOff(from, to));
            }
            return 0;
        }
        if !self.calm && self.chance.per_mille(self.plan.loss) {
            self.coverage.count(Event::MessageLost);
            return 0;
        }
        if !self.calm && self.chance.per_mille(self.plan.doubling) {
            self.coverage.count(Event::MessageDoubled);
            return 2;
        }
        1
    }

    /// A message arrives. One that was under way when its link was cut may be lost, or stay in some
    /// queue for long and arrive all the same.
    pub(super) fn arrive(&mut self, envelope: Envelope) -> Result<(), Violation> {
        if !self.blocked.contains(&(envelope.from, envelope.to)) {
            return self.deliver(envelope);
        }
        if self.chance.coin() {
            self.coverage.count(Event::MessageHeldUp);
            let late = self.chance.between(0, 4 * SECOND);
            self.after(late, Happening::HeldUp(envelope));
        }
        Ok(())
    }

    /// A message is there.
    pub(super) fn deliver(&mut self, envelope: Envelope) -> Result<(), Violation> {
        let (from, to, group) = (envelope.from, envelope.to, envelope.group);
        if let Some(until) = self.paused(to) {
            self.at(until, Happening::HeldUp(envelope));
            return Ok(());
        }
        let Some(node) = self.nodes.get(&to) else { return Ok(()) };
        if !node.slots.contains_key(&group) || !self.takes(to, from) {
            return Ok(());
        }
        self.trace.line(self.now, format_args!("{group} {envelope}"));
        self.feed(to, group, Input::Message(envelope))
    }

    /// A node hears that its messages to another one do not get through.
    pub(super) fn cut_off(&mut self, id: NodeId, node: NodeId) -> Result<(), Violation> {
        self.coverage.count(Event::Unreachable);
        for group in self.node(id).groups() {
            self.feed(id, group, Input::Unreachable { node })?;
        }
        Ok(())
    }

    /// Something else that a node said arrives.
    pub(super) fn heard(&mut self, from: NodeId, to: NodeId, word: Word) -> Result<(), Violation> {
        if let Some(until) = self.paused(to) {
            self.at(until, Happening::Heard(from, to, word));
            return Ok(());
        }
        let cut = self.blocked.contains(&(from, to));
        if cut || !self.nodes.get(&to).is_some_and(|node| node.up) {
            return Ok(());
        }
        if !self.takes(to, from) {
            if matches!(word, Word::Beat(_) | Word::Change(_)) {
                let introduced = matches!(word, Word::Change(_));
                self.say(to, from, Word::Refused { introduced });
            }
            return Ok(());
        }
        match word {
            Word::Beat(report) => {
                self.heard_of(to, from, report);
                Ok(())
            }
            Word::Refused { introduced } => {
                self.refused_by_peer(to, introduced);
                Ok(())
            }
            Word::Change(change) => self.change_here(to, change),
            Word::Told(outcome) => {
                self.announced(to, &outcome);
                Ok(())
            }
            Word::Where => self.where_asked(to, from),
            Word::WhereIs(index) => self.where_told(to, index),
            Word::Ask(ask) => self.asked(to, ask, Some(from)),
            Word::Frontier(group, number) => self.frontier_asked(to, from, group, number),
            Word::FrontierIs(number, end, hint) => self.frontier_told(to, number, end, hint),
            Word::Needless(group, term) => {
                self.needless_asked(to, from, group, term);
                Ok(())
            }
            Word::NeedlessIs(group) => self.remove(to, group),
        }
    }

    /// Whether a node takes messages of another one: not of one that was removed.
    fn takes(&self, id: NodeId, from: NodeId) -> bool {
        let meta = self.nodes.get(&id).and_then(|node| node.meta());
        meta.and_then(|meta| meta.member(from)).is_none_or(|member| member.stands())
    }

    /// Trouble in the network begins.
    pub(super) fn split(&mut self) -> Result<(), Violation> {
        let ids = self.living();
        if self.calm || ids.len() < 3 {
            self.sometime(self.plan.split_every, Happening::Split);
            return Ok(());
        }
        let shape = Shape::draw(&mut self.chance, self.plan.one_way);
        self.blocked = shape.links(&mut self.chance, &ids).into_iter().collect();
        self.coverage.count(shape.event());
        self.trace.line(self.now, format_args!("{shape:?}: {:?}", self.blocked));
        if shape == Shape::Flapping {
            self.flapping = self.blocked.iter().copied().collect();
            self.flap_later();
        }
        let length = self.chance.around(self.plan.split_length);
        self.after(length, Happening::Whole);
        Ok(())
    }

    /// Links that come and go do so.
    pub(super) fn flap(&mut self) -> Result<(), Violation> {
        if self.flapping.is_empty() || self.calm {
            return Ok(());
        }
        for link in self.flapping.clone() {
            if self.chance.coin() && !self.blocked.remove(&link) {
                self.blocked.insert(link);
            }
        }
        self.trace.line(self.now, format_args!("links flap: {:?}", self.blocked));
        self.flap_later();
        Ok(())
    }

    fn flap_later(&mut self) {
        let soon = self.chance.between(SECOND / 5, 2 * SECOND);
        self.after(soon, Happening::Flap);
    }

    /// The network is whole again.
    pub(super) fn whole(&mut self) -> Result<(), Violation> {
        self.blocked.clear();
        self.flapping.clear();
        self.trace.line(self.now, format_args!("the network is whole"));
        self.sometime(self.plan.split_every, Happening::Split);
        Ok(())
    }

    /// An owner is cut off from all nodes, but not from clients, who go on reading there.
    pub(super) fn isolate(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.isolate_every, Happening::Isolate);
        let partitions = self.partitions();
        let leads = |id: &NodeId| partitions.iter().any(|group| self.nodes[id].leads(*group));
        let owners: Vec<NodeId> = self.living().into_iter().filter(leads).collect();
        if self.calm || owners.is_empty() || !self.blocked.is_empty() {
            return Ok(());
        }
        let id = *self.chance.pick(&owners);
        self.coverage.count(Event::LeaderFrozen);
        self.trace.line(self.now, format_args!("{id} is cut off from all nodes"));
        for other in self.living() {
            if other != id {
                self.blocked.insert((id, other));
                self.blocked.insert((other, id));
            }
        }
        let length = self.chance.between(SECOND, 5 * SECOND);
        self.after(length, Happening::Thaw(id));
        if self.chance.coin() {
            // The hardest: it stands still too, and goes on before it hears of anything.
            self.node(id).paused_until = self.now + length - SECOND / 2;
            self.coverage.count(Event::LeaderPaused);
        }
        for _ in 0..8 {
            let (then, group) = (self.chance.between(0, length), *self.chance.pick(&partitions));
            self.after(then, Happening::ReadAt(id, group));
        }
        Ok(())
    }

    /// The leader of the meta group does not reach some nodes that everybody else reaches: owners
    /// cannot tell it what they did, or it takes them for dead.
    pub(super) fn apart(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.apart_every, Happening::Apart);
        let living = self.living();
        let leader = living.iter().copied().find(|id| self.nodes[id].leads(GroupId::META));
        let Some(leader) = leader.filter(|_| !self.calm && self.blocked.is_empty()) else {
            return Ok(());
        };
        for other in living {
            if other != leader && self.chance.coin() {
                self.blocked.insert((leader, other));
                self.blocked.insert((other, leader));
            }
        }
        self.coverage.count(Event::CatalogueApart);
        self.trace.line(self.now, format_args!("{leader} stands apart: {:?}", self.blocked));
        let length = self.chance.between(SECOND, 8 * SECOND);
        self.after(length, Happening::Thaw(leader));
        Ok(())
    }

    /// A node that was cut off is not any more.
    pub(super) fn thaw(&mut self, id: NodeId) -> Result<(), Violation> {
        self.blocked.retain(|&(from, to)| from != id && to != id);
        self.trace.line(self.now, format_args!("{id} is reached again"));
        Ok(())
    }
}
