//! What was sent and what was acknowledged: the truth that a node is audited against.
//!
//! Invariant: a batch is entered before its first byte is sent, and marked as acknowledged only
//! after its answer was read.

use std::collections::BTreeMap;

use alluvium_proto::v1;

use crate::history::History;
use crate::rows;

/// Which batch: producer number and sequence.
pub type BatchId = (u32, u64);

/// Everything known about one stream's batches.
#[derive(Debug, Default)]
pub struct Ledger {
    batches: BTreeMap<BatchId, Sent>,
    /// Answers that broke a promise, in words.
    pub violations: Vec<String>,
    /// Acknowledged batches and rows.
    pub acked: Acked,
    /// How often a batch was sent again.
    pub retries: u64,
    /// Of these, how many were answered as duplicates: the node held them already.
    pub duplicates: u64,
    // The latest acknowledged end of each partition.
    frontier: BTreeMap<u32, u64>,
    /// Whether nodes send batches on to each other. One whose answer they lost, because the owner
    /// died, they send again by themselves: then it is a duplicate though it was sent once.
    pub is_forwarded: bool,
    /// In which order all of it happened, where reads are compared with it.
    pub history: Option<History>,
}

/// Sums over acknowledged batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acked {
    /// Batches.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
}

/// One batch.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// How often it was sent.
    pub attempts: u32,
    /// Whether its answer was seen.
    pub acked: bool,
    /// Where the ack said that the rows stand: partition to offsets `[first, end)`.
    pub ranges: BTreeMap<u32, (u64, u64)>,
}

impl Ledger {
    /// A batch is about to be sent.
    pub fn sending(&mut self, id: BatchId) {
        let sent = self.batches.entry(id).or_default();
        sent.attempts += 1;
        if 1 < sent.attempts {
            self.retries += 1;
        }
        if let Some(history) = &mut self.history {
            history.sent(id);
        }
    }

    /// Every partition is known to hold the batch, though no ack was seen.
    pub fn held(&mut self, id: BatchId) {
        if let Some(history) = &mut self.history {
            history.acked(id, Vec::new());
        }
        self.mark(id);
    }

    /// The batch was acknowledged.
    pub fn acked(&mut self, id: BatchId, ack: &v1::AppendResponse) {
        self.check_ack(id, ack);
        let Some(sent) = self.batches.get_mut(&id) else {
            self.violations.push(format!("batch {id:?} is acknowledged but was never sent"));
            return;
        };
        for part in &ack.partitions {
            if let (Some(first), Some(end)) = (part.first, part.end)
                && first < end
            {
                sent.ranges.insert(part.partition, (first, end));
                let known = self.frontier.entry(part.partition).or_insert(end);
                *known = end.max(*known);
            }
        }
        if ack.duplicate {
            self.duplicates += 1;
        }
        if let Some(history) = &mut self.history {
            history.acked(id, ack.partitions.clone());
        }
        self.mark(id);
    }

    fn mark(&mut self, id: BatchId) {
        let sent = self.batches.entry(id).or_default();
        if !sent.acked {
            sent.acked = true;
            self.acked.batches += 1;
            self.acked.rows += u64::from(rows::batch_rows(id.0, id.1));
        }
    }

    fn check_ack(&mut self, id: BatchId, ack: &v1::AppendResponse) {
        let rows = u64::from(rows::batch_rows(id.0, id.1));
        let attempts = self.batches.get(&id).map_or(0, |sent| sent.attempts);
        if ack.duplicate && attempts < 2 && !self.is_forwarded {
            self.violations.push(format!("batch {id:?} was sent once, answered as a duplicate"));
        }
        let mut placed = 0;
        let mut all_known = true;
        for part in &ack.partitions {
            match (part.first, part.end) {
                (Some(first), Some(end)) if first <= end => placed += end - first,
                (Some(_), Some(_)) => {
                    self.violations.push(format!("batch {id:?}: offsets run backwards: {part:?}"));
                }
                (None, _) | (_, None) => all_known = false,
            }
            let frontier = ack.frontier.as_ref();
            let reached = frontier.and_then(|f| f.offsets.get(&part.partition)).copied();
            if part.end.is_some_and(|end| reached.unwrap_or(0) < end) {
                let violation =
                    format!("batch {id:?}: frontier {reached:?} is before its own {part:?}");
                self.violations.push(violation);
            }
        }
        if all_known && placed != rows {
            self.violations.push(format!("batch {id:?}: {rows} rows sent, ack places {placed}"));
        }
    }

    /// The batches by id.
    pub fn batches(&self) -> &BTreeMap<BatchId, Sent> {
        &self.batches
    }

    /// For each partition, an offset up to which everything was acknowledged to someone.
    pub fn frontier(&self) -> &BTreeMap<u32, u64> {
        &self.frontier
    }
}
