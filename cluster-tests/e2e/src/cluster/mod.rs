//! Clusters of real processes: one node makes the cluster, the others join by `--seeds` alone.
//!
//! Where this process may make network namespaces, each node has one of its own and links can be
//! cut; elsewhere nodes stand on loopback, and whoever needs cuts asks [`Cluster::why_no_cuts`]
//! first. Not a supervisor: nothing is restarted unless a caller says so.
//!
//! Nodes are counted from 0 in the order in which they were added; node 0 is named `n1`.

mod faults;
mod network;
pub mod status;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use self::network::{Network, Side};
use crate::client::{Client, Reach};
use crate::node::{self, Addresses, Node, NodeOptions, Place};

/// A node that is not ready by then is broken: it may have to wait for an election, and to fetch
/// what it missed.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// How clients of a cluster reach it: they have other nodes to go to.
const CONNECT_WAIT_MAX: Duration = Duration::from_millis(500);
const CALL_WAIT_MAX: Duration = Duration::from_secs(4);

/// A command line that takes longer hangs.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(120);

/// Nodes and what joins them.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: processes end before their namespaces go.
    nodes: Vec<Node>,
    places: Vec<Place>,
    // What the cluster calls them; `None` until they have joined.
    ids: Vec<Option<u64>>,
    settings: Vec<(String, String)>,
    network: Network,
    no_cuts: Option<String>,
}

impl Cluster {
    /// Starts so many nodes and waits until they are ready.
    pub async fn start(nodes: usize, settings: &[(&str, &str)]) -> Result<Cluster> {
        let (network, no_cuts) = Network::best();
        Cluster::start_on(network, no_cuts, nodes, settings).await
    }

    /// The same with all nodes on loopback: nothing between them but what the kernel needs.
    pub async fn start_on_loopback(nodes: usize, settings: &[(&str, &str)]) -> Result<Cluster> {
        let no_cuts = Some("nodes stand on loopback".to_owned());
        Cluster::start_on(Network::Loopback, no_cuts, nodes, settings).await
    }

    async fn start_on(
        network: Network,
        no_cuts: Option<String>,
        nodes: usize,
        settings: &[(&str, &str)],
    ) -> Result<Cluster> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(owned).collect();
        let mut cluster = Cluster {
            nodes: Vec::new(),
            places: Vec::new(),
            ids: Vec::new(),
            settings,
            network,
            no_cuts,
        };
        for _ in 0..nodes {
            cluster.add(None).await?;
        }
        Ok(cluster)
    }

    /// Why links cannot be cut here, where they cannot.
    pub fn why_no_cuts(&self) -> Option<&str> {
        self.no_cuts.as_deref()
    }

    /// Adds one node, with its data in this directory or in one of its own, and waits until it is
    /// ready.
    pub async fn add(&mut self, data_dir: Option<&Path>) -> Result<usize> {
        let node = self.prepare(data_dir)?;
        self.join(node).await?;
        Ok(node)
    }

    /// Starts a node that was prepared, and waits until it is ready.
    pub async fn join(&mut self, node: usize) -> Result<()> {
        let name = self.name(node);
        self.nodes[node].restart().await.with_context(|| format!("start {name}"))?;
        self.ids[node] = Some(self.client(node).await?.status().await?.node_id);
        Ok(())
    }

    /// Lets a node that was prepared be started with these variables too.
    pub fn set(&mut self, node: usize, settings: Vec<(String, String)>) {
        let settings = self.settings.iter().cloned().chain(settings).collect();
        self.nodes[node].settings(settings);
    }

    /// Adds one node without starting it.
    pub fn prepare(&mut self, data_dir: Option<&Path>) -> Result<usize> {
        let place = self.network.add()?;
        let number = self.nodes.len();
        let mut options = NodeOptions { settings: self.settings.clone(), ..NodeOptions::default() }
            .place(place.clone())
            .flag("--name")
            .flag(self.name(number));
        if place.namespace.is_some() {
            // Tests carry no certificates.
            options = options.flag("--insecure");
        }
        if let Some(first) = self.places.first() {
            options = options.flag("--seeds").flag(&first.addresses.peer);
        }
        if let Some(dir) = data_dir {
            options = options.data_dir(dir);
        }
        self.nodes.push(Node::new(options)?);
        self.places.push(place);
        self.ids.push(None);
        Ok(number)
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node.
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// A node, to start or stop it.
    pub fn node_mut(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_running())
    }

    /// What a node is called.
    pub fn name(&self, node: usize) -> String {
        format!("n{}", node + 1)
    }

    /// The node that has this node id.
    fn place_of(&self, id: i64) -> Option<usize> {
        let id = u64::try_from(id).ok()?;
        self.ids.iter().position(|known| *known == Some(id))
    }

    /// What a node listens on.
    pub fn addresses(&self, node: usize) -> &Addresses {
        &self.places[node].addresses
    }

    /// A connection for long answers: audits, statements.
    pub async fn client(&self, node: usize) -> Result<Client> {
        Client::connect(&self.addresses(node).client).await
    }

    /// How a client of this side, which has other nodes to go to, reaches any node.
    pub fn reach(&self, side: Side) -> Reach {
        Reach {
            connect_wait_max: CONNECT_WAIT_MAX,
            call_wait_max: CALL_WAIT_MAX,
            from: self.network.client(side),
        }
    }

    async fn look_client(&self, node: usize) -> Result<Client> {
        let reach = self.reach(Side::Near);
        Client::connect_with(&self.addresses(node).client, &reach).await
    }

    /// Runs the node's program with these words, told to speak to this node; what it prints.
    pub async fn command(&self, node: usize, words: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(node::binary()?);
        command.args(words).env("ALLUVIUM_ADDR", &self.addresses(node).client);
        command.env_remove("ALLUVIUM_BIN").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_WAIT_MAX, command.output()).await;
        let output = output.with_context(|| format!("alluvium {} hangs", words.join(" ")))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("alluvium {}: {}\n{said}{complaint}", words.join(" "), output.status);
        }
        Ok(said)
    }

    /// Writes what every node has logged into this directory.
    pub fn save_logs(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        for (number, node) in self.nodes.iter().enumerate() {
            std::fs::write(dir.join(format!("{}.log", self.name(number))), node.log())?;
        }
        Ok(())
    }

    /// The last lines that each node has logged.
    pub fn log_ends(&self) -> String {
        let logs = self.nodes.iter().enumerate().map(|(number, node)| {
            format!("{} logged at last:\n{}\n", self.name(number), node.log_end())
        });
        logs.collect()
    }
}
