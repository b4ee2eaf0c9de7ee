//! `alluvium status`: what a node has and how it fares.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

use super::{CliError, ConnectArgs};
use crate::config::size::format_bytes;
use crate::grpc::client::{NodeInfo, NodeStatus, StreamStatus};

/// What may be typed after `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Which node.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// For people, or for programs
    #[arg(long, value_enum, default_value = "table")]
    pub format: StatusFormat,
}

/// How the status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people.
    Table,
    /// One object.
    Json,
}

/// Asks and prints.
pub async fn run(args: &StatusArgs) -> Result<(), CliError> {
    let status = args.connect.connect().await?.status().await?;
    let text = match args.format {
        StatusFormat::Table => overview(&status),
        StatusFormat::Json => as_json(&status),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn overview(status: &NodeStatus) -> String {
    let mut text = format!(
        "node       {} (n{}) of cluster {}\nversion    {}\nuptime     {}\n\
         addresses  client {}, peer {}, http {}\nmemory     {}\ndisk       {}\n",
        status.name,
        status.node_id,
        status.cluster_id,
        status.version,
        format_duration(status.uptime),
        status.client_addr,
        status.peer_addr,
        status.http_addr,
        format_bytes(status.memory_bytes),
        format_bytes(status.disk_bytes),
    );
    if 1 < status.nodes.len() {
        text.push_str(&format!("\n{}", super::node::table(&status.nodes)));
        text.push_str(&survival(&status.nodes, status.partitions_at_risk));
    }
    if status.streams.is_empty() {
        text.push_str("streams    none yet; create one with CREATE STREAM\n");
    } else {
        text.push_str(&streams_table(&status.streams));
    }
    for warning in &status.warnings {
        text.push_str(&format!("warning    {warning}\n"));
    }
    text
}

/// What the cluster bears.
fn survival(nodes: &[NodeInfo], at_risk: u64) -> String {
    let alive = nodes.iter().filter(|node| node.alive).count();
    match (alive, at_risk) {
        (0..3, _) => format!("survives   no loss: {alive} nodes are alive, three are needed\n"),
        (_, 0) => "survives   the loss of any one node\n".into(),
        (_, at_risk) => format!(
            "survives   the loss of any one node, but for {at_risk} partitions with too few replicas\n"
        ),
    }
}

fn streams_table(streams: &[StreamStatus]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["stream", "partitions", "events", "segments", "on disk", "in memory"]);
    for stream in streams {
        table.add_row([
            stream.name.clone(),
            stream.partitions.to_string(),
            format_count(stream.event_count),
            format_count(stream.segment_count),
            format_bytes(stream.segment_bytes),
            format_bytes(stream.tail_bytes),
        ]);
    }
    table.set_content_arrangement(ContentArrangement::Disabled);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\n{table}\n")
}

fn node_json(node: &NodeInfo) -> serde_json::Value {
    json!({
        "node_id": node.node_id,
        "name": node.name,
        "state": node.state,
        "alive": node.alive,
        "client_addr": node.client_addr,
        "peer_addr": node.peer_addr,
        "locality": node.locality,
        "replicas": node.replicas,
        "owned": node.owned,
        "leads_meta": node.leads_meta,
    })
}

fn as_json(status: &NodeStatus) -> String {
    let streams = status.streams.iter().map(|stream| {
        json!({
            "name": stream.name,
            "partitions": stream.partitions,
            "event_count": stream.event_count,
            "segment_count": stream.segment_count,
            "segment_bytes": stream.segment_bytes,
            "tail_bytes": stream.tail_bytes,
        })
    });
    let object = json!({
        "version": status.version,
        "node_id": status.node_id,
        "cluster_id": status.cluster_id,
        "name": status.name,
        "client_addr": status.client_addr,
        "peer_addr": status.peer_addr,
        "http_addr": status.http_addr,
        "uptime_ms": u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
        "streams": streams.collect::<Vec<_>>(),
        "memory_bytes": status.memory_bytes,
        "disk_bytes": status.disk_bytes,
        "warnings": status.warnings,
        "partitions_at_risk": status.partitions_at_risk,
        "nodes": status.nodes.iter().map(node_json).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

/// `1,234,567`
pub(super) fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3d 4h`, `4h 12m`, `12m 5s`, `5s`: the two largest units say enough.
fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days != 0 {
        format!("{days}d {hours}h")
    } else if hours != 0 {
        format!("{hours}h {minutes}m")
    } else if minutes != 0 {
        format!("{minutes}m {rest}s")
    } else {
        format!("{rest}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> NodeStatus {
        NodeStatus {
            version: "0.1.0".into(),
            node_id: 1,
            cluster_id: "c0ffee".into(),
            name: "alluvium".into(),
            client_addr: "127.0.0.1:7400".into(),
            peer_addr: "127.0.0.1:7401".into(),
            http_addr: "127.0.0.1:7402".into(),
            uptime: Duration::from_secs(4 * 3_600 + 12 * 60 + 3),
            streams: vec![StreamStatus {
                name: "flights".into(),
                partitions: 4,
                event_count: 336_776,
                segment_count: 4,
                segment_bytes: 5_400_000,
                tail_bytes: 12,
            }],
            memory_bytes: 200 << 20,
            disk_bytes: 12 << 20,
            warnings: vec!["the disk is 91 % full".into()],
            nodes: Vec::new(),
            partitions_at_risk: 0,
        }
    }

    #[test]
    fn the_overview_is_read_at_a_glance() {
        let expected = "\
node       alluvium (n1) of cluster c0ffee
version    0.1.0
uptime     4h 12m
addresses  client 127.0.0.1:7400, peer 127.0.0.1:7401, http 127.0.0.1:7402
memory     200.0 MB
disk       12.0 MB

| stream  | partitions |  events | segments | on disk | in memory |
|---------|------------|---------|----------|---------|-----------|
| flights |          4 | 336,776 |        4 |  5.1 MB |      12 B |
warning    the disk is 91 % full
";
        assert_eq!(overview(&status()), expected);
    }

    #[test]
    fn what_a_cluster_bears_is_not_overstated() {
        let node = |alive| NodeInfo {
            node_id: 1,
            name: "n".into(),
            state: "active".into(),
            alive,
            client_addr: String::new(),
            peer_addr: String::new(),
            locality: String::new(),
            replicas: 0,
            owned: 0,
            leads_meta: false,
        };
        let three = [node(true), node(true), node(true)];
        assert!(survival(&[node(true), node(true), node(false)], 0).contains("no loss"));
        assert!(survival(&three, 2).contains("but for 2 partitions"));
        assert!(survival(&three, 0).ends_with("any one node\n"));
    }

    #[test]
    fn programs_get_plain_numbers() {
        let object: serde_json::Value = serde_json::from_str(&as_json(&status())).unwrap();
        assert_eq!(object["uptime_ms"], 15_123_000);
        assert_eq!(object["streams"][0]["event_count"], 336_776);
        assert_eq!(object["warnings"][0], "the disk is 91 % full");
    }

    #[test]
    fn numbers_are_grouped_and_times_short() {
        let counts = [0, 999, 1_000, 1_234_567].map(format_count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times = [5, 65, 3_600, 90_061].map(|s| format_duration(Duration::from_secs(s)));
        assert_eq!(times, ["5s", "1m 5s", "1h 0m", "1d 1h"]);
    }
}
