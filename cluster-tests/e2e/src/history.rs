//! In which order batches were sent and acknowledged and reads began and ended, and whether that
//! history is linearizable.
//!
//! A stream only grows, so one pass decides it. Each operation must take effect at one moment
//! between its call and its answer; therefore
//!
//! - a read holds at least what was acknowledged, and what any read had found, before it began;
//! - a read holds nothing that was not sent before it ended;
//! - a batch stands behind everything acknowledged or read before it was first sent;
//! - a read is one moment of all partitions: its rows are as many as its frontier says.
//!
//! Invariant: entries are in the order of real time: a call is entered before its first byte is
//! sent, an answer after its last byte was read. What failed stays without an answer, and may have
//! had its effect or not.

use std::collections::BTreeMap;
use std::time::Instant;

use alluvium_proto::v1::PartitionAck;

use crate::ledger::BatchId;
use crate::rows;

/// A list of violations is cut here: the first ones say what is wrong.
const VIOLATIONS_MAX: usize = 20;

/// What happened to one stream.
#[derive(Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    reads: u64,
    // When each batch was sent the last time.
    sent_at: BTreeMap<BatchId, Instant>,
}

/// One entry.
#[derive(Clone, Debug)]
struct Entry {
    at: Instant,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A batch goes out, perhaps not for the first time.
    Sent(BatchId),
    /// A batch was acknowledged.
    Acked { batch: BatchId, sent_at: Option<Instant>, parts: Vec<PartitionAck> },
    /// A read begins.
    ReadBegan(ReadId),
    /// A read was answered.
    ReadEnded(ReadId, Seen),
}

/// A read that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(u64);

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Which node was asked and what, for people.
    pub by: String,
    /// The only producer that was asked for; `None`: all.
    pub only: Option<u32>,
    /// How many rows each producer has, and the highest sequence among them.
    pub producers: BTreeMap<u32, (u64, u64)>,
    /// The frontier that the answer reflects.
    pub frontier: BTreeMap<u32, u64>,
}

impl History {
    /// A batch is about to be sent.
    pub fn sent(&mut self, batch: BatchId) {
        let at = self.enter(What::Sent(batch));
        self.sent_at.insert(batch, at);
    }

    /// A batch is acknowledged, standing at these offsets.
    pub fn acked(&mut self, batch: BatchId, parts: Vec<PartitionAck>) {
        let sent_at = self.sent_at.remove(&batch);
        self.enter(What::Acked { batch, sent_at, parts });
    }

    /// A read is about to be asked.
    pub fn read_began(&mut self) -> ReadId {
        let read = ReadId(self.reads);
        self.reads += 1;
        self.enter(What::ReadBegan(read));
        read
    }

    /// A read was answered.
    pub fn read_ended(&mut self, read: ReadId, seen: Seen) {
        self.enter(What::ReadEnded(read, seen));
    }

    fn enter(&mut self, what: What) -> Instant {
        let at = Instant::now();
        self.entries.push(Entry { at, what });
        at
    }

    /// When each of these partitions first took events that were sent after this moment; `None`
    /// while one has not.
    pub fn written_again(&self, partitions: &[u32], since: Instant) -> Option<Instant> {
        let mut first: BTreeMap<u32, Instant> = BTreeMap::new();
        let later = self.entries.iter().rev().take_while(|entry| since < entry.at);
        for entry in later {
            if let What::Acked { sent_at: Some(sent_at), parts, .. } = &entry.what
                && since < *sent_at
            {
                // A duplicate was taken before, perhaps by the former owner.
                let taken = parts.iter().filter(|part| !part.duplicate && part.first < part.end);
                first.extend(taken.map(|part| (part.partition, entry.at)));
            }
        }
        let moments: Option<Vec<Instant>> =
            partitions.iter().map(|partition| first.get(partition).copied()).collect();
        moments?.into_iter().max()
    }

    /// How many reads began, and how many were answered.
    pub fn reads(&self) -> (u64, u64) {
        let ended = |entry: &&Entry| matches!(entry.what, What::ReadEnded(..));
        let answered = self.entries.iter().filter(ended).count();
        (self.reads, u64::try_from(answered).unwrap_or(u64::MAX))
    }

    /// What is wrong with this history. Empty is the only good answer.
    pub fn check(&self) -> Vec<String> {
        let mut checker = Checker::default();
        for entry in &self.entries {
            match &entry.what {
                What::Sent(batch) => checker.sent(*batch),
                What::Acked { batch, parts, .. } => checker.acked(*batch, parts),
                What::ReadBegan(read) => {
                    checker.open_reads.insert(*read, checker.floor.clone());
                }
                What::ReadEnded(read, seen) => checker.read_ended(*read, seen),
            }
        }
        checker.violations.truncate(VIOLATIONS_MAX);
        checker.violations
    }
}

/// What is known to be in the stream at one moment: everybody who begins now must find it.
#[derive(Clone, Debug, Default)]
struct Floor {
    /// Rows and highest sequence of each producer.
    producers: BTreeMap<u32, (u64, u64)>,
    /// Of each partition, an offset before which everything is acknowledged or was read.
    frontier: BTreeMap<u32, u64>,
}

impl Floor {
    fn raise_producer(&mut self, producer: u32, rows: u64, last: u64) {
        let known = self.producers.entry(producer).or_default();
        *known = (known.0.max(rows), known.1.max(last));
    }

    fn raise_frontier(&mut self, partition: u32, end: u64) {
        let known = self.frontier.entry(partition).or_default();
        *known = end.max(*known);
    }
}

#[derive(Debug, Default)]
struct Checker {
    floor: Floor,
    // Rows acknowledged and rows sent, by producer; and the batches not acknowledged yet, with
    // what was known when each was first sent.
    acked_rows: BTreeMap<u32, u64>,
    sent: BTreeMap<u32, (u64, u64)>,
    open_batches: BTreeMap<BatchId, BTreeMap<u32, u64>>,
    open_reads: BTreeMap<ReadId, Floor>,
    violations: Vec<String>,
}

impl Checker {
    fn sent(&mut self, batch: BatchId) {
        let (producer, sequence) = batch;
        let next = self.sent.get(&producer).map_or(0, |(_, last)| last + 1);
        let is_first = !self.sent.contains_key(&producer) || next <= sequence;
        if is_first {
            let sent = self.sent.entry(producer).or_default();
            *sent = (sent.0 + u64::from(rows::batch_rows(producer, sequence)), sequence);
            self.open_batches.insert(batch, self.floor.frontier.clone());
        }
    }

    fn acked(&mut self, batch: BatchId, parts: &[PartitionAck]) {
        let Some(floor) = self.open_batches.remove(&batch) else {
            self.violations.push(format!("batch {batch:?} is acknowledged twice or was not sent"));
            return;
        };
        for part in parts {
            let (Some(first), Some(end)) = (part.first, part.end) else { continue };
            let partition = part.partition;
            let known = floor.get(&partition).copied().unwrap_or(0);
            if first < end && first < known {
                self.violations.push(format!(
                    "batch {batch:?} stands at {first} of partition {partition}, which was known \
                     to reach {known} before the batch was sent"
                ));
            }
            self.floor.raise_frontier(partition, end);
        }
        let (producer, sequence) = batch;
        let rows = self.acked_rows.entry(producer).or_default();
        *rows += u64::from(rows::batch_rows(producer, sequence));
        self.floor.raise_producer(producer, *rows, sequence);
    }

    fn read_ended(&mut self, read: ReadId, seen: &Seen) {
        let Some(floor) = self.open_reads.remove(&read) else {
            self.violations.push(format!("{} ended but did not begin", seen.by));
            return;
        };
        self.check_producers(&floor, seen);
        self.check_frontier(&floor, seen);
        for (&producer, &(rows, last)) in &seen.producers {
            self.floor.raise_producer(producer, rows, last);
        }
        for (&partition, &end) in &seen.frontier {
            self.floor.raise_frontier(partition, end);
        }
    }

    fn check_producers(&mut self, floor: &Floor, seen: &Seen) {
        let asked = |producer: &u32| seen.only.is_none_or(|only| only == *producer);
        for (producer, known) in floor.producers.iter().filter(|(producer, _)| asked(producer)) {
            let found = seen.producers.get(producer).copied().unwrap_or_default();
            if found.0 < known.0 || found.1 < known.1 {
                self.violations.push(format!(
                    "{} is stale: of producer {producer} it finds {} rows up to sequence {}, \
                     known before it began were {} up to {}",
                    seen.by, found.0, found.1, known.0, known.1
                ));
            }
        }
        for (producer, found) in &seen.producers {
            let sent = self.sent.get(producer).copied();
            if sent.is_none_or(|sent| sent.0 < found.0 || sent.1 < found.1) {
                self.violations.push(format!(
                    "{} finds {} rows up to sequence {} of producer {producer}, sent were {sent:?}",
                    seen.by, found.0, found.1
                ));
            }
        }
    }

    fn check_frontier(&mut self, floor: &Floor, seen: &Seen) {
        for (partition, &known) in &floor.frontier {
            let found = seen.frontier.get(partition).copied().unwrap_or(0);
            if found < known {
                self.violations.push(format!(
                    "{} is stale: partition {partition} as of {found}, known before it began was \
                     {known}",
                    seen.by
                ));
            }
        }
        let rows: u64 = seen.producers.values().map(|(rows, _)| rows).sum();
        let events: u64 = seen.frontier.values().sum();
        if seen.only.is_none() && rows != events {
            self.violations
                .push(format!("{} finds {rows} rows as of a frontier of {events} events", seen.by));
        }
    }
}

#[cfg(test)]
mod tests;
