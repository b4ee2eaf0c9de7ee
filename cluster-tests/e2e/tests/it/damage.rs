//! Damaged files are found by checksum and named; what they belong to is not served, the rest is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster_e2e::client::Client;
use cluster_e2e::node::{Node, NodeOptions};
use tonic::Code;

const ROWS: i64 = 20_000;

/// A node with two streams of one partition each, `hurt` sealed into segments.
async fn two_streams() -> (Node, Client) {
    let options = NodeOptions::default()
        .set("ALLUVIUM_SEGMENT_BYTES", 64 << 10)
        .set("ALLUVIUM_SEGMENT_AGE", "100ms");
    let node = Node::start(options).await.unwrap();
    let client = node.client().await.unwrap();
    for stream in ["hurt", "whole"] {
        let create = format!("CREATE STREAM {stream} (n BIGINT, note TEXT) WITH (partitions = 1)");
        client.query(&create).await.unwrap();
        append(&client, stream, 0..ROWS).await.unwrap();
    }
    (node, client)
}

async fn append(
    client: &Client,
    stream: &str,
    numbers: std::ops::Range<i64>,
) -> Result<(), tonic::Status> {
    let row = |n| format!("{{\"n\":{n},\"note\":\"number {n} of many\"}}\n");
    let rows: String = numbers.map(row).collect();
    client.append(cluster_e2e::client::json_request(stream, None, rows)).await.map(drop)
}

/// The files of the stream's segments, once everything is sealed.
async fn segment_files(node: &Node, client: &Client, stream: &str) -> Vec<PathBuf> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        poll.tick().await;
        let sql = format!("SELECT * FROM system.partitions WHERE stream = '{stream}'");
        let state = client.query(&sql).await.unwrap();
        let number = |name: &str| state.integers(state.column(name).unwrap()).unwrap()[0];
        if number("sealed_end") == ROWS {
            break;
        }
        assert!(Instant::now() < deadline, "not sealed: {:?}", state.lines());
    }
    let sql = format!("SELECT file FROM system.segments WHERE stream = '{stream}'");
    let named = client.query(&sql).await.unwrap().texts(0).unwrap();
    let all = files(node.data_dir());
    let find = |name: &String| all.iter().find(|path| path.ends_with(name)).cloned();
    named.iter().map(|name| find(name).unwrap_or_else(|| panic!("{name} in {all:?}"))).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn flip(path: &Path, place: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    for byte in &mut bytes[place..place + 8] {
        *byte ^= 0x5a;
    }
    std::fs::write(path, bytes).unwrap();
}

async fn check_damage_is_named(node: &mut Node, file: &Path) {
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let sql = "SELECT count(DISTINCT note), sum(n) FROM hurt WHERE note <> ''";
    let status = client.query(sql).await.expect_err("an answer from a damaged file");
    assert!(matches!(status.code(), Code::Unavailable | Code::DataLoss), "{status:?}");
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let named = status.message().contains(&name) || status.message().contains("damaged");
    assert!(named, "{name} is not named: {status:?}");
    assert!(node.log().contains(&name), "{name} is not in the log:\n{}", node.log_end());

    let sql = format!("SELECT count(DISTINCT note), sum(n) FROM whole WHERE n < {ROWS}");
    let whole = client.query(&sql).await.unwrap();
    let expected = [[ROWS, ROWS * (ROWS - 1) / 2]];
    assert_eq!(whole.integer_rows::<2>().unwrap(), expected, "the other stream is served");
    append(&client, "whole", ROWS..ROWS + 1).await.expect("the other stream takes events");
    let state =
        client.query("SELECT * FROM system.partitions WHERE stream = 'hurt'").await.unwrap();
    let state = state.texts(state.column("state").unwrap()).unwrap();
    assert!(state[0].contains("damaged"), "{state:?}");
}

#[tokio::test]
async fn a_segment_damaged_in_the_middle_is_not_served() {
    let (mut node, client) = two_streams().await;
    let file = segment_files(&node, &client, "hurt").await.remove(0);
    node.kill().await.unwrap();
    let length = std::fs::metadata(&file).unwrap().len();
    flip(&file, usize::try_from(length / 2).unwrap());
    check_damage_is_named(&mut node, &file).await;
}

#[tokio::test]
async fn a_segment_damaged_in_its_footer_or_cut_short_is_not_served() {
    let (mut node, client) = two_streams().await;
    let file = segment_files(&node, &client, "hurt").await.remove(0);
    node.kill().await.unwrap();
    let sound = std::fs::read(&file).unwrap();
    flip(&file, sound.len() - 40);
    check_damage_is_named(&mut node, &file).await;
    node.kill().await.unwrap();
    std::fs::write(&file, &sound[..sound.len() - 1]).unwrap();
    check_damage_is_named(&mut node, &file).await;
}

#[tokio::test]
async fn a_missing_segment_is_not_served() {
    let (mut node, client) = two_streams().await;
    let file = segment_files(&node, &client, "hurt").await.remove(0);
    node.kill().await.unwrap();
    std::fs::remove_file(&file).unwrap();
    check_damage_is_named(&mut node, &file).await;
}

/// The log lies in files whose own checksums fail first; whoever notices, the node must not answer
/// as if the events had never been.
#[tokio::test]
async fn a_damaged_log_is_refused_not_forgotten() {
    let mut node = Node::start(NodeOptions::default()).await.unwrap();
    let client = node.client().await.unwrap();
    client.query("CREATE STREAM logged (n BIGINT, note TEXT) WITH (partitions = 1)").await.unwrap();
    for batch in 0..40 {
        append(&client, "logged", batch * 500..(batch + 1) * 500).await.unwrap();
    }
    node.kill().await.unwrap();
    let logs = files(&node.data_dir().join("raft"));
    let logs = logs.into_iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
    let log = logs.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let length = usize::try_from(std::fs::metadata(&log).unwrap().len()).unwrap();
    assert!(500_000 < length, "the log of 20,000 rows has {length} bytes");
    flip(&log, length / 2);

    match node.restart().await {
        Err(error) => {
            let text = format!("{error:#}").to_lowercase();
            assert!(text.contains("corrupt") || text.contains("checksum"), "{text}");
        }
        Ok(()) => {
            let client = node.client().await.unwrap();
            let answer = client.query("SELECT count(*) FROM logged").await;
            let status = answer.expect_err("an answer from a damaged log");
            assert!(status.message().contains("damaged"), "{status:?}");
        }
    }
}
