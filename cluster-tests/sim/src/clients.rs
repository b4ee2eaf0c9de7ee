//! What producers and readers do in the world.

use alluvium_core::ids::NodeId;

use crate::coverage::Event;
use crate::load::{Answer, Ask, Call, Life};
use crate::plan::MILLI;
use crate::violation::Violation;
use crate::world::{Happening, PATIENCE, World};

impl World {
    /// A producer makes a batch, unless it has too many under way or the run ends.
    pub(crate) fn produce(&mut self, number: u64) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let think = self.chance.around(self.plan.think);
        self.after(think, Happening::Produce(number));
        let World { producers, chance, plan, .. } = self;
        let producer = &mut producers[place(number)];
        if producer.life == Life::Open && producer.unacked.len() < plan.window {
            producer.make_batch(chance);
        }
        self.send_due(number)
    }

    /// A producer sends what is due.
    pub(crate) fn send_due(&mut self, number: u64) -> Result<(), Violation> {
        let producer = &mut self.producers[place(number)];
        let owner = producer.owner;
        for (ask, before) in producer.due() {
            let call = match &ask {
                Ask::Append(call, _) | Ask::Fence(call) => *call,
                Ask::Read { .. } => continue,
            };
            if before != 0 {
                self.coverage.count(Event::BatchRetried);
            }
            self.call(Happening::Asked(owner, ask));
            self.after(PATIENCE, Happening::TimedOut(call));
        }
        Ok(())
    }

    /// An answer arrives at a producer.
    pub(crate) fn answered(&mut self, call: Call, answer: Answer) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{} gets {answer:?}", Named(call)));
        let producer = &mut self.producers[place(call.producer)];
        if producer.epoch != call.epoch {
            return Ok(());
        }
        match answer {
            Answer::Acked(offsets) => self.acked(call, offsets),
            Answer::Opened { next } => self.opened(call.producer, next),
            Answer::NotOwner(owner) => {
                let known = owner.filter(|owner| *owner != producer.owner);
                let owner = known.unwrap_or_else(|| self.some_victim());
                self.try_again(call, owner);
                Ok(())
            }
            // Of its own life a producer never hears that another took over: nobody else has it.
            Answer::Retry | Answer::Fenced => {
                let owner = producer.owner;
                self.try_again(call, owner);
                Ok(())
            }
        }
    }

    /// A producer gives up waiting for an answer.
    pub(crate) fn timed_out(&mut self, call: Call) -> Result<(), Violation> {
        let owner = self.some_victim();
        self.try_again(call, owner);
        Ok(())
    }

    /// Someone reads at some node.
    pub(crate) fn read(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let again = self.chance.around(self.plan.read_every);
        self.after(again, Happening::Read);
        let node = self.some_victim();
        self.read_at(node)
    }

    /// Someone reads at a node.
    pub(crate) fn read_at(&mut self, node: NodeId) -> Result<(), Violation> {
        let floor = self.oracle.acked_end();
        self.call(Happening::Asked(node, Ask::Read { floor }));
        Ok(())
    }

    /// A producer dies and comes back.
    pub(crate) fn reopen(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.reopen_every, Happening::Reopen);
        if self.calm {
            return Ok(());
        }
        let number = self.chance.between(0, self.plan.producer_count);
        self.coverage.count(Event::ProducerReopened);
        self.producers[place(number)].reopen();
        self.trace.line(self.now, format_args!("producer {number} dies and comes back"));
        self.send_due(number)
    }

    fn acked(&mut self, call: Call, offsets: Option<(u64, u64)>) -> Result<(), Violation> {
        let producer = &mut self.producers[place(call.producer)];
        let Some(at) = producer.unacked.iter().position(|batch| batch.sequence == call.sequence)
        else {
            return Ok(());
        };
        let batch = producer.unacked.remove(at).expect("it was just found");
        self.coverage.count(Event::BatchAcked);
        self.oracle.acked(&batch.values, offsets)
    }

    /// A new life goes on where the log says. What the log has of the former life is kept; the rest
    /// is sent again.
    fn opened(&mut self, number: u64, next: u64) -> Result<(), Violation> {
        let producer = &mut self.producers[place(number)];
        if producer.life == Life::Open {
            return Ok(());
        }
        producer.life = Life::Open;
        while let Some(batch) = producer.unacked.pop_front_if(|batch| batch.sequence < next) {
            self.oracle.acked(&batch.values, None)?;
        }
        self.send_due(number)
    }

    /// Tries again soon: not at once, or a cluster without an owner would be asked without end.
    fn try_again(&mut self, call: Call, owner: NodeId) {
        let producer = &mut self.producers[place(call.producer)];
        if producer.give_up(call) {
            producer.owner = owner;
            let soon = self.chance.around(30 * MILLI);
            self.after(soon, Happening::Send(call.producer));
        }
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

struct Named(Call);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Call { producer, epoch, sequence, attempt } = self.0;
        write!(f, "producer {producer} life {epoch} batch {sequence} attempt {attempt}")
    }
}
