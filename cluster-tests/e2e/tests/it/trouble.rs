//! Three nodes of which one is in trouble but alive: its disk is full or slow, or somebody sets
//! its clock. The others go on, nothing is lost, and when it is over all nodes are the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cluster_e2e::chaos_cluster::checks::{self, Work};
use cluster_e2e::chaos_cluster::clients::Clients;
use cluster_e2e::client::Client;
use cluster_e2e::cluster::{Cluster, status};
use cluster_e2e::false_clock::FalseClock;
use cluster_e2e::load::Shared;
use cluster_e2e::slow_disk::SlowDisk;
use cluster_e2e::small_disk::SmallDisk;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 20_261_123;

/// What is not there by then is not coming.
const WAIT_MAX: Duration = Duration::from_secs(60);

const PARTITIONS: u32 = 6;

/// Rows a second, and rows between two changes.
const RATE: usize = 3_000;
const BETWEEN: u64 = 3_000;

/// The node in trouble.
const VICTIM: usize = 1;

/// A cluster under load.
struct Story {
    cluster: Cluster,
    work: Work,
    shared: Arc<Shared>,
    clients: Clients,
}

impl Story {
    /// Three nodes; `calls_may_fail` while the trouble lasts, else each failed call is a
    /// violation.
    async fn begin(cluster: Cluster, stream: &str, calls_may_fail: bool) -> Result<Story> {
        eprintln!("seed {SEED}");
        let work = Work::new(stream, PARTITIONS);
        work.create(&cluster.client(0).await?).await?;
        cluster.wait_balanced(stream, PARTITIONS, &[0, 1, 2], WAIT_MAX).await?;
        let shared = Shared::paced();
        shared.set_killing(calls_may_fail);
        let mut clients = Clients::new(&cluster, &work, shared.clone());
        clients.start(RATE, SEED)?;
        clients.wait_rows(BETWEEN, WAIT_MAX).await?;
        Ok(Story { cluster, work, shared, clients })
    }

    /// Waits until every partition has taken events sent after this moment: how long that took.
    async fn write_everywhere(&self) -> Result<Duration> {
        let all: Vec<u32> = (0..PARTITIONS).collect();
        self.clients.wait_written(&all, Instant::now(), WAIT_MAX).await
    }

    /// The trouble is over: all nodes end up the same.
    async fn end(mut self) -> Result<()> {
        self.cluster.wait_ready().await?;
        self.clients.wait_rows(BETWEEN, WAIT_MAX).await?;
        self.clients.end(WAIT_MAX).await?;
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        checks::check(&self.cluster, &self.work, &self.shared, &mut rng).await?;
        eprintln!("{:?} acknowledged", self.shared.ledger().acked);
        let violations = std::mem::take(&mut self.shared.ledger().violations);
        ensure!(violations.is_empty(), "{violations:#?}\n{}", self.cluster.log_ends());
        Ok(())
    }
}

async fn three_nodes(settings: &[(&str, &str)], data_dir: &std::path::Path) -> Result<Cluster> {
    let mut cluster = Cluster::start(1, settings).await?;
    cluster.add(Some(data_dir)).await?;
    cluster.add(None).await?;
    Ok(cluster)
}

const SMALL_SEGMENTS: [(&str, &str); 1] = [("ALLUVIUM_SEGMENT_BYTES", "262144")];

/// Room for the databases' own files and what the test writes.
const DISK_MIB: u64 = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_one_node_stops_nobody_else() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return crate::skip(&format!("full disk: {reason}")),
    };
    full_disk(&disk).await.unwrap();
}

async fn full_disk(disk: &SmallDisk) -> Result<()> {
    let cluster = three_nodes(&SMALL_SEGMENTS, &disk.dir().join("data")).await?;
    let mut story = Story::begin(cluster, "on_a_full_disk", true).await?;
    let ballast = disk.fill()?;
    let again = story.write_everywhere().await;
    let again = again.with_context(|| format!("disk full\n{}", story.cluster.log_ends()))?;
    eprintln!("every partition takes events {again:?} after the disk was full");
    story.clients.wait_rows(BETWEEN, WAIT_MAX).await?;

    std::fs::remove_file(ballast)?;
    if let Some(status) = story.cluster.node_mut(VICTIM).has_ended()? {
        eprintln!("the node with the full disk had ended: {status}");
        story.cluster.node_mut(VICTIM).wait_end(WAIT_MAX).await?;
        story.cluster.restart_dead().await?;
    }
    story.end().await
}

/// The logs of the victim's groups take longer than the disk has time for.
const SLOW_BYTES_PER_SECOND: u64 = 128 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_of_one_node_stops_nobody_else() {
    let disk = match SlowDisk::mount(512) {
        Ok(disk) => disk,
        Err(reason) => return crate::skip(&format!("slow disk: {reason}")),
    };
    slow_disk(&disk).await.unwrap();
}

async fn slow_disk(disk: &SlowDisk) -> Result<()> {
    let limit = |bytes| disk.limit(bytes).map_err(anyhow::Error::msg);
    let cluster = three_nodes(&SMALL_SEGMENTS, &disk.dir().join("data")).await?;
    disk.hold(cluster.node(VICTIM).pid()?)?;
    let story = Story::begin(cluster, "on_a_slow_disk", true).await?;
    let before = story.write_everywhere().await?;
    limit(Some(SLOW_BYTES_PER_SECOND))?;
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        story.clients.wait_rows(BETWEEN / 3, WAIT_MAX).await?;
        worst = worst.max(story.write_everywhere().await?);
    }
    eprintln!("a write everywhere took {before:?} before, {worst:?} at most on a slow disk");
    limit(None)?;
    story.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_changes_nothing() {
    let clock = match FalseClock::new() {
        Ok(clock) => clock,
        Err(reason) => return crate::skip(&format!("false clock: {reason}")),
    };
    false_clock(&clock).await.unwrap();
}

async fn false_clock(clock: &FalseClock) -> Result<()> {
    let mut cluster = Cluster::start(1, &SMALL_SEGMENTS).await?;
    let victim = cluster.prepare(None)?;
    cluster.set(victim, clock.settings());
    cluster.join(victim).await?;
    cluster.add(None).await?;
    let story = Story::begin(cluster, "at_a_false_time", false).await?;
    let client = story.cluster.client(VICTIM).await?;
    let terms = terms(&client, &story.work.stream).await?;
    let own = u64::try_from(VICTIM)? + 1;
    ensure!(terms.values().any(|(owner, _)| *owner == own), "n{own} owns nothing: {terms:?}");
    for ahead in [3_600, -3_600, 86_400, 0] {
        clock.set(ahead)?;
        wait_clock(&client, ahead).await?;
        eprintln!("{ahead} s ahead, {:.1} s after the begin", story.shared.seconds());
        story.clients.wait_rows(BETWEEN, WAIT_MAX).await?;
        story.write_everywhere().await?;
    }
    ensure!(terms == self::terms(&client, &story.work.stream).await?, "owners changed");
    story.end().await
}

/// Owner and term of each partition.
async fn terms(client: &Client, stream: &str) -> Result<BTreeMap<i64, (u64, i64)>> {
    let answer = client
        .query(&format!(
            "SELECT partition, owner, term FROM system.partitions WHERE stream = '{stream}'"
        ))
        .await?;
    let rows = answer.integer_rows()?.into_iter();
    rows.map(|[partition, owner, term]| Ok((partition, (u64::try_from(owner)?, term)))).collect()
}

/// Waits until the node itself goes by that clock, give or take a minute.
async fn wait_clock(client: &Client, ahead: i64) -> Result<()> {
    status::poll(WAIT_MAX, async || {
        let said = client.query("SELECT CAST(date_part('epoch', now()) AS BIGINT)").await?;
        let right = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let off = said.single()? - i64::try_from(right.as_secs())?;
        ensure!((off - ahead).abs() < 60, "it is {off} s ahead, not {ahead}");
        Ok(Some(()))
    })
    .await
}
