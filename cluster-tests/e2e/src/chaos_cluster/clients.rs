//! Producers and readers that know all nodes and go on through faults.
//!
//! A producer that loses its node goes to another one and sends again what was not acknowledged. A
//! reader asks any node; an answer that does not come is nothing, a wrong one is a violation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::checks::Work;
use crate::client::{Answer, Client, Reach};
use crate::cluster::{Cluster, Side, status};
use crate::history::Seen;
use crate::load::{Ended, Mode, Producer, Shared, Until};

/// Producers, each with a name and sequences of its own.
pub const PRODUCERS: u32 = 8;

/// Readers.
pub const READERS: u32 = 4;

/// After a lost call, before another node is asked.
const RETRY: Duration = Duration::from_millis(20);

/// Between the reads of one reader: two cores also carry the nodes.
const READ_EVERY: Duration = Duration::from_millis(100);

/// How often rows are allowed.
const PACE: Duration = Duration::from_millis(10);

/// Rows that may wait to be sent: what was missed during a fault is not made up for.
const WAITING_ROWS_MAX: usize = 4_000;

/// The producers and readers of one stream.
pub struct Clients {
    targets: Arc<Targets>,
    work: Work,
    shared: Arc<Shared>,
    resting: Vec<Producer>,
    tasks: JoinSet<Option<Producer>>,
    pacer: Option<tokio::task::JoinHandle<()>>,
}

/// The nodes by their place in the cluster, and how each side reaches them.
struct Targets {
    nodes: Mutex<BTreeMap<usize, String>>,
    near: Reach,
    far: Reach,
}

impl Targets {
    fn reach(&self, side: Side) -> &Reach {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    /// Any of the nodes.
    fn draw(&self, rng: &mut ChaCha8Rng) -> (usize, String) {
        let nodes = self.nodes.lock().expect("nobody panics while holding the nodes");
        let (node, address) = nodes.iter().choose(rng).expect("there is at least one node");
        (*node, address.clone())
    }

    /// A new connection; `None` when there is none, which only a fault excuses.
    async fn connect(&self, address: &str, side: Side, shared: &Shared) -> Option<Client> {
        let reach = self.reach(side);
        let connected = Client::connect_with(address, reach);
        // A node that stands still takes connections and says nothing on them.
        match tokio::time::timeout(reach.connect_wait_max, connected).await {
            Ok(Ok(client)) => return Some(client),
            Ok(Err(error)) if !shared.is_killing() => shared.violation(format!("{error:#}")),
            Err(_) if !shared.is_killing() => shared.violation(format!("{address} is silent")),
            Ok(Err(_)) | Err(_) => {}
        }
        None
    }
}

impl Clients {
    /// Producers that have sent nothing yet, and what is known of the stream from now on.
    pub fn new(cluster: &Cluster, work: &Work, shared: Arc<Shared>) -> Clients {
        shared.begin_history();
        let (near, far) = (cluster.reach(Side::Near), cluster.reach(Side::Far));
        let modes = (0..PRODUCERS).map(|number| match number % 2 {
            0 => Mode::Unary,
            _ => Mode::Pipelined { window: u64::from(1 + number) },
        });
        let producers = (0..).zip(modes);
        let producers = producers.map(|(number, mode)| Producer::new(number, mode, &work.stream));
        let targets = Arc::new(Targets { nodes: Mutex::default(), near, far });
        let (work, tasks) = (work.clone(), JoinSet::new());
        let clients =
            Clients { targets, work, shared, resting: producers.collect(), tasks, pacer: None };
        clients.go_to(cluster, 0..cluster.len());
        clients
    }

    /// Lets readers ask these nodes from now on, and producers when they look for one.
    pub fn go_to(&self, cluster: &Cluster, nodes: impl IntoIterator<Item = usize>) {
        let nodes = nodes.into_iter().map(|node| (node, cluster.addresses(node).client.clone()));
        let mut targets = self.targets.nodes.lock().expect("nobody panics while holding the nodes");
        *targets = nodes.collect();
    }

    /// What they share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sets them going.
    pub fn start(&mut self, rate: usize, seed: u64) -> Result<()> {
        if !self.tasks.is_empty() {
            bail!("they run already");
        }
        self.shared.set_ending(false);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for producer in std::mem::take(&mut self.resting) {
            let rng = ChaCha8Rng::from_rng(&mut rng);
            self.tasks.spawn(produce(producer, self.targets.clone(), self.shared.clone(), rng));
        }
        for number in 0..READERS {
            let reader = Reader {
                side: if number == 0 { Side::Far } else { Side::Near },
                targets: self.targets.clone(),
                connections: BTreeMap::new(),
                work: self.work.clone(),
                shared: self.shared.clone(),
                rng: ChaCha8Rng::from_rng(&mut rng),
            };
            self.tasks.spawn(reader.run());
        }
        let shared = self.shared.clone();
        self.pacer = Some(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PACE);
            loop {
                ticks.tick().await;
                shared.allow(rate.div_ceil(100), WAITING_ROWS_MAX);
            }
        }));
        Ok(())
    }

    /// Waits until so many more rows are acknowledged.
    pub async fn wait_rows(&self, rows: u64, wait_max: Duration) -> Result<()> {
        let mut acked = self.shared.watch_acked_rows();
        let enough = *acked.borrow() + rows;
        let waited = tokio::time::timeout(wait_max, acked.wait_for(|rows| enough <= *rows)).await;
        let waited = waited.with_context(|| {
            // A producer that was answered wrongly has stopped, which may be why.
            let violations = self.shared.ledger().violations.clone();
            format!("not {rows} more rows within {wait_max:?}; violations: {violations:#?}")
        });
        waited?.context("nobody sends any more")?;
        Ok(())
    }

    /// Waits until these partitions have taken what was sent since then: how long that took.
    pub async fn wait_written(
        &self,
        partitions: &[u32],
        since: Instant,
        wait_max: Duration,
    ) -> Result<Duration> {
        let looked = status::poll(wait_max, async || {
            let ledger = self.shared.ledger();
            let history = ledger.history.as_ref().context("no history is kept")?;
            Ok(history.written_again(partitions, since))
        });
        let written = looked.await.with_context(|| format!("not written to: {partitions:?}"))?;
        Ok(written.duration_since(since))
    }

    /// Lets the producers finish what they have sent, and waits for all to come back.
    pub async fn end(&mut self, wait_max: Duration) -> Result<()> {
        self.shared.set_ending(true);
        let mut tasks = std::mem::take(&mut self.tasks);
        let ended = tokio::time::timeout(wait_max, async {
            let mut back = Vec::new();
            while let Some(task) = tasks.join_next().await {
                back.extend(task?);
            }
            Ok::<_, anyhow::Error>(back)
        });
        let ended = ended.await.context("a client does not come to an end");
        if let Some(pacer) = self.pacer.take() {
            pacer.abort();
        }
        self.resting = ended??;
        self.resting.sort_by_key(Producer::number);
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(pacer) = &self.pacer {
            pacer.abort();
        }
    }
}

/// Sends until it is told to end and everything sent is acknowledged.
async fn produce(
    mut producer: Producer,
    targets: Arc<Targets>,
    shared: Arc<Shared>,
    mut rng: ChaCha8Rng,
) -> Option<Producer> {
    let side = if producer.number() % 4 == 3 { Side::Far } else { Side::Near };
    let mut retry = tokio::time::interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        retry.tick().await;
        let (_, address) = targets.draw(&mut rng);
        let Some(client) = targets.connect(&address, side, &shared).await else { continue };
        match producer.run(&client, &shared, Until::Told).await {
            Ended::Lost => {}
            Ended::Settled | Ended::Wrong => return Some(producer),
        }
    }
}

/// Asks any node, each time another question.
struct Reader {
    side: Side,
    targets: Arc<Targets>,
    connections: BTreeMap<usize, Client>,
    work: Work,
    shared: Arc<Shared>,
    rng: ChaCha8Rng,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// All producers, from the stream.
    Stream,
    /// One producer, from the stream.
    Producer(u32),
    /// All producers, from the view.
    View,
}

impl Reader {
    async fn run(mut self) -> Option<Producer> {
        let mut ticks = tokio::time::interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.is_ending() {
            ticks.tick().await;
            let (node, address) = self.targets.draw(&mut self.rng);
            let question = match self.rng.random_range(0..3) {
                0 => Question::Producer(self.rng.random_range(0..PRODUCERS)),
                1 => Question::View,
                _ => Question::Stream,
            };
            let client = match self.connections.remove(&node) {
                Some(client) => client,
                None => match self.targets.connect(&address, self.side, &self.shared).await {
                    Some(client) => client,
                    None => continue,
                },
            };
            if self.ask(&client, node, question).await {
                self.connections.insert(node, client);
            }
        }
        None
    }

    /// Asks; whether the connection is good for another question.
    async fn ask(&self, client: &Client, node: usize, question: Question) -> bool {
        let read = self.history(|history| history.read_began());
        let answer = match client.query(&self.sql(question)).await {
            Ok(answer) => answer,
            Err(status) => {
                let what = format!("{question:?} asked of n{}", node + 1);
                self.shared.unless_killed(&status, &what);
                return false;
            }
        };
        match self.seen(&answer, node, question) {
            Ok(seen) => self.history(|history| history.read_ended(read, seen)),
            Err(error) => {
                let text = format!("n{} answers {question:?} with no sense: {error:#}", node + 1);
                self.shared.violation(text);
            }
        }
        true
    }

    fn history<T>(&self, enter: impl FnOnce(&mut crate::history::History) -> T) -> T {
        let mut ledger = self.shared.ledger();
        enter(ledger.history.as_mut().expect("a cluster's ledger keeps a history"))
    }

    fn sql(&self, question: Question) -> String {
        let Work { stream, .. } = &self.work;
        let counts = format!("SELECT producer, count(*), max(sequence) FROM {stream}");
        match question {
            Question::Stream => format!("{counts} GROUP BY producer"),
            Question::Producer(number) => {
                format!("{counts} WHERE producer = {number} GROUP BY producer")
            }
            Question::View => format!("SELECT producer, n, last FROM {}", self.work.by_producer()),
        }
    }

    fn seen(&self, answer: &Answer, node: usize, question: Question) -> Result<Seen> {
        let mut seen =
            Seen { by: format!("{question:?} asked of n{}", node + 1), ..Seen::default() };
        seen.only = match question {
            Question::Producer(number) => Some(number),
            Question::Stream | Question::View => None,
        };
        for [producer, rows, last] in answer.integer_rows()? {
            let found = (u64::try_from(rows)?, u64::try_from(last)?);
            seen.producers.insert(u32::try_from(producer)?, found);
        }
        let frontier = answer.as_of(&self.work.stream)?;
        seen.frontier = frontier.offsets.iter().map(|(part, end)| (*part, *end)).collect();
        Ok(seen)
    }
}
