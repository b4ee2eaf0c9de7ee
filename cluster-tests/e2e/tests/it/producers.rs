//! Sequences, epochs and retries, as a client sees them.

use alluvium_proto::v1;
use cluster_e2e::client::{Client, json_request};
use tonic::{Code, Status};

use crate::node;

struct Stamped<'a> {
    client: &'a Client,
    opened: v1::OpenProducerResponse,
}

impl Stamped<'_> {
    async fn open(client: &Client) -> Stamped<'_> {
        Stamped { client, opened: client.open_producer("till-7", "sales").await.unwrap() }
    }

    async fn append(&self, sequence: u64, first: u64) -> Result<v1::AppendResponse, Status> {
        let stamp = v1::ProducerStamp {
            producer_id: self.opened.producer_id,
            epoch: self.opened.epoch,
            sequence,
            position: first + 3,
        };
        let rows: String = (first..first + 3).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        self.client.append(json_request("sales", Some(stamp), rows)).await
    }
}

async fn values(client: &Client) -> Vec<i64> {
    client.query("SELECT n FROM sales ORDER BY n").await.unwrap().integers(0).unwrap()
}

#[tokio::test]
async fn a_retry_is_answered_with_the_first_answer_and_appends_nothing() {
    let (mut node, client) = node().await;
    client
        .query("CREATE STREAM sales (n BIGINT) PARTITION BY (n) WITH (partitions = 3)")
        .await
        .unwrap();
    let producer = Stamped::open(&client).await;
    assert_eq!(producer.opened.next_sequence, 0);
    let first = producer.append(0, 0).await.unwrap();
    assert!(!first.duplicate);
    let again = producer.append(0, 0).await.unwrap();
    assert!(again.duplicate);
    let places = |ack: &v1::AppendResponse| {
        let mut places: Vec<_> =
            ack.partitions.iter().map(|part| (part.partition, part.first, part.end)).collect();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&again), places(&first));
    assert_eq!(values(&client).await, [0, 1, 2]);

    // The window of remembered batches outlives the process.
    let opened = producer.opened;
    node.kill().await.unwrap();
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let producer = Stamped { client: &client, opened };
    let after_crash = producer.append(0, 0).await.unwrap();
    assert!(after_crash.duplicate);
    assert_eq!(places(&after_crash), places(&first));
    assert_eq!(values(&client).await, [0, 1, 2]);

    // A retry too old for its offsets to be remembered is still a retry.
    for sequence in 1..20 {
        producer.append(sequence, sequence * 3).await.unwrap();
    }
    assert!(producer.append(0, 0).await.unwrap().duplicate);
    assert_eq!(values(&client).await, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gap_is_refused_and_names_what_is_expected() {
    let (_node, client) = node().await;
    client
        .query("CREATE STREAM sales (n BIGINT) PARTITION BY (n) WITH (partitions = 3)")
        .await
        .unwrap();
    let producer = Stamped::open(&client).await;
    producer.append(0, 0).await.unwrap();
    let gap = producer.append(2, 6).await.unwrap_err();
    assert!(matches!(gap.code(), Code::OutOfRange | Code::FailedPrecondition), "{gap:?}");
    assert!(gap.message().contains("expects 1"), "{gap:?}");
    assert_eq!(values(&client).await, [0, 1, 2]);
    producer.append(1, 3).await.unwrap();
    producer.append(2, 6).await.unwrap();
    assert_eq!(values(&client).await, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_older_epoch_is_fenced_and_the_new_one_goes_on() {
    let (_node, client) = node().await;
    client
        .query("CREATE STREAM sales (n BIGINT) PARTITION BY (n) WITH (partitions = 3)")
        .await
        .unwrap();
    let zombie = Stamped::open(&client).await;
    zombie.append(0, 0).await.unwrap();
    let heir = Stamped::open(&client).await;
    assert_eq!(heir.opened.producer_id, zombie.opened.producer_id);
    assert!(zombie.opened.epoch < heir.opened.epoch);
    assert_eq!((heir.opened.next_sequence, heir.opened.position), (1, 3));
    heir.append(1, 3).await.unwrap();
    let fenced = zombie.append(2, 6).await.unwrap_err();
    assert!(matches!(fenced.code(), Code::FailedPrecondition | Code::Aborted), "{fenced:?}");
    assert!(fenced.message().contains("epoch"), "{fenced:?}");
    heir.append(2, 6).await.unwrap();
    assert_eq!(values(&client).await, (0..9).collect::<Vec<_>>());
}
