//! `_partition`, `_offset` and `_appended_at`: there when named, never in `*`.

use crate::world::World;

async fn world() -> World {
    let world = World::new();
    world.script("CREATE STREAM a (k BIGINT, v TEXT); CREATE STREAM b (k BIGINT, w TEXT)").await;
    world
        .script("INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (2, 'zwei')")
        .await;
    world.host.seal("a").unwrap();
    world.csv("INSERT INTO a VALUES (3, 'three')").await;
    world
}

#[tokio::test]
async fn wildcards_leave_them_out() {
    let world = world().await;
    let cases = [
        ("SELECT * FROM a ORDER BY k LIMIT 1", "k,v\n1,one\n"),
        ("SELECT *, _offset FROM a ORDER BY k", "k,v,_offset\n1,one,0\n2,two,1\n3,three,2\n"),
        ("SELECT * FROM a WHERE _offset = 1", "k,v\n2,two\n"),
        ("SELECT x.* FROM a x WHERE x._offset = 2", "k,v\n3,three\n"),
        (
            "SELECT * FROM (SELECT *, _offset AS o FROM a) ORDER BY o DESC LIMIT 1",
            "k,v,o\n3,three,2\n",
        ),
        (
            "WITH c AS (SELECT *, _offset FROM a) SELECT * FROM c WHERE k = 2",
            "k,v,_offset\n2,two,1\n",
        ),
        ("SELECT * FROM a JOIN b ON a.k = b.k WHERE b._offset = 0", "k,v,k,w\n2,two,2,zwei\n"),
        ("SELECT * FROM a JOIN b USING (k) WHERE b._offset = 0", "k,v,w\n2,two,zwei\n"),
        ("SELECT * FROM a, (SELECT 1 AS one) AS d WHERE a._offset = 0", "k,v,one\n1,one,1\n"),
        ("SELECT * EXCLUDE (v) FROM a WHERE _offset = 0", "k\n1\n"),
        ("SELECT * EXCEPT (v, _offset) FROM a WHERE _offset = 0", "k\n1\n"),
        ("SELECT b.*, a._offset FROM a JOIN b USING (k)", "k,w,_offset\n2,zwei,1\n"),
        (
            "SELECT k FROM a WHERE EXISTS (SELECT * FROM b WHERE b.k = a.k AND b._offset = 0)",
            "k\n2\n",
        ),
        ("SELECT * FROM b UNION ALL SELECT * FROM b WHERE _offset = 9", "k,w\n2,zwei\n"),
        (
            "SELECT count(*), max(_offset), min(_partition) FROM a",
            "count(*),max(a._offset),min(a._partition)\n3,2,0\n",
        ),
        ("SELECT count(DISTINCT _appended_at) AS n FROM a", "n\n2\n"),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.csv(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_natural_join_does_not_join_on_them() {
    let world = world().await;
    assert_eq!(world.rows("SELECT v, w FROM a NATURAL JOIN b").await, "two,zwei\n");
    let error = world.run("SELECT v, a._offset FROM a NATURAL JOIN b").await.unwrap_err();
    assert!(error.to_string().contains("USING"), "{error}");
}

#[tokio::test]
async fn they_are_not_inserted() {
    let world = world().await;
    world.csv("CREATE STREAM copy (k BIGINT, v TEXT, o BIGINT)").await;
    world.csv("INSERT INTO copy SELECT *, _offset FROM a").await;
    assert_eq!(world.rows("SELECT * FROM copy ORDER BY o").await, "1,one,0\n2,two,1\n3,three,2\n");
    let error = world.run("INSERT INTO copy (k, _offset) VALUES (1, 2)").await.unwrap_err();
    assert!(error.to_string().starts_with("column \"_offset\" does not exist"), "{error}");
}
