//! What was acknowledged is there after a kill, from the log and from segments alike.

use crate::node::{Node, data_dir};

#[test]
fn acknowledged_events_survive_kills() {
    let (_dir, data) = data_dir();
    let flags = ["--segment-bytes", "64KB", "--segment-age", "100ms"];
    let node = Node::start_with(&data, &flags);
    node.sql("CREATE STREAM s (n BIGINT, pad TEXT) PARTITION BY (n) WITH (partitions = 2)");
    node.kill();
    for round in 0..5 {
        let node = Node::start_with(&data, &flags);
        let rows: Vec<_> =
            (0..200).map(|n| format!("({}, repeat('x', 100))", round * 200 + n)).collect();
        node.sql(&format!("INSERT INTO s VALUES {}", rows.join(", ")));
        node.kill();
    }
    let node = Node::start_with(&data, &flags);
    let audit = "SELECT count(*) AS n, count(DISTINCT n) AS d, min(n) AS lo, max(n) AS hi FROM s";
    assert_eq!(node.sql(audit), "n,d,lo,hi\n1000,1000,0,999\n");
    let dense = "SELECT count(*) AS n FROM (
                   SELECT _partition, max(_offset) + 1 AS e, count(*) AS c FROM s GROUP BY 1
                 ) AS p WHERE e <> c";
    assert_eq!(node.sql(dense), "n\n0\n");
}

#[test]
fn an_answer_as_of_a_frontier_stays_the_same() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (n BIGINT); INSERT INTO s VALUES (1), (2), (3)");
    let as_of = |node: &Node| {
        let sql = "SELECT sum(n) AS s FROM s";
        let output = node.client(&["sql", "--as-of", "s=0:2", "--format", "csv", "-e", sql]);
        crate::node::text(&output.stdout)
    };
    assert_eq!(as_of(&node), "s\n3\n");
    node.sql("INSERT INTO s VALUES (4)");
    assert_eq!(as_of(&node), "s\n3\n");
    node.kill();
    let node = Node::start(&data);
    assert_eq!(as_of(&node), "s\n3\n");
    assert_eq!(node.sql("SELECT sum(n) AS s FROM s"), "s\n10\n");
}
