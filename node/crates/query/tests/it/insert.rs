//! `INSERT`, and what it refuses.

use alluvium_core::ids::{Offset, PartitionNumber};

use crate::world::World;

#[tokio::test]
async fn rows_are_inserted_by_place_by_name_and_from_a_query() {
    let world = World::new();
    world.csv("CREATE STREAM t (a SMALLINT, b TEXT, c NUMERIC(10, 2), d DATE, e BOOLEAN)").await;
    let answer = world
        .run("INSERT INTO t VALUES (1, 'x', 1.5, '2026-02-03', true), (2, NULL, 2, NULL, false)");
    let answer = answer.await.unwrap();
    assert_eq!(answer.tag, "INSERT 0 2");
    assert_eq!(answer.as_of[0].1.0[&PartitionNumber(0)], Offset(2));
    assert_eq!(world.csv("INSERT INTO t (c, a) VALUES (7.25, 3)").await, "count\n1\n");
    world.csv("INSERT INTO t (a, b) SELECT a + 10, upper(b) FROM t WHERE a < 3").await;
    assert_eq!(
        world.rows("SELECT * FROM t ORDER BY a").await,
        "1,x,1.50,2026-02-03,true\n2,,2.00,,false\n3,,7.25,,\n11,X,,,\n12,,,,\n"
    );
    assert_eq!(world.rows("INSERT INTO t SELECT * FROM t WHERE false").await, "0\n");
}

#[tokio::test]
async fn many_rows_go_in_several_appends() {
    let world = World::new();
    world.csv("CREATE STREAM t (a BIGINT) WITH (partitions = 2)").await;
    world.csv("INSERT INTO t SELECT value FROM generate_series(1, 250000)").await;
    assert_eq!(
        world.rows("SELECT count(*), count(DISTINCT a), max(_offset) < 250000 FROM t").await,
        "250000,250000,true\n"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_whole() {
    let world = World::new();
    world.csv("CREATE STREAM t (a SMALLINT NOT NULL, b TEXT)").await;
    let cases = [
        "INSERT INTO t VALUES (1, 'x'), (NULL, 'y')",
        "INSERT INTO t (b) VALUES ('x')",
        "INSERT INTO t VALUES (70000, 'x')",
        "INSERT INTO t VALUES ('word', 'x')",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1, 'x', 2)",
        "INSERT INTO t (a, nope) VALUES (1, 'x')",
        "INSERT INTO t (a, a) VALUES (1, 2)",
        "INSERT INTO nope VALUES (1)",
        "INSERT INTO system.streams VALUES (1)",
        "INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (1, 'x') RETURNING a",
    ];
    for sql in cases {
        let result = world.run(sql).await;
        assert!(result.is_err(), "{sql}");
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with(|first: char| !first.is_uppercase()) || error.starts_with("INSERT"),
            "{sql}: {error}"
        );
    }
    assert_eq!(world.rows("SELECT count(*) FROM t").await, "0\n");
}
