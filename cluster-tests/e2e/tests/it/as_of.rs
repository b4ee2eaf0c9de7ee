//! An answer belongs to its frontier: asked again as of the same frontier, the same question gives
//! the same answer, whether events lie in the tail, in segments or in both.

use std::time::{Duration, Instant};

use alluvium_proto::v1;
use cluster_e2e::client::Client;
use cluster_e2e::load::{Ended, Mode, Producer, Shared, Until};
use cluster_e2e::node::{Node, NodeOptions};
use cluster_e2e::rows;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

const STREAM: &str = "asked";
const FRONTIERS: usize = 200;
const SEED: u64 = 200;

/// Rows that come in with each question of the first round.
const ROWS_PER_FRONTIER: usize = 5_000;

/// More rows than any machine takes in during the test.
const ROWS_WITHOUT_END: usize = 1 << 40;

const QUESTION: &str = "SELECT producer, count(*), sum(sequence), sum(place), sum(customer), \
     min(note), max(note), sum(length(note)), sum(_offset), count(DISTINCT customer) \
     FROM asked GROUP BY producer ORDER BY producer";

/// A question's answer, kept to be asked again.
struct Remembered {
    frontier: v1::Frontier,
    lines: Vec<String>,
}

struct Sealed {
    end: i64,
    sealed_end: i64,
}

/// Eight producers until the set is shut down; what they had in flight then does not matter here.
async fn ingest(node: &Node, first_number: u32, shared: &std::sync::Arc<Shared>) -> JoinSet<Ended> {
    let mut tasks = JoinSet::new();
    for number in first_number..first_number + 8 {
        let mode = if number % 2 == 0 { Mode::Unary } else { Mode::Pipelined { window: 4 } };
        let mut producer = Producer::new(number, mode, STREAM);
        let (client, shared) = (node.client().await.unwrap(), shared.clone());
        tasks.spawn(async move { producer.run(&client, &shared, Until::Killed).await });
    }
    tasks
}

/// Any offsets that were reached, each partition by itself: also such as no ack ever named.
fn random_frontier(rng: &mut ChaCha8Rng, shared: &Shared) -> v1::Frontier {
    let ledger = shared.ledger();
    let reached = ledger.frontier().iter();
    let offsets =
        reached.map(|(&partition, &end)| (partition, rng.random_range(0..=end))).collect();
    v1::Frontier { stream: STREAM.to_owned(), offsets }
}

async fn ask(client: &Client, frontier: &v1::Frontier) -> Vec<String> {
    let answer = client.query_as_of(QUESTION, frontier.clone()).await.unwrap();
    let reflected = answer.as_of(STREAM).unwrap();
    assert_eq!(reflected.offsets, frontier.offsets, "the answer reflects another frontier");
    answer.lines().unwrap()
}

async fn ask_all_again(client: &Client, remembered: &[Remembered], state: &str) {
    for (place, Remembered { frontier, lines }) in remembered.iter().enumerate() {
        let again = ask(client, frontier).await;
        assert_eq!(&again, lines, "{state}: frontier {place} of seed {SEED}: {frontier:?}");
    }
}

async fn sealed(client: &Client) -> Sealed {
    let sql = format!("SELECT * FROM system.partitions WHERE stream = '{STREAM}'");
    let answer = client.query(&sql).await.unwrap();
    let sum = |name: &str| answer.integers(answer.column(name).unwrap()).unwrap().iter().sum();
    Sealed { end: sum("end_offset"), sealed_end: sum("sealed_end") }
}

async fn wait_until(client: &Client, what: &str, holds: impl Fn(&Sealed) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        poll.tick().await;
        let state = sealed(client).await;
        if holds(&state) {
            return;
        }
        let (end, sealed_end) = (state.end, state.sealed_end);
        assert!(Instant::now() < deadline, "not {what}: {sealed_end} of {end} are sealed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_as_of_a_frontier_do_not_change() {
    eprintln!("seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    // What comes in while the questions are asked stays in memory.
    let unsealed = NodeOptions::default().set("ALLUVIUM_SEGMENT_BYTES", 512 << 20);
    let mut node = Node::start(unsealed).await.unwrap();
    let client = node.client().await.unwrap();
    client.query(&rows::create_stream(STREAM, 4)).await.unwrap();

    // Tail only: asked for the first time while events come in.
    let shared = Shared::paced();
    shared.allow(ROWS_PER_FRONTIER, ROWS_PER_FRONTIER);
    let mut producers = ingest(&node, 0, &shared).await;
    let mut acked_rows = shared.watch_acked_rows();
    acked_rows.wait_for(|rows| 2_000 <= *rows).await.unwrap();
    let mut remembered = Vec::new();
    while remembered.len() < FRONTIERS {
        shared.allow(ROWS_PER_FRONTIER, ROWS_PER_FRONTIER);
        let frontier = random_frontier(&mut rng, &shared);
        let lines = ask(&client, &frontier).await;
        remembered.push(Remembered { frontier, lines });
    }
    producers.shutdown().await;
    let total: usize = remembered.iter().map(|answer| answer.lines.len()).sum();
    assert!(FRONTIERS < total, "the answers are all but empty");
    ask_all_again(&client, &remembered, "tail only").await;
    assert_eq!(sealed(&client).await.sealed_end, 0, "nothing was to be sealed yet");

    // Mixed: cut and merged while more events come in, after a crash.
    node.kill().await.unwrap();
    node.settings(vec![("ALLUVIUM_SEGMENT_BYTES".into(), (64 << 10).to_string())]);
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    shared.allow(ROWS_WITHOUT_END, ROWS_WITHOUT_END);
    let mut producers = ingest(&node, 8, &shared).await;
    wait_until(&client, "mixed", |state| 0 < state.sealed_end && state.sealed_end < state.end)
        .await;
    ask_all_again(&client, &remembered, "mixed").await;
    producers.shutdown().await;

    // Segments only: what is left is cut by age.
    node.kill().await.unwrap();
    node.settings(vec![
        ("ALLUVIUM_SEGMENT_BYTES".into(), (64 << 10).to_string()),
        ("ALLUVIUM_SEGMENT_AGE".into(), "100ms".into()),
    ]);
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    wait_until(&client, "sealed", |state| state.sealed_end == state.end).await;
    ask_all_again(&client, &remembered, "segments only").await;

    assert_eq!(shared.ledger().violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_frontier_that_is_not_there_yet_is_refused_or_waited_for() {
    let (_node, client) = crate::node().await;
    client.query("CREATE STREAM asked (n BIGINT)").await.unwrap();
    client.query("INSERT INTO asked VALUES (1), (2)").await.unwrap();
    let frontier = |end| v1::Frontier { stream: STREAM.into(), offsets: [(0, end)].into() };
    let count = |end| client.query_as_of("SELECT count(*) FROM asked", frontier(end));
    for end in 0..=2 {
        assert_eq!(count(end).await.unwrap().single().unwrap(), i64::try_from(end).unwrap());
    }
    let status = count(3).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
    assert!(status.message().contains('3'), "{status:?}");
}
