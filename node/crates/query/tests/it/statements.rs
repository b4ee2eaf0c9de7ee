//! Every statement once.

use crate::world::World;

#[tokio::test]
async fn a_stream_is_created_shown_described_and_dropped() {
    let world = World::new();
    let create = "CREATE STREAM rides (ride_id INT8 NOT NULL, \"Rider\" VARCHAR(40), meters FLOAT4, \
                  at TIMESTAMP WITH TIME ZONE) PARTITION BY (ride_id, \"Rider\") \
                  WITH (event_time = 'at', partitions = 8, retention = '90 days', replicas = 1);";
    let answer = world.run(create).await.unwrap();
    assert_eq!(answer.tag, "CREATE STREAM");
    assert!(answer.schema.fields().is_empty());
    assert_eq!(
        world.csv("DESCRIBE rides").await,
        "column_name,data_type,nullable,role\n\
         ride_id,BIGINT,false,partition key\n\
         Rider,TEXT,true,partition key\n\
         meters,REAL,true,\n\
         at,TIMESTAMPTZ,true,event time\n"
    );
    assert_eq!(world.csv("SHOW COLUMNS FROM public.rides").await, world.csv("DESC rides").await);
    let shown = world.csv("SHOW STREAMS").await;
    assert!(shown.contains("rides,1,8,0,0,0,0,\"ride_id, Rider\",at,90 days,1,"), "{shown}");
    world.csv("CREATE STREAM IF NOT EXISTS rides (a INT)").await;
    world.csv("DROP STREAM rides").await;
    world.csv("DROP STREAM IF EXISTS rides").await;
    assert_eq!(world.rows("SHOW STREAMS").await, "");
}

#[tokio::test]
async fn queries_of_every_form() {
    let world = World::new();
    world.rides(2, 5).await;
    let cases = [
        ("SELECT 1 + 1", "2\n"),
        ("VALUES (1), (2)", "1\n2\n"),
        ("WITH r AS (SELECT rider FROM rides) SELECT count(*) FROM r", "65\n"),
        ("SELECT count(*), min(ride_id), max(ride_id) FROM rides", "65,0,64\n"),
        ("SELECT count(*) FROM rides WHERE ride_id < 10 UNION ALL SELECT 7 ORDER BY 1", "7\n10\n"),
        (
            "SELECT rider, count(*) AS n FROM rides GROUP BY rider ORDER BY n DESC, rider LIMIT 2",
            "r0,10\nr1,10\n",
        ),
        ("SELECT ride_id FROM rides ORDER BY ride_id DESC LIMIT 3", "64\n63\n62\n"),
        (
            "SELECT a.ride_id FROM rides a JOIN rides b ON a.ride_id = b.ride_id + 60 ORDER BY 1",
            "60\n61\n62\n63\n64\n",
        ),
        (
            "SELECT ride_id, rank() OVER (ORDER BY elapsed_s DESC) FROM rides ORDER BY 2 LIMIT 2",
            "64,1\n63,2\n",
        ),
        ("SELECT count(*) FROM public.rides", "65\n"),
        ("SELECT count(*) FROM alluvium.public.rides", "65\n"),
        (
            "SELECT date_trunc('hour', started_at) AS h, count(*) FROM rides GROUP BY h ORDER BY h",
            "2026-01-01T00:00:00,60\n2026-01-01T01:00:00,5\n",
        ),
        ("SELECT '7'::BIGINT + 1", "8\n"),
        ("SELECT count(*) FROM generate_series(1, 10)", "10\n"),
        ("SELECT count(*) FILTER (WHERE rider = 'r3') FROM rides", "9\n"),
        (
            "SELECT ride_id FROM rides WHERE rider IN (SELECT 'r1') AND ride_id < 9 ORDER BY 1",
            "1\n8\n",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
    for sql in ["EXPLAIN SELECT * FROM rides", "EXPLAIN ANALYZE SELECT * FROM rides"] {
        assert!(world.rows(sql).await.contains("DataSourceExec"), "{sql}");
    }
}

#[tokio::test]
async fn system_tables_and_information_schema() {
    let world = World::new();
    world.rides(1, 4).await;
    world.csv("CREATE STREAM empty (a INT)").await;
    let cases = [
        (
            "SELECT name, partitions, events, segments FROM system.streams ORDER BY name",
            "empty,1,0,0\nrides,3,34,2\n",
        ),
        ("SELECT sum(events) FROM system.partitions WHERE stream = 'rides'", "34\n"),
        ("SELECT count(*), sum(events) FROM system.segments", "2,30\n"),
        ("SELECT count(*) FROM system.producers", "0\n"),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            "empty\nrides\n",
        ),
        ("SELECT column_name FROM information_schema.columns WHERE table_name = 'empty'", "a\n"),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
    assert!(world.csv("DESCRIBE system.partitions").await.contains("end_offset,BIGINT"));
}

#[test]
fn a_script_is_split_outside_quotes_and_comments() {
    let script =
        "-- one; not two\nSELECT ';' AS \"a;b\";;\n /* ; /* ; */ */ SELECT 'it''s';\nSELECT 3\n";
    assert_eq!(
        alluvium_query::split_statements(script).unwrap(),
        ["-- one; not two\nSELECT ';' AS \"a;b\"", "/* ; /* ; */ */ SELECT 'it''s'", "SELECT 3"]
    );
    assert_eq!(alluvium_query::split_statements(" ;\n; -- nothing\n").unwrap(), [""; 0]);
    assert_eq!(alluvium_query::split_statements("SELECT 'größe'; SELECT 2").unwrap().len(), 2);
    for unfinished in ["SELECT 'a", "SELECT \"a", "SELECT /* a"] {
        assert!(alluvium_query::is_unfinished(unfinished), "{unfinished}");
    }
    assert!(!alluvium_query::is_unfinished("SELECT 1"));
}

#[tokio::test]
async fn dropping_the_answer_stops_the_statement() {
    let world = World::with(|options| options.memory_bytes_max = 64 << 20);
    // Far more rows than could be computed in a test: only a stopped statement ends.
    let sql = "SELECT value * 2 FROM generate_series(1, 1000000000000)";
    let mut answer = world.run(sql).await.unwrap();
    let first = futures::StreamExt::next(&mut answer.batches).await.unwrap().unwrap();
    assert!(0 < first.num_rows());
    drop(answer);
    assert_eq!(world.rows("SELECT 1").await, "1\n");
}
