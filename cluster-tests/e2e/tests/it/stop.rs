//! How a node ends, and who may use its directory.

use std::time::{Duration, Instant};

use cluster_e2e::audit::audit;
use cluster_e2e::load::{Mode, Producer, Shared, Until};
use cluster_e2e::node::{Node, NodeOptions};
use cluster_e2e::rows;
use tokio::task::JoinSet;

use crate::node;

#[tokio::test]
async fn sigterm_under_load_ends_with_0_and_keeps_every_ack() {
    let (mut node, client) = node().await;
    client.query(&rows::create_stream("stopped", 4)).await.unwrap();
    let shared = Shared::new();
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let mode = if number % 2 == 0 { Mode::Unary } else { Mode::Pipelined { window: 4 } };
        let mut producer = Producer::new(number, mode, "stopped");
        let (client, shared) = (node.client().await.unwrap(), shared.clone());
        tasks.spawn(async move { producer.run(&client, &shared, Until::Killed).await });
    }
    let mut acked_rows = shared.watch_acked_rows();
    acked_rows.wait_for(|rows| 5_000 <= *rows).await.unwrap();
    shared.set_killing(true);
    let begun = Instant::now();
    let status = node.terminate(Duration::from_secs(10)).await.unwrap();
    eprintln!("ended after {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(0), "{}", node.log_end());
    tasks.join_all().await;

    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let mut ledger = std::mem::take(&mut *shared.ledger());
    audit(&client, "stopped", &mut ledger).await.unwrap();
    assert_eq!(ledger.violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let (node, client) = node().await;
    client.query("CREATE STREAM kept (n BIGINT)").await.unwrap();
    client.query("INSERT INTO kept VALUES (1)").await.unwrap();
    let options = NodeOptions::default().data_dir(node.data_dir());
    let mut second = Node::new(options).unwrap();
    let (status, log) = second.start_refused(Duration::from_secs(20)).await.unwrap();
    assert!(!status.success(), "{status}");
    assert!(log.contains("in use") || log.contains("another"), "{log}");
    let answer = client.query("SELECT count(*) FROM kept").await.unwrap();
    assert_eq!(answer.single().unwrap(), 1, "the first goes on");
}

#[tokio::test]
async fn an_fsync_error_ends_the_process_and_loses_no_ack() {
    let (mut node, client) = node().await;
    client.query("CREATE STREAM synced (n BIGINT)").await.unwrap();
    client.query("INSERT INTO synced VALUES (1), (2)").await.unwrap();
    let mut tracer = match trace_with_failing_syncs(node.pid().unwrap()).await {
        Ok(tracer) => tracer,
        Err(reason) => return crate::skip(&format!("fsync error: {reason}")),
    };
    let refused = client.query("INSERT INTO synced VALUES (3)").await;
    assert!(refused.is_err(), "acknowledged without being synced: {refused:?}");
    let status = node.wait_end(Duration::from_secs(20)).await.unwrap();
    assert!(!status.success(), "{status}");
    tracer.wait().await.unwrap();
    let log = node.log();
    assert!(log.to_lowercase().contains("sync") || log.contains("Input/output error"), "{log}");

    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let answer = client.query("SELECT count(*) FROM synced WHERE n < 3").await.unwrap();
    assert_eq!(answer.single().unwrap(), 2);
}

/// From when this returns, every sync call of the process fails.
async fn trace_with_failing_syncs(pid: u32) -> Result<tokio::process::Child, String> {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let calls = "fsync,fdatasync,sync_file_range";
    let mut tracer = tokio::process::Command::new("strace")
        .args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:error=EIO")])
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("strace does not start: {error}"))?;
    let mut lines = BufReader::new(tracer.stderr.take().unwrap()).lines();
    let mut said = String::new();
    // Attaching to many threads prints a line each; the summary line with a count comes last.
    while let Ok(Some(line)) = lines.next_line().await {
        said.push_str(&line);
        if line.contains("attached") {
            // Drained from now on, so that the tracer never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(tracer);
        }
    }
    Err(format!("strace cannot attach: {said}"))
}
