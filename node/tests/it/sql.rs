//! SQL through the command line.

use crate::node::{Node, data_dir, text};

#[test]
fn streams_are_created_filled_asked_and_dropped() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql(
        "CREATE STREAM rides (ride_id BIGINT NOT NULL, rider TEXT, elapsed_s DOUBLE, at TIMESTAMP)
           PARTITION BY (rider) WITH (event_time = 'at', partitions = 4, retention = '90 days');
         INSERT INTO rides VALUES
           (1, 'ada', 61.5, TIMESTAMP '2026-01-01 10:00:00'),
           (2, 'bob', 58.25, TIMESTAMP '2026-01-01 10:05:00'),
           (3, 'ada', 59, TIMESTAMP '2026-01-02 09:00:00');
         INSERT INTO rides (ride_id) VALUES (4)",
    );
    let best = "SELECT rider, min(elapsed_s) AS best, count(*) AS rides
                FROM rides GROUP BY rider ORDER BY 1";
    assert_eq!(node.sql(best), "rider,best,rides\nada,59.0,2\nbob,58.25,1\n,,1\n");
    let hidden = "SELECT count(DISTINCT _partition) AS p, max(_offset) < 4 AS o
                  FROM rides WHERE rider = 'ada'";
    assert_eq!(node.sql(hidden), "p,o\n1,true\n");
    assert!(!node.sql("SELECT * FROM rides").contains("_offset"));
    assert!(node.sql("SHOW STREAMS").contains("rides"));
    assert!(node.sql("DESCRIBE rides").contains("elapsed_s"));
    assert_eq!(node.sql("SELECT count(*) AS n FROM system.partitions"), "n\n4\n");
    node.sql("DROP STREAM rides");
    assert!(node.sql_error("SELECT * FROM rides").contains("rides"));
    node.sql("CREATE STREAM rides (ride_id BIGINT)");
    assert_eq!(node.sql("SELECT count(*) AS n FROM rides"), "n\n0\n");
}

#[test]
fn errors_say_what_to_do_and_end_the_script() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    node.sql("CREATE STREAM s (a BIGINT NOT NULL, b TEXT)");
    let cases = [
        ("SELEC 1", "SELEC"),
        ("SELECT nope FROM s", "nope"),
        ("SELECT * FROM nosuch", "nosuch"),
        ("INSERT INTO s (b) VALUES ('x')", "a"),
        ("CREATE STREAM s (a BIGINT)", "exists"),
        ("COPY s TO '/tmp/x'", "not"),
        ("SET datafusion.execution.batch_size = 1", "not"),
    ];
    for (sql, expected) in cases {
        let said = node.sql_error(sql);
        assert!(said.contains(expected), "{sql}: {said}");
    }
    let output =
        node.client(&["sql", "--format", "csv", "-e", "SELECT 1 AS a; SELEC; SELECT 2 AS b"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "a\n1\n");
    assert_eq!(node.sql("SELECT count(*) AS n FROM s"), "n\n0\n");
}

#[test]
fn json_is_one_array_of_objects_for_each_statement() {
    let (_dir, data) = data_dir();
    let node = Node::start(&data);
    let sql = "SELECT 1 AS a, 'x' AS b, NULL AS c; SELECT 2.5 AS d WHERE false";
    let output = node.client(&["sql", "--format", "json", "-e", sql]);
    let answers =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap()).collect();
    assert_eq!(
        answers,
        [serde_json::json!([{"a": 1, "b": "x", "c": null}]), serde_json::json!([])]
    );
}
