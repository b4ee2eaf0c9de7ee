//! What is refused, and in which words.

use std::time::Duration;

use alluvium_query::ErrorKind::{
    self, AlreadyExists, InvalidArgument, NotFound, Syntax, Unsupported,
};

use crate::world::World;

#[tokio::test]
async fn errors_say_what_to_do() {
    let world = World::new();
    world.rides(1, 1).await;
    let cases: &[(&str, ErrorKind, &str)] = &[
        ("", Syntax, "there is no statement in this text"),
        (" -- nothing\n;", Syntax, "there is no statement in this text"),
        ("SELECT 1; SELECT 2", Unsupported, "2 statements were sent as one"),
        ("SELCT 1", Syntax, "\"SELCT\" begins no statement; did you mean \"SELECT\"?"),
        ("SELECT FROM WHERE", Syntax, "expected"),
        ("SELECT 'a", Syntax, "unterminated string literal"),
        ("SELECT * FROM ride", NotFound, "stream \"ride\" does not exist; did you mean \"rides\"?"),
        ("SELECT * FROM system.stream", NotFound, "did you mean \"streams\"?"),
        ("SELECT * FROM other.rides", NotFound, "table \"other.rides\" does not exist"),
        (
            "SELECT ridr FROM rides",
            NotFound,
            "column \"ridr\" does not exist; did you mean \"rider\"?",
        ),
        ("SELECT nope(1)", NotFound, "invalid function 'nope'"),
        ("SELECT ride_id + 'x' FROM rides", InvalidArgument, ""),
        (
            "SELECT a.rider, b.rider, rider FROM rides a, rides b",
            InvalidArgument,
            "more than one table",
        ),
        ("SELECT CAST('x' AS BIGINT)", InvalidArgument, "cannot cast string 'x'"),
        ("SELECT 1 / 0", InvalidArgument, "divide by zero"),
        ("KILL QUERY", Syntax, "KILL QUERY takes the id of a query in quotes"),
        ("KILL QUERY 7", Syntax, "KILL QUERY takes the id of a query in quotes"),
        ("KILL QUERY '1-7' '1-8'", Syntax, "KILL QUERY takes the id of a query in quotes"),
        ("KILL QUERY '1-7'", NotFound, "query \"1-7\" does not run on this node"),
        ("KILL CONNECTION 7", Unsupported, "KILL takes QUERY and the id"),
        ("SET x = 1", Unsupported, "SET of settings is not supported"),
        ("RESET x", Unsupported, "RESET of settings is not supported"),
        ("SHOW ALL", Unsupported, "SHOW of settings is not supported"),
        ("COPY rides TO 'x'", Unsupported, "COPY is not supported"),
        ("CREATE TABLE t (a INT)", Unsupported, "create a stream with CREATE STREAM"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x'", Unsupported, "CREATE STREAM"),
        ("CREATE INDEX i ON rides (rider)", Unsupported, "CREATE INDEX is not supported"),
        ("CREATE FUNCTION f() RETURNS INT", Unsupported, "CREATE FUNCTION is not supported"),
        ("DROP TABLE rides", Unsupported, "use DROP STREAM"),
        ("UPDATE rides SET rider = 'x'", Unsupported, "events are immutable"),
        ("DELETE FROM rides", Unsupported, "events are immutable"),
        ("BEGIN", Unsupported, "each statement stands for itself"),
        ("PREPARE p AS SELECT 1", Unsupported, "PREPARE is not supported"),
        ("EXPLAIN INSERT INTO rides VALUES (1)", Unsupported, "EXPLAIN takes a query"),
        ("EXPLAIN EXPLAIN SELECT 1", Unsupported, "EXPLAIN takes a query"),
        ("EXPLAIN CREATE TABLE t (a INT)", Unsupported, "EXPLAIN takes a query"),
        ("DROP STREAM ride", NotFound, "did you mean \"rides\"?"),
        ("DESCRIBE ride", NotFound, "did you mean \"rides\"?"),
        ("SELECT * INTO t FROM rides", Unsupported, ""),
        ("SELECT $1", InvalidArgument, ""),
    ];
    for (sql, kind, text) in cases {
        check(&world, sql, *kind, text).await;
    }
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    check(&world, &long, InvalidArgument, "at most 1048576 are taken").await;
}

#[tokio::test]
async fn no_statement_is_too_deep_for_the_stack() {
    let world = World::new();
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    check(&world, &deep, Syntax, "").await;
    let long = |count: usize| format!("SELECT 1 WHERE {}", vec!["1 = 2"; count].join(" OR "));
    assert_eq!(world.rows(&long(450)).await, "");
    check(&world, &long(20_000), InvalidArgument, "more than 1000 operators").await;
    let union = vec!["SELECT 1"; 20_000].join(" UNION ALL ");
    check(&world, &union, InvalidArgument, "more than 1000 operators").await;
    let values: Vec<String> = (0..20_000).map(|n| format!("({n}, -{n} + 1)")).collect();
    let sum = format!("SELECT count(*) FROM (VALUES {}) AS t (a, b)", values.join(", "));
    assert_eq!(world.rows(&sum).await, "20000\n");
}

#[tokio::test]
async fn create_stream_is_checked() {
    let world = World::new();
    world.csv("CREATE STREAM taken (a INT)").await;
    let cases: &[(&str, ErrorKind, &str)] = &[
        ("CREATE STREAM taken (a INT)", AlreadyExists, "stream \"taken\" exists already"),
        ("CREATE STREAM \"Big\" (a INT)", InvalidArgument, "a letter a to z"),
        ("CREATE STREAM t", Syntax, "expected: (, found: EOF"),
        ("CREATE STREAM t ()", Syntax, "expected: a name"),
        ("CREATE STREAM t (a INT", Syntax, "expected: )"),
        ("CREATE STREAM t (a INTT)", InvalidArgument, "\"INTT\" is no type"),
        ("CREATE STREAM t (a TIMESTAMPZ)", InvalidArgument, "did you mean \"TIMESTAMP\"?"),
        ("CREATE STREAM t (a INT, a TEXT)", InvalidArgument, "column \"a\" is given twice"),
        ("CREATE STREAM t (_offset INT)", InvalidArgument, "is kept for the node's own columns"),
        ("CREATE STREAM t (a NUMERIC(40, 2))", InvalidArgument, "precision"),
        (
            "CREATE STREAM t (a INT PRIMARY KEY)",
            Unsupported,
            "column \"a\": PRIMARY is not supported",
        ),
        ("CREATE STREAM t (a INT DEFAULT 1)", Unsupported, "DEFAULT is not supported"),
        ("CREATE STREAM t (a INT) PARTITION BY (b)", NotFound, "column \"b\" does not exist"),
        ("CREATE STREAM t (a INT) PARTITION BY (a, a)", InvalidArgument, "names \"a\" twice"),
        (
            "CREATE STREAM t (a INT) WITH (partition = 2)",
            InvalidArgument,
            "\"partition\" is no option of a stream; did you mean \"partitions\"?",
        ),
        ("CREATE STREAM t (a INT) WITH (partitions = 0)", InvalidArgument, "from 1 to 1024"),
        ("CREATE STREAM t (a INT) WITH (partitions = 'x')", InvalidArgument, "from 1 to 1024"),
        (
            "CREATE STREAM t (a INT) WITH (partitions = 1, partitions = 2)",
            InvalidArgument,
            "given twice",
        ),
        ("CREATE STREAM t (a INT) WITH (event_time = 'a')", InvalidArgument, "\"a\" is INTEGER"),
        (
            "CREATE STREAM t (a INT) WITH (event_time = 'x')",
            NotFound,
            "column \"x\" does not exist",
        ),
        ("CREATE STREAM t (a INT) WITH (retention = 'soon')", InvalidArgument, "'90 days'"),
        ("CREATE STREAM t (a INT) WITH (retention = '5')", InvalidArgument, "'90 days'"),
        ("CREATE STREAM t (a INT) WITH (replicas = 0)", InvalidArgument, "from 1 to 9"),
        ("CREATE STREAM t (a INT) AS SELECT 1", Syntax, "expected: PARTITION BY, WITH"),
        (
            "CREATE STREAM other.t (a INT)",
            InvalidArgument,
            "streams and views are in schema \"public\"",
        ),
    ];
    for (sql, kind, text) in cases {
        check(&world, sql, *kind, text).await;
    }
    assert_eq!(world.rows("SELECT name FROM system.streams").await, "taken\n");
}

async fn check(world: &World, sql: &str, kind: ErrorKind, text: &str) {
    let shown: String = sql.chars().take(80).collect();
    let freshness = alluvium_query::host::Freshness::Linearizable;
    let error = match world.try_csv(sql, freshness).await {
        Ok(answer) => panic!("{shown}: was answered with {answer}"),
        Err(error) => error,
    };
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{shown}: {message}");
    assert!(message.to_lowercase().contains(&text.to_lowercase()), "{shown}: {message}");
    let second_is_small = message.chars().nth(1).is_some_and(char::is_lowercase);
    assert!(!(message.starts_with(char::is_uppercase) && second_is_small), "{shown}: {message}");
    for noise in
        ["DataFusion", "Error during planning", "This was likely caused", "sql parser error"]
    {
        assert!(!message.contains(noise), "{shown}: {message}");
    }
}

#[tokio::test]
async fn a_runaway_join_is_cut_in_time() {
    let world = World::new();
    for sql in [
        "SELECT sum(a.value * b.value % 7) FROM generate_series(1, 200000) a \
         CROSS JOIN generate_series(1, 200000) b",
        "SELECT count(*) FROM generate_series(1, 200000) a \
         JOIN generate_series(1, 200000) b ON a.value * 3 < b.value * b.value",
    ] {
        let begun = std::time::Instant::now();
        let ended = tokio::time::timeout(Duration::from_millis(100), world.csv(sql)).await;
        assert!(ended.is_err(), "{sql} was answered");
        // Uncut they take minutes; this is room for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(20), "{sql}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_would_fill_the_memory_is_refused() {
    let world = World::new();
    world.rides(1, 1).await;
    let statements = [
        "SELECT lpad(rider, 1000000000000000) FROM rides",
        "SELECT rpad(rider, 2000000000, 'é') FROM rides",
        "SELECT lpad('x', ride_id * 0 + 1000000000000000) FROM rides",
        "SELECT repeat(rider, 1000000000) FROM rides",
        "SELECT repeat('x', 1000000000)",
        "SELECT array_repeat(1, 100000000000)",
        "SELECT list_repeat(rider, 100000000000) FROM rides",
        "SELECT array_resize(make_array(1), 100000000000)",
        "SELECT range(100000000000)",
        "SELECT generate_series(0, ride_id * 0 + 100000000000) FROM rides",
        "SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2020-01-01', \
         INTERVAL '1 microsecond')",
        "SELECT replace(repeat('x', 100000), 'x', repeat('y', 100000))",
        "SELECT replace(repeat(rider, 100000), '', repeat('y', 100000)) FROM rides",
    ];
    for statement in statements {
        check(&world, statement, InvalidArgument, "rows at once; 67108864 are allowed").await;
    }
    let little = "SELECT length(repeat('x', 1000000)) + length(lpad('x', 1000)) \
                  + cardinality(range(5)) + length(replace('xx', 'x', 'yyy'))";
    assert_eq!(world.rows(little).await, "1001011\n");
}
