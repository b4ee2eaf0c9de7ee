//! What a cluster says of itself, by SQL and by `/readyz`, and waiting for it to say something.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Cluster;
use crate::client::Client;

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
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

impl Cluster {
    /// Of each partition of a stream the place of its owner among our nodes, as this client's node
    /// sees it; `None` where it sees none.
    pub async fn owners(
        &self,
        client: &Client,
        stream: &str,
    ) -> Result<BTreeMap<u32, Option<usize>>> {
        let answer = client
            .query(&format!(
                "SELECT partition, owner FROM system.partitions WHERE stream = '{stream}'"
            ))
            .await?;
        let mut owners = BTreeMap::new();
        for [partition, owner] in answer.integer_rows()? {
            owners.insert(u32::try_from(partition)?, self.place_of(owner));
        }
        Ok(owners)
    }

    /// Waits until every partition of a stream has an owner, and the nodes that run agree on it.
    pub async fn wait_owned(
        &self,
        stream: &str,
        partitions: u32,
        wait_max: Duration,
    ) -> Result<BTreeMap<u32, usize>> {
        poll(wait_max, async || {
            let mut agreed: Option<BTreeMap<u32, usize>> = None;
            for node in self.running() {
                let client = self.look_client(node).await?;
                let owners = self.owners(&client, stream).await?;
                let owners: Option<BTreeMap<u32, usize>> =
                    owners.into_iter().map(|(part, owner)| Some((part, owner?))).collect();
                let owners = owners.context("a partition has no owner")?;
                if owners.len() != usize::try_from(partitions)? {
                    bail!("{} of {partitions} partitions are known", owners.len());
                }
                if agreed.as_ref().is_some_and(|agreed| *agreed != owners) {
                    bail!("nodes see other owners: {agreed:?} and {owners:?}");
                }
                agreed = Some(owners);
            }
            Ok(agreed)
        })
        .await
        .with_context(|| format!("wait for the owners of {stream}"))
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
        poll(wait_max, async || {
            let client = self.look_client(among[0]).await?;
            let owners = self.owners(&client, stream).await?;
            let mut counts: BTreeMap<usize, u32> = among.iter().map(|node| (*node, 0)).collect();
            for owner in owners.values() {
                let owner = owner.context("a partition has no owner")?;
                *counts.entry(owner).or_default() += 1;
            }
            let share = partitions / u32::try_from(among.len())?;
            let is_fair =
                |(node, count): (&usize, &u32)| among.contains(node) && share.abs_diff(*count) <= 1;
            if owners.len() == usize::try_from(partitions)? && counts.iter().all(is_fair) {
                return Ok(Some(()));
            }
            bail!("partitions owned by node: {counts:?}")
        })
        .await
        .with_context(|| format!("wait until {among:?} own {share} each", share = "their share"))
    }
}
