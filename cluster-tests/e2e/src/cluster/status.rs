//! What a cluster says of itself, by SQL and by `/readyz`, and waiting for it to say something.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Cluster;

/// How often something is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// One look takes no longer than this.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Looks until there is an answer. An error is looked at again too, and named at the end.
pub async fn poll<T>(wait_max: Duration, look: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + wait_max;
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let looked = tokio::time::timeout(LOOK_WAIT_MAX, look()).await;
        let why = match looked {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("no answer within {LOOK_WAIT_MAX:?}")),
        };
        if deadline < Instant::now() {
            let what = format!("not there after {wait_max:?}");
            return Err(match why {
                Some(why) => why.context(what),
                None => anyhow::anyhow!(what),
            });
        }
    }
}

/// What `/readyz` answers, head and all.
pub async fn readyz(address: &str) -> Result<String> {
    get(address, "/readyz").await
}

/// What a path of the HTTP port answers, head and all.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What `system.partitions` says in place of a state of a partition that other nodes hold.
const ELSEWHERE: &str = "on other nodes";

/// What a node says of one partition.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// The owner, by its place among our nodes, where the node knows one.
    owner: Option<usize>,
    /// Whether the node holds a replica.
    is_here: bool,
}

impl Cluster {
    async fn said(&self, node: usize, stream: &str) -> Result<BTreeMap<u32, Said>> {
        let client = self.look_client(node).await?;
        let answer = client
            .query(&format!(
                "SELECT partition, owner, state FROM system.partitions WHERE stream = '{stream}'"
            ))
            .await?;
        let (partitions, owners) = (answer.integers(0)?, answer.integers(1)?);
        let mut all = BTreeMap::new();
        for ((partition, owner), state) in partitions.into_iter().zip(owners).zip(answer.texts(2)?)
        {
            let said = Said { owner: self.place_of(owner), is_here: state != ELSEWHERE };
            all.insert(u32::try_from(partition)?, said);
        }
        Ok(all)
    }

    /// The owner of each partition, where all nodes that run and hold a replica agree on it.
    async fn agreed(&self, stream: &str, partitions: u32) -> Result<BTreeMap<u32, usize>> {
        let mut agreed = BTreeMap::new();
        for node in self.running() {
            let said = self.said(node, stream).await?;
            if said.len() != usize::try_from(partitions)? {
                bail!("{} of {partitions} partitions are known to n{}", said.len(), node + 1);
            }
            for (partition, said) in said.into_iter().filter(|(_, said)| said.is_here) {
                let owner = said.owner.context("a partition has no owner")?;
                let other = agreed.insert(partition, owner);
                if other.is_some_and(|other| other != owner) {
                    bail!("nodes see other owners of partition {partition}: {other:?}, {owner}");
                }
            }
        }
        if agreed.len() != usize::try_from(partitions)? {
            bail!("nobody holds some of {partitions} partitions: {agreed:?}");
        }
        Ok(agreed)
    }

    /// Waits until every partition of a stream has an owner, and the nodes that run agree on it.
    pub async fn wait_owned(
        &self,
        stream: &str,
        partitions: u32,
        wait_max: Duration,
    ) -> Result<BTreeMap<u32, usize>> {
        poll(wait_max, async || Ok(Some(self.agreed(stream, partitions).await?)))
            .await
            .with_context(|| format!("wait for the owners of {stream}"))
    }

    /// Of each partition the nodes that have a vote in it.
    pub async fn voters(&self, stream: &str) -> Result<BTreeMap<u32, Vec<usize>>> {
        let node = self.running().next().context("no node runs")?;
        let client = self.look_client(node).await?;
        let answer = client
            .query(&format!(
                "SELECT partition, replicas FROM system.partitions WHERE stream = '{stream}'"
            ))
            .await?;
        let mut voters = BTreeMap::new();
        for (partition, ids) in answer.integers(0)?.into_iter().zip(answer.texts(1)?) {
            let place = |id: &str| self.place_of(id.trim().parse().ok()?);
            let nodes: Option<Vec<usize>> = ids.split(',').map(place).collect();
            let nodes = nodes.with_context(|| format!("partition {partition} is on {ids:?}"))?;
            voters.insert(u32::try_from(partition)?, nodes);
        }
        Ok(voters)
    }

    /// Waits until each of these nodes owns its share of the partitions, give or take one, and no
    /// other node owns any.
    pub async fn wait_balanced(
        &self,
        stream: &str,
        partitions: u32,
        among: &[usize],
        wait_max: Duration,
    ) -> Result<()> {
        let share = partitions / u32::try_from(among.len())?;
        poll(wait_max, async || {
            let owners = self.agreed(stream, partitions).await?;
            let mut counts: BTreeMap<usize, u32> = among.iter().map(|node| (*node, 0)).collect();
            for owner in owners.into_values() {
                *counts.entry(owner).or_default() += 1;
            }
            let is_fair =
                |(node, count): (&usize, &u32)| among.contains(node) && share.abs_diff(*count) <= 1;
            if counts.iter().all(is_fair) {
                return Ok(Some(()));
            }
            bail!("partitions owned by node: {counts:?}")
        })
        .await
        .with_context(|| format!("wait until {among:?} own {share} each, give or take one"))
    }
}
