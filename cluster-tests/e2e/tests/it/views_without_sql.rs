//! Lookups and subscriptions of a real node: who wrote something finds it, and who follows a view
//! has it, also through SIGKILL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_proto::v1::lookup_request::{Freshness, Keys};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use cluster_e2e::client::{Client, json_request};
use cluster_e2e::node::{Node, NodeOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Code, Status};

use crate::node;

const STREAM: &str = "CREATE STREAM paid (shop TEXT NOT NULL, till BIGINT, cents BIGINT NOT NULL) \
     WITH (partitions = 3)";

const VIEW: &str = "CREATE MATERIALIZED VIEW takings AS SELECT shop, till, count(*) AS n, \
     sum(cents) AS total FROM paid GROUP BY shop, till";

/// Rows as JSON, one a line.
fn rows(rng: &mut ChaCha8Rng, shop: &str, count: u32) -> (String, i64) {
    let mut total = 0;
    let lines = (0..count).map(|_| {
        let cents = rng.random_range(1..1_000);
        total += cents;
        let till = rng.random_range(0..4);
        format!("{{\"shop\":\"{shop}\",\"till\":{till},\"cents\":{cents}}}\n")
    });
    let lines: String = lines.collect();
    (lines, total)
}

fn lookup(keys: &str, freshness: Option<Freshness>) -> v1::LookupRequest {
    v1::LookupRequest {
        view: "takings".into(),
        keys: Some(Keys::Json(keys.to_owned().into())),
        limit: 1_000,
        freshness,
        ..v1::LookupRequest::default()
    }
}

fn at_least(frontier: v1::Frontier) -> Option<Freshness> {
    Some(Freshness::AtLeast(v1::Frontiers { frontiers: vec![frontier] }))
}

fn total(rows: &[serde_json::Value]) -> i64 {
    rows.iter().map(|row| row["total"].as_i64().unwrap()).sum()
}

#[tokio::test]
async fn whoever_appended_finds_it_at_once() {
    let (_node, client) = node().await;
    client.query(STREAM).await.unwrap();
    client.query(VIEW).await.unwrap();
    let seed = 71;
    eprintln!("seed {seed}");
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8_u64 {
        let client = client.clone();
        callers.spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed + caller);
            let shop = format!("shop {caller}");
            let key = format!("{{\"shop\":\"{shop}\"}}");
            let mut sum = 0;
            for round in 0..40 {
                let count = rng.random_range(1..20);
                let (rows, cents) = rows(&mut rng, &shop, count);
                sum += cents;
                let ack = client.append(json_request("paid", None, rows)).await.unwrap();
                // Nobody else writes of this shop: what is found is exactly what was acknowledged.
                let freshness = match round % 2 {
                    0 => at_least(ack.frontier.unwrap()),
                    _ => None,
                };
                let (found, _) = client.lookup(lookup(&key, freshness)).await.unwrap();
                assert_eq!(total(&found), sum, "{shop}, round {round}");
            }
            sum
        });
    }
    let sums: i64 = callers.join_all().await.into_iter().sum();
    let (all, _) = client.lookup(lookup("{}", None)).await.unwrap();
    assert_eq!(total(&all), sums);
    let answer = client.query("SELECT CAST(sum(cents) AS BIGINT) FROM paid").await.unwrap();
    assert_eq!(answer.single().unwrap(), sums);
    // One whole key, as it is.
    let whole = lookup("{\"shop\":\"shop 3\",\"till\":1}", Some(Freshness::AsItIs(true)));
    let (found, frontier) = client.lookup(whole).await.unwrap();
    assert_eq!((found.len(), frontier.stream.as_str()), (1, "paid"));
}

#[tokio::test]
async fn what_cannot_be_looked_up_says_why() {
    let (_node, client) = node().await;
    client.query(STREAM).await.unwrap();
    client.query(VIEW).await.unwrap();
    let ranked = "CREATE MATERIALIZED VIEW ranked AS SELECT shop, sum(cents) AS total, \
         rank() OVER (ORDER BY sum(cents) DESC) AS place FROM paid GROUP BY shop";
    client.query(ranked).await.unwrap();
    let plain = "CREATE VIEW plain AS SELECT shop FROM takings";
    client.query(plain).await.unwrap();
    let refused = async |view: &str, keys: &str| -> (Code, String) {
        let request = v1::LookupRequest { view: view.into(), ..lookup(keys, None) };
        let status: Status = client.lookup(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    for (view, keys, code, words) in [
        ("nothing", "{}", Code::NotFound, "nothing"),
        ("ranked", "{\"shop\":\"a\"}", Code::FailedPrecondition, "SQL"),
        ("plain", "{\"shop\":\"a\"}", Code::FailedPrecondition, "SQL"),
        ("takings", "{\"till\":1}", Code::InvalidArgument, "(shop, till)"),
        ("takings", "{\"shop\":7}", Code::InvalidArgument, "shop"),
    ] {
        let (found, message) = refused(view, keys).await;
        assert_eq!(found, code, "{view} {keys}: {message}");
        assert!(message.contains(words), "{view} {keys}: {message}");
    }
    let offsets = [(0, 1_000_000)].into_iter().collect();
    let frontier = v1::Frontier { stream: "paid".into(), offsets };
    let late = v1::LookupRequest { timeout_ms: 50, ..lookup("{}", at_least(frontier)) };
    let status = client.lookup(late).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let unknown = v1::SubscribeRequest { view: "nothing".into(), ..Default::default() };
    let mut subscription = client.subscribe(unknown).await.unwrap();
    assert_eq!(subscription.next().await.unwrap_err().code(), Code::NotFound);
}

/// What a subscriber knows of a view, and until where.
#[derive(Default)]
struct Mirror {
    totals: BTreeMap<(String, Option<i64>), i64>,
    frontier: Option<v1::Frontier>,
}

impl Mirror {
    /// Follows the view until everything in `ends` is there, or the node is gone.
    async fn follow(&mut self, client: &Client, ends: &v1::Frontier) -> Result<(), Status> {
        use v1::subscribe_request::From;
        let from = match self.frontier.clone() {
            None => From::Snapshot(true),
            Some(frontier) => From::Frontier(frontier),
        };
        let request = v1::SubscribeRequest {
            view: "takings".into(),
            r#where: "total >= 2000".into(),
            from: Some(from),
        };
        let mut subscription = client.subscribe(request).await?;
        while !self.has(ends) {
            let (batches, frontier) = subscription.next().await?;
            for batch in &batches {
                self.take(batch);
            }
            if frontier.is_some() {
                self.frontier = frontier;
            }
        }
        Ok(())
    }

    fn has(&self, ends: &v1::Frontier) -> bool {
        let reached = self.frontier.as_ref().map(|frontier| &frontier.offsets);
        let has = |(partition, end): (&u32, &u64)| {
            reached.and_then(|reached| reached.get(partition)).is_some_and(|at| end <= at)
        };
        ends.offsets.iter().all(has)
    }

    fn take(&mut self, batch: &arrow::array::RecordBatch) {
        let text = |column: usize| arrow::compute::cast(batch.column(column), &TEXT).unwrap();
        let (changes, shops) = (text(0), text(1));
        let tills = batch.column(2).as_primitive::<Int64Type>();
        let totals = arrow::compute::cast(batch.column(4), &NUMBER).unwrap();
        let totals = totals.as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let shop = shops.as_string::<i32>().value(row).to_owned();
            let till = tills.is_valid(row).then(|| tills.value(row));
            match changes.as_string::<i32>().value(row) {
                "upsert" => self.totals.insert((shop, till), totals.value(row)),
                _ => self.totals.remove(&(shop, till)),
            };
        }
    }
}

const TEXT: arrow::datatypes::DataType = arrow::datatypes::DataType::Utf8;
const NUMBER: arrow::datatypes::DataType = arrow::datatypes::DataType::Int64;

/// A subscriber that goes on from its last frontier after each break has, in the end, what a query
/// answers. Groups lie in all partitions, which fold again at their own pace after each kill.
#[tokio::test]
async fn a_subscriber_loses_nothing_when_the_node_is_killed() {
    let seed = 72;
    eprintln!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut node = Node::start(NodeOptions::default()).await.unwrap();
    let client = node.client().await.unwrap();
    client.query(STREAM).await.unwrap();
    client.query(VIEW).await.unwrap();
    let mut mirror = Mirror::default();
    let mut ends = v1::Frontier::default();
    for life in 0..4 {
        let client = node.client().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let follower = {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let never = v1::Frontier { offsets: [(0, u64::MAX)].into(), ..Default::default() };
                let ended = mirror.follow(&client, &never).await;
                assert!(stop.load(Ordering::SeqCst), "life {life}: {ended:?}");
                mirror
            })
        };
        for _ in 0..1_500 {
            let shop = format!("shop {}", rng.random_range(0..5));
            let count = rng.random_range(1..30);
            let (rows, _) = rows(&mut rng, &shop, count);
            let ack = client.append(json_request("paid", None, rows)).await.unwrap();
            for (partition, end) in ack.frontier.unwrap().offsets {
                let known = ends.offsets.entry(partition).or_default();
                *known = end.max(*known);
            }
        }
        stop.store(true, Ordering::SeqCst);
        node.kill().await.unwrap();
        mirror = follower.await.unwrap();
        node.restart().await.unwrap();
    }
    let client = node.client().await.unwrap();
    let follow = mirror.follow(&client, &ends);
    tokio::time::timeout(Duration::from_secs(60), follow).await.unwrap().unwrap();
    let answer = client
        .query(
            "SELECT shop, CAST(till AS BIGINT), CAST(sum(cents) AS BIGINT) FROM paid \
             GROUP BY shop, till HAVING sum(cents) >= 2000",
        )
        .await
        .unwrap();
    let (shops, tills) = (answer.texts(0).unwrap(), answer.integers(1).unwrap());
    let totals = answer.integers(2).unwrap();
    let expected: BTreeMap<_, _> =
        shops.into_iter().zip(tills).map(|(shop, till)| (shop, Some(till))).zip(totals).collect();
    assert!(!expected.is_empty());
    assert_eq!(mirror.totals, expected, "seed {seed}");
}
