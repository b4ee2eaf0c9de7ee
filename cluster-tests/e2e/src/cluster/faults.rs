//! What is done to nodes and to the links between them.
//!
//! Links are cut by dropping packets silently, in the namespaces of the nodes concerned: nobody is
//! told, as with a pulled cable. Delay and loss are the simulator's.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::network::{Namespaces, Network, PEER_PORT, Side};
use super::{Cluster, READY_WAIT_MAX};
use crate::measure;

/// The kernel stops a thread the next time it would run it.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

/// Our table of a node's namespace.
const TABLE: &str = "inet faults";

impl Cluster {
    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&mut self, node: usize) -> Result<()> {
        self.nodes[node].kill().await
    }

    /// Starts every node that does not run, all at once, and waits until they are ready.
    pub async fn restart_dead(&mut self) -> Result<()> {
        let dead: Vec<usize> =
            (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_running()).collect();
        for &node in &dead {
            self.nodes[node].launch()?;
        }
        for &node in &dead {
            let name = self.name(node);
            self.nodes[node].wait_ready().await.with_context(|| format!("restart {name}"))?;
        }
        Ok(())
    }

    /// SIGSTOP, and waits until every thread stands still. Connections stay open.
    pub async fn pause(&self, node: usize) -> Result<()> {
        self.nodes[node].signal(Signal::SIGSTOP)?;
        let pid = self.nodes[node].pid()?;
        let stopped =
            super::status::poll(
                STOP_WAIT_MAX,
                async || Ok(measure::is_stopped(pid)?.then_some(())),
            );
        stopped.await.context("SIGSTOP")
    }

    /// SIGCONT.
    pub fn resume(&self, node: usize) -> Result<()> {
        self.nodes[node].signal(Signal::SIGCONT)
    }

    /// Cuts these nodes, with the clients of [`Side::Far`], off from the others and theirs.
    pub fn split(&self, far: &[usize]) -> Result<()> {
        let net = self.namespaces()?;
        for node in 0..self.nodes.len() {
            let is_far = far.contains(&node);
            let others = (0..self.nodes.len()).filter(|other| far.contains(other) != is_far);
            let mut others: Vec<IpAddr> = others.map(|other| net.address(other)).collect();
            others.push(net.client(if is_far { Side::Near } else { Side::Far }));
            drop_from(net, node, &others)?;
        }
        Ok(())
    }

    /// This node hears no other node any more, and they hear it; clients reach all.
    pub fn deafen(&self, node: usize) -> Result<()> {
        let net = self.namespaces()?;
        let others: Vec<IpAddr> = self.others(node).map(|other| net.address(other)).collect();
        drop_from(net, node, &others)
    }

    /// No other node hears this one any more, and it hears them; clients reach all.
    pub fn mute(&self, node: usize) -> Result<()> {
        let net = self.namespaces()?;
        for other in self.others(node) {
            drop_from(net, other, &[net.address(node)])?;
        }
        Ok(())
    }

    /// Cuts this node off from what nodes say to each other; clients reach all.
    pub fn isolate_from_peers(&self, node: usize) -> Result<()> {
        let mut script = table();
        for chain in ["input", "output"] {
            for end in ["sport", "dport"] {
                script += &format!("add rule {TABLE} {chain} tcp {end} {PEER_PORT} drop; ");
            }
        }
        self.namespaces()?.nft(node, &script)
    }

    /// Undoes all that was done to links.
    pub fn heal(&self) -> Result<()> {
        let Network::Namespaces(net) = &self.network else { return Ok(()) };
        for node in 0..self.nodes.len() {
            // Adding it first: deleting what is not there is an error.
            net.nft(node, &format!("add table {TABLE}; delete table {TABLE}"))?;
        }
        Ok(())
    }

    /// Waits until every node that runs says `/readyz`.
    pub async fn wait_ready(&self) -> Result<()> {
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_running() {
                let ready = self.wait_readyz(place, READY_WAIT_MAX).await;
                ready.with_context(|| format!("node {place} is not ready"))?;
            }
        }
        Ok(())
    }

    async fn wait_readyz(&self, node: usize, wait_max: Duration) -> Result<()> {
        let address = self.addresses(node).http.clone();
        super::status::poll(wait_max, async || {
            let said = super::status::readyz(&address).await?;
            if said.starts_with("HTTP/1.1 200") {
                return Ok(Some(()));
            }
            bail!("/readyz says {}", said.lines().last().unwrap_or_default())
        })
        .await
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |other| *other != node)
    }

    fn namespaces(&self) -> Result<&Namespaces> {
        match &self.network {
            Network::Namespaces(net) => Ok(net),
            Network::Loopback => bail!("links on loopback cannot be cut"),
        }
    }
}

/// Drops in this node's namespace what comes from these addresses.
fn drop_from(net: &Namespaces, node: usize, addresses: &[IpAddr]) -> Result<()> {
    if addresses.is_empty() {
        // An empty set is an error to nftables.
        return Ok(());
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let from = addresses.join(", ");
    net.nft(node, &format!("{}add rule {TABLE} input ip saddr {{ {from} }} drop; ", table()))
}

fn table() -> String {
    let chain = |name: &str| {
        format!("add chain {TABLE} {name} {{ type filter hook {name} priority 0; }}; ")
    };
    format!("add table {TABLE}; {}{}", chain("input"), chain("output"))
}
