//! Linearizable reads through any node: it asks the owner where the event log ends, and answers
//! from its own replica once that has come so far, or with what the owner said.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::invariant::Invariant;
use alluvium_core::replica::Input;

use super::network::Word;
use super::node::Waiting;
use super::{Cluster, Happening, Twist};
use crate::coverage::Event;
use crate::violation::{Violation, ensure};

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    group: GroupId,
    /// What it must see: everything that was acknowledged, or seen by a read that had ended, when
    /// it began.
    floor: u64,
    /// The node that answers it, in which life.
    at: NodeId,
    boot: u64,
    /// Where the log ended, as the owner said.
    frontier: Option<u64>,
}

impl Cluster {
    /// Someone reads some partition at some node.
    pub(super) fn read(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let again = self.chance.around(self.plan.read_every);
        self.after(again, Happening::Read);
        let partitions = self.partitions();
        if partitions.is_empty() {
            return Ok(());
        }
        let (node, group) = (self.some_node(), *self.chance.pick(&partitions));
        self.read_at(node, group)
    }

    /// Someone reads a partition at a node.
    pub(super) fn read_at(&mut self, at: NodeId, group: GroupId) -> Result<(), Violation> {
        let of = self.group(group);
        let floor = of.oracle.acked_end().max(of.read_end);
        let boot = self.node(at).boot;
        let number = self.number();
        self.reads.insert(number, Reading { group, floor, at, boot, frontier: None });
        self.call(Happening::Reads(at, number));
        Ok(())
    }

    /// A read arrives at a node.
    pub(super) fn reads(&mut self, id: NodeId, number: u64) -> Result<(), Violation> {
        let Some(reading) = self.reads.get(&number).copied() else { return Ok(()) };
        if !self.running(id, reading.boot) {
            self.reads.remove(&number);
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Reads(id, number));
            return Ok(());
        }
        let group = reading.group;
        let node = self.node(id);
        if let Some(end) = node.end(group).filter(|_| self.twist == Some(Twist::OwnerNotAsked)) {
            return self.read_done(number, end);
        }
        let node = self.node(id);
        if node.leads(group) {
            return self.frontier_asked(id, id, group, number);
        }
        match node.owner(group).filter(|owner| *owner != id) {
            Some(owner) => {
                self.coverage.count(Event::ReadForwarded);
                self.say(id, owner, Word::Frontier(group, number));
            }
            None => self.read_refused(number),
        }
        Ok(())
    }

    /// A node is asked where an event log ends.
    pub(super) fn frontier_asked(
        &mut self,
        id: NodeId,
        asker: NodeId,
        group: GroupId,
        number: u64,
    ) -> Result<(), Violation> {
        if !self.node(id).slots.contains_key(&group) {
            return self.frontier_refused(id, group, number, asker, None);
        }
        let request = self.wait(id, group, Waiting::Frontier { number, asker });
        self.feed(id, group, Input::ReadIndex { request })
    }

    /// The owner knows where it ends.
    pub(super) fn frontier_known(
        &mut self,
        id: NodeId,
        group: GroupId,
        number: u64,
        asker: NodeId,
    ) -> Result<(), Violation> {
        let end = self.node(id).end(group);
        if asker == id {
            return self.frontier_told(id, number, end, None);
        }
        self.say(id, asker, Word::FrontierIs(number, end, None));
        Ok(())
    }

    /// A node does not know where it ends: it may not be the owner.
    pub(super) fn frontier_refused(
        &mut self,
        id: NodeId,
        group: GroupId,
        number: u64,
        asker: NodeId,
        owner: Option<NodeId>,
    ) -> Result<(), Violation> {
        let floor = self.reads.get(&number).map_or(0, |reading| reading.floor);
        if self.node(id).end(group).is_some_and(|end| end < floor) {
            self.coverage.count(Event::StaleReadRefused);
        }
        if asker == id {
            self.read_refused(number);
        } else {
            self.say(id, asker, Word::FrontierIs(number, None, owner));
        }
        Ok(())
    }

    /// A node that answers a read hears where the log ends.
    pub(super) fn frontier_told(
        &mut self,
        id: NodeId,
        number: u64,
        end: Option<u64>,
        hint: Option<NodeId>,
    ) -> Result<(), Violation> {
        let Some(reading) = self.reads.get(&number).copied() else { return Ok(()) };
        if !self.running(id, reading.boot) || reading.at != id {
            self.reads.remove(&number);
            return Ok(());
        }
        let Some(end) = end else {
            if let Some(owner) = hint {
                self.node(id).owners.insert(reading.group, owner);
            }
            self.read_refused(number);
            return Ok(());
        };
        match self.node(id).end(reading.group) {
            Some(here) if here < end => {
                let waits = Reading { frontier: Some(end), ..reading };
                self.reads.insert(number, waits);
                Ok(())
            }
            Some(here) => {
                if !self.node(id).leads(reading.group) {
                    self.coverage.count(Event::ReadAtFollower);
                }
                self.read_done(number, here)
            }
            None => self.read_done(number, end),
        }
    }

    /// A replica has executed more: reads that waited for that are answered.
    pub(super) fn answer_reads(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        let node = self.node(id);
        let (boot, Some(here)) = (node.boot, node.end(group)) else { return Ok(()) };
        let mut ready = Vec::new();
        self.reads.retain(|number, reading| {
            let ours = reading.at == id && reading.group == group;
            if ours && reading.boot == boot && reading.frontier.is_some_and(|end| end <= here) {
                ready.push(*number);
            }
            !ours || reading.boot == boot
        });
        for number in ready {
            self.coverage.count(Event::ReadAtFollower);
            self.read_done(number, here)?;
        }
        Ok(())
    }

    /// I18: a read is answered. It must have seen what was acknowledged, or seen by another read,
    /// before it began, and nothing that nobody agreed on.
    fn read_done(&mut self, number: u64, end: u64) -> Result<(), Violation> {
        let Some(Reading { group, floor, at, .. }) = self.reads.remove(&number) else {
            return Ok(());
        };
        self.coverage.count(Event::ReadAnswered);
        let of = self.group(group);
        of.read_end = of.read_end.max(end);
        let there = of.oracle.event_count();
        ensure(Invariant::ReadsSeeAcked, floor <= end && end <= there, || {
            format!("{at} reads {group} up to {end}; {floor} was seen before, {there} are there")
        })
    }

    fn read_refused(&mut self, number: u64) {
        if self.reads.remove(&number).is_some() {
            self.coverage.count(Event::ReadRefused);
        }
    }
}
