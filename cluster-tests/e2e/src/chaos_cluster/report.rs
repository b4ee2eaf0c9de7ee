//! What a run over a cluster has seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use super::fault::Fault;
use super::phases::Phases;
use crate::load::Shared;
use crate::measure::{self, Latencies};

/// What happened.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// Rounds, and how long the partitions hit could not be written, by fault.
    pub faults: BTreeMap<Fault, FaultReport>,
    /// Acknowledged batches.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Of these, those that were held already.
    pub duplicates: u64,
    /// Calls that nobody answered in time.
    pub silences: u64,
    /// Reads asked, and reads answered.
    pub reads: (u64, u64),
    /// Broken promises. Empty is the only good answer.
    pub violations: Vec<String>,
    /// Where the time of all rounds went.
    pub phases: Phases,
}

/// Of one kind of fault.
#[derive(Clone, Debug, Default)]
pub struct FaultReport {
    /// How often it happened.
    pub rounds: u32,
    /// From the fault until every partition of its victim took new events; where no majority was
    /// left, from the healing.
    pub writable_again: Latencies,
    last: Option<Duration>,
}

impl ClusterReport {
    /// Nothing has happened yet.
    pub fn new(nodes: usize) -> ClusterReport {
        ClusterReport {
            nodes,
            faults: BTreeMap::new(),
            batches: 0,
            rows: 0,
            retries: 0,
            duplicates: 0,
            silences: 0,
            reads: (0, 0),
            violations: Vec::new(),
            phases: Phases::begin(),
        }
    }

    pub(super) fn begin(&mut self, fault: Fault) {
        self.faults.entry(fault).or_default().rounds += 1;
    }

    pub(super) fn writable_again(&mut self, fault: Fault, after: Duration) {
        let report = self.faults.entry(fault).or_default();
        report.writable_again.add(after);
        report.last = Some(after);
    }

    pub(super) fn add(&mut self, shared: &Shared) {
        self.silences += shared.silences();
        let ledger = shared.ledger();
        self.batches += ledger.acked.batches;
        self.rows += ledger.acked.rows;
        self.retries += ledger.retries;
        self.duplicates += ledger.duplicates;
        if let Some(history) = &ledger.history {
            let (asked, answered) = history.reads();
            self.reads = (self.reads.0 + asked, self.reads.1 + answered);
        }
    }

    pub(super) fn line(&self, fault: Fault, took: Duration) -> String {
        let rounds: u32 = self.faults.values().map(|report| report.rounds).sum();
        let last = self.faults.get(&fault).and_then(|report| report.last).unwrap_or_default();
        format!(
            "{} nodes, round {rounds:4}: {fault:13}, writable again after {:5} ms, {:.1} s, \
             {} violations",
            self.nodes,
            last.as_millis(),
            took.as_secs_f64(),
            self.violations.len(),
        )
    }

    /// Tables for docs/BENCHMARKS.md.
    pub fn tables(&mut self, seed: u64, took: Duration) -> String {
        let ClusterReport { nodes, batches, rows, retries, duplicates, silences, reads, .. } = self;
        let rounds: u32 = self.faults.values().map(|report| report.rounds).sum();
        let mut text = format!(
            "| date | nodes | rounds | acked batches | acked rows | sent again | already held | \
             unanswered calls | reads | of them answered | violations | seed | minutes |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|\n\
             | {} | {nodes} | {rounds} | {batches} | {rows} | {retries} | {duplicates} | \
             {silences} | {} | {} | {} | {seed} | {:.1} |\n\n\
             | fault | rounds | writable again, p50 | p99 | most |\n|---|---|---|---|---|\n",
            measure::today(),
            reads.0,
            reads.1,
            self.violations.len(),
            took.as_secs_f64() / 60.0,
        );
        for (fault, report) in &mut self.faults {
            let mut at = |share| report.writable_again.quantile_ms(share);
            let (half, most, all) = (at(0.5), at(0.99), at(1.0));
            let rounds = report.rounds;
            writeln!(text, "| {fault} | {rounds} | {half:.0} ms | {most:.0} ms | {all:.0} ms |")
                .expect("text takes everything");
        }
        writeln!(text, "\nSeconds of all rounds: {}.", self.phases).expect("text takes everything");
        text
    }

    /// Fails with the violations, where there are any.
    pub fn check(&self) -> Result<()> {
        if self.violations.is_empty() {
            return Ok(());
        }
        bail!("{} violations:\n{}", self.violations.len(), self.violations.join("\n"))
    }
}
