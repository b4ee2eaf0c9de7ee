//! A full disk refuses writes with a clear code, goes on answering reads, and takes writes again
//! when there is room.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use cluster_e2e::client::arrow_request;
use cluster_e2e::node::{Node, NodeOptions};
use cluster_e2e::small_disk::SmallDisk;
use tonic::Code;

/// Size of the file system: room for the databases' own files and a few hundred batches.
const DISK_MIB: u64 = 160;

/// Taken at first, given back later.
const BALLAST_MIB: usize = 64;

/// So many refusals one after the other, in about two seconds, mean that the disk stays full.
const REFUSALS: u32 = 40;

/// Rows that do not compress well.
fn batch(number: i64) -> RecordBatch {
    let count = 4_000;
    let mut state = u64::try_from(number).unwrap() + 1;
    let mut noise = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    };
    let texts = (0..count).map(|_| [noise(), noise(), noise(), noise()].concat());
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, count));
    RecordBatch::try_from_iter([("n", numbers), ("noise", texts)]).unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_with_reads() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return crate::skip(&format!("full disk: {reason}")),
    };
    let ballast = disk.dir().join("ballast");
    std::fs::write(&ballast, vec![7; BALLAST_MIB << 20]).unwrap();
    let options = NodeOptions::default()
        .data_dir(&disk.dir().join("data"))
        .set("ALLUVIUM_SEGMENT_BYTES", 1 << 20);
    let mut node = Node::start(options).await.unwrap();
    let client = node.client().await.unwrap();
    client.query("CREATE STREAM full (n BIGINT, noise TEXT)").await.unwrap();

    let mut poll = tokio::time::interval(std::time::Duration::from_millis(50));
    let (mut acked, mut refused) = (0, 0);
    // Log that is in segments by now makes room once more, until there is none.
    while refused < REFUSALS {
        assert!(acked < 2_000, "{acked} batches fit on a disk of {DISK_MIB} MiB");
        match client.append(arrow_request("full", None, &batch(acked)).unwrap()).await {
            Ok(_) => (acked, refused) = (acked + 1, 0),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{acked} fit: {status:?}");
                assert!(status.message().contains("disk"), "{status:?}");
                refused += 1;
                poll.tick().await;
            }
        }
    }
    eprintln!("{acked} batches fit");
    let count = "SELECT count(*), count(DISTINCT n) FROM full";
    let read = || async { client.query(count).await.unwrap().integer_rows::<2>().unwrap() };
    assert_eq!(read().await, [[acked * 4_000, acked]], "reads go on");

    std::fs::remove_file(&ballast).unwrap();
    let mut tries = 0;
    while let Err(status) = client.append(arrow_request("full", None, &batch(acked)).unwrap()).await
    {
        tries += 1;
        assert!(tries < 200, "still refused with room: {status:?}");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        poll.tick().await;
    }
    acked += 1;
    assert_eq!(read().await, [[acked * 4_000, acked]], "writes go on");

    node.kill().await.unwrap();
    node.restart().await.unwrap();
    let client = node.client().await.unwrap();
    let rows = client.query(count).await.unwrap().integer_rows::<2>().unwrap();
    assert_eq!(rows, [[acked * 4_000, acked]], "what was acknowledged is there");
    node.kill().await.unwrap();
}
