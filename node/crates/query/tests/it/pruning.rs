//! Segments in which no row can pass are not opened, and counts and bounds are not read at all.

use crate::world::World;

/// `rides` with ten segments in each of the two partitions that the riders fall into; ride ids grow
/// from one to the next.
async fn world() -> World {
    let world = World::new();
    world.rides(10, 20).await;
    world
}

#[tokio::test]
async fn the_plan_names_only_the_segments_that_may_match() {
    let world = world().await;
    let files = |plan: &str| plan.matches(".parquet").count();
    let all = world.plan("SELECT rider FROM rides").await;
    assert_eq!(files(&all), 20, "{all}");
    let cases = [
        ("ride_id = 45", 2),
        ("ride_id >= 30 AND ride_id < 90", 4),
        ("ride_id IN (15, 285)", 4),
        ("started_at >= TIMESTAMP '2026-01-01 04:30:00'", 2),
        ("rider = 'r9'", 0),
        ("_partition = 0", 10),
        ("_partition = 1 AND ride_id > 1000", 0),
        ("_offset >= 1000000", 0),
        ("ride_id IS NULL", 0),
        ("ride_id > 1000 OR rider IS NOT NULL", 20),
    ];
    for (filter, expected) in cases {
        let sql = format!("SELECT elapsed_s FROM rides WHERE {filter}");
        let plan = world.plan(&sql).await;
        assert_eq!(files(&plan), expected, "{filter}\n{plan}");
    }
}

#[tokio::test]
async fn counts_and_bounds_come_from_statistics() {
    let world = World::new();
    world.rides(4, 0).await;
    for sql in [
        "SELECT count(*) FROM rides",
        "SELECT min(ride_id), max(ride_id) FROM rides",
        "SELECT count(rider), max(started_at) FROM rides",
        "SELECT max(_offset) FROM rides",
    ] {
        let plan = world.plan(sql).await;
        assert!(!plan.contains("DataSourceExec"), "{sql}\n{plan}");
        assert!(plan.contains("PlaceholderRowExec"), "{sql}\n{plan}");
    }
    assert_eq!(
        world.rows("SELECT count(*), min(ride_id), max(ride_id), max(rider) FROM rides").await,
        "120,0,119,r6\n"
    );
}

#[tokio::test]
async fn a_filter_after_pruning_is_exact() {
    let world = world().await;
    let cases = [
        ("ride_id = 45", "1,45,45"),
        ("ride_id >= 30 AND ride_id < 90", "60,30,89"),
        ("ride_id > 295", "24,296,319"),
        ("rider = 'r3' AND ride_id < 31", "4,3,24"),
        ("started_at >= TIMESTAMP '2026-01-01 05:00:00'", "20,300,319"),
        ("_partition IN (0, 1, 2) AND ride_id <= 3", "4,0,3"),
        ("elapsed_s > 150.0", "19,301,319"),
        ("rider LIKE 'r%' AND ride_id % 100 = 7", "4,7,307"),
    ];
    for (filter, expected) in cases {
        let sql = format!("SELECT count(*), min(ride_id), max(ride_id) FROM rides WHERE {filter}");
        assert_eq!(world.rows(&sql).await, format!("{expected}\n"), "{filter}");
    }
}

#[tokio::test]
async fn no_statement_reaches_a_file() {
    let world = world().await;
    let path = world.dir.path().join("secret.csv");
    std::fs::write(&path, "a\n1\n").unwrap();
    let path = path.to_str().unwrap();
    for sql in [
        format!("SELECT * FROM '{path}'"),
        format!("SELECT * FROM \"{path}\""),
        format!("SELECT * FROM \"file://{path}\""),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'"),
        format!("COPY (SELECT 1) TO '{path}'"),
        format!("SELECT * FROM read_csv('{path}')"),
        format!("SELECT * FROM parquet_metadata('{path}')"),
    ] {
        assert!(world.run(&sql).await.is_err(), "{sql}");
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), "a\n1\n");
}
