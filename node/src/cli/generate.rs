//! `alluvium generate`: files that go with the program, so that they fit the one at hand.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, CliError, ConnectArgs};

/// The rules that Prometheus warns by.
const ALERTS: &str = include_str!("../../../deploy/monitoring/alerts.yaml");

/// What Grafana shows.
const DASHBOARD: &str = include_str!("../../../deploy/monitoring/grafana/alluvium.json");

/// The unit that the Debian package installs.
const UNIT: &str = include_str!("../../../deploy/debian/alluvium.service");

/// The file of keys that it installs, each with what it means.
const CONFIG: &str = include_str!("../../../deploy/debian/alluvium.toml");

/// What may be typed after `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// What to write.
    #[command(subcommand)]
    pub what: What,
}

/// What can be written.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// Completion of what is typed, for a shell
    Completion {
        /// Which
        shell: Shell,
    },
    /// The manual: the page of the program, or one page for each command into a directory
    Man {
        /// Where the pages go
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Rules for Prometheus: what to be woken up for
    Alerts,
    /// A dashboard for Grafana
    Dashboard,
    /// A unit for systemd
    Systemd,
    /// A file of keys for `alluvium start --config`
    Config,
    /// An inventory for Ansible, of the nodes that are in a cluster now
    Inventory(ConnectArgs),
}

/// Writes it to the output.
pub async fn run(args: &GenerateArgs) -> Result<(), CliError> {
    let mut text = Vec::new();
    match &args.what {
        What::Completion { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "alluvium", &mut text);
        }
        What::Man { out: None } => Man::new(Cli::command()).render(&mut text)?,
        What::Man { out: Some(dir) } => return manual(dir),
        What::Alerts => text.extend(ALERTS.bytes()),
        What::Dashboard => text.extend(DASHBOARD.bytes()),
        What::Systemd => text.extend(UNIT.bytes()),
        What::Config => text.extend(CONFIG.bytes()),
        What::Inventory(connect) => {
            let nodes = connect.connect().await?.nodes().await?;
            let nodes = nodes.iter().map(|node| (node.name.as_str(), node.client_addr.as_str()));
            text.extend(inventory(nodes)?.bytes());
        }
    }
    std::io::stdout().lock().write_all(&text)?;
    Ok(())
}

fn manual(dir: &Path) -> Result<(), CliError> {
    let named = |error: std::io::Error| CliError::Failed(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(named)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(named)
}

/// The group has the name that the playbooks know.
fn inventory<'a>(nodes: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, CliError> {
    let mut text = "---\nnode:\n  hosts:\n".to_owned();
    for (name, addr) in nodes {
        let split = crate::config::split_addr(addr);
        let (host, _port) =
            split.map_err(|reason| CliError::Failed(format!("{name}: {reason}")))?;
        let host = host.trim_matches(['[', ']']);
        // JSON's strings are YAML's, whatever is in them.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        text.push_str(&format!("    {}: {{ ansible_host: {} }}\n", quoted(name), quoted(host)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_names_every_node_and_its_host() {
        let nodes = [("n1", "10.0.0.11:7400"), ("n2", "[fd00::2]:7400")];
        let text = inventory(nodes.into_iter()).unwrap();
        let expected = "---\nnode:\n  hosts:\n    \"n1\": { ansible_host: \"10.0.0.11\" }\n    \
                        \"n2\": { ansible_host: \"fd00::2\" }\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_manual_has_a_page_for_each_command() {
        let dir = tempfile::tempdir().unwrap();
        manual(dir.path()).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = dir.path().join(format!("alluvium-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{}", page.display());
        }
    }
}
