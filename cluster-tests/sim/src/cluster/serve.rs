//! What a node does for callers: it passes on what is another owner's, gathers batches, proposes
//! them together, and answers each when its outcome is known.

use alluvium_core::ids::{Epoch, GroupId, Index, NodeId, Offset, ProducerId, RequestId};
use alluvium_core::invariant::Invariant;
use alluvium_core::partition::{Append, Command, Outcome, Part, PartOutcome};
use alluvium_core::replica::Input;
use bytes::Bytes;

use super::hosted::Done;
use super::network::Word;
use super::node::{Caller, Readiness, Waiting};
use super::{Cluster, Happening};
use crate::coverage::Event;
use crate::load::{Answer, Ask, Call};
use crate::violation::Violation;

impl Cluster {
    /// A request of a producer arrives at a node, from the producer or, passed on once, from
    /// another node. One that is down does not answer.
    pub(super) fn asked(
        &mut self,
        id: NodeId,
        ask: Ask,
        via: Option<NodeId>,
    ) -> Result<(), Violation> {
        let call = match &ask {
            Ask::Append(call, _) | Ask::Fence(call) => *call,
            Ask::Read { .. } => return Ok(()),
        };
        if let Some(until) = self.paused(id) {
            match via {
                Some(from) => self.at(until, Happening::Heard(from, id, Word::Ask(ask))),
                None => self.at(until, Happening::Asked(id, ask)),
            }
            return Ok(());
        }
        if !self.nodes.get(&id).is_some_and(|node| node.up) {
            return Ok(());
        }
        let group = self.clients[client(call)].group;
        let caller = Caller { call, via };
        let full = self.is_full(id);
        let node = self.node(id);
        if !node.leads(group) {
            let owner = node.owner(group).filter(|owner| *owner != id);
            match (via, owner) {
                (None, Some(owner)) => {
                    self.coverage.count(Event::AppendForwarded);
                    self.say(id, owner, Word::Ask(ask));
                }
                (_, owner) => self.answer(id, caller, Answer::NotOwner(owner)),
            }
            return Ok(());
        }
        if full {
            self.coverage.count(Event::RefusedForRoom);
            self.answer(id, caller, Answer::Retry);
            return Ok(());
        }
        match ask {
            Ask::Append(_, values) => {
                let slot = node.slots.get_mut(&group).expect("it leads");
                slot.gathered.push((caller, values));
                if slot.gathered.len() == 1 {
                    let boot = node.boot;
                    self.after(self.plan.linger, Happening::Flush(id, boot, group));
                }
                Ok(())
            }
            Ask::Fence(call) => {
                let now = self.clock(id);
                let (producer, epoch) = (ProducerId(call.producer), Epoch(call.epoch));
                let command = Command::Fence { producer, epoch, now };
                self.propose(id, group, command.encode(), Waiting::Fence(caller))
            }
            Ask::Read { .. } => Ok(()),
        }
    }

    /// A node proposes what it gathered, as one entry.
    pub(super) fn flush(&mut self, id: NodeId, boot: u64, group: GroupId) -> Result<(), Violation> {
        if !self.running(id, boot) {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Flush(id, boot, group));
            return Ok(());
        }
        let appended_at = self.clock(id);
        let Some(slot) = self.node(id).slots.get_mut(&group) else { return Ok(()) };
        let gathered = std::mem::take(&mut slot.gathered);
        if gathered.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        let mut parts = Vec::new();
        let mut callers = Vec::new();
        for (caller, values) in gathered {
            let event_count = u32::try_from(values.len()).expect("a few events");
            parts.push(Part { producer: Some(caller.call.stamp()), event_count });
            values.iter().for_each(|value| payload.extend(value.0.to_le_bytes()));
            callers.push(caller);
        }
        let append = Append { appended_at, parts, payload: payload.into() };
        let command = Command::Append(append).encode();
        self.propose(id, group, command, Waiting::Append(callers))?;
        if self.running(id, boot) && self.node(id).leads(group) && self.chance.once_in(50) {
            let end = self.node(id).end(group).unwrap_or(0);
            let some = self.chance.between(0, end / 2 + 1);
            let retain = Command::Retain { start: Offset(some) };
            return self.propose(id, group, retain.encode(), Waiting::Upkeep);
        }
        Ok(())
    }

    /// Proposes a command.
    pub(super) fn propose(
        &mut self,
        id: NodeId,
        group: GroupId,
        command: Bytes,
        waiting: Waiting,
    ) -> Result<(), Violation> {
        let request = self.wait(id, group, waiting);
        self.feed(id, group, Input::Propose { request, command })
    }

    /// Somebody waits at a node. Where the replica does not run nobody answers, and they try again.
    pub(super) fn wait(&mut self, id: NodeId, group: GroupId, waiting: Waiting) -> RequestId {
        let request = RequestId(self.number());
        let node = self.node(id);
        if node.slots.contains_key(&group) {
            node.requests.insert(request, (group, waiting));
        }
        request
    }

    fn take(&mut self, id: NodeId, request: RequestId) -> Result<Waiting, Violation> {
        let waiting = self.node(id).requests.remove(&request);
        waiting.map(|(_, waiting)| waiting).ok_or_else(|| {
            let seen = format!("{id} answers {request} twice, or nobody asked");
            Violation::new(Invariant::AckedExactlyOnce, seen)
        })
    }

    /// The outcome of a request is known.
    pub(super) fn done(
        &mut self,
        id: NodeId,
        group: GroupId,
        request: RequestId,
        outcome: Done,
    ) -> Result<(), Violation> {
        match (self.take(id, request)?, outcome) {
            (Waiting::Append(callers), Done::Partition(Outcome::Appended(appended))) => {
                for (caller, part) in callers.into_iter().zip(appended.parts) {
                    let answer = self.answer_for(part);
                    self.answer(id, caller, answer);
                }
            }
            (Waiting::Fence(caller), Done::Partition(Outcome::Fenced { known })) => {
                let newer = caller.call.epoch < known.epoch.0;
                let next = known.next.0;
                let answer = if newer { Answer::Fenced } else { Answer::Opened { next } };
                self.answer(id, caller, answer);
            }
            (Waiting::Upkeep, Done::Partition(_)) => {}
            (Waiting::Change(change), Done::Catalogue(outcome)) => {
                if matches!(outcome, alluvium_core::meta::MetaOutcome::Placed { .. }) {
                    // A move has begun or ended: the next one need not wait.
                    self.node(id).leading.ticks = u32::MAX / 2;
                }
                self.changed(id, &change.asker, outcome);
            }
            (waiting, outcome) => {
                let seen = format!("{id} {group} {request}: {waiting:?} got {outcome:?}");
                return Err(Violation::new(Invariant::AckedExactlyOnce, seen));
            }
        }
        Ok(())
    }

    fn answer_for(&mut self, part: PartOutcome) -> Answer {
        match part {
            PartOutcome::Appended { first, end } => Answer::Acked(Some((first.0, end.0))),
            PartOutcome::Duplicate { offsets } => {
                self.coverage.count(Event::DuplicateRecognised);
                Answer::Acked(offsets.map(|(first, end)| (first.0, end.0)))
            }
            PartOutcome::Fenced { .. } => Answer::Fenced,
            PartOutcome::OutOfSequence { .. } => {
                self.coverage.count(Event::OutOfSequence);
                Answer::Retry
            }
        }
    }

    /// Answers a producer, through the node that passed its call on.
    fn answer(&mut self, id: NodeId, caller: Caller, answer: Answer) {
        let Caller { call, via } = caller;
        if via.is_none_or(|via| !self.blocked.contains(&(id, via))) {
            self.call(Happening::Answered(call, answer));
        }
    }

    /// A request was refused: the caller may try at the owner.
    pub(super) fn refused(
        &mut self,
        id: NodeId,
        group: GroupId,
        request: RequestId,
        owner: Option<NodeId>,
    ) -> Result<(), Violation> {
        match self.take(id, request)? {
            Waiting::Append(callers) => {
                for caller in callers {
                    self.answer(id, caller, Answer::NotOwner(owner));
                }
            }
            Waiting::Fence(caller) => self.answer(id, caller, Answer::NotOwner(owner)),
            Waiting::Frontier { number, asker } => {
                return self.frontier_refused(id, group, number, asker, owner);
            }
            Waiting::Where(asker) if asker == id => {
                self.node(id).readiness = Readiness::Unknown;
            }
            Waiting::Where(asker) => self.say(id, asker, Word::WhereIs(None)),
            Waiting::Change(_) | Waiting::Members { .. } | Waiting::Upkeep => {}
        }
        Ok(())
    }

    /// A request has no outcome, or it does not matter.
    pub(super) fn undone(
        &mut self,
        id: NodeId,
        group: GroupId,
        request: RequestId,
    ) -> Result<(), Violation> {
        let waiting = self.take(id, request)?;
        match waiting {
            Waiting::Append(callers) => {
                for caller in callers {
                    self.answer(id, caller, Answer::Retry);
                }
            }
            Waiting::Fence(caller) => self.answer(id, caller, Answer::Retry),
            Waiting::Frontier { number, asker } => {
                return self.frontier_refused(id, group, number, asker, None);
            }
            Waiting::Where(asker) if asker == id => {
                self.node(id).readiness = Readiness::Unknown;
            }
            Waiting::Where(_) | Waiting::Change(_) | Waiting::Members { .. } | Waiting::Upkeep => {}
        }
        Ok(())
    }

    /// A replica goes: who waits for it is told that nobody knows.
    pub(super) fn give_up_requests(&mut self, id: NodeId, group: GroupId) {
        let node = self.node(id);
        let left: Vec<(RequestId, (GroupId, Waiting))> =
            node.requests.extract_if(.., |_, (of, _)| *of == group).collect();
        for (_, (_, waiting)) in left {
            match waiting {
                Waiting::Append(callers) => {
                    for caller in callers {
                        self.answer(id, caller, Answer::Retry);
                    }
                }
                Waiting::Fence(caller) => self.answer(id, caller, Answer::Retry),
                Waiting::Frontier { .. }
                | Waiting::Where(_)
                | Waiting::Change(_)
                | Waiting::Members { .. }
                | Waiting::Upkeep => {}
            }
        }
    }

    /// A read may be answered, up to an index that is executed here.
    pub(super) fn read_ready(
        &mut self,
        id: NodeId,
        group: GroupId,
        request: RequestId,
        index: Index,
    ) -> Result<(), Violation> {
        match self.take(id, request)? {
            Waiting::Frontier { number, asker } => self.frontier_known(id, group, number, asker),
            Waiting::Where(asker) if asker == id => self.where_told(id, Some(index)),
            Waiting::Where(asker) => {
                self.say(id, asker, Word::WhereIs(Some(index)));
                Ok(())
            }
            waiting => {
                let seen = format!("{id} answers {request} as a read: {waiting:?}");
                Err(Violation::new(Invariant::ReadsSeeAcked, seen))
            }
        }
    }

    /// The members are others now.
    pub(super) fn members_changed(
        &mut self,
        id: NodeId,
        request: RequestId,
    ) -> Result<(), Violation> {
        let waiting = self.take(id, request)?;
        let Waiting::Members { promotes } = waiting else {
            let seen = format!("{id} answers {request} as a change of members: {waiting:?}");
            return Err(Violation::new(Invariant::OneChangeOfVoters, seen));
        };
        self.coverage.count(Event::MembersChanged);
        if promotes {
            self.coverage.count(Event::LearnerPromoted);
        }
        Ok(())
    }
}

fn client(call: Call) -> usize {
    usize::try_from(call.producer).expect("a small number")
}
