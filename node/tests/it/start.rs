//! Starting and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::node::{Node, alluvium, data_dir, text};

#[test]
fn the_ready_file_names_addresses_that_answer() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    for key in ["client", "peer", "http", "pg"] {
        TcpStream::connect(node.address(key)).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let status = node.client(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn health_and_metrics_are_served() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (a BIGINT); INSERT INTO s VALUES (1), (2)");
    assert!(get(&node, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(&node, "/readyz").contains("ready"));
    let metrics = get(&node, "/metrics");
    assert!(metrics.contains("alluvium_events_applied_total 2"), "{metrics}");
    assert!(metrics.contains("alluvium_streams 1"), "{metrics}");
}

fn get(node: &Node, path: &str) -> String {
    let mut stream = TcpStream::connect(node.address("http")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    let second = alluvium()
        .args(["start", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));
    assert_eq!(node.sql("SELECT 1 AS one"), "one\n1\n");
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest_one() {
    let (dir, data) = data_dir();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "data_dri = \"x\"\n").unwrap();
    let output = alluvium()
        .arg("start")
        .arg("--config")
        .arg(&file)
        .arg("--data-dir")
        .arg(&data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("data_dri") && said.contains("did you mean data_dir"), "{said}");
}

#[test]
fn terminating_ends_well_and_keeps_everything() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (a BIGINT); INSERT INTO s VALUES (7)");
    assert_eq!(node.terminate(), Some(0));
    let node = Node::start(&data);
    assert_eq!(node.sql("SELECT a FROM s"), "a\n7\n");
}
