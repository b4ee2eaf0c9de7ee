//! Views: what is maintained is what the query answers.

use alluvium_query::ErrorKind;

use crate::world::World;

async fn sales() -> World {
    let world = World::new();
    world
        .csv(
            "CREATE STREAM sales (id BIGINT NOT NULL, shop TEXT NOT NULL, item TEXT, amount \
             BIGINT, price NUMERIC(10, 2), weight DOUBLE PRECISION, at TIMESTAMP) PARTITION BY \
             (shop) WITH (event_time = at, partitions = 2)",
        )
        .await;
    world
}

async fn sell(world: &World, first: u32, count: u32) {
    let rows: Vec<String> = (first..first + count)
        .map(|n| {
            format!(
                "({n}, 's{}', 'i{}', {}, {}.25, {n} / 4.0, TIMESTAMP '2026-01-01 {:02}:{:02}:00')",
                n % 5,
                n % 3,
                n % 10,
                n % 7,
                n / 60 % 24,
                n % 60
            )
        })
        .collect();
    world.csv(&format!("INSERT INTO sales VALUES {}", rows.join(", "))).await;
}

#[tokio::test]
async fn a_view_is_its_query() {
    let world = sales().await;
    sell(&world, 0, 100).await;
    let queries = [
        "SELECT shop, count(*) AS n, sum(amount) AS total, min(price) AS low, max(price) AS high \
         FROM sales GROUP BY shop",
        "SELECT count(*) AS n, sum(amount) AS total FROM sales",
        "SELECT item, count(*) FILTER (WHERE amount > 5) AS big, avg(amount) AS mean FROM sales \
         WHERE weight < 20 GROUP BY item",
        "SELECT upper(t.s) AS s, sum(t.twice) AS twice FROM (SELECT shop AS s, amount * 2 AS twice \
         FROM sales WHERE item <> 'i0') t GROUP BY upper(t.s) HAVING count(*) > 3",
        "SELECT shop, item, count(*) AS n, rank() OVER (PARTITION BY shop ORDER BY sum(amount) \
         DESC, item) AS place FROM sales GROUP BY shop, item",
        "WITH t AS (SELECT shop, count(*) AS n FROM sales GROUP BY shop) SELECT a.shop, b.shop AS \
         other, a.n - b.n AS more FROM t a JOIN t b ON a.shop < b.shop",
        "SELECT date_bin(INTERVAL '1 hour', at) AS w, count(*) AS n FROM sales GROUP BY 1",
        "SELECT tumble(at, INTERVAL '10 minutes') AS w, shop, max(amount) AS high FROM sales \
         GROUP BY tumble(at, INTERVAL '10 minutes'), shop",
        "SELECT DISTINCT shop, item FROM sales WHERE amount > 2",
        "SELECT count(*) AS shops FROM (SELECT DISTINCT shop FROM sales)",
        "SELECT n, count(*) AS shops FROM (SELECT shop, count(*) AS n FROM sales GROUP BY shop) \
         GROUP BY n",
        "SELECT _partition, count(*) AS n, max(_offset) AS last FROM sales GROUP BY _partition",
    ];
    for (number, query) in queries.iter().enumerate() {
        world.csv(&format!("CREATE MATERIALIZED VIEW v{number} AS {query}")).await;
    }
    for round in 0..3 {
        for (number, query) in queries.iter().enumerate() {
            let sorted = |text: String| {
                let mut rows: Vec<String> = text.lines().skip(1).map(String::from).collect();
                rows.sort();
                (text.lines().next().map(String::from), rows)
            };
            let expected = sorted(world.csv(query).await);
            let found = sorted(world.csv(&format!("SELECT * FROM v{number}")).await);
            assert_eq!(found, expected, "round {round}: {query}");
        }
        sell(&world, 100 + round * 50, 50).await;
        if round == 1 {
            world.host.seal("sales").unwrap();
            world.host.reopen_views().unwrap();
        }
    }
}

#[tokio::test]
async fn a_question_that_comes_again_gets_a_new_answer() {
    let world = sales().await;
    sell(&world, 0, 100).await;
    let by_shop = "SELECT shop, item, count(*) AS n, sum(amount) AS total FROM sales GROUP BY \
                   shop, item";
    world.csv(&format!("CREATE MATERIALIZED VIEW by_shop AS {by_shop}")).await;
    world.csv("CREATE VIEW totals AS SELECT shop, sum(n) AS n FROM by_shop GROUP BY shop").await;
    // What is asked of the view, and the same of its query.
    let questions = [
        "SELECT * FROM v ORDER BY n DESC, shop, item LIMIT 4",
        "SELECT shop, n FROM v WHERE shop = 's1' AND n > 1 ORDER BY item",
        "SELECT count(*) FROM v WHERE shop IN ('s0', 's2') AND item IS NOT NULL",
        "SELECT shop, sum(total) AS total FROM v WHERE item >= 'i1' GROUP BY shop ORDER BY shop",
        "SELECT item, rank() OVER (PARTITION BY shop ORDER BY total) AS r FROM v ORDER BY 1, 2",
        "SELECT DISTINCT item FROM v WHERE NOT (shop = 's3') ORDER BY item",
        "SELECT a.shop FROM v a JOIN v b ON a.shop = b.shop AND a.n < b.n ORDER BY 1 LIMIT 3",
        "SELECT n FROM v WHERE n < (SELECT max(n) FROM v) ORDER BY n",
    ];
    let over = |question: &str, table: &str| {
        let from = question.replace("FROM v", &format!("FROM {table}"));
        from.replace("JOIN v", &format!("JOIN {table}"))
    };
    for round in 0..4 {
        for question in questions {
            let expected = world.csv(&over(question, &format!("({by_shop})"))).await;
            for _ in 0..2 {
                let found = world.csv(&over(question, "by_shop")).await;
                assert_eq!(found, expected, "round {round}: {question}");
            }
        }
        let totals = world.csv("SELECT shop, n FROM totals WHERE shop = 's4'").await;
        let expected =
            world.csv("SELECT shop, count(*) AS n FROM sales WHERE shop = 's4' GROUP BY 1");
        assert_eq!(totals, expected.await, "round {round}");
        sell(&world, 100 + round * 50, 50).await;
    }
    // The same name for something else.
    let sql = "SELECT * FROM by_shop WHERE shop = 's1'";
    assert!(world.csv(sql).await.starts_with("shop,item,n,total\n"));
    world.csv("DROP VIEW totals").await;
    world.csv("DROP MATERIALIZED VIEW by_shop").await;
    assert_eq!(world.run(sql).await.unwrap_err().kind(), ErrorKind::NotFound);
    let query = "SELECT shop, count(*) AS many FROM sales GROUP BY shop";
    world.csv(&format!("CREATE MATERIALIZED VIEW by_shop AS {query}")).await;
    assert_eq!(
        world.csv(sql).await,
        world.csv(&format!("SELECT * FROM ({query}) WHERE shop = 's1'")).await
    );
}

#[tokio::test]
async fn a_view_is_created_shown_described_and_dropped() {
    let world = sales().await;
    let create = "CREATE MATERIALIZED VIEW by_shop WITH (lateness = '1 minute', retention = '2 \
                  days', on_error = park) AS\n SELECT tumble(at, INTERVAL '1 hour') AS hour, shop, \
                  count(*) AS n FROM sales GROUP BY 1, 2 -- all\n EMIT FINAL AFTER '5 minutes';";
    assert_eq!(world.run(create).await.unwrap().tag, "CREATE MATERIALIZED VIEW");
    world.csv("CREATE VIEW plain AS SELECT shop, n FROM by_shop WHERE n > 1").await;
    let shown = world.rows("SHOW VIEWS").await;
    assert!(
        shown.starts_with("by_shop,true,sales,2 days,1 minute,5 minutes,park,false,"),
        "{shown}"
    );
    assert!(shown.contains("plain,false,by_shop,,,,,false,"), "{shown}");
    assert_eq!(
        world.csv("DESCRIBE by_shop").await,
        "column_name,data_type,nullable,role\nhour,TIMESTAMP,true,window start\n\
         shop,TEXT,false,group key\nn,BIGINT,false,\n"
    );
    sell(&world, 0, 20).await;
    assert_eq!(world.rows("SELECT sum(n) FROM plain").await, "20\n");
    assert_eq!(
        world
            .rows(
                "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = \
             'public' ORDER BY 1"
            )
            .await,
        "by_shop,VIEW\nplain,VIEW\nsales,BASE TABLE\n"
    );
    let error = world.run("DROP MATERIALIZED VIEW by_shop").await.unwrap_err();
    assert_eq!(error.to_string(), "\"by_shop\" is read by plain; drop or replace them first");
    let error = world.run("DROP STREAM sales").await.unwrap_err();
    assert_eq!(error.to_string(), "\"sales\" is read by by_shop; drop or replace them first");
    world.csv("DROP VIEW plain").await;
    world.csv("DROP MATERIALIZED VIEW IF EXISTS by_shop").await;
    world.csv("DROP MATERIALIZED VIEW IF EXISTS by_shop").await;
    assert_eq!(world.rows("SHOW VIEWS").await, "");
}

/// Definitions that cannot be maintained, and what is said of them.
const REFUSED: &[(&str, &str)] = &[
    (
        "SELECT shop, now() AS t, count(*) AS n FROM sales GROUP BY shop",
        "now() gives another value each time, so a view that uses it could not be computed \
         again: time enters a view through its events only. Compare with the clock where you \
         read the view (SELECT … FROM v WHERE … now()), or in a CREATE VIEW over it",
    ),
    (
        "SELECT shop, sum(amount * random()) AS r FROM sales GROUP BY shop",
        "random() gives another value each time, so a view that uses it could not be computed \
         again: let the producer write the value into the event",
    ),
    (
        "SELECT shop, array_agg(item) AS items FROM sales GROUP BY shop",
        "array_agg keeps every value, so its state has no bound: keep the first and last with \
         first_value and last_value, the most frequent with approx_top_k, or how many there \
         are with count(DISTINCT …) or approx_distinct",
    ),
    (
        "SELECT shop, median(amount) AS m FROM sales GROUP BY shop",
        "median keeps every value, so its state has no bound: use approx_median, whose \
         relative error is bounded",
    ),
    (
        "SELECT shop, last_value(item) AS last FROM sales GROUP BY shop",
        "last_value without an order depends on the order in which events came: write \
         last_value(x ORDER BY …), with columns that tell all events apart",
    ),
    (
        "SELECT count(*) AS n FROM (SELECT * FROM sales LIMIT 10)",
        "nothing of this query over stream \"sales\" can be maintained: this query takes a \
         LIMIT of events, and which events those are is not determined: put the LIMIT above \
         the aggregate; or CREATE VIEW (without MATERIALIZED), which computes it from the \
         events at each read",
    ),
    (
        "SELECT shop, amount FROM sales WHERE amount > 3",
        "nothing of this query over stream \"sales\" can be maintained: this query keeps no \
         aggregate: a materialized view maintains GROUP BY, or SELECT DISTINCT, over the \
         events of one stream; or CREATE VIEW (without MATERIALIZED), which computes it from \
         the events at each read",
    ),
    (
        "SELECT s.shop, count(*) AS n FROM sales s JOIN returns r ON r.id = s.id GROUP BY \
        s.shop",
        "nothing of this query over stream \"sales\" can be maintained: this query joins \
         events with something else, and joins below an aggregate are not maintained: \
         aggregate the events in a materialized view of its own and join the view; or CREATE \
         VIEW (without MATERIALIZED), which computes it from the events at each read",
    ),
    (
        "SELECT a.shop, a.n, b.n AS back FROM (SELECT shop, count(*) AS n FROM sales GROUP BY \
         shop) a JOIN (SELECT shop, count(*) AS n FROM returns GROUP BY shop) b ON a.shop = \
         b.shop",
        "one view maintains one aggregate, and this query has 2: [count(*) of \"sales\" \
         GROUP BY sales.shop] and [count(*) of \"returns\" GROUP BY returns.shop]; create a \
         materialized view for each, and this query over those views",
    ),
    (
        "SELECT shop, item, count(*) AS n FROM sales GROUP BY ROLLUP (shop, item)",
        "GROUPING SETS, ROLLUP and CUBE are not maintained: maintain the finest groups in a \
         materialized view, and roll them up where you read it",
    ),
];

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let world = sales().await;
    world.csv("CREATE STREAM returns (id BIGINT, shop TEXT)").await;
    for (query, expected) in REFUSED.iter().copied() {
        let error = world.run(&format!("CREATE MATERIALIZED VIEW v AS {query}")).await;
        let error = error.expect_err(query);
        assert_eq!(error.to_string(), expected, "{query}");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{query}");
    }
    assert_eq!(world.rows("SHOW VIEWS").await, "");
}
