//! Rounds of load on a cluster, one fault each, healing and audit.
//!
//! Eight producers retry over all nodes until they are acknowledged, four readers ask any node all
//! the while, and two views fold the stream. The seed decides the faults' victims and lengths; the
//! machine decides what they hit, so a seed makes a run similar, not identical. The simulator is
//! for that.
//!
//! In reading order: [`fault`] is what is done, [`clients`] go through it, [`checks`] look at what
//! is left, [`report`] says what was seen.

pub mod checks;
pub mod clients;
mod fault;
mod phases;
mod report;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::checks::Work;
use self::clients::Clients;
pub use self::fault::{FAULTS, Fault};
use self::phases::Phases;
pub use self::report::ClusterReport;
use crate::cluster::Cluster;
use crate::load::Shared;

/// Partitions of the audited stream.
const PARTITIONS: u32 = 6;

/// A stream is audited to the last batch and replaced after this many rounds, so that audits and
/// reads stay short however long a run is.
const ROUNDS_PER_STREAM: usize = 12;

/// So many rows are acknowledged before a fault, and after it is healed.
const ROWS_BETWEEN: u64 = 1_000;

/// Longer than a cluster that lives takes for anything: what is not there by then is a violation.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct ClusterChaosOptions {
    /// How many nodes.
    pub nodes: usize,
    /// How many rounds of each fault.
    pub rounds: u32,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// Decides victims and lengths.
    pub seed: u64,
    /// Rows a second, of all producers together.
    pub rate: usize,
    /// Tails are cut at this size: small, so that faults hit cuts and merges.
    pub segment_bytes: u64,
}

struct Run<'a> {
    options: &'a ClusterChaosOptions,
    cluster: Cluster,
    rng: ChaCha8Rng,
    report: ClusterReport,
}

/// Runs all rounds; stops early at the first round with a violation.
pub async fn run(
    options: &ClusterChaosOptions,
    say: &mut dyn FnMut(&str),
) -> Result<ClusterReport> {
    let segment_bytes = options.segment_bytes.to_string();
    let settings = [("ALLUVIUM_SEGMENT_BYTES", segment_bytes.as_str())];
    let cluster = Cluster::start(options.nodes, &settings).await?;
    let rng = ChaCha8Rng::seed_from_u64(options.seed);
    let report = ClusterReport::new(options.nodes);
    let mut run = Run { options, cluster, rng, report };
    let rounds = run.plan(say);
    for (number, rounds) in rounds.chunks(ROUNDS_PER_STREAM).enumerate() {
        let done = run.stream(&format!("chaos_{number}"), rounds, say).await;
        if done.is_err() || !run.report.violations.is_empty() {
            let dir = std::env::temp_dir().join(format!("alluvium-chaos-{}", options.seed));
            run.cluster.save_logs(&dir)?;
            say(&format!("what the nodes logged is in {}", dir.display()));
        }
        done.with_context(|| format!("violations: {:?}", run.report.violations))
            .with_context(|| run.cluster.log_ends())?;
        if !run.report.violations.is_empty() {
            break;
        }
    }
    Ok(run.report)
}

impl Run<'_> {
    /// Every fault so many times, in an order that the seed decides.
    fn plan(&mut self, say: &mut dyn FnMut(&str)) -> Vec<Fault> {
        let no_cuts = self.cluster.why_no_cuts();
        let (left_out, mut faults): (Vec<Fault>, Vec<Fault>) =
            self.options.faults.iter().partition(|fault| fault.cuts_links() && no_cuts.is_some());
        for fault in left_out {
            let reason = no_cuts.unwrap_or_default();
            say(&format!("skipped: {fault}: links cannot be cut here: {reason}"));
        }
        let mut rounds = Vec::new();
        for _ in 0..self.options.rounds {
            faults.shuffle(&mut self.rng);
            rounds.extend_from_slice(&faults);
        }
        rounds
    }

    async fn stream(
        &mut self,
        stream: &str,
        rounds: &[Fault],
        say: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let work = Work::new(stream, PARTITIONS);
        work.create(&self.cluster.client(0).await?).await?;
        let shared = Shared::paced();
        // In a cluster under faults a call may be lost at any time: another node is asked then.
        shared.set_killing(true);
        let mut clients = Clients::new(&self.cluster, &work, shared.clone());
        for &fault in rounds {
            let begun = Instant::now();
            let done = self.round(fault, &work, &mut clients).await;
            self.take_violations(&shared);
            let phases = done.with_context(|| format!("round of {fault}"))?;
            self.report.phases.add(&phases);
            let silences = shared.silences();
            let line = self.report.line(fault, begun.elapsed());
            say(&format!("{line}, {silences} silences; {phases}"));
            if !self.report.violations.is_empty() {
                return Ok(());
            }
        }
        self.report.add(&shared);
        work.drop(&self.cluster.client(0).await?).await
    }

    fn take_violations(&mut self, shared: &Shared) {
        self.report.violations.append(&mut shared.ledger().violations);
    }

    async fn round(&mut self, fault: Fault, work: &Work, clients: &mut Clients) -> Result<Phases> {
        let mut phases = Phases::begin();
        let owners = self.cluster.wait_owned(&work.stream, PARTITIONS, WAIT_MAX).await?;
        phases.next();
        clients.start(self.options.rate, self.rng.random())?;
        clients.wait_rows(ROWS_BETWEEN, WAIT_MAX).await.context("before the fault")?;
        phases.next();
        let victim = owners[&self.rng.random_range(0..PARTITIONS)];
        let lost: Vec<u32> =
            owners.iter().filter(|(_, owner)| **owner == victim).map(|(part, _)| *part).collect();
        let voters = self.cluster.voters(&work.stream).await?;
        let hit = self.hit(fault, victim, &voters);
        self.inject(fault, victim, &hit).await?;
        let since = Instant::now();
        self.report.begin(fault);
        let keeps_on = keeps_on(&voters, &hit);
        if keeps_on {
            let again = clients.wait_written(&lost, since, WAIT_MAX).await;
            let again = again.context("while the fault lasts")?;
            self.report.writable_again(fault, again);
        }
        // A fault has a length of its own: nothing is waited for here.
        tokio::time::sleep(self.rng.random_range(fault.length(keeps_on))).await;
        phases.next();
        let mended = Instant::now();
        self.mend(fault, victim).await?;
        let all: Vec<u32> = (0..PARTITIONS).collect();
        let again = clients.wait_written(&all, mended, WAIT_MAX).await;
        let again = again.context("after the fault was healed")?;
        if fault == Fault::KillAll {
            self.report.writable_again(fault, again);
        }
        self.cluster.wait_ready().await?;
        clients.wait_rows(ROWS_BETWEEN, WAIT_MAX).await.context("after the fault")?;
        phases.next();
        clients.end(WAIT_MAX).await?;
        phases.next();
        checks::check(&self.cluster, work, clients.shared(), &mut self.rng).await?;
        phases.next();
        Ok(phases)
    }

    /// The nodes that a fault takes from the others.
    fn hit(
        &mut self,
        fault: Fault,
        victim: usize,
        voters: &BTreeMap<u32, Vec<usize>>,
    ) -> Vec<usize> {
        let all = 0..self.cluster.len();
        match fault {
            Fault::KillOwner | Fault::PauseOwner | Fault::OneWay | Fault::IsolateOwner => {
                vec![victim]
            }
            Fault::KillAll => all.collect(),
            Fault::Split => {
                let minority = (self.cluster.len() - 1) / 2;
                let mut others: Vec<usize> = all.filter(|node| *node != victim).collect();
                others.shuffle(&mut self.rng);
                // Where it can be had, a minority without which every partition goes on: with more
                // nodes than replicas, two of them may be most of a partition.
                others.sort_by_key(|other| !keeps_on(voters, &[victim, *other]));
                others.truncate(minority.saturating_sub(1));
                others.push(victim);
                others
            }
        }
    }

    async fn inject(&mut self, fault: Fault, victim: usize, hit: &[usize]) -> Result<()> {
        match fault {
            Fault::KillOwner | Fault::KillAll => {
                for node in hit {
                    self.cluster.kill(*node).await?;
                }
                Ok(())
            }
            Fault::PauseOwner => self.cluster.pause(victim).await,
            Fault::Split => self.cluster.split(hit),
            Fault::OneWay if self.rng.random() => self.cluster.deafen(victim),
            Fault::OneWay => self.cluster.mute(victim),
            Fault::IsolateOwner => self.cluster.isolate_from_peers(victim),
        }
    }

    async fn mend(&mut self, fault: Fault, victim: usize) -> Result<()> {
        match fault {
            Fault::KillOwner | Fault::KillAll => self.cluster.restart_dead().await,
            Fault::PauseOwner => self.cluster.resume(victim),
            Fault::Split | Fault::OneWay | Fault::IsolateOwner => self.cluster.heal(),
        }
    }
}

/// Whether most of each partition's voters are left without these nodes.
fn keeps_on(voters: &BTreeMap<u32, Vec<usize>>, hit: &[usize]) -> bool {
    voters.values().all(|nodes| {
        let left = nodes.iter().filter(|node| !hit.contains(node)).count();
        nodes.len() < 2 * left
    })
}
