//! Every type of a column, by all its names, from text to a tail, a segment and back.

use crate::world::World;

#[tokio::test]
async fn types_have_their_postgresql_names() {
    let world = World::new();
    let cases = [
        ("bool", "BOOLEAN"),
        ("INT2", "SMALLINT"),
        ("int", "INTEGER"),
        ("INT4", "INTEGER"),
        ("INT8", "BIGINT"),
        ("FLOAT4", "REAL"),
        ("float8", "DOUBLE PRECISION"),
        ("DOUBLE", "DOUBLE PRECISION"),
        ("DOUBLE PRECISION", "DOUBLE PRECISION"),
        ("FLOAT", "DOUBLE PRECISION"),
        ("FLOAT(20)", "REAL"),
        ("NUMERIC(12, 3)", "NUMERIC(12, 3)"),
        ("DECIMAL(5)", "NUMERIC(5, 0)"),
        ("NUMERIC", "NUMERIC(38, 10)"),
        ("VARCHAR(10)", "TEXT"),
        ("CHARACTER VARYING(3)", "TEXT"),
        ("CHAR", "TEXT"),
        ("STRING", "TEXT"),
        ("BLOB", "BYTEA"),
        ("TIME(6) WITHOUT TIME ZONE", "TIME"),
        ("TIMESTAMP(3)", "TIMESTAMP"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"),
        ("TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP"),
        ("JSONB", "JSON"),
        ("INTERVAL", "INTERVAL"),
        ("INT[]", "INTEGER[]"),
        ("TEXT[][]", "TEXT[][]"),
        ("ARRAY<BIGINT>", "BIGINT[]"),
        ("INT ARRAY", "INTEGER[]"),
        ("STRUCT<a INT, b: TEXT[]>", "STRUCT<a INTEGER, b TEXT[]>"),
        ("STRUCT(a INT, b TEXT)", "STRUCT<a INTEGER, b TEXT>"),
        ("ARRAY<STRUCT<a STRUCT<b ARRAY<INT>>>>", "STRUCT<a STRUCT<b INTEGER[]>>[]"),
    ];
    let columns: Vec<String> =
        cases.iter().enumerate().map(|(place, (name, _))| format!("c{place} {name}")).collect();
    world.csv(&format!("CREATE STREAM t ({})", columns.join(", "))).await;
    let described = world.csv("SELECT 1").await;
    assert_eq!(described, "Int64(1)\n1\n");
    let described = world.csv("DESCRIBE t").await;
    for (place, (name, expected)) in cases.iter().enumerate() {
        let plain = format!("\nc{place},{expected},true,");
        let quoted = format!("\nc{place},\"{expected}\",true,");
        assert!(described.contains(&plain) || described.contains(&quoted), "{name}: {described}");
    }
}

#[tokio::test]
async fn values_come_back_from_tail_and_segment() {
    let world = World::new();
    world
        .csv(
            "CREATE STREAM t (b BOOLEAN, s SMALLINT, i INTEGER, l BIGINT, f REAL, d DOUBLE, n NUMERIC(20, 4), \
             x TEXT, y BYTEA, da DATE, ti TIME, ts TIMESTAMP, tz TIMESTAMPTZ, j JSON, a INT[], \
             st STRUCT<p INT, q TEXT>)",
        )
        .await;
    let insert = "INSERT INTO t VALUES (true, -3, 70000, 5000000000, 1.5, 2.25, 12345.6789, 'zürich', \
                  X'00ff', '2026-02-03', '12:34:56.789', '2026-02-03 04:05:06.123456', \
                  '2026-02-03T04:05:06+02:00', '{\"k\": [1, {\"z\": \"w\"}]}', [1, NULL, 3], \
                  named_struct('p', 7, 'q', 'sieben'))";
    world.csv(insert).await;
    world.csv("INSERT INTO t (b) VALUES (NULL)").await;
    let select = "SELECT b, s, i, l, f, d, n, x, encode(y, 'hex') AS y, da, ti, ts, tz, j, a, st FROM t \
                  ORDER BY _offset";
    let tail = world.csv(select).await;
    let expected = "true,-3,70000,5000000000,1.5,2.25,12345.6789,zürich,00ff,2026-02-03,12:34:56.789,\
                    2026-02-03T04:05:06.123456,2026-02-03T02:05:06Z,";
    assert!(tail.contains(expected), "{tail}");
    world.host.seal("t").unwrap();
    assert_eq!(world.csv(select).await, tail);
    world.csv(insert).await;
    let cases = [
        ("SELECT DISTINCT a[3], st['q'], array_length(a) FROM t WHERE b", "3,sieben,3\n"),
        ("SELECT DISTINCT json_get_int(j, 'k', 0) FROM t WHERE b", "1\n"),
        ("SELECT DISTINCT j->'k'->1->>'z' FROM t WHERE b", "w\n"),
        ("SELECT j->'k' FROM t WHERE b LIMIT 1", "\"[1, {\"\"z\"\": \"\"w\"\"}]\"\n"),
        ("SELECT count(*) FROM t WHERE j->>'k' IS NOT NULL", "2\n"),
        ("SELECT count(*) FROM t WHERE tz < now() AND ts > '2020-01-01'", "2\n"),
        ("SELECT sum(n), max(x), min(da) FROM t", "24691.3578,zürich,2026-02-03\n"),
        ("SELECT count(*) FROM t WHERE tz = '2026-02-03T02:05:06Z'", "2\n"),
        ("SELECT x FROM t WHERE n = 12345.6789 AND s = -3 LIMIT 1", "zürich\n"),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn intervals_are_kept() {
    let world = World::new();
    world.csv("CREATE STREAM t (i INTERVAL, n BIGINT)").await;
    world.csv("INSERT INTO t VALUES (INTERVAL '1 month 2 days 3 seconds', 1), (NULL, 2)").await;
    let sql = "SELECT TIMESTAMP '2026-01-01 00:00:00' + i FROM t ORDER BY n";
    let expected = "2026-02-03T00:00:03\n\"\"\n";
    let tail = world.rows(sql).await;
    assert!(tail == expected || tail == "2026-02-03T00:00:03\n\n", "{tail}");
    world.host.seal("t").unwrap();
    assert_eq!(world.rows(sql).await, tail);
    assert_eq!(world.rows("SELECT count(i), count(*) FROM t").await, "1,2\n");
}
