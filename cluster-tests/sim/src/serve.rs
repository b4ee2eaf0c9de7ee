//! What a node does for callers: it gathers batches, proposes them together, and answers each when
//! its outcome is known.

use alluvium_core::ids::{Epoch, NodeId, Offset, ProducerId, RequestId};
use alluvium_core::invariant::Invariant;
use alluvium_core::partition::{Append, Command, Outcome, Part, PartOutcome};
use alluvium_core::replica::{Input, Members};
use alluvium_core::time::Time;

use crate::coverage::Event;
use crate::load::{Answer, Ask, Call};
use crate::node::Waiting;
use crate::violation::{Violation, ensure};
use crate::world::{Happening, World};

impl World {
    /// A request arrives at a node. One that is down does not answer.
    pub(crate) fn asked(&mut self, id: NodeId, ask: Ask) -> Result<(), Violation> {
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Asked(id, ask));
            return Ok(());
        }
        let full = self.is_full(id);
        let node = self.node(id);
        if node.replica.is_none() {
            let elsewhere = !node.hosts && !node.gone;
            if elsewhere && let Ask::Append(call, _) | Ask::Fence(call) = ask {
                self.answer_all(vec![call], &Answer::NotOwner(None));
            }
            return Ok(());
        }
        match ask {
            Ask::Append(call, _) | Ask::Fence(call) if full => {
                self.coverage.count(Event::RefusedForRoom);
                self.answer_all(vec![call], &Answer::Retry);
                Ok(())
            }
            Ask::Append(call, values) => {
                let node = self.node(id);
                node.gathered.push((call, values));
                if node.gathered.len() == 1 {
                    let boot = node.boot;
                    self.after(self.plan.linger, Happening::Flush(id, boot));
                }
                Ok(())
            }
            Ask::Fence(call) => {
                let now = self.clock(id);
                let (producer, epoch) = (ProducerId(call.producer), Epoch(call.epoch));
                let command = Command::Fence { producer, epoch, now };
                self.propose(id, &command, Waiting::Fence(call))
            }
            Ask::Read { floor } => {
                let request = self.wait(id, Waiting::Read { floor });
                self.feed(id, Input::ReadIndex { request })
            }
        }
    }

    /// A node proposes what it gathered, as one entry.
    pub(crate) fn flush(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Flush(id, boot));
            return Ok(());
        }
        let appended_at = self.clock(id);
        let gathered = std::mem::take(&mut self.node(id).gathered);
        let mut payload = Vec::new();
        let mut parts = Vec::new();
        let mut calls = Vec::new();
        for (call, values) in gathered {
            let event_count = u32::try_from(values.len()).expect("a few events");
            parts.push(Part { producer: Some(call.stamp()), event_count });
            values.iter().for_each(|value| payload.extend(value.0.to_le_bytes()));
            calls.push(call);
        }
        let append = Append { appended_at, parts, payload: payload.into() };
        self.propose(id, &Command::Append(append), Waiting::Append(calls))?;
        if self.node(id).leads() && self.chance.once_in(50) {
            return self.keep_up(id);
        }
        Ok(())
    }

    /// What an owner proposes by itself: time goes on for idle producers too, and old events go.
    fn keep_up(&mut self, id: NodeId) -> Result<(), Violation> {
        let now = self.clock(id);
        let some = self.chance.between(0, self.oracle.event_count() / 2 + 1);
        let retain = Command::Retain { start: Offset(some) };
        let command = if self.chance.coin() { Command::Clock { now } } else { retain };
        self.propose(id, &command, Waiting::Upkeep)
    }

    /// The outcome of a request is known.
    pub(crate) fn done(
        &mut self,
        id: NodeId,
        request: RequestId,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        match (self.take(id, request)?, outcome) {
            (Waiting::Append(calls), Outcome::Appended(appended)) => {
                for (call, part) in calls.into_iter().zip(appended.parts) {
                    let answer = self.answer_for(part);
                    self.call(Happening::Answered(call, answer));
                }
            }
            (Waiting::Fence(call), Outcome::Fenced { known }) => {
                let newer = call.epoch < known.epoch.0;
                let answer =
                    if newer { Answer::Fenced } else { Answer::Opened { next: known.next.0 } };
                self.call(Happening::Answered(call, answer));
            }
            (Waiting::Upkeep, Outcome::Clock) => {}
            (Waiting::Upkeep, Outcome::Retained { .. }) => self.coverage.count(Event::Retained),
            (waiting, outcome) => {
                let seen = format!("{id} {request}: {waiting:?} got {outcome:?}");
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
            PartOutcome::Fenced { .. } => {
                self.coverage.count(Event::Fenced);
                Answer::Fenced
            }
            PartOutcome::OutOfSequence { .. } => {
                self.coverage.count(Event::OutOfSequence);
                Answer::Retry
            }
        }
    }

    /// A request was refused: the caller may try at the owner.
    pub(crate) fn refused(
        &mut self,
        id: NodeId,
        request: RequestId,
        owner: Option<NodeId>,
    ) -> Result<(), Violation> {
        match self.take(id, request)? {
            Waiting::Append(calls) => self.answer_all(calls, &Answer::NotOwner(owner)),
            Waiting::Fence(call) => self.answer_all(vec![call], &Answer::NotOwner(owner)),
            Waiting::Read { floor } => {
                self.coverage.count(Event::ReadRefused);
                let replica = self.node(id).replica.as_ref().expect("it just answered");
                if replica.machine().partition().end().0 < floor {
                    self.coverage.count(Event::StaleReadRefused);
                }
            }
            Waiting::Change { .. } | Waiting::Upkeep => {}
        }
        Ok(())
    }

    /// A request has no outcome, or it does not matter.
    pub(crate) fn undone(&mut self, id: NodeId, request: RequestId) -> Result<(), Violation> {
        match self.take(id, request)? {
            Waiting::Append(calls) => self.answer_all(calls, &Answer::Retry),
            Waiting::Fence(call) => self.answer_all(vec![call], &Answer::Retry),
            Waiting::Read { .. } | Waiting::Change { .. } | Waiting::Upkeep => {}
        }
        Ok(())
    }

    /// I18: a read may be answered. What it sees must hold what was acknowledged before it began.
    pub(crate) fn read_ready(&mut self, id: NodeId, request: RequestId) -> Result<(), Violation> {
        let waiting = self.take(id, request)?;
        let Waiting::Read { floor } = waiting else {
            let seen = format!("{id} answers {request} as a read: {waiting:?}");
            return Err(Violation::new(Invariant::ReadsSeeAcked, seen));
        };
        self.coverage.count(Event::ReadAnswered);
        let replica = self.node(id).replica.as_ref().expect("it just answered");
        let end = replica.machine().partition().end().0;
        ensure(Invariant::ReadsSeeAcked, floor <= end, || {
            format!("{id} reads up to {end}, {floor} was acknowledged before")
        })
    }

    /// Asks a node's replica for other members.
    pub(crate) fn ask_for_members(
        &mut self,
        id: NodeId,
        members: Members,
        waiting: Waiting,
    ) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} is asked for {members:?}"));
        let request = self.wait(id, waiting);
        self.feed(id, Input::ChangeMembers { request, members })
    }

    /// The members are others now.
    pub(crate) fn members_changed(
        &mut self,
        id: NodeId,
        request: RequestId,
    ) -> Result<(), Violation> {
        let waiting = self.take(id, request)?;
        let Waiting::Change { promotes } = waiting else {
            let seen = format!("{id} answers {request} as a change of members: {waiting:?}");
            return Err(Violation::new(Invariant::OneChangeOfVoters, seen));
        };
        self.coverage.count(Event::MembersChanged);
        if promotes {
            self.coverage.count(Event::LearnerPromoted);
        }
        Ok(())
    }

    fn propose(
        &mut self,
        id: NodeId,
        command: &Command,
        waiting: Waiting,
    ) -> Result<(), Violation> {
        let request = self.wait(id, waiting);
        self.feed(id, Input::Propose { request, command: command.encode() })
    }

    fn wait(&mut self, id: NodeId, waiting: Waiting) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.node(id).requests.insert(request, waiting);
        request
    }

    fn take(&mut self, id: NodeId, request: RequestId) -> Result<Waiting, Violation> {
        self.node(id).requests.remove(&request).ok_or_else(|| {
            let seen = format!("{id} answers {request} twice, or nobody asked");
            Violation::new(Invariant::AckedExactlyOnce, seen)
        })
    }

    fn answer_all(&mut self, calls: Vec<Call>, answer: &Answer) {
        for call in calls {
            self.call(Happening::Answered(call, answer.clone()));
        }
    }

    fn clock(&mut self, id: NodeId) -> Time {
        let now = self.now + self.node(id).skew;
        Time(i64::try_from(now).expect("runs are short"))
    }
}
