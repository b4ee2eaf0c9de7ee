//! Files into streams.

use std::io::Write;

use crate::node::{Node, data_dir, text};

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{{\"n\": {n}, \"name\": \"name-{}\"}}\n", n % 7)).collect()
}

#[test]
fn a_named_producer_may_run_twice_and_nothing_doubles() {
    let (dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql(
        "CREATE STREAM s (n BIGINT NOT NULL, name TEXT) PARTITION BY (name) WITH (partitions = 3)",
    );
    let file = dir.path().join("events.ndjson");
    std::fs::write(&file, lines(0..2_500)).unwrap();
    let file = file.to_str().unwrap();
    let ingest = ["ingest", "s", file, "--producer", "loader", "--batch-rows", "1000"];
    let count = "SELECT count(*) AS n, count(DISTINCT n) AS d, sum(n) AS s FROM s";
    for run in 0..2 {
        let output = node.client(&ingest);
        assert!(output.status.success(), "run {run}: {}", text(&output.stderr));
        assert_eq!(node.sql(count), "n,d,s\n2500,2500,3123750\n", "run {run}");
    }
    // The file grows: only what is new comes in.
    std::fs::OpenOptions::new()
        .append(true)
        .open(file)
        .unwrap()
        .write_all(lines(2_500..3_300).as_bytes())
        .unwrap();
    let output = node.client(&ingest);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(node.sql(count), "n,d,s\n3300,3300,5443350\n");
}

#[test]
fn csv_is_read_from_standard_input_by_column_names() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (a BIGINT, b TEXT, c DOUBLE)");
    let output = node
        .client_with_input(&["ingest", "s", "-", "--file-format", "csv"], b"b,a\nx,1\n\"y,z\",2\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(node.sql("SELECT a, b, c FROM s ORDER BY a"), "a,b,c\n1,x,\n2,\"y,z\",\n");
}

#[test]
fn a_wrong_event_is_named_and_nothing_of_its_batch_comes_in() {
    let (dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (a BIGINT NOT NULL)");
    let file = dir.path().join("events.ndjson");
    std::fs::write(&file, "{\"a\": 1}\n{\"a\": \"one\"}\n").unwrap();
    let output = node.client(&["ingest", "s", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("\"a\"") || said.contains("column a"), "{said}");
    assert_eq!(node.sql("SELECT count(*) AS n FROM s"), "n\n0\n");
}
