//! `alluvium node`: the nodes of a cluster, and taking one out of it.

use std::io::Write;
use std::time::Duration;

use alluvium_query::print::Format;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};

use super::freshness::FreshnessArgs;
use super::sql::SqlArgs;
use super::sql::script::{self, Script};
use super::{CliError, ConnectArgs, say};
use crate::clock::Stopwatch;
use crate::grpc::client::{Client, NodeChange, NodeInfo};

/// Between two looks at a node that drains or leaves.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// How often a person who waits is told how far it is.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// What may be typed after `node`.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Which node to ask.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What to do about nodes.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Show the nodes of the cluster
    List,
    /// Let a node own no partition: what it owns goes to others, what it holds stays
    Drain(WaitArgs),
    /// Let a node give away everything it holds, and leave the cluster for good
    Decommission(WaitArgs),
    /// Let a node that drains, or has not left yet, do everything again
    Activate {
        /// Its name, or its id as in n3
        node: String,
    },
    /// Show which nodes hold the partitions of a stream, and who owns them
    Locate {
        /// The stream
        stream: String,
    },
}

/// Whose turn it is, and how long to wait.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Its name, or its id as in n3
    pub node: String,
    /// Seconds to wait until it is done; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait: u64,
}

/// Does it.
pub async fn run(args: &NodeArgs) -> Result<(), CliError> {
    let client = args.connect.connect().await?;
    match &args.command {
        NodeCommand::List => print(&table(&client.nodes().await?)),
        NodeCommand::Drain(wait) => change(&client, wait, NodeChange::Drain).await,
        NodeCommand::Decommission(wait) => change(&client, wait, NodeChange::Decommission).await,
        NodeCommand::Activate { node } => {
            let changed = client.change_node(node, NodeChange::Activate).await?;
            print(&table(&changed.into_iter().collect::<Vec<_>>()))
        }
        NodeCommand::Locate { stream } => locate(&client, args, stream).await,
    }
}

fn print(text: &str) -> Result<(), CliError> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

async fn change(client: &Client, args: &WaitArgs, change: NodeChange) -> Result<(), CliError> {
    let changed = client.change_node(&args.node, change).await?;
    let Some(changed) = changed else { return print("removed\n") };
    let waiting = Duration::from_secs(args.wait);
    let (watch, mut said) = (Stopwatch::start(), Stopwatch::start());
    loop {
        let nodes = client.nodes().await?;
        let node = nodes.iter().find(|node| node.node_id == changed.node_id);
        let text = match (node, change) {
            (None, _) => Some(format!("node {} has left the cluster\n", changed.name)),
            (Some(node), NodeChange::Drain) if node.owned == 0 && !node.leads_meta => {
                Some(format!("node {} owns nothing any more; it may be stopped\n", changed.name))
            }
            (Some(node), _) if waiting <= watch.elapsed() => {
                let text = progress(node);
                if args.wait == 0 {
                    return print(&format!("{text}\n"));
                }
                return Err(CliError::Failed(format!("not done after {} s: {text}", args.wait)));
            }
            (Some(node), _) => {
                if SAY_AGAIN < said.elapsed() {
                    said = Stopwatch::start();
                    say(&progress(node));
                }
                None
            }
        };
        if let Some(text) = text {
            return print(&text);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn progress(node: &NodeInfo) -> String {
    let NodeInfo { name, state, owned, replicas, .. } = node;
    format!("node {name} is {state}: it owns {owned} partitions and holds {replicas}")
}

async fn locate(client: &Client, args: &NodeArgs, stream: &str) -> Result<(), CliError> {
    let quoted = stream.replace('\'', "''");
    let text = format!(
        "SELECT p.partition, n.name AS owner, p.replicas AS held_by, p.state \
         FROM system.partitions p LEFT JOIN system.nodes n ON n.node = p.owner \
         WHERE p.stream = '{quoted}' ORDER BY p.partition"
    );
    let args = SqlArgs {
        connect: args.connect.clone(),
        execute: Vec::new(),
        files: Vec::new(),
        format: Format::Table,
        keep_going: false,
        freshness: FreshnessArgs::default(),
    };
    let scripts = [Script { file: None, text }];
    script::run(client, &args, &scripts, &mut std::io::stdout().lock()).await
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.iter().copied());
    table
}

/// Nodes as people read them.
pub(super) fn table(nodes: &[NodeInfo]) -> String {
    let header = ["id", "name", "state", "client", "peer", "locality", "owns", "holds"];
    let mut table = new_table(&header);
    for node in nodes {
        let state = if node.alive { node.state.clone() } else { format!("{}, silent", node.state) };
        let state = if node.leads_meta { format!("{state}, leads the catalogue") } else { state };
        table.add_row([
            format!("n{}", node.node_id),
            node.name.clone(),
            state,
            node.client_addr.clone(),
            node.peer_addr.clone(),
            node.locality.clone(),
            node.owned.to_string(),
            node.replicas.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}
