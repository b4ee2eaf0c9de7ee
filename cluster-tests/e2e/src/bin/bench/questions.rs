//! The 16 questions, each in the words of both dialects.

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours.
    Alluvium,
    /// The peer's.
    DuckDb,
}

/// One question.
pub struct Question {
    /// Short name.
    pub name: &'static str,
    /// Whether engines may differ, because each has a sketch of its own.
    pub approximate: bool,
    template: &'static str,
}

const fn exact(name: &'static str, template: &'static str) -> Question {
    Question { name, approximate: false, template }
}

const fn sketch(name: &'static str, template: &'static str) -> Question {
    Question { name, approximate: true, template }
}

/// In the order in which they are asked.
pub const QUESTIONS: [Question; 16] = [
    exact(
        "scan and sum",
        "SELECT count(*) AS n, sum(bytes) AS b, max(latency_ms) AS m FROM events",
    ),
    exact(
        "by minute",
        "SELECT {1 minute} AS t, count(*) AS n, sum(bytes) AS b, avg(latency_ms) AS l FROM events \
         GROUP BY {1 minute} ORDER BY t",
    ),
    exact(
        "5 minutes by service",
        "SELECT {5 minute} AS t, service, count(*) AS n, sum(bytes) AS b FROM events \
         GROUP BY {5 minute}, service ORDER BY t, service",
    ),
    exact(
        "top 10 addresses",
        "SELECT url, count(*) AS n, sum(bytes) AS b FROM events GROUP BY url ORDER BY n DESC, url \
         LIMIT 10",
    ),
    exact(
        "exact distinct users",
        "SELECT service, count(DISTINCT user_id) AS u FROM events GROUP BY service \
         ORDER BY service",
    ),
    sketch(
        "approximate distinct users",
        "SELECT service, {distinct user_id} AS u FROM events GROUP BY service ORDER BY service",
    ),
    sketch(
        "latency quantiles",
        "SELECT service, {quantile 0.5} AS p50, {quantile 0.95} AS p95, {quantile 0.99} AS p99 \
         FROM events GROUP BY service ORDER BY service",
    ),
    exact(
        "errors of one hour by host",
        "SELECT host, count(*) AS n, avg(latency_ms) AS l FROM events WHERE status >= 500 \
         AND ts >= TIMESTAMP '2026-11-01 06:00:00' AND ts < TIMESTAMP '2026-11-01 07:00:00' \
         GROUP BY host ORDER BY n DESC, host LIMIT 20",
    ),
    exact(
        "error rate by hour",
        "SELECT {1 hour} AS t, service, \
         sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END) * 1.0 / count(*) AS r FROM events \
         GROUP BY {1 hour}, service ORDER BY t, service",
    ),
    exact(
        "1 M groups",
        "SELECT user_id, count(*) AS n, sum(bytes) AS b FROM events GROUP BY user_id \
         ORDER BY n DESC, user_id LIMIT 10",
    ),
    exact(
        "join with 2,000 hosts",
        "SELECT h.team, h.dc, count(*) AS n, sum(e.bytes) AS b FROM events e \
         JOIN hosts h ON e.host = h.host GROUP BY h.team, h.dc ORDER BY h.team, h.dc",
    ),
    exact(
        "join and filter",
        "SELECT h.team, sum(h.cost_per_hour * e.latency_ms / 3600000.0) AS cost FROM events e \
         JOIN hosts h ON e.host = h.host WHERE e.region = 'eu-west-1' GROUP BY h.team \
         ORDER BY cost DESC, h.team",
    ),
    exact(
        "LIKE",
        "SELECT count(*) AS n, sum(bytes) AS b FROM events WHERE url LIKE '%checkout/item-0001%'",
    ),
    exact(
        "one host, one hour",
        "SELECT {1 minute} AS t, count(*) AS n, max(latency_ms) AS m FROM events \
         WHERE host = 'host-0042' AND ts >= TIMESTAMP '2026-11-01 12:00:00' \
         AND ts < TIMESTAMP '2026-11-01 13:00:00' GROUP BY {1 minute} ORDER BY t",
    ),
    exact(
        "last 5 minutes",
        "SELECT service, count(*) AS n, max(latency_ms) AS m FROM events \
         WHERE ts >= TIMESTAMP '2026-11-01 23:55:00' AND ts < TIMESTAMP '2026-11-02 00:00:00' \
         GROUP BY service ORDER BY service",
    ),
    exact(
        "last seen by host",
        "SELECT host, max(ts) AS last, count(*) AS n FROM events GROUP BY host \
         ORDER BY n DESC, host LIMIT 10",
    ),
];

impl Question {
    /// The question as SQL.
    pub fn sql(&self, dialect: Dialect) -> String {
        let mut sql = self.template.to_owned();
        for unit in ["1 minute", "5 minute", "1 hour"] {
            let bucket = match dialect {
                Dialect::Alluvium => format!("date_bin(INTERVAL '{unit}', ts)"),
                Dialect::DuckDb => format!("time_bucket(INTERVAL '{unit}', ts)"),
            };
            sql = sql.replace(&format!("{{{unit}}}"), &bucket);
        }
        for share in ["0.5", "0.95", "0.99"] {
            let quantile = match dialect {
                Dialect::Alluvium => {
                    format!("approx_percentile_cont({share}) WITHIN GROUP (ORDER BY latency_ms)")
                }
                Dialect::DuckDb => format!("approx_quantile(latency_ms, {share})"),
            };
            sql = sql.replace(&format!("{{quantile {share}}}"), &quantile);
        }
        let distinct = match dialect {
            Dialect::Alluvium => "approx_distinct(user_id)",
            Dialect::DuckDb => "approx_count_distinct(user_id)",
        };
        sql.replace("{distinct user_id}", distinct)
    }
}
