//! What is not a batch of the stream is refused with the right code, names row and column, and
//! leaves nothing behind.

use std::sync::Arc;

use alluvium_proto::v1;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use cluster_e2e::client::{Client, arrow_request, encode_ipc, json_request};
use tonic::Code;

use crate::node;

const CREATE: &str = "CREATE STREAM checked (id BIGINT NOT NULL, name TEXT, \
     amount NUMERIC(10, 2), at TIMESTAMP) WITH (partitions = 3)";

/// Sends; expects this code, all these words in the message, and an empty stream after it.
async fn refused(client: &Client, request: v1::AppendRequest, code: Code, words: &[&str]) {
    let case = format!("{request:?}").chars().take(200).collect::<String>();
    let status = client.append(request).await.expect_err(&case);
    assert_eq!(status.code(), code, "{case}: {status:?}");
    let message = status.message().to_lowercase();
    for word in words {
        assert!(message.contains(word), "\"{word}\" is not in \"{message}\" for {case}");
    }
    let answer = client.query("SELECT count(*) FROM checked").await.unwrap();
    assert_eq!(answer.single().unwrap(), 0, "rows of a refused batch: {case}");
}

fn json(rows: &str) -> v1::AppendRequest {
    json_request("checked", None, rows.to_owned())
}

fn arrow(columns: Vec<(&str, ArrayRef)>) -> v1::AppendRequest {
    arrow_request("checked", None, &RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[tokio::test]
async fn json_rows_that_do_not_fit_are_refused_whole() {
    let (_node, client) = node().await;
    client.query(CREATE).await.unwrap();
    let good = "{\"id\":1,\"name\":\"a\"}\n";
    let cases: [(&str, &[&str]); 9] = [
        ("{\"id\":2,\"nam\":\"b\"}", &["nam"]),
        ("{\"id\":\"two\"}", &["id", "row 1"]),
        ("{\"id\":null,\"name\":\"b\"}", &["id", "row 1", "null"]),
        ("{\"name\":\"b\"}", &["id", "row 1"]),
        ("{\"id\":2,\"amount\":\"12.x\"}", &["amount", "row 1"]),
        ("{\"id\":2,\"at\":\"yesterday\"}", &["at", "row 1"]),
        ("{\"id\":2,\"name\":", &["row 1"]),
        ("[1,2]", &["row 1"]),
        ("{\"id\":99999999999999999999}", &["id", "row 1"]),
    ];
    for (bad, words) in cases {
        refused(&client, json(&format!("{good}{bad}\n")), Code::InvalidArgument, words).await;
    }
    let mut bytes = format!("{good}{{\"id\":2,\"name\":\"").into_bytes();
    bytes.extend([0xff, 0xfe]);
    bytes.extend(b"\"}\n");
    let not_text = json_request("checked", None, bytes);
    refused(&client, not_text, Code::InvalidArgument, &["utf-8"]).await;
}

#[tokio::test]
async fn arrow_rows_that_do_not_fit_are_refused_whole() {
    let (_node, client) = node().await;
    client.query(CREATE).await.unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let code = Code::InvalidArgument;
    let unknown = arrow(vec![("id", numbers(&[1, 2])), ("nam", names.clone())]);
    refused(&client, unknown, code, &["nam"]).await;
    refused(&client, arrow(vec![("name", names.clone())]), code, &["id"]).await;
    let wrong_type = arrow(vec![("id", numbers(&[1, 2])), ("at", names.clone())]);
    refused(&client, wrong_type, code, &["at"]).await;
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    refused(&client, arrow(vec![("id", nulls)]), code, &["id", "row 1", "null"]).await;

    let good = RecordBatch::try_from_iter([("id", numbers(&[1, 2])), ("name", names)]).unwrap();
    let ipc = encode_ipc(&good).unwrap();
    for cut in [1, ipc.len() / 4, ipc.len() / 2] {
        refused(&client, malformed(ipc.slice(..cut)), code, &["arrow"]).await;
    }
    refused(&client, malformed("not arrow at all"), code, &["arrow"]).await;
    // Text that is not UTF-8, inside an otherwise sound stream.
    let text = ipc.windows(2).position(|window| window == b"ab").expect("both names in a row");
    let mut broken = ipc.to_vec();
    broken[text] = 0xff;
    refused(&client, malformed(broken), code, &["utf"]).await;
}

fn malformed(bytes: impl Into<bytes::Bytes>) -> v1::AppendRequest {
    let rows = Some(v1::append_request::Rows::ArrowIpc(bytes.into()));
    v1::AppendRequest { stream: "checked".into(), producer: None, rows }
}

/// Every byte of a sound batch is damaged in turn: whatever the node says, it goes on, and says no
/// to whatever is not two rows.
#[tokio::test]
async fn damaged_arrow_never_stops_the_node() {
    let (node, client) = node().await;
    client.query(CREATE).await.unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let good = RecordBatch::try_from_iter([("id", numbers(&[1, 2])), ("name", names)]).unwrap();
    let ipc = encode_ipc(&good).unwrap();
    let mut accepted = 0;
    for place in 0..ipc.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut broken = ipc.to_vec();
            broken[place] ^= flip;
            match client.append(malformed(broken)).await {
                // Some bytes are values or padding: their change is another sound batch.
                Ok(ack) => accepted += ack.event_count,
                Err(status) => assert_eq!(
                    status.code(),
                    Code::InvalidArgument,
                    "byte {place} ^ {flip:#x}: {status:?}\n{}",
                    node.log_end()
                ),
            }
        }
    }
    let answer = client.query("SELECT count(*) FROM checked").await.unwrap();
    assert_eq!(answer.single().unwrap(), i64::try_from(accepted).unwrap());
}

#[tokio::test]
async fn appends_to_nowhere_or_of_nothing_or_of_too_much_are_refused() {
    let (_node, client) = node().await;
    client.query(CREATE).await.unwrap();
    let nowhere = json_request("checkd", None, "{\"id\":1}\n");
    refused(&client, nowhere, Code::NotFound, &["checkd"]).await;
    let nothing = v1::AppendRequest { stream: "checked".into(), producer: None, rows: None };
    refused(&client, nothing, Code::InvalidArgument, &["rows"]).await;
    let long = "x".repeat(1_000);
    let row = format!("{{\"id\":1,\"name\":\"{long}\"}}\n");
    for rows in [12_000, 40_000] {
        let status = client.append(json(&row.repeat(rows))).await.unwrap_err();
        let expected = [Code::InvalidArgument, Code::ResourceExhausted, Code::OutOfRange];
        assert!(expected.contains(&status.code()), "{rows} rows: {status:?}");
        let answer = client.query("SELECT count(*) FROM checked").await.unwrap();
        assert_eq!(answer.single().unwrap(), 0, "rows of a batch that is too large");
    }
    client.append(json("{\"id\":1}\n")).await.expect("a good batch after all that");
}

#[tokio::test]
async fn statements_that_cannot_be_carried_out_say_why() {
    let (_node, client) = node().await;
    client.query(CREATE).await.unwrap();
    let cases: [(&str, Code, &str); 7] = [
        ("SELEC 1", Code::InvalidArgument, "selec"),
        ("SELECT nam FROM checked", Code::NotFound, "nam"),
        ("SELECT * FROM checkd", Code::NotFound, "checkd"),
        ("DROP STREAM checkd", Code::NotFound, "checkd"),
        ("CREATE STREAM checked (n BIGINT)", Code::AlreadyExists, "checked"),
        ("CREATE STREAM bad (n BIGNT)", Code::InvalidArgument, "bignt"),
        ("INSERT INTO checked VALUES (NULL, 'a', 1, NULL)", Code::InvalidArgument, "id"),
    ];
    for (sql, code, word) in cases {
        let status = client.query(sql).await.expect_err(sql);
        assert_eq!(status.code(), code, "{sql}: {status:?}");
        assert!(status.message().to_lowercase().contains(word), "{sql}: {status:?}");
    }
}
