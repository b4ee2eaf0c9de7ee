//! Many callers with one event each: they share their way, and are answered for themselves.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use cluster_e2e::client::{Client, arrow_request, json_request};
use cluster_e2e::node::{Node, NodeOptions};
use tokio::task::JoinSet;
use tonic::Code;

const CALLERS: i64 = 64;
const CALLS_EACH: i64 = 25;

/// Every ninth append is wrong.
fn is_wrong(n: i64) -> bool {
    n % 9 == 0
}

fn host(n: i64) -> String {
    format!("host {}", n % 13)
}

fn request(n: i64) -> Result<alluvium_proto::v1::AppendRequest> {
    if is_wrong(n) && n % 2 == 0 {
        // The first half of an object that the next body could complete.
        return Ok(json_request("single", None, format!("{{\"n\": {n}, \"host\": ")));
    }
    if is_wrong(n) {
        return Ok(json_request("single", None, format!("{{\"n\": \"x\", \"host\": \"{n}\"}}")));
    }
    if n % 5 == 0 {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![n]));
        let hosts: ArrayRef = Arc::new(StringArray::from(vec![host(n)]));
        let rows = RecordBatch::try_from_iter([("n", numbers), ("host", hosts)])?;
        return arrow_request("single", None, &rows);
    }
    Ok(json_request("single", None, format!("{{\"host\": \"{}\", \"n\": {n}}}", host(n))))
}

/// What was acknowledged: the event's partition, its offset and its number.
async fn call(client: Client, caller: i64) -> Result<Vec<[i64; 3]>> {
    let mut acknowledged = Vec::new();
    for n in caller * CALLS_EACH..(caller + 1) * CALLS_EACH {
        match client.append(request(n)?).await {
            Ok(ack) => {
                assert!(!is_wrong(n), "{n} was taken");
                let [part] = ack.partitions.as_slice() else { panic!("{n}: {ack:?}") };
                let (first, end) = (part.first.expect("new"), part.end.expect("new"));
                assert_eq!((first + 1, ack.event_count, part.duplicate), (end, 1, false), "{n}");
                let frontier = ack.frontier.expect("an ack has a frontier");
                assert_eq!(frontier.offsets.get(&part.partition), Some(&end), "{n}");
                acknowledged.push([i64::from(part.partition), i64::try_from(first)?, n]);
            }
            Err(status) => {
                assert!(is_wrong(n), "{n}: {status}");
                assert_eq!(status.code(), Code::InvalidArgument, "{n}: {status}");
                assert!(status.message().contains("row 0"), "{n}: {status}");
            }
        }
    }
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_is_answered_for_its_own_event() -> Result<()> {
    let node = Node::start(NodeOptions::default()).await?;
    let client = node.client().await?;
    let create = "CREATE STREAM single (n BIGINT, host TEXT) PARTITION BY (host) \
                  WITH (partitions = 4)";
    client.query(create).await?;
    let mut calls = JoinSet::new();
    for caller in 0..CALLERS {
        calls.spawn(call(client.clone(), caller));
    }
    let mut acknowledged = Vec::new();
    while let Some(done) = calls.join_next().await {
        acknowledged.extend(done??);
    }
    acknowledged.sort_unstable();
    let good = (0..CALLERS * CALLS_EACH).filter(|n| !is_wrong(*n)).count();
    assert_eq!(acknowledged.len(), good);
    let all = "SELECT _partition, _offset, n FROM single ORDER BY 1, 2";
    assert_eq!(client.query(all).await?.integer_rows::<3>()?, acknowledged);
    Ok(())
}
