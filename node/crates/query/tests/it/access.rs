//! What a caller without rights is told: of what is there the same as of what is not.

use alluvium_query::access::Caller;
use alluvium_query::host::Freshness;
use alluvium_query::{Engine, ErrorKind};

use crate::world::World;

/// The kind and the words of the refusal.
async fn refused(engine: &Engine, sql: &str) -> (ErrorKind, String) {
    match engine.run(sql, Freshness::Linearizable).await {
        Ok(answer) => panic!("{sql} was answered: {answer:?}"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[tokio::test]
async fn what_exists_is_refused_as_what_does_not() {
    let world = World::new();
    world.rides(1, 1).await;
    let best = "SELECT rider, count(*) AS n FROM rides GROUP BY rider";
    world.csv(&format!("CREATE MATERIALIZED VIEW best AS {best}")).await;
    // A role that is there in every cluster and reads nothing.
    let operator = world.engine.asked_by(Caller::Role("operator".into()));
    for sql in [
        "SELECT * FROM {}",
        "SELECT nope FROM public.{}",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM {})",
        "EXPLAIN SELECT * FROM {}",
        "INSERT INTO {} VALUES (1)",
        "INSERT INTO {} (nope) SELECT * FROM {}",
        "DESCRIBE {}",
        "DROP STREAM {}",
        "DROP STREAM IF EXISTS {}",
        "DROP VIEW {}",
        "DROP MATERIALIZED VIEW IF EXISTS {}",
        "EXPLAIN VIEW {}",
        "AUDIT VIEW {}",
        "REBUILD VIEW {}",
        "CREATE STREAM {} (id BIGINT)",
        "CREATE VIEW {} AS SELECT 1 AS a",
        "CREATE OR REPLACE VIEW {} AS SELECT 1 AS a",
        "CREATE VIEW v AS SELECT nope FROM {}",
        "GRANT SELECT ON {} TO operator",
        "CREATE POLICY p ON {} TO operator USING (nope = 1)",
        "ALTER STREAM {} OWNER TO operator",
    ] {
        let missing = refused(&operator, &sql.replace("{}", "missing")).await;
        assert_eq!(missing.0, ErrorKind::Denied, "{sql}: {}", missing.1);
        for name in ["rides", "best"] {
            let found = refused(&operator, &sql.replace("{}", name)).await;
            let same = (missing.0, missing.1.replace("missing", name));
            assert_eq!(found, same, "{sql}");
            let sql = sql.replace("{}", name);
            if let Ok(described) = operator.describe(&sql, &[]).await {
                let described = format!("{described:?}");
                assert!(!described.contains("rider"), "{sql}: {described}");
            }
        }
    }
    for name in ["rides", "best", "missing"] {
        let copy = operator.copy_in(&format!("COPY {name} (nope) FROM STDIN")).unwrap_err();
        assert_eq!(copy.kind(), ErrorKind::Denied, "{name}: {copy}");
    }
    // Nobody at all, and who need not say who they are.
    let nobody = world.engine.asked_by(Caller::Role("nobody".into()));
    assert_eq!(refused(&nobody, "SELECT * FROM rides").await.0, ErrorKind::Denied);
    let everybody = world.engine.asked_by(Caller::Everybody);
    assert_eq!(refused(&everybody, "SELECT * FROM ride").await.0, ErrorKind::NotFound);
    for listed in [
        "SELECT count(*) FROM system.streams",
        "SELECT count(*) FROM system.views",
        "SELECT count(*) FROM system.segments",
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'",
        "SELECT count(*) FROM pg_catalog.pg_class WHERE relname IN ('rides', 'best')",
    ] {
        let answer = operator.run(listed, Freshness::Linearizable).await.unwrap();
        let batches = answer.collect().await.unwrap();
        let shown = format!("{:?}", batches[0].column(0));
        assert!(shown.contains("  0,"), "{listed}: {shown}");
    }
}
