//! What is said about views, and the statements that need one maintained aggregate each.

use alluvium_query::ErrorKind;
use alluvium_query::host::Freshness;

use crate::world::World;

async fn refused(world: &World, sql: &str) -> String {
    match world.run(sql).await {
        Ok(_) => panic!("{sql} was not refused"),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{sql}: {error}");
            error.to_string()
        }
    }
}

#[tokio::test]
async fn explain_view_says_what_is_maintained_and_why() {
    let world = World::new();
    world.rides(0, 0).await;
    world
        .csv(
            "CREATE MATERIALIZED VIEW busy AS SELECT rider, date_bin(INTERVAL '1 hour', \
             started_at) AS hour, count(*) AS n FROM rides WHERE elapsed_s > 1 GROUP BY 1, 2 \
             HAVING count(*) > 2 ORDER BY n",
        )
        .await;
    let text = world.csv("EXPLAIN VIEW busy").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "operator,how,why");
    let begins = [
        "\"events of rides (rider, elapsed_s, started_at)\",incremental,",
        "filter elapsed_s > 1,incremental,",
        "windows of 3600 s by started_at,incremental,late events change their own window",
        "\"group by rider, date_bin(",
        "aggregate count(*),incremental,",
        "Filter: ",
        "\"Projection: ",
        "Sort: ",
    ];
    assert_eq!(lines.len() - 1, begins.len(), "{text}");
    for (line, begin) in lines[1..].iter().zip(begins) {
        assert!(line.trim_start_matches('"').starts_with(begin.trim_start_matches('"')), "{text}");
    }
    world.csv("CREATE VIEW riders AS SELECT rider FROM busy").await;
    let text = world.rows("EXPLAIN VIEW riders").await;
    assert!(text.starts_with("view busy,at read,it is read as it stands then\n"), "{text}");
}

/// Statements about names and options, and why they are refused.
const REFUSED: &[(&str, &str)] = &[
    ("CREATE VIEW rides AS SELECT 1", "stream \"rides\" exists already"),
    ("CREATE VIEW n AS SELECT 1", "view \"n\" exists already"),
    (
        "CREATE VIEW top2 AS SELECT * FROM tpo",
        "stream \"tpo\" does not exist; did you mean \"top\"?",
    ),
    ("DROP STREAM n", "\"n\" is a view: use DROP VIEW"),
    ("DROP VIEW rides", "\"rides\" is a stream: use DROP STREAM"),
    ("DROP VIEW n", "\"n\" is a materialized view: use DROP MATERIALIZED VIEW"),
    ("DROP MATERIALIZED VIEW top", "\"top\" is not materialized: use DROP VIEW"),
    ("DROP VIEW nope", "view \"nope\" does not exist"),
    ("INSERT INTO n VALUES ('a', 1)", "\"n\" is a view: events go into the streams that it reads"),
    ("REBUILD VIEW top", "\"top\" keeps no state of its own: it is computed when it is read"),
    (
        "CREATE OR REPLACE MATERIALIZED VIEW n AS SELECT rider, sum(ride_id) AS s FROM rides \
         GROUP BY 1",
        "the columns of \"n\" would change, and top reads them; drop or replace the views that \
         read it first",
    ),
    ("CREATE OR REPLACE VIEW n AS SELECT 1", "\"n\" is a materialized view: drop it first"),
    ("CREATE OR REPLACE VIEW top AS SELECT * FROM top", "view \"top\" would read itself"),
    (
        "CREATE VIEW two AS SELECT rider, rider FROM rides",
        "have the same name. Consider aliasing (\"AS\") one of them",
    ),
    (
        "CREATE VIEW s AS SELECT * FROM system.streams",
        "a view reads streams and views, and \"system.streams\" is neither",
    ),
    (
        "CREATE MATERIALIZED VIEW w WITH (retention = '1 day') AS SELECT count(*) AS n FROM \
        rides",
        "retention counts from the end of a window of event time, and no column of GROUP BY is \
         one: group by tumble(ts, INTERVAL '1 hour') of the stream's event time, or leave it \
         out",
    ),
    (
        "CREATE MATERIALIZED VIEW w WITH (retension = '1 day') AS SELECT count(*) AS n FROM \
        rides",
        "\"retension\" is no option of a view; did you mean \"retention\"?; options are \
         retention, lateness, emit_final_after, on_error",
    ),
    (
        "SUBSCRIBE TO n",
        "SUBSCRIBE is answered by a stream of changes, not by one answer: give it to \
        `alluvium sql`, or use the Subscribe call",
    ),
];

#[tokio::test]
async fn views_have_the_name_space_of_streams_and_know_who_reads_them() {
    let world = World::new();
    world.rides(0, 9).await;
    world
        .csv("CREATE MATERIALIZED VIEW n AS SELECT rider, count(*) AS n FROM rides GROUP BY 1")
        .await;
    world.csv("CREATE VIEW top AS SELECT rider FROM n ORDER BY n DESC LIMIT 3").await;
    for (sql, expected) in REFUSED.iter().copied() {
        let found = refused(&world, sql).await;
        assert!(found.contains(expected) || found == expected, "{sql}\n{found}\n{expected}");
    }
    world
        .csv(
            "CREATE OR REPLACE MATERIALIZED VIEW n AS SELECT rider, count(ride_id) AS n FROM \
    rides GROUP BY rider",
        )
        .await;
    world.csv("CREATE MATERIALIZED VIEW IF NOT EXISTS n AS SELECT 1").await;
    assert_eq!(world.rows("SELECT count(*) FROM top").await, "3\n");
}

#[tokio::test]
async fn keys_are_read_alone_and_answers_carry_the_frontier() {
    let world = World::new();
    world.rides(1, 12).await;
    world
        .csv(
            "CREATE MATERIALIZED VIEW n AS SELECT rider, elapsed_s > 5 AS long, count(*) AS n FROM \
             rides GROUP BY 1, 2",
        )
        .await;
    let cases = [
        ("SELECT sum(n) FROM n WHERE rider = 'r3'", "6\n"),
        ("SELECT sum(n) FROM n WHERE rider IN ('r3', 'r4', 'nobody')", "12\n"),
        ("SELECT n FROM n WHERE rider = 'r3' AND long", "4\n"),
        ("SELECT count(*) FROM n WHERE rider = NULL", "0\n"),
        (
            "SELECT a.n + b.n FROM n a, n b WHERE a.rider = 'r3' AND b.rider = 'r0' AND a.long \
            AND NOT b.long",
            "6\n",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
    let answer = world.engine.run("SELECT * FROM n", Freshness::Linearizable).await.unwrap();
    assert_eq!(answer.as_of, [("rides".to_string(), world.host.frontier("rides").unwrap())]);
    let shown = world
        .rows(
            "SELECT view, stream, state, folded + filtered + expired + quarantined = \
                            next_offset AS adds_up FROM system.views",
        )
        .await;
    assert_eq!(shown, "n,rides,serving,true\n".repeat(3));
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_is_set_aside_or_stops_the_view() {
    let world = World::new();
    world.csv("CREATE STREAM t (k TEXT, v TEXT)").await;
    world.csv("INSERT INTO t VALUES ('a', '1'), ('a', 'x'), ('b', '2'), ('a', '4')").await;
    let query = "SELECT k, sum(CAST(v AS BIGINT)) AS s FROM t GROUP BY k";
    world.csv(&format!("CREATE MATERIALIZED VIEW v AS {query}")).await;
    world.csv(&format!("CREATE MATERIALIZED VIEW p WITH (on_error = 'park') AS {query}")).await;
    assert_eq!(world.rows("SELECT * FROM v ORDER BY k").await, "a,5\nb,2\n");
    let aside = world.rows("SELECT view, \"offset\", event FROM system.quarantine").await;
    assert_eq!(aside, "v,1,\"{\"\"k\"\":\"\"a\"\",\"\"v\"\":\"\"x\"\"}\"\n");
    assert!(
        refused(&world, "SELECT * FROM p").await.starts_with("view \"p\" is parked at event 1: ")
    );
    world.csv("RESUME VIEW p").await;
    let state =
        world.rows("SELECT state LIKE 'parked: %', next_offset FROM system.views WHERE view = 'p'");
    assert_eq!(state.await, "true,1\n");
    let audit = world.rows("AUDIT VIEW v").await;
    assert!(audit.starts_with("0,0,4,2,") && audit.contains(",equal,0,,,"), "{audit}");
}

#[tokio::test]
async fn an_audit_names_what_differs_and_a_rebuild_heals_it() {
    let world = World::new();
    world.rides(1, 10).await;
    world
        .csv("CREATE MATERIALIZED VIEW n AS SELECT rider, count(*) AS n FROM rides GROUP BY 1")
        .await;
    let verdicts = "SELECT";
    let _ = verdicts;
    let equal = world.rows("AUDIT VIEW n").await;
    assert_eq!(equal.matches(",equal,0,").count(), 3, "{equal}");
    let mut damaged = 0;
    for partition in 0..3 {
        world.host.damage_view("n", partition, |value| {
            if damaged == 0 {
                *value.last_mut().unwrap() ^= 1;
                damaged += 1;
            }
        });
    }
    assert_eq!(damaged, 1);
    let differs = world.rows("AUDIT VIEW n").await;
    assert_eq!(differs.matches(",equal,0,").count(), 2, "{differs}");
    assert_eq!(differs.matches(",differs,").count(), 1, "{differs}");
    world.csv("REBUILD VIEW n").await;
    assert_eq!(world.rows("AUDIT VIEW n").await, equal);
}

/// The views of the example applications that need one maintained aggregate each.
const EXAMPLES: &str =
    "CREATE STREAM efforts (effort_id BIGINT, segment_id BIGINT, athlete_id BIGINT, \
             elapsed_s DOUBLE, started_at TIMESTAMP) PARTITION BY (segment_id) WITH (event_time = \
             'started_at', partitions = 2);
             CREATE MATERIALIZED VIEW best_effort AS
             SELECT segment_id, athlete_id, min(elapsed_s) AS best_s, first_value(effort_id ORDER \
             BY elapsed_s, effort_id) AS effort_id, count(*) AS efforts
             FROM efforts GROUP BY segment_id, athlete_id;
             CREATE MATERIALIZED VIEW leaderboard AS
             SELECT segment_id, athlete_id, best_s, effort_id, rank() OVER (PARTITION BY \
             segment_id ORDER BY best_s) AS place FROM best_effort;
             CREATE MATERIALIZED VIEW leaderboard_year AS
             SELECT segment_id, yr, athlete_id, best_s, rank() OVER (PARTITION BY segment_id, yr \
             ORDER BY best_s) AS place FROM (
               SELECT segment_id, athlete_id, date_trunc('year', started_at) AS yr, min(elapsed_s) \
             AS best_s FROM efforts GROUP BY segment_id, athlete_id, date_trunc('year', \
             started_at)) t;
             CREATE STREAM logs (event_id BIGINT, ts TIMESTAMP, host VARCHAR, service VARCHAR, \
             level VARCHAR, route VARCHAR, status INT, took_ms DOUBLE, trace_id VARCHAR, msg \
             VARCHAR)
               PARTITION BY (service) WITH (event_time = 'ts', retention = '30 days');
             CREATE MATERIALIZED VIEW service_1m AS
             SELECT service, route, date_bin(INTERVAL '1 minute', ts) AS w, count(*) AS n, \
             count(*) FILTER (WHERE status >= 500 OR level = 'ERROR') AS errors, max(took_ms) AS \
             max_ms
             FROM logs GROUP BY service, route, date_bin(INTERVAL '1 minute', ts);
             CREATE MATERIALIZED VIEW log_template AS
             SELECT service, regexp_replace(msg, '0x[0-9a-f]+|[0-9]+', '<*>', 'g') AS template, \
             count(*) AS n, min(ts) AS first_at, max(ts) AS last_at
             FROM logs GROUP BY service, regexp_replace(msg, '0x[0-9a-f]+|[0-9]+', '<*>', 'g');
             CREATE MATERIALIZED VIEW service_anomaly AS
             SELECT c.service, c.route, c.w, c.n, c.errors, b.n AS n_before, b.errors AS \
             errors_before
             FROM service_1m c JOIN service_1m b ON b.service = c.service AND b.route = c.route \
             AND b.w = c.w - INTERVAL '7 days'
             WHERE c.errors > 3 * b.errors;
             CREATE MATERIALIZED VIEW host_seen AS SELECT host, max(ts) AS last_at, count(*) AS n \
             FROM logs GROUP BY host;
             CREATE MATERIALIZED VIEW trace_session AS SELECT trace_id, session(ts, INTERVAL '30 \
             seconds') AS started, max(ts) AS ended, count(*) AS n, sum(took_ms) AS total_ms FROM \
             logs GROUP BY trace_id, session(ts, INTERVAL '30 seconds');
             CREATE STREAM bus (msg_id VARCHAR, topic VARCHAR, username VARCHAR, change_id \
             VARCHAR, object VARCHAR, state VARCHAR, ts TIMESTAMP) PARTITION BY (object) WITH \
             (event_time = 'ts');
             CREATE MATERIALIZED VIEW object_state AS
             SELECT object, last_value(state ORDER BY ts, msg_id) AS state, last_value(topic ORDER \
             BY ts, msg_id) AS topic, max(ts) AS at, count(*) AS changes FROM bus GROUP BY object;
             CREATE MATERIALIZED VIEW topic_1h AS
             SELECT topic, date_bin(INTERVAL '1 hour', ts) AS w, count(*) AS n, \
             approx_distinct(username) AS users FROM bus GROUP BY topic, date_bin(INTERVAL '1 \
             hour', ts);
             CREATE MATERIALIZED VIEW user_activity AS
             SELECT username, split_part(topic, '.', 4) AS area, count(*) AS n, min(ts) AS \
             first_at, max(ts) AS last_at FROM bus GROUP BY username, split_part(topic, '.', 4);
             CREATE MATERIALIZED VIEW lead_time AS
             SELECT change_id, min(ts) FILTER (WHERE topic LIKE '%.git.merged') AS merged_at, \
             min(ts) FILTER (WHERE topic LIKE '%.deploy.done') AS deployed_at FROM bus GROUP BY \
             change_id";

/// Questions to the views of the examples, and the answers.
const ASKED: &[(&str, &str)] = &[
    (
        "SELECT * FROM leaderboard WHERE segment_id = 2 AND place <= 10 ORDER BY place, \
         athlete_id",
        "2,10,59.0,3,1\n2,11,60.0,2,2\n",
    ),
    (
        "SELECT athlete_id, place FROM leaderboard_year WHERE segment_id = 2 AND yr = \
         TIMESTAMP '2026-01-01' ORDER BY place",
        "11,1\n10,2\n",
    ),
    ("SELECT sum(n), sum(errors) FROM service_1m", "3,1\n"),
    ("SELECT template, n FROM log_template ORDER BY n DESC", "took <*> ms,2\nup,1\n"),
    ("SELECT service, n, n_before FROM service_anomaly", "a,2,1\n"),
    (
        "SELECT host FROM host_seen WHERE last_at < now() - INTERVAL '5 minutes' ORDER BY 1",
        "h1\nh2\n",
    ),
    ("SELECT n, total_ms FROM trace_session ORDER BY started", "1,5.0\n2,10.0\n"),
    ("SELECT state, changes FROM object_state", "live,2\n"),
    ("SELECT sum(users) FROM topic_1h", "2\n"),
    ("SELECT username, area FROM user_activity ORDER BY 1", "u1,git\nu2,deploy\n"),
    ("SELECT deployed_at - merged_at > INTERVAL '6 minutes' FROM lead_time", "true\n"),
];

#[tokio::test]
async fn the_statements_of_the_examples() {
    let world = World::new();
    world.script(EXAMPLES).await;
    world
        .csv(
            "INSERT INTO efforts VALUES (1, 2, 10, 61.5, '2026-01-01 10:00:00'), (2, 2, 11, 60, \
             '2026-01-02 10:00:00'), (3, 2, 10, 59, '2025-12-01 10:00:00'), (4, 3, 10, 70, \
             '2026-01-01 11:00:00')",
        )
        .await;
    world
        .csv(
            "INSERT INTO logs VALUES (1, '2026-01-01 10:00:01', 'h1', 'a', 'INFO', '/x', 200, 5, \
             't1', 'took 12 ms'), (2, '2026-01-08 10:00:02', 'h1', 'a', 'ERROR', '/x', 500, 9, \
             't1', 'took 0x1f ms'), (3, '2026-01-08 10:00:20', 'h2', 'a', 'INFO', '/x', 200, 1, \
             't1', 'up')",
        )
        .await;
    world
        .csv(
            "INSERT INTO bus VALUES ('m1', 'org.example.prod.git.merged', 'u1', 'c1', 'o1', 'new', \
             '2026-01-01 10:00:00'), ('m2', 'org.example.prod.deploy.done', 'u2', 'c1', 'o1', \
             'live', '2026-01-01 10:07:00')",
        )
        .await;
    for (sql, expected) in ASKED.iter().copied() {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
}
