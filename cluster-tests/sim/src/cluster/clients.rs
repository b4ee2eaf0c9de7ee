//! What producers do: each sends to one partition, through any node.

use alluvium_core::ids::NodeId;

use super::{Cluster, Happening, PATIENCE};
use crate::coverage::Event;
use crate::load::{Answer, Ask, Call, Life};
use crate::plan::MILLI;
use crate::violation::Violation;

impl Cluster {
    /// A producer makes a batch, unless it has too many under way or the run ends.
    pub(super) fn produce(&mut self, place: usize) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let think = self.chance.around(self.plan.think);
        self.after(think, Happening::Produce(place));
        let Cluster { clients, chance, plan, .. } = self;
        let producer = &mut clients[place].producer;
        if producer.life == Life::Open && producer.unacked.len() < plan.window {
            producer.make_batch(chance);
        }
        self.send_due(place)
    }

    /// A producer sends what is due.
    pub(super) fn send_due(&mut self, place: usize) -> Result<(), Violation> {
        let producer = &mut self.clients[place].producer;
        let node = producer.owner;
        for (ask, before) in producer.due() {
            let call = match &ask {
                Ask::Append(call, _) | Ask::Fence(call) => *call,
                Ask::Read { .. } => continue,
            };
            if before != 0 {
                self.coverage.count(Event::BatchRetried);
            }
            self.call(Happening::Asked(node, ask));
            self.after(PATIENCE, Happening::TimedOut(call));
        }
        Ok(())
    }

    /// An answer arrives at a producer.
    pub(super) fn answered(&mut self, call: Call, answer: Answer) -> Result<(), Violation> {
        let place = usize::try_from(call.producer).expect("a small number");
        let Call { producer: number, epoch, sequence, .. } = call;
        let name = format_args!("producer {number} life {epoch} batch {sequence} gets {answer:?}");
        self.trace.line(self.now, name);
        let producer = &mut self.clients[place].producer;
        if producer.epoch != call.epoch {
            return Ok(());
        }
        match answer {
            Answer::Acked(offsets) => self.acked(place, call, offsets),
            Answer::Opened { next } => self.opened(place, next),
            Answer::NotOwner(owner) => {
                let known = owner.filter(|owner| *owner != producer.owner);
                let owner = known.unwrap_or_else(|| self.some_node());
                self.try_again(place, call, owner);
                Ok(())
            }
            Answer::Retry | Answer::Fenced => {
                let owner = producer.owner;
                self.try_again(place, call, owner);
                Ok(())
            }
        }
    }

    /// A producer gives up waiting for an answer.
    pub(super) fn timed_out(&mut self, call: Call) -> Result<(), Violation> {
        let place = usize::try_from(call.producer).expect("a small number");
        let owner = self.some_node();
        self.try_again(place, call, owner);
        Ok(())
    }

    /// A producer dies and comes back.
    pub(super) fn reopen(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.reopen_every, Happening::Reopen);
        if self.calm || self.clients.is_empty() {
            return Ok(());
        }
        let number = self.chance.between(0, self.clients.len() as u64);
        let place = usize::try_from(number).expect("a small number");
        self.coverage.count(Event::ProducerReopened);
        self.clients[place].producer.reopen();
        self.trace.line(self.now, format_args!("producer {number} dies and comes back"));
        self.send_due(place)
    }

    fn acked(
        &mut self,
        place: usize,
        call: Call,
        offsets: Option<(u64, u64)>,
    ) -> Result<(), Violation> {
        let Cluster { clients, groups, coverage, .. } = self;
        let client = &mut clients[place];
        let unacked = &mut client.producer.unacked;
        let Some(at) = unacked.iter().position(|batch| batch.sequence == call.sequence) else {
            return Ok(());
        };
        let batch = unacked.remove(at).expect("it was just found");
        coverage.count(Event::BatchAcked);
        let group = groups.get_mut(&client.group).expect("it answered");
        group.oracle.acked(&batch.values, offsets)
    }

    /// A new life goes on where the log says.
    fn opened(&mut self, place: usize, next: u64) -> Result<(), Violation> {
        let Cluster { clients, groups, .. } = self;
        let client = &mut clients[place];
        let producer = &mut client.producer;
        if producer.life == Life::Open {
            return Ok(());
        }
        producer.life = Life::Open;
        let group = groups.get_mut(&client.group).expect("it answered");
        while let Some(batch) = producer.unacked.pop_front_if(|batch| batch.sequence < next) {
            group.oracle.acked(&batch.values, None)?;
        }
        self.send_due(place)
    }

    /// Tries again soon: not at once, or a cluster without an owner would be asked without end.
    fn try_again(&mut self, place: usize, call: Call, owner: NodeId) {
        let producer = &mut self.clients[place].producer;
        if producer.give_up(call) {
            producer.owner = owner;
            let soon = self.chance.around(60 * MILLI);
            self.after(soon, Happening::Send(place));
        }
    }
}
