//! Producers: they send batches of values nobody else sends, keep sending until told that a batch
//! is kept, and now and then die and come back under a new epoch.

use std::collections::VecDeque;

use alluvium_core::ids::{Epoch, NodeId, ProducerId, Sequence};
use alluvium_core::partition::Stamp;

use crate::chance::Chance;
use crate::oracle::Value;

/// One attempt of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The producer.
    pub producer: u64,
    /// Its life.
    pub epoch: u32,
    /// The batch.
    pub sequence: u64,
    /// Which attempt at it.
    pub attempt: u64,
}

impl Call {
    /// What goes into the log with the batch.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            producer: ProducerId(self.producer),
            epoch: Epoch(self.epoch),
            sequence: Sequence(self.sequence),
            position: self.sequence * 10,
        }
    }
}

/// What a node is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Append a batch.
    Append(Call, Vec<Value>),
    /// Begin a new life.
    Fence(Call),
    /// Read at least so many events.
    Read {
        /// What was acknowledged when the read began.
        floor: u64,
    },
}

/// What a node answers a producer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The batch is kept, at these offsets when known.
    Acked(Option<(u64, u64)>),
    /// Not here.
    NotOwner(Option<NodeId>),
    /// Not done, or nobody knows: try again.
    Retry,
    /// Another life took over.
    Fenced,
    /// The new life goes on with this sequence.
    Opened {
        /// The next sequence.
        next: u64,
    },
}

/// A batch not acknowledged yet.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number.
    pub sequence: u64,
    /// Its events; may be none.
    pub values: Vec<Value>,
    /// Attempts so far.
    pub attempts: u64,
    /// The attempt under way. Of former attempts only an acknowledgement counts.
    pub under_way: Option<u64>,
}

/// What a producer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Asks where to go on; nothing is sent before the answer.
    Opening {
        /// The attempt under way.
        under_way: Option<u64>,
    },
    /// Sends.
    Open,
}

/// A producer.
#[derive(Debug)]
pub struct Producer {
    /// Its number.
    pub id: u64,
    /// Its life.
    pub epoch: u32,
    /// What it does.
    pub life: Life,
    /// Attempts at anything.
    pub attempts: u64,
    /// The sequence of its next new batch.
    pub next: u64,
    /// Batches not acknowledged, oldest first.
    pub unacked: VecDeque<Batch>,
    /// Where it believes the owner is.
    pub owner: NodeId,
}

impl Producer {
    /// A producer in its first life.
    #[must_use]
    pub fn new(id: u64) -> Producer {
        Producer {
            id,
            epoch: 1,
            life: Life::Opening { under_way: None },
            attempts: 0,
            next: 0,
            unacked: VecDeque::new(),
            owner: NodeId(1),
        }
    }

    /// Makes another batch.
    pub fn make_batch(&mut self, chance: &mut Chance) {
        let sequence = self.next;
        self.next += 1;
        let row_count = if chance.once_in(8) { 0 } else { chance.between(1, 6) };
        let values = (0..row_count).map(|row| Value::new(self.id, sequence, row)).collect();
        self.unacked.push_back(Batch { sequence, values, attempts: 0, under_way: None });
    }

    /// Dies and comes back.
    pub fn reopen(&mut self) {
        self.epoch += 1;
        self.life = Life::Opening { under_way: None };
        self.unacked.iter_mut().for_each(|batch| batch.under_way = None);
    }

    /// The attempt is over without an answer that counts. Whether it was the one under way.
    pub fn give_up(&mut self, call: Call) -> bool {
        let under_way = match &mut self.life {
            Life::Opening { under_way } => under_way,
            Life::Open => match self.unacked.iter_mut().find(|it| it.sequence == call.sequence) {
                Some(batch) => &mut batch.under_way,
                None => return false,
            },
        };
        let current = self.epoch == call.epoch && *under_way == Some(call.attempt);
        if current {
            *under_way = None;
        }
        current
    }

    /// What to send now, and how often it was sent before.
    pub fn due(&mut self) -> Vec<(Ask, u64)> {
        self.attempts += 1;
        let (producer, epoch, attempt) = (self.id, self.epoch, self.attempts);
        match &mut self.life {
            Life::Opening { under_way: Some(_) } => Vec::new(),
            Life::Opening { under_way } => {
                *under_way = Some(attempt);
                let call = Call { producer, epoch, sequence: 0, attempt };
                vec![(Ask::Fence(call), 0)]
            }
            Life::Open => {
                let waiting = self.unacked.iter_mut().filter(|batch| batch.under_way.is_none());
                let asks = waiting.map(|batch| {
                    batch.under_way = Some(attempt);
                    batch.attempts += 1;
                    let call = Call { producer, epoch, sequence: batch.sequence, attempt };
                    (Ask::Append(call, batch.values.clone()), batch.attempts - 1)
                });
                asks.collect()
            }
        }
    }
}
