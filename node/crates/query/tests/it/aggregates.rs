//! Aggregates whose states are ours, in queries.

use alluvium_query::host::Freshness;

use crate::world::World;

/// Quantiles are right to one part in a hundred. Twelve rows: `g` in two groups, `n` from 1 to 12,
/// `t` of three texts.
const ROWS: &str = "(SELECT n % 2 AS g, n, CASE WHEN n <= 6 THEN 'a' WHEN n <= 10 THEN 'b' ELSE 'c' \
                    END AS t FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), \
                    (12)) AS v(n)) AS r";

#[tokio::test]
async fn each_function_gives_its_value() {
    let world = World::new();
    let cases = [
        ("approx_distinct(t)", "3\n"),
        ("approx_distinct(n)", "12\n"),
        ("approx_median(n) BETWEEN 5.94 AND 6.06", "true\n"),
        ("approx_percentile_cont(n, 0.75) BETWEEN 8.91 AND 9.09", "true\n"),
        ("approx_percentile_cont(n, 0.75, 100) BETWEEN 8.91 AND 9.09", "true\n"),
        ("approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY n) BETWEEN 2.97 AND 3.03", "true\n"),
        (
            "approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY n DESC) BETWEEN 8.91 AND 9.09",
            "true\n",
        ),
        ("var_pop(n), round(stddev(n), 6)", "11.916666666666666,3.605551\n"),
        ("round(var(DISTINCT n % 3), 6)", "1.0\n"),
        ("corr(n, 2 * n), covar_pop(n, n), regr_count(n, n)", "1.0,11.916666666666666,12\n"),
        ("regr_slope(2 * n + 1, n), regr_intercept(2 * n + 1, n)", "2.0,1.0\n"),
        ("arg_min(t, n), arg_max(t, n), max_by(n, t), min_by(n, t)", "a,c,11,1\n"),
        ("top_k(t, 2)[1]['value'], top_k(t, 2)[1]['count'], top_k(t, 2)[2]['count']", "a,6,4\n"),
        ("histogram(n, 4, 10)[1], histogram(n, 4, 10)[2], histogram(n, 4, 10)[3]", "3,6,3\n"),
        ("approx_distinct_value(approx_distinct_state(n))", "12\n"),
        (
            "approx_percentile_value(approx_percentile_state(n), 0.5) BETWEEN 5.94 AND 6.06",
            "true\n",
        ),
        ("approx_distinct(n) FILTER (WHERE n < 4)", "3\n"),
    ];
    for (expression, expected) in cases {
        let found = world.rows(&format!("SELECT {expression} FROM {ROWS}")).await;
        assert_eq!(found, expected, "{expression}");
    }
}

#[tokio::test]
async fn states_of_groups_are_merged_over_coarser_ones() {
    let world = World::new();
    let parts = format!(
        "(SELECT g, approx_distinct_state(n) AS d, approx_percentile_state(n) AS p, \
         top_k_state(t, 2) AS k FROM {ROWS} GROUP BY g) AS parts"
    );
    let merged = "approx_distinct_merge(d), approx_percentile_merge(p, 0.75) BETWEEN 8.91 AND 9.09, \
                  top_k_merge(k, 2)[1]['count']";
    assert_eq!(world.rows(&format!("SELECT {merged} FROM {parts}")).await, "12,true,6\n");
    let grouped = "SELECT g, approx_distinct(n), arg_max(t, n), var_pop(n)";
    assert_eq!(
        world.rows(&format!("{grouped} FROM {ROWS} GROUP BY g ORDER BY g")).await,
        "0,6,c,11.666666666666666\n1,6,c,11.666666666666666\n"
    );
    let empty = "SELECT approx_distinct(n), approx_median(n), var_pop(n), arg_min(t, n)";
    assert_eq!(world.rows(&format!("{empty} FROM {ROWS} WHERE n < 0")).await, "0,,,\n");
}

#[tokio::test]
async fn wrong_arguments_are_told() {
    let world = World::new();
    let cases = [
        ("approx_percentile_cont(n, 1.5)", "a share from 0 to 1"),
        ("approx_percentile_cont(t, 0.5)", "takes a number and a share"),
        ("top_k(n, 0)", "a k from 1 to 1000"),
        ("top_k(n, n)", "a constant from 1 to 1000"),
        ("histogram(n, 3, 1)", "ascending"),
        ("var_pop(t)", "takes one number"),
        ("approx_distinct_merge(n)", "one state of approx_distinct_state"),
    ];
    for (expression, expected) in cases {
        let sql = format!("SELECT {expression} FROM {ROWS}");
        let Err(error) = world.try_csv(&sql, Freshness::Linearizable).await else {
            panic!("{expression} was answered");
        };
        assert!(error.to_string().contains(expected), "{expression}: {error}");
    }
}
