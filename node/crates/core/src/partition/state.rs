//! The state of one partition and how commands change it.
//!
//! Checkpoint, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 1 | start u64 | end u64 | time i64 | producer count u32
//! each producer: id u64 | epoch u32 | next u64 | last_appended_at i64 | batch count u32
//! each batch:    sequence u64 | first u64 | end u64 | position u64
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::command::{Append, Command, Part};
use super::producers::{ProducerState, Producers, Verdict};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{Epoch, Index, Offset, ProducerId, Sequence};
use crate::replica::{CorruptCheckpoint, CorruptCommand, Machine};
use crate::time::Time;

const CHECKPOINT_VERSION: u8 = 1;

/// One partition: which offsets it holds and who appended. The default is an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    start: Offset,
    end: Offset,
    /// The latest time any command said; append times never go back behind it, whatever the clock
    /// of a new owner says.
    time: Time,
    producers: Producers,
}

/// What applying a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Events were appended, or recognised, or refused: part by part.
    Appended(Appended),
    /// Events before `start` are forgotten.
    Retained {
        /// The first offset kept.
        start: Offset,
    },
    /// Time went on.
    Clock,
    /// A producer's new life began.
    Fenced {
        /// What this partition knows of the producer; its epoch is newer where another life took
        /// over meanwhile.
        known: ProducerState,
    },
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The events added are `[first, end)`.
    pub first: Offset,
    /// See `first`.
    pub end: Offset,
    /// The append time of these events: what the command said, unless time would go back.
    pub appended_at: Time,
    /// What became of each part, in the order of the command.
    pub parts: Vec<PartOutcome>,
    /// Which rows of the payload were appended: ascending, not empty, neighbours merged.
    pub kept: Vec<Range<u32>>,
    /// The payload of the command.
    pub payload: Bytes,
}

/// What became of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartOutcome {
    /// Its events are `[first, end)`.
    Appended {
        /// See above.
        first: Offset,
        /// See above.
        end: Offset,
    },
    /// A retry: applied before, at these offsets where they are still remembered.
    Duplicate {
        /// `[first, end)`
        offsets: Option<(Offset, Offset)>,
    },
    /// The producer was opened again since; nothing of this life counts any more.
    Fenced {
        /// The life that counts.
        current: Epoch,
    },
    /// Batches before this one are missing.
    OutOfSequence {
        /// The sequence that would be applied.
        expected: Sequence,
    },
}

impl Partition {
    /// The first offset that is kept.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The offset after the last event.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The latest time any command said.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// Who appended, in id order.
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter()
    }

    /// What is known of one producer.
    #[must_use]
    pub fn producer(&self, producer: ProducerId) -> Option<&ProducerState> {
        self.producers.get(producer)
    }

    fn append(&mut self, append: Append) -> Appended {
        self.time = self.time.max(append.appended_at);
        let first = self.end;
        let mut parts = Vec::with_capacity(append.parts.len());
        let mut kept = Vec::new();
        let mut row = 0_u32;
        for part in &append.parts {
            let rows = row..row + part.event_count;
            row = rows.end;
            let outcome = self.append_part(part);
            if let PartOutcome::Appended { .. } = outcome {
                keep(&mut kept, rows);
            }
            parts.push(outcome);
        }
        let payload = append.payload;
        Appended { first, end: self.end, appended_at: self.time, parts, kept, payload }
    }

    fn append_part(&mut self, part: &Part) -> PartOutcome {
        let first = self.end;
        let end = first.advance(u64::from(part.event_count));
        let Some(stamp) = &part.producer else {
            self.end = end;
            return PartOutcome::Appended { first, end };
        };
        match self.producers.judge(stamp) {
            Verdict::Next => {
                self.producers.applied(stamp, first, end, self.time);
                self.end = end;
                PartOutcome::Appended { first, end }
            }
            Verdict::Duplicate { offsets } => PartOutcome::Duplicate { offsets },
            Verdict::Fenced { current } => PartOutcome::Fenced { current },
            Verdict::OutOfSequence { expected } => PartOutcome::OutOfSequence { expected },
        }
    }

    fn retain(&mut self, start: Offset) -> Offset {
        self.start = self.start.max(start.min(self.end));
        self.start
    }

    fn clock(&mut self, now: Time) {
        self.time = self.time.max(now);
        self.producers.expire(self.time);
    }
}

/// Adds rows to the kept ones; ranges come ascending.
fn keep(kept: &mut Vec<Range<u32>>, rows: Range<u32>) {
    if rows.is_empty() {
        return;
    }
    match kept.last_mut() {
        Some(last) if last.end == rows.start => last.end = rows.end,
        Some(_) | None => kept.push(rows),
    }
}

impl Machine for Partition {
    type Outcome = Outcome;

    fn apply(&mut self, _index: Index, command: &Bytes) -> Result<Outcome, CorruptCommand> {
        match Command::decode(command)? {
            Command::Append(append) => Ok(Outcome::Appended(self.append(append))),
            Command::Retain { start } => Ok(Outcome::Retained { start: self.retain(start) }),
            Command::Clock { now } => {
                self.clock(now);
                Ok(Outcome::Clock)
            }
            Command::Fence { producer, epoch, now } => {
                self.time = self.time.max(now);
                let known = self.producers.fence(producer, epoch, self.time).clone();
                Ok(Outcome::Fenced { known })
            }
        }
    }

    fn checkpoint(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(CHECKPOINT_VERSION);
        writer.u64(self.start.0);
        writer.u64(self.end.0);
        writer.i64(self.time.0);
        self.producers.encode(&mut writer);
        writer.finish()
    }

    fn restore(bytes: &[u8]) -> Result<Partition, CorruptCheckpoint> {
        restore(bytes)
            .map_err(|malformed| CorruptCheckpoint::new(format!("partition: {malformed}")))
    }
}

fn restore(bytes: &[u8]) -> Result<Partition, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.version(CHECKPOINT_VERSION)?;
    let start = Offset(reader.u64()?);
    let end = Offset(reader.u64()?);
    let time = Time(reader.i64()?);
    let producers = Producers::decode(&mut reader)?;
    reader.end()?;
    if end < start {
        return Err(Malformed::inconsistent(format!("start {start} is behind end {end}")));
    }
    Ok(Partition { start, end, time, producers })
}
