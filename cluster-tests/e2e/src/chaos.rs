//! Rounds of load, SIGKILL at a random moment, restart and audit.
//!
//! The seed decides the moments and who restarts; the machine decides what they hit, so a seed
//! makes a run similar, not identical. The simulator is for that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use crate::audit::{Audited, audit};
use crate::client::Client;
use crate::ledger::Ledger;
use crate::load::{Mode, Producer, Shared, Until};
use crate::measure;
use crate::node::{Node, NodeOptions};
use crate::rows;

/// A stream is settled, audited to the last batch and replaced after this many rounds, so that
/// audits stay short however long a run is.
const ROUNDS_PER_STREAM: u32 = 20;

/// Enough for one round: the node is killed at the latest then.
const ROUND_ROWS_MAX: u64 = 150_000;

/// Partitions of the audited stream.
const PARTITIONS: u32 = 4;

/// Everybody notices a dead node long before this.
const NOTICE_WAIT_MAX: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// Kills.
    pub rounds: u32,
    /// Decides the moments.
    pub seed: u64,
    /// Tails are cut at this size: small, so that kills hit cuts and merges.
    pub segment_bytes: u64,
    /// Longest load before a kill.
    pub load_max: Duration,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct ChaosReport {
    /// Kills under load.
    pub kills: u32,
    /// Kills of a node that was still starting.
    pub start_kills: u32,
    /// Acknowledged batches.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Of these, those that the node held already.
    pub duplicates: u64,
    /// Most segments seen at once.
    pub segments_max: u64,
    /// Slowest restart until ready.
    pub start_max: Duration,
    /// Broken promises. Empty is the only good answer.
    pub violations: Vec<String>,
}

struct Run<'a> {
    options: &'a ChaosOptions,
    node: Node,
    rng: ChaCha8Rng,
    report: ChaosReport,
}

/// Runs all rounds; stops early at the first round with a violation.
pub async fn run(options: &ChaosOptions, say: &mut dyn FnMut(&str)) -> Result<ChaosReport> {
    let settings = NodeOptions::default().set("ALLUVIUM_SEGMENT_BYTES", options.segment_bytes);
    let node = Node::start(settings).await?;
    let rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut run = Run { options, node, rng, report: ChaosReport::default() };
    let mut rounds_left = options.rounds;
    let mut number = 0;
    while 0 < rounds_left && run.report.violations.is_empty() {
        let rounds = rounds_left.min(ROUNDS_PER_STREAM);
        let stream = format!("chaos_{number}");
        let done = run.stream(&stream, rounds, say).await;
        done.with_context(|| format!("the node's log ends:\n{}", run.node.log_end()))?;
        rounds_left -= rounds;
        number += 1;
    }
    let status = run.node.terminate(Duration::from_secs(10)).await?;
    if !status.success() {
        run.report.violations.push(format!("SIGTERM ends with {status}"));
    }
    Ok(run.report)
}

impl Run<'_> {
    async fn stream(&mut self, stream: &str, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<()> {
        let client = self.node.client().await?;
        client.query(&rows::create_stream(stream, PARTITIONS)).await?;
        let shared = Shared::new();
        let mut producers = producers(stream);
        for _ in 0..rounds {
            let begun = Instant::now();
            producers = self.load_and_kill(producers, stream, &shared).await?;
            self.restart().await?;
            let client = self.node.client().await?;
            let audited = self.audit(&client, stream, &shared).await?;
            say(&self.line(begun, &audited));
            if !self.report.violations.is_empty() {
                return Ok(());
            }
        }
        let client = self.node.client().await?;
        for producer in &mut producers {
            producer.run(&client, &shared, Until::Settled).await;
        }
        self.audit(&client, stream, &shared).await?;
        self.add(&shared.ledger());
        client.query(&format!("DROP STREAM {stream}")).await?;
        Ok(())
    }

    async fn load_and_kill(
        &mut self,
        producers: Vec<Producer>,
        stream: &str,
        shared: &std::sync::Arc<Shared>,
    ) -> Result<Vec<Producer>> {
        shared.set_killing(false);
        let mut tasks = JoinSet::new();
        for mut producer in producers {
            let client = self.node.client().await?;
            let reopens = self.rng.random_ratio(1, 5);
            let shared = shared.clone();
            tasks.spawn(async move {
                let opened = if reopens { producer.open(&client, &shared).await } else { Ok(()) };
                match opened {
                    Ok(()) => producer.run(&client, &shared, Until::Killed).await,
                    Err(status) => shared.unless_killed(&status, "OpenProducer"),
                };
                Some(producer)
            });
        }
        let reader = read(self.node.client().await?, stream.to_owned(), shared.clone());
        tasks.spawn(reader);
        let load_max_us = u64::try_from(self.options.load_max.as_micros())?;
        let moment = Duration::from_micros(self.rng.random_range(20_000..=load_max_us));
        let mut acked_rows = shared.watch_acked_rows();
        let enough = *acked_rows.borrow() + ROUND_ROWS_MAX;
        let full = acked_rows.wait_for(|rows| enough <= *rows);
        // Either is a fair moment to die.
        drop(tokio::time::timeout(moment, full).await);
        shared.set_killing(true);
        self.node.kill().await?;
        self.report.kills += 1;
        let ended = tokio::time::timeout(NOTICE_WAIT_MAX, tasks.join_all()).await;
        let mut back: Vec<Producer> =
            ended.context("a client hangs on a dead node")?.into_iter().flatten().collect();
        back.sort_by_key(Producer::number);
        Ok(back)
    }

    /// One restart in five is itself killed on the way.
    async fn restart(&mut self) -> Result<()> {
        while self.rng.random_ratio(1, 5) {
            let after = Duration::from_micros(self.rng.random_range(1_000..150_000));
            self.node.restart_and_kill(after).await?;
            self.report.start_kills += 1;
        }
        self.node.restart().await?;
        self.report.start_max = self.report.start_max.max(self.node.started_in);
        Ok(())
    }

    async fn audit(&mut self, client: &Client, stream: &str, shared: &Shared) -> Result<Audited> {
        let mut ledger = std::mem::take(&mut *shared.ledger());
        let audited = audit(client, stream, &mut ledger).await;
        self.report.violations.append(&mut ledger.violations);
        *shared.ledger() = ledger;
        let audited = audited?;
        self.report.segments_max = self.report.segments_max.max(audited.segments);
        Ok(audited)
    }

    fn add(&mut self, ledger: &Ledger) {
        self.report.batches += ledger.acked.batches;
        self.report.rows += ledger.acked.rows;
        self.report.retries += ledger.retries;
        self.report.duplicates += ledger.duplicates;
    }

    fn line(&self, begun: Instant, audited: &Audited) -> String {
        format!(
            "round {:4}: {:8} rows in {:6} batches, {:3} segments, ready again in {:4} ms, \
             {:.1} s, {} violations",
            self.report.kills,
            audited.rows,
            audited.batches,
            audited.segments,
            self.node.started_in.as_millis(),
            begun.elapsed().as_secs_f64(),
            self.report.violations.len(),
        )
    }
}

/// Eight stamped producers of all kinds, and one without a stamp.
fn producers(stream: &str) -> Vec<Producer> {
    let modes = (0..8).map(|number| match number % 2 {
        0 => Mode::Unary,
        _ => Mode::Pipelined { window: 1 + number },
    });
    let modes = modes.chain([Mode::Unstamped]);
    (0..).zip(modes).map(|(number, mode)| Producer::new(number, mode, stream)).collect()
}

/// Counts while others append: what was acknowledged before a query began is in its answer.
async fn read(client: Client, stream: String, shared: std::sync::Arc<Shared>) -> Option<Producer> {
    let sql = format!("SELECT count(*) FROM {stream}");
    loop {
        let acked = shared.ledger().acked.rows;
        let counted = match client.query(&sql).await {
            Ok(answer) => answer.single(),
            Err(status) => {
                shared.unless_killed(&status, "a query");
                return None;
            }
        };
        match counted {
            Ok(rows) if acked <= u64::try_from(rows).unwrap_or(0) => {}
            other => {
                shared.violation(format!("{acked} rows were acked, a later query counts {other:?}"))
            }
        }
    }
}

/// Names the columns of [`ChaosReport::result_line`].
pub const RESULT_HEAD: &str = "\
| date | kills under load | kills while starting | acked batches | acked rows | sent again | \
already held | most segments | slowest start | violations | seed | minutes |\n\
|---|---|---|---|---|---|---|---|---|---|---|---|";

impl ChaosReport {
    /// One row of the table in docs/BENCHMARKS.md.
    pub fn result_line(&self, options: &ChaosOptions, took: Duration) -> String {
        let ChaosReport { kills, start_kills, batches, rows, retries, duplicates, .. } = self;
        format!(
            "| {} | {kills} | {start_kills} | {batches} | {rows} | {retries} | {duplicates} | {} | \
             {} ms | {} | {} | {:.1} |",
            measure::today(),
            self.segments_max,
            self.start_max.as_millis(),
            self.violations.len(),
            options.seed,
            took.as_secs_f64() / 60.0,
        )
    }

    /// Fails with the violations, where there are any.
    pub fn check(&self) -> Result<()> {
        if self.violations.is_empty() {
            return Ok(());
        }
        bail!("{} violations:\n{}", self.violations.len(), self.violations.join("\n"))
    }
}
