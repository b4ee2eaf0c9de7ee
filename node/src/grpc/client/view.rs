//! Views without SQL: groups by their keys, and groups as they change.

use alluvium_proto::v1;
use alluvium_proto::v1::query_client::QueryClient;
use bytes::Bytes;

use super::{
    ANSWER_BYTES_MAX, Calls, Client, ClientError, Freshness, Retry, StreamFrontier,
    error_from_wire, freshness_to_wire, frontier_from_wire, frontier_to_wire,
};

/// Which groups, and what of them.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The view's name.
    pub view: String,
    /// Keys of groups, or the first values of one.
    pub keys: Keys,
    /// Rows of the answer at most; 0 where the keys say how many there can be.
    pub limit: u32,
    /// Columns of the answer; none for all.
    pub columns: Vec<String>,
    /// How fresh: to read what was written, at least the frontier of its ack.
    pub freshness: Freshness,
    /// Do not wait for anything, whatever `freshness` says.
    pub as_it_is: bool,
    /// Rows as JSON objects one a line, in place of an Arrow IPC stream of one batch.
    pub json_rows: bool,
}

/// Keys on their way.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Objects following each other.
    Json(Bytes),
    /// An Arrow IPC stream.
    ArrowIpc(Bytes),
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Rows, in the form that was asked for.
    pub rows: Bytes,
    /// What they reflect.
    pub frontier: StreamFrontier,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what changes from now on.
    Now,
    /// With everything there is.
    Snapshot,
    /// With what changed after a former subscription.
    After(StreamFrontier),
}

/// A subscription.
#[derive(Debug)]
pub struct Changes {
    addr: String,
    parts: tonic::Streaming<v1::SubscribeResponse>,
}

/// A part of it.
#[derive(Clone, Debug)]
pub enum Change {
    /// The columns, as an Arrow IPC stream without rows.
    Schema(Bytes),
    /// Some rows.
    Rows {
        /// An Arrow IPC stream of one record batch, or nothing.
        rows: Bytes,
        /// Where to go on after a break, once this is taken in.
        frontier: Option<StreamFrontier>,
    },
}

impl Lookup {
    /// All columns of groups whose keys are JSON objects, as JSON, with everything acknowledged
    /// before.
    pub fn json(view: &str, keys: &str) -> Lookup {
        Lookup {
            view: view.into(),
            keys: Keys::Json(Bytes::copy_from_slice(keys.as_bytes())),
            limit: 0,
            columns: Vec::new(),
            freshness: Freshness::Latest,
            as_it_is: false,
            json_rows: true,
        }
    }
}

impl Client {
    /// Looks groups of a view up by their keys.
    pub async fn lookup(&self, lookup: Lookup) -> Result<Found, ClientError> {
        use v1::lookup_request::{Freshness as Wire, Keys as WireKeys};
        use v1::query_request::Freshness as Asked;
        let freshness = match freshness_to_wire(&lookup.freshness) {
            _ if lookup.as_it_is => Some(Wire::AsItIs(true)),
            None => None,
            Some(Asked::AtLeast(least)) => Some(Wire::AtLeast(least)),
            Some(Asked::AsOf(_)) => {
                let message = "a lookup has no as of: views keep no older answers".to_owned();
                return Err(ClientError::Refused { message, retry: Retry::Never });
            }
        };
        let request = v1::LookupRequest {
            view: lookup.view,
            keys: Some(match lookup.keys {
                Keys::Json(bytes) => WireKeys::Json(bytes),
                Keys::ArrowIpc(bytes) => WireKeys::ArrowIpc(bytes),
            }),
            limit: lookup.limit,
            columns: lookup.columns,
            freshness,
            json_rows: lookup.json_rows,
            timeout_ms: 0,
        };
        let mut client = self.views();
        let response = client.lookup(request).await.map_err(|status| self.error(&status))?;
        let found = response.into_inner();
        let (Some(rows), Some(frontier)) = (found.rows, found.frontier) else {
            let reason = "rows or frontier of a lookup are missing".to_owned();
            return Err(ClientError::Garbled { addr: self.addr.clone(), reason });
        };
        let rows = match rows {
            v1::lookup_response::Rows::Json(bytes) => bytes,
            v1::lookup_response::Rows::ArrowIpc(bytes) => bytes,
        };
        Ok(Found { rows, frontier: frontier_from_wire(frontier) })
    }

    /// Follows a view. `condition` is SQL over its columns; empty for none.
    pub async fn subscribe(
        &self,
        view: &str,
        condition: &str,
        from: &Begin,
    ) -> Result<Changes, ClientError> {
        use v1::subscribe_request::From as Wire;
        let from = match from {
            Begin::Now => None,
            Begin::Snapshot => Some(Wire::Snapshot(true)),
            Begin::After(frontier) => Some(Wire::Frontier(frontier_to_wire(frontier))),
        };
        let request = v1::SubscribeRequest { view: view.into(), r#where: condition.into(), from };
        let mut client = self.views();
        let response = client.subscribe(request).await.map_err(|status| self.error(&status))?;
        Ok(Changes { addr: self.addr.clone(), parts: response.into_inner() })
    }

    fn views(&self) -> QueryClient<Calls> {
        QueryClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

impl Changes {
    /// The next part. There is always one, until the node stops or the connection breaks.
    pub async fn next(&mut self) -> Result<Change, ClientError> {
        use v1::subscribe_response::Part as Wire;
        let message = self.parts.message().await;
        let message = message.map_err(|status| error_from_wire(&self.addr, &status))?;
        let Some(response) = message else {
            let reason = "the node ended the subscription".to_owned();
            return Err(ClientError::Broken { addr: self.addr.clone(), reason });
        };
        match response.part {
            Some(Wire::Schema(schema)) => Ok(Change::Schema(schema)),
            Some(Wire::Changes(changes)) => Ok(Change::Rows {
                rows: changes.batch,
                frontier: changes.frontier.map(frontier_from_wire),
            }),
            None => Err(ClientError::Garbled {
                addr: self.addr.clone(),
                reason: "a part of a subscription is empty".into(),
            }),
        }
    }
}
