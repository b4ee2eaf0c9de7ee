//! Which node of which cluster this is: read from the data directory, or found out once.
//!
//! Without seeds a new directory begins a cluster of its own. With seeds it joins the cluster that
//! one of them belongs to. When none of them belongs to one, all must answer and have been given
//! the same list, and then the first of the list begins the cluster: two halves that do not see
//! each other begin none.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::NodeId;
use alluvium_core::meta::{Addresses, FIRST_NODE};
use alluvium_store::{Identity, Store};
use tokio::runtime::Handle;

use super::NodeIdentity;
use super::servers::Doors;
use crate::clock::{self, Stopwatch};
use crate::config::Config;
use crate::grpc::peer::{Greeting, Joining, PeerError, Standing, Welcome, hello, join};

/// The cluster versions this program can live in: `(oldest, newest)`.
pub(super) const VERSIONS: (u32, u32) = (1, 1);

/// Between two rounds of asking the seeds.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// How often a person is told what the node waits for.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What it takes to find out.
pub(super) struct Finding<'a> {
    pub config: &'a Config,
    pub store: &'a Store,
    pub addresses: &'a Addresses,
    pub io: &'a Handle,
    pub standing: &'a Arc<Standing>,
    pub doors: &'a Doors,
}

/// What a round of asking showed.
enum Found {
    /// A member of a cluster, at this address.
    Cluster(String),
    /// There is none, and this node begins it.
    Begin,
    /// Not yet, for this reason.
    Wait(String),
}

impl Finding<'_> {
    pub async fn identity(&self) -> anyhow::Result<NodeIdentity> {
        if let Some(identity) = self.store.identity()? {
            let identity = of(&identity);
            self.check_seeds(&identity).await?;
            return Ok(identity);
        }
        if self.config.seeds.is_empty() {
            return self.begin();
        }
        let mut said: Option<(String, Stopwatch)> = None;
        loop {
            let reason = match self.ask().await? {
                Found::Begin => return self.begin(),
                Found::Wait(reason) => reason,
                Found::Cluster(addr) => match self.join(addr).await? {
                    Ok(identity) => return Ok(identity),
                    Err(reason) => reason,
                },
            };
            self.doors.waits_for(&reason);
            let say = said
                .as_ref()
                .is_none_or(|(before, since)| *before != reason || SAY_AGAIN < since.elapsed());
            if say {
                tracing::info!("waits for {reason}");
                said = Some((reason, Stopwatch::start()));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// A directory of one cluster started with the seeds of another is a mistake that would look
    /// like a cluster that has lost its data. Seeds that do not answer say nothing.
    async fn check_seeds(&self, identity: &NodeIdentity) -> anyhow::Result<()> {
        let seeds = &self.config.seeds;
        let answers = self.ask_all(seeds).await;
        for (seed, answer) in seeds.iter().zip(answers) {
            let found = answer.ok().and_then(|answer| answer.cluster_id);
            if let Some(found) = found.filter(|found| *found != identity.cluster_id) {
                anyhow::bail!(
                    "the data directory belongs to cluster {}, seed {seed} to cluster {found}; \
                     start with the seeds of the former, or with an empty data directory",
                    identity.cluster_id
                );
            }
        }
        Ok(())
    }

    async fn ask_all(&self, seeds: &[String]) -> Vec<Result<Greeting, PeerError>> {
        let (tls, hash) = (self.doors.tls(), self.standing.seed_hash);
        let asked = seeds.iter().map(|seed| hello(tls, self.io, seed, hash));
        futures::future::join_all(asked).await
    }

    /// Begins a cluster of its own.
    fn begin(&self) -> anyhow::Result<NodeIdentity> {
        let cluster_id = clock::random_wide();
        let identity = self.settle(cluster_id, FIRST_NODE)?;
        tracing::info!(cluster = identity.cluster_id, "a new cluster begins");
        Ok(identity)
    }

    fn settle(&self, cluster_id: u128, node_id: NodeId) -> anyhow::Result<NodeIdentity> {
        let identity = Identity { cluster_id, node_id, name: self.config.name.clone() };
        self.store.set_identity(&identity)?;
        Ok(of(&identity))
    }

    async fn ask(&self) -> anyhow::Result<Found> {
        let seeds = &self.config.seeds;
        let answers = self.ask_all(seeds).await;
        let mut cluster: Option<(&str, &str)> = None;
        for (seed, answer) in seeds.iter().zip(&answers) {
            let Some(found) = answer.as_ref().ok().and_then(|it| it.cluster_id.as_deref()) else {
                continue;
            };
            if let Some((other, id)) = cluster.filter(|(_, id)| *id != found) {
                anyhow::bail!(
                    "the seeds belong to different clusters: {other} to {id}, {seed} to {found}"
                );
            }
            cluster = Some((seed.as_str(), found));
        }
        Ok(match cluster {
            Some((seed, _)) => Found::Cluster(seed.to_owned()),
            None => self.who_begins(&answers),
        })
    }

    /// Of nodes that all belong to no cluster.
    fn who_begins(&self, answers: &[Result<Greeting, PeerError>]) -> Found {
        let mut seeds = self.config.seeds.iter().zip(answers);
        if let Some((seed, _)) = seeds.clone().find(|(_, answer)| answer.is_err()) {
            return Found::Wait(format!("seed {seed}, which does not answer"));
        }
        let answers: Vec<&Greeting> = answers.iter().flatten().collect();
        let agrees = |answer: &&Greeting| answer.seed_hash == self.standing.seed_hash;
        if !answers.iter().all(agrees) {
            return Found::Wait("all seeds to be given the same list of seeds".into());
        }
        let (first, answer) = seeds
            .next()
            .map(|(seed, _)| (seed, answers[0]))
            .expect("the caller has looked: there are seeds");
        if answer.process == self.standing.process {
            return Found::Begin;
        }
        Found::Wait(format!("seed {first}, which begins the cluster"))
    }

    /// Asks for an id, following the members' words to the leader of the meta group.
    async fn join(&self, addr: String) -> anyhow::Result<Result<NodeIdentity, String>> {
        let joining = Joining {
            token: self.store.token(clock::random_wide())?,
            name: self.config.name.clone(),
            addresses: self.addresses.clone(),
            locality: self.config.locality.clone(),
            versions: VERSIONS,
        };
        let mut addr = addr;
        // From any member to the leader it knows, and once further if that one has just lost it.
        for _ in 0..3 {
            match join(self.doors.tls(), self.io, &addr, &joining).await {
                Ok(Welcome::Joined { cluster_id, node }) => {
                    let identity = self.settle(cluster_id, node)?;
                    let cluster = &identity.cluster_id;
                    tracing::info!(%node, cluster, through = addr, "joined");
                    return Ok(Ok(identity));
                }
                Ok(Welcome::Ask { peer_addr: Some(next) }) => addr = next,
                Ok(Welcome::Ask { peer_addr: None }) => {
                    return Ok(Err("the cluster's meta group to have a leader".into()));
                }
                Err(PeerError::Refused { peer, reason }) => {
                    anyhow::bail!("{peer} does not let this node join: {reason}");
                }
                Err(error) => return Ok(Err(format!("a member that lets it join: {error}"))),
            }
        }
        Ok(Err("the cluster's meta group to have a settled leader".into()))
    }
}

fn of(identity: &Identity) -> NodeIdentity {
    let cluster = identity.cluster_id;
    NodeIdentity { node_id: identity.node_id, cluster, cluster_id: format!("{cluster:032x}") }
}
