//! Nodes as processes: what they keep through crashes, what they refuse, how they end.
//!
//! One binary, because each would link anew. Every test starts its own nodes on free ports or
//! addresses. A test that the machine does not allow (mounting, tracing) says so on stderr as
//! `skipped: …` and passes; `xtask test` counts these lines.
#![allow(clippy::print_stderr, reason = "tests print seeds and why they were skipped")]

mod as_of;
mod bad_input;
mod chaos;
mod clients;
mod cluster;
mod damage;
mod disk;
mod kill;
mod producers;
mod single;
mod stop;
mod trouble;
mod views;
mod views_without_sql;

use cluster_e2e::client::Client;
use cluster_e2e::node::{Node, NodeOptions};

/// A node with defaults, and a connection to it.
async fn node() -> (Node, Client) {
    let node = Node::start(NodeOptions::default()).await.expect("a fresh node starts");
    let client = node.client().await.expect("a ready node answers");
    (node, client)
}

/// Says that a test could not run here.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
