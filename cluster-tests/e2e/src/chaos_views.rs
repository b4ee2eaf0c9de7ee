//! Views made over history while events come in, under SIGKILL at random moments.
//!
//! The node takes in a part of the events, views are made over them while it takes in the rest, and
//! it is killed again and again meanwhile. After every restart the counts of every view must add
//! up, however far it is; now and then, and at the end, every view must be what its definition
//! says.
//!
//! As in [`crate::chaos`], a seed makes a run similar, not identical.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::load::{Mode, Producer, Shared, Until};
use crate::measure;
use crate::node::{Node, NodeOptions};
use crate::rows;
use crate::views::ViewCase;

const STREAM: &str = "folded";
const PARTITIONS: u32 = 4;
const PRODUCERS: u32 = 8;

/// Everybody notices a dead node long before this.
const NOTICE_WAIT_MAX: Duration = Duration::from_secs(30);

/// A view that has not caught up with everything after this time hangs.
const FOLD_WAIT_MAX: Duration = Duration::from_secs(600);

/// How often rows are allowed where there is a rate.
const PACE: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Debug)]
pub struct ViewChaosOptions {
    /// Events in all, about.
    pub events: u64,
    /// Events before the views are made, about.
    pub history: u64,
    /// Events a second; without it, as fast as the node takes them.
    pub rate: Option<u64>,
    /// Kills.
    pub kills: u32,
    /// Decides the moments.
    pub seed: u64,
    /// Tails are cut at this size.
    pub segment_bytes: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct ViewChaosReport {
    /// Kills under load.
    pub kills: u32,
    /// Kills of a node that was still starting.
    pub start_kills: u32,
    /// Kills after which some view was behind: in the middle of folding history.
    pub behind: u32,
    /// Most events that the views together were behind after a restart.
    pub behind_max: u64,
    /// Times all views were compared with their definitions.
    pub comparisons: u32,
    /// Events in the stream at the end.
    pub events: u64,
    /// Groups of the largest view at the end.
    pub groups: u64,
    /// Slowest restart until ready.
    pub start_max: Duration,
    /// Broken promises. Empty is the only good answer.
    pub violations: Vec<String>,
}

struct Run<'a> {
    options: &'a ViewChaosOptions,
    node: Node,
    views: Vec<ViewCase>,
    shared: Arc<Shared>,
    rng: ChaCha8Rng,
    report: ViewChaosReport,
}

/// Runs it all; stops early at the first restart after which something is wrong.
pub async fn run(options: &ViewChaosOptions, say: &mut dyn FnMut(&str)) -> Result<ViewChaosReport> {
    let settings = NodeOptions::default().set("ALLUVIUM_SEGMENT_BYTES", options.segment_bytes);
    let node = Node::start(settings).await?;
    let shared = if options.rate.is_some() { Shared::paced() } else { Shared::new() };
    let rng = ChaCha8Rng::seed_from_u64(options.seed);
    let report = ViewChaosReport::default();
    let mut run = Run { options, node, views: views(), shared, rng, report };
    let pacer = options.rate.map(|rate| tokio::spawn(pace(Arc::clone(&run.shared), rate)));
    let done = run.all(say).await;
    if let Some(pacer) = pacer {
        pacer.abort();
    }
    done.with_context(|| format!("the node's log ends:\n{}", run.node.log_end()))?;
    let status = run.node.terminate(Duration::from_secs(30)).await?;
    if !status.success() {
        run.report.violations.push(format!("SIGTERM ends with {status}"));
    }
    run.report.violations.append(&mut run.shared.ledger().violations);
    Ok(run.report)
}

/// Few groups and many, a filter, values of every kind that the audited events have.
fn views() -> Vec<ViewCase> {
    let by_customer = format!(
        "SELECT customer, count(*) AS events, sum(place) AS places, min(sequence) AS earliest, \
         max(sequence) AS latest, min(note) AS least, max(note) AS most FROM {STREAM} \
         GROUP BY customer"
    );
    let by_batch = format!(
        "SELECT producer, sequence, count(*) AS events, sum(customer) AS customers, \
         max(place) AS last_place FROM {STREAM} GROUP BY producer, sequence"
    );
    let filtered = format!(
        "SELECT producer, customer % 10 AS tenth, count(*) AS events, avg(place) AS place_avg, \
         count(*) FILTER (WHERE place < 10) AS early, count(DISTINCT customer) AS customers \
         FROM {STREAM} WHERE sequence % 7 <> 3 GROUP BY producer, customer % 10"
    );
    vec![
        ViewCase::new("by_customer", by_customer),
        ViewCase::new("by_batch", by_batch),
        ViewCase::new("filtered", filtered),
    ]
}

/// Allows rows at a steady rate, for as long as the task runs.
async fn pace(shared: Arc<Shared>, rate: u64) {
    let rows = usize::try_from(rate / 100).expect("a rate of a machine").max(1);
    let second = rows * 100;
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        // The largest batch must fit into what may wait.
        shared.allow(rows, second.max(2_000));
    }
}

impl Run<'_> {
    async fn all(&mut self, say: &mut dyn FnMut(&str)) -> Result<()> {
        let client = self.node.client().await?;
        client.query(&rows::create_stream(STREAM, PARTITIONS)).await?;
        let mut producers: Vec<Producer> = (0..PRODUCERS)
            .map(|number| match number % 2 {
                0 => Producer::new(number, Mode::Unary, STREAM),
                _ => Producer::new(number, Mode::Pipelined { window: 8 }, STREAM),
            })
            .collect();
        let moments = self.moments();
        for (place, moment) in moments.iter().enumerate() {
            let begun = Instant::now();
            producers = self.load_and_kill(producers, *moment, place == 0).await?;
            self.restart().await?;
            let compared = place + 1 != moments.len() && self.rng.random_ratio(1, 4);
            self.check(compared).await?;
            say(&self.line(begun, compared));
            if !self.report.violations.is_empty() {
                return Ok(());
            }
        }
        let client = self.node.client().await?;
        for producer in &mut producers {
            producer.run(&client, &self.shared, Until::Settled).await;
        }
        self.check(true).await?;
        self.check_end(&client).await
    }

    /// So many acknowledged rows are to be there at each kill: the first soon after the views were
    /// made, the last at the end.
    fn moments(&mut self) -> Vec<u64> {
        let ViewChaosOptions { events, history, kills, .. } = *self.options;
        let soon = history + (events - history) / 50;
        let mut moments: Vec<u64> =
            (2..kills).map(|_| self.rng.random_range(soon..events)).collect();
        if 1 < kills {
            moments.push(self.rng.random_range(history..=soon));
        }
        moments.push(events);
        moments.sort_unstable();
        moments
    }

    async fn load_and_kill(
        &mut self,
        producers: Vec<Producer>,
        moment: u64,
        is_first: bool,
    ) -> Result<Vec<Producer>> {
        self.shared.set_killing(false);
        let mut tasks = JoinSet::new();
        for mut producer in producers {
            let client = self.node.client().await?;
            let shared = Arc::clone(&self.shared);
            tasks.spawn(async move {
                producer.run(&client, &shared, Until::Killed).await;
                producer
            });
        }
        if is_first {
            self.reach(self.options.history).await?;
            let client = self.node.client().await?;
            for view in &self.views {
                client.query(&view.create()).await.context(view.create())?;
            }
        }
        self.reach(moment).await?;
        self.shared.set_killing(true);
        self.node.kill().await?;
        self.report.kills += 1;
        let ended = tokio::time::timeout(NOTICE_WAIT_MAX, tasks.join_all()).await;
        let mut back = ended.context("a client hangs on a dead node")?;
        back.sort_by_key(Producer::number);
        Ok(back)
    }

    /// Waits until so many rows are acknowledged.
    async fn reach(&self, rows: u64) -> Result<()> {
        let mut acked_rows = self.shared.watch_acked_rows();
        loop {
            if rows <= *acked_rows.borrow_and_update() {
                return Ok(());
            }
            let waited = tokio::time::timeout(NOTICE_WAIT_MAX, acked_rows.changed()).await;
            if waited.is_err() {
                let violations = &self.shared.ledger().violations;
                bail!("nothing is acknowledged any more: {violations:?}");
            }
        }
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

    /// Counts always; everything else where the views are to be waited for.
    async fn check(&mut self, compared: bool) -> Result<()> {
        let client = self.node.client().await?;
        let mut behind = 0;
        for view in &self.views {
            let (lag, mut wrong) = view.check_counts(&client).await?;
            behind += u64::try_from(lag).unwrap_or(0);
            self.report.violations.append(&mut wrong);
        }
        self.report.behind += u32::from(0 < behind);
        self.report.behind_max = self.report.behind_max.max(behind);
        if !compared {
            return Ok(());
        }
        self.report.comparisons += 1;
        for view in &self.views {
            self.report.violations.append(&mut view.check(&client, FOLD_WAIT_MAX).await?);
        }
        Ok(())
    }

    /// Nothing acknowledged is missing in the stream, and a view counts every event of it.
    async fn check_end(&mut self, client: &Client) -> Result<()> {
        let stored = client.query(&format!("SELECT count(*) FROM {STREAM}")).await?.single()?;
        let counted = client.query("SELECT sum(events) FROM by_customer").await?.single()?;
        self.report.events = u64::try_from(stored)?;
        let acked = self.shared.ledger().acked.rows;
        if acked != self.report.events || stored != counted {
            let text = format!("{acked} rows were acked, {stored} stored, {counted} counted");
            self.report.violations.push(text);
        }
        let groups = client.query("SELECT count(*) FROM by_batch").await?.single()?;
        self.report.groups = u64::try_from(groups)?;
        Ok(())
    }

    fn line(&self, begun: Instant, compared: bool) -> String {
        format!(
            "kill {:3}: {:9} rows acked, views at most {:8} behind, {}ready again in {:4} ms, \
             {:.1} s, {} violations",
            self.report.kills,
            self.shared.ledger().acked.rows,
            self.report.behind_max,
            if compared { "compared, " } else { "" },
            self.node.started_in.as_millis(),
            begun.elapsed().as_secs_f64(),
            self.report.violations.len(),
        )
    }
}

/// Names the columns of [`ViewChaosReport::result_line`].
pub const RESULT_HEAD: &str = "\
| date | events | events/s | kills under load | kills while starting | kills with views behind | \
most behind | comparisons | groups of the largest view | slowest start | violations | seed | \
minutes |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl ViewChaosReport {
    /// One row of the table in docs/BENCHMARKS.md.
    pub fn result_line(&self, options: &ViewChaosOptions, took: Duration) -> String {
        let ViewChaosReport { kills, start_kills, behind, behind_max, comparisons, .. } = self;
        format!(
            "| {} | {} | {} | {kills} | {start_kills} | {behind} | {behind_max} | {comparisons} | \
             {} | {} ms | {} | {} | {:.1} |",
            measure::today(),
            self.events,
            options.rate.map_or("any".into(), |rate| rate.to_string()),
            self.groups,
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
