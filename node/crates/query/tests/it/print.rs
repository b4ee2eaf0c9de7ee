//! Answers as text, and across the wire.

use std::sync::Arc;

use alluvium_query::print::{Format, to_text};
use alluvium_query::wire;

use crate::world::World;

const SQL: &str = "SELECT * FROM (VALUES (1, 'a', 1.5, true, TIMESTAMP '2026-01-02 03:04:05'), \
                   (20, NULL, NULL, false, NULL)) AS t (n, x, d, b, at) ORDER BY n";

async fn text(format: Format, sql: &str) -> String {
    let world = World::new();
    let answer = world.run(sql).await.unwrap();
    let schema = Arc::clone(&answer.schema);
    let batches = answer.collect().await.unwrap();
    to_text(format, &schema, &batches).unwrap()
}

#[tokio::test]
async fn a_table_is_aligned() {
    assert_eq!(
        text(Format::Table, SQL).await,
        " n  | x    | d    | b     | at\n\
         ----+------+------+-------+---------------------\n\
         \x20 1 | a    |  1.5 | true  | 2026-01-02T03:04:05\n\
         \x2020 | NULL | NULL | false | NULL\n\
         (2 rows)\n"
    );
    assert!(text(Format::Table, "SELECT 1 AS n").await.ends_with("(1 row)\n"));
    assert_eq!(text(Format::Table, "SELECT 1 AS n WHERE false").await, " n\n---\n(0 rows)\n");
}

#[tokio::test]
async fn csv_and_json() {
    assert_eq!(
        text(Format::Csv, SQL).await,
        "n,x,d,b,at\n1,a,1.5,true,2026-01-02T03:04:05\n20,,,false,\n"
    );
    assert_eq!(
        text(Format::NdJson, SQL).await,
        "{\"n\":1,\"x\":\"a\",\"d\":1.5,\"b\":true,\"at\":\"2026-01-02T03:04:05\"}\n\
         {\"n\":20,\"x\":null,\"d\":null,\"b\":false,\"at\":null}\n"
    );
    assert_eq!(
        text(Format::Json, "SELECT 1 AS n UNION ALL SELECT 1").await,
        "[{\"n\":1},{\"n\":1}]\n"
    );
    assert_eq!(text(Format::Json, "SELECT 1 AS n WHERE false").await, "[]\n");
    assert_eq!(text(Format::Csv, "SELECT 1 AS n WHERE false").await, "n\n");
    assert_eq!(
        text(
            Format::NdJson,
            "SELECT CAST(1.50 AS NUMERIC(9, 2)) AS d, [1, 2] AS l, DATE '2026-01-02' AS t"
        )
        .await,
        "{\"d\":1.50,\"l\":[1,2],\"t\":\"2026-01-02\"}\n"
    );
}

#[tokio::test]
async fn batches_cross_the_wire_in_pieces() {
    let world = World::new();
    let answer =
        world.run("SELECT value, repeat('x', 100) AS x FROM generate_series(1, 5000)").await;
    let answer = answer.unwrap();
    let schema = Arc::clone(&answer.schema);
    let (decoded, none) = wire::decode_batches(wire::encode_schema(&schema)).unwrap();
    assert_eq!((decoded, none.len()), (Arc::clone(&schema), 0));
    for batch in answer.collect().await.unwrap() {
        let (_, same) = wire::decode_batches(wire::encode_batch(&batch)).unwrap();
        assert_eq!(same, std::slice::from_ref(&batch));
        let pieces = wire::encode_batch_in_pieces(&batch, 64 << 10);
        assert!(1 < pieces.len() && pieces.iter().all(|piece| piece.len() <= 64 << 10));
        let mut rows = Vec::new();
        for piece in pieces {
            rows.extend(wire::decode_batches(piece).unwrap().1);
        }
        assert_eq!(arrow::compute::concat_batches(&schema, &rows).unwrap(), batch);
    }
    assert!(wire::decode_batches(bytes::Bytes::from_static(b"nonsense")).is_err());
}
