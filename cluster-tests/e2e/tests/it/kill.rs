//! `KILL QUERY`: a statement that runs is ended from another connection, and only that one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster_e2e::client::Client;
use tonic::Code;

use crate::node;

/// Takes hours unless it is stopped.
const LONG: &str = "SELECT sum(a.value * b.value % 7) FROM generate_series(1, 3000000) a \
                    CROSS JOIN generate_series(1, 3000000) b";

/// The longest wait for anything here: the machine may be busy.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The id of the one query of this text, once it runs.
async fn running(client: &Client, sql: &str) -> Result<String> {
    let listed = format!("SELECT id FROM system.queries WHERE statement = '{sql}'");
    loop {
        let answer = client.query(&listed).await?;
        if let Some(id) = answer.texts(0)?.pop() {
            return Ok(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_killed_from_another_connection() -> Result<()> {
    let (node, client) = node().await;
    let asks = node.client().await?;
    let long = tokio::spawn(async move { asks.query(LONG).await });
    let id = tokio::time::timeout(WAIT_MAX, running(&client, LONG)).await;
    let id = id.context("the query is listed")??;
    let other_node = client.query("KILL QUERY '99-1'").await;
    assert_eq!(other_node.err().map(|status| status.code()), Some(Code::InvalidArgument));
    client.query(&format!("KILL QUERY '{id}'")).await?;
    let ended = tokio::time::timeout(WAIT_MAX, long).await.context("the query ends")??;
    let Err(status) = ended else { bail!("the query was answered") };
    assert_eq!(
        (status.code(), status.message()),
        (Code::Cancelled, "the statement was cancelled on request")
    );
    let left = client.query(&format!("SELECT * FROM system.queries WHERE id = '{id}'")).await?;
    assert_eq!(left.row_count(), 0, "what has ended is not listed");
    let again = client.query(&format!("KILL QUERY '{id}'")).await;
    assert_eq!(again.err().map(|status| status.code()), Some(Code::NotFound));
    Ok(())
}
