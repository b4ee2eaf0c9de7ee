//! Views stay what their definitions say: over history while events come in and the node is
//! killed, over events that come late, and when the disk gives back another byte.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_e2e::chaos_views::{self, ViewChaosOptions};
use cluster_e2e::client::{self, Client};
use cluster_e2e::late::{self, LateEvents};
use cluster_e2e::node::{Node, NodeOptions};
use cluster_e2e::views::ViewCase;

/// A view that has not caught up after this time hangs.
const FOLD_WAIT_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_over_history_are_exact_through_5_kills() {
    let options = ViewChaosOptions {
        events: 1_000_000,
        history: 400_000,
        rate: None,
        kills: 5,
        seed: 20_261_122,
        segment_bytes: 2 << 20,
    };
    eprintln!("seed {}", options.seed);
    let report = chaos_views::run(&options, &mut |line| eprintln!("{line}")).await.unwrap();
    report.check().unwrap();
    // A run that hit nothing proves nothing.
    assert_eq!(report.kills, 5);
    assert!(options.events <= report.events, "{report:?}");
    assert!(0 < report.behind, "no kill hit a view that was behind: {report:?}");
    assert!(0 < report.comparisons, "{report:?}");
}

const LATE_EVENTS: u32 = 100_000;
const CHECKS: usize = 20;
const BATCH_ROWS: usize = 250;
const SEED: u64 = 30;

/// Appends what comes next, the producers in turn.
async fn append(client: &Client, events: &mut LateEvents, rows: usize) {
    let mut producers = (0..late::PRODUCERS).cycle();
    let mut left = rows;
    while 0 < left {
        let producer = producers.next().expect("it never ends");
        let batch = events.batch(producer, left.min(BATCH_ROWS));
        left -= batch.num_rows();
        let request = client::arrow_request(late::STREAM, None, &batch).unwrap();
        client.append(request).await.unwrap();
    }
}

/// The counts add up to what was accepted, and the answer is that of the stream.
async fn check(client: &Client, view: &ViewCase, accepted: i64, state: &str) -> i64 {
    view.wait(client, FOLD_WAIT_MAX).await.unwrap();
    let progress = view.progress(client).await.unwrap();
    let (name, mut sum, mut expired) = (&view.name, 0, 0);
    for part in &progress {
        let counted = part.folded + part.filtered + part.expired + part.quarantined;
        assert_eq!(counted, part.next, "{state}: {name}: {part:?}");
        sum += counted;
        expired += part.expired;
    }
    assert_eq!(sum, accepted, "{state}: {name}: {progress:?}");
    assert_eq!(view.check_answer(client).await.unwrap(), Vec::<String>::new(), "{state}");
    expired
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_events_amend_views_and_are_counted() {
    eprintln!("seed {SEED}");
    let settings = NodeOptions::default().set("ALLUVIUM_SEGMENT_BYTES", 256 << 10);
    let mut node = Node::start(settings).await.unwrap();
    let mut client = node.client().await.unwrap();
    client.query(&late::create_stream()).await.unwrap();
    let (amended, kept) = (late::amended(), late::kept());
    let mut events = LateEvents::new(LATE_EVENTS, SEED);
    let rows = usize::try_from(LATE_EVENTS).unwrap() / CHECKS;
    let mut expired = 0;
    for round in 1..=CHECKS {
        append(&client, &mut events, rows).await;
        if round == 2 {
            // Over history and over what comes after it.
            for view in amended.iter().chain([&kept]) {
                client.query(&view.create()).await.unwrap();
            }
        }
        if round < 2 {
            continue;
        }
        if round % 7 == 0 {
            node.kill().await.unwrap();
            node.restart().await.unwrap();
            client = node.client().await.unwrap();
        }
        let accepted = i64::try_from(rows * round).unwrap();
        let state = format!("round {round} of seed {SEED}");
        for view in &amended {
            assert_eq!(check(&client, view, accepted, &state).await, 0, "nothing is given up");
        }
        let now = check(&client, &kept, accepted, &state).await;
        assert!(expired <= now, "{state}: {expired} were expired, now {now} are");
        expired = now;
    }
    assert!(0 < expired, "no event came after its window was given up");
    for view in amended.iter().chain([&kept]) {
        assert_eq!(view.audit(&client).await.unwrap(), Vec::<String>::new());
    }
}

/// Events enough for groups of many blocks.
const AUDITED_EVENTS: usize = 40_000;

/// The largest table file of the groups.
fn largest_table(data_dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(data_dir.join("state")).unwrap().map(|entry| entry.unwrap());
    let tables = files.filter(|file| file.path().extension().is_some_and(|end| end == "sst"));
    tables.max_by_key(|file| file.metadata().unwrap().len()).expect("groups were flushed").path()
}

fn flip_a_byte(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    file.sync_all().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_names_a_flipped_byte_and_a_rebuild_heals_it() {
    let mut node = Node::start(NodeOptions::default()).await.unwrap();
    let client = node.client().await.unwrap();
    client
        .query("CREATE STREAM sales (id BIGINT NOT NULL, amount DOUBLE PRECISION)")
        .await
        .unwrap();
    let numbers = format!("generate_series(1, {AUDITED_EVENTS})");
    let insert = format!("INSERT INTO sales SELECT value, value * 0.37 FROM {numbers}");
    client.query(&insert).await.unwrap();
    let query = "SELECT id, count(*) AS n, sum(amount) AS total, max(amount) AS most FROM sales \
                 GROUP BY id";
    let view = ViewCase::new("by_id", query);
    client.query(&view.create()).await.unwrap();
    view.wait(&client, FOLD_WAIT_MAX).await.unwrap();
    assert_eq!(view.audit(&client).await.unwrap(), Vec::<String>::new());
    drop(client);
    let status = node.terminate(FOLD_WAIT_MAX).await.unwrap();
    assert!(status.success(), "{}", node.log_end());
    let table = largest_table(node.data_dir());
    let bytes = table.metadata().unwrap().len();
    flip_a_byte(&table, bytes / 2);
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let found = view.audit(&client).await.unwrap();
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(
        matches!(found.as_slice(), [one] if one.contains(name)),
        "not the one partition with {name}: {found:?}"
    );
    client.query("REBUILD VIEW by_id").await.unwrap();
    assert_eq!(view.check(&client, FOLD_WAIT_MAX).await.unwrap(), Vec::<String>::new());
}
