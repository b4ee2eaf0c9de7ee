//! One link to each other member: carries what waits in the outbox, in batches, in order.
//!
//! A link that breaks is made again after a pause, and what came meanwhile is dropped: Raft sends
//! again what matters, and old messages would only be in the way of new ones.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::NodeId;
use alluvium_core::replica::Envelope;
use alluvium_proto::peer::v1 as proto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::calls::{Peers, Route};
use crate::cluster::{Cluster, Outbox, Outgoing};

/// Bytes that go together: enough to fill a frame, few enough that a heartbeat behind them is not
/// late.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Messages that go together.
const BATCH_MESSAGES_MAX: usize = 512;

/// Batches on the way before the link waits for the network.
const BATCHES_IN_FLIGHT: usize = 4;

/// After a link broke: a third of an election, so that a node that is back is heard in time.
const PAUSE: Duration = Duration::from_millis(300);

/// Told that messages to a node do not get through.
pub type Unreachable = Arc<dyn Fn(NodeId) + Send + Sync>;

/// Keeps one link to each member, as members come and go. Ends when the cluster is dropped.
pub async fn run_links(
    cluster: Arc<Cluster>,
    peers: Arc<Peers>,
    outbox: Arc<Outbox>,
    unreachable: Unreachable,
) {
    let mut changes = cluster.changes();
    loop {
        for node in cluster.others() {
            if !outbox.nodes().contains(&node) {
                let link = Link { node, peers: peers.clone(), unreachable: unreachable.clone() };
                tokio::spawn(link.run(outbox.open(node)));
            }
        }
        for node in outbox.nodes() {
            if !cluster.is_member(node) {
                outbox.close(node);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

struct Link {
    node: NodeId,
    peers: Arc<Peers>,
    unreachable: Unreachable,
}

/// Why a session ended.
enum Ended {
    /// The node is no member any more.
    Closed,
    /// The link broke.
    Broken(String),
}

impl Link {
    async fn run(self, mut outgoing: Outgoing) {
        loop {
            let Some(first) = outgoing.next().await else { return };
            match self.session(first, &mut outgoing).await {
                Ended::Closed => return,
                Ended::Broken(reason) => {
                    tracing::info!(node = %self.node, reason, "no link");
                }
            }
            (self.unreachable)(self.node);
            // Old messages would only be in the way of new ones.
            loop {
                if !discard(&mut outgoing).await {
                    return;
                }
                if self.peers.greets(self.node).await {
                    break;
                }
            }
            tracing::info!(node = %self.node, "linked again");
        }
    }

    async fn session(&self, first: Envelope, outgoing: &mut Outgoing) -> Ended {
        let mut client = match self.peers.client(self.node, Route::Link) {
            Ok(client) => client,
            Err(error) => return Ended::Broken(error.to_string()),
        };
        let (batches, received) = mpsc::channel(BATCHES_IN_FLIGHT);
        let call = client.deliver(ReceiverStream::new(received));
        tokio::pin!(call);
        let mut first = first;
        loop {
            let batch = self.gather(first, outgoing);
            tokio::select! {
                biased;
                ended = &mut call => return broken(ended),
                sent = batches.send(batch) => {
                    if sent.is_err() {
                        return broken(call.await);
                    }
                }
            }
            tokio::select! {
                biased;
                ended = &mut call => return broken(ended),
                next = outgoing.next() => match next {
                    Some(next) => first = next,
                    None => return Ended::Closed,
                },
            }
        }
    }

    fn gather(&self, first: Envelope, outgoing: &mut Outgoing) -> proto::EnvelopeBatch {
        let mut bytes = first.bytes.len();
        let mut envelopes = vec![envelope(first)];
        while bytes < BATCH_BYTES_MAX && envelopes.len() < BATCH_MESSAGES_MAX {
            let Some(next) = outgoing.try_next() else { break };
            bytes += next.bytes.len();
            envelopes.push(envelope(next));
        }
        let to = Some(self.peers.addressed(self.node));
        let cluster = self.peers.cluster();
        let from_addr = cluster.own_addr().to_owned();
        let stopping = cluster.is_stopping(cluster.me());
        proto::EnvelopeBatch { to, envelopes, from_addr, stopping }
    }
}

fn envelope(envelope: Envelope) -> proto::Envelope {
    proto::Envelope { group: envelope.group.0, message: envelope.bytes }
}

fn broken<T>(ended: Result<T, tonic::Status>) -> Ended {
    match ended {
        Ok(_) => Ended::Broken("the other side ended it".into()),
        Err(status) => Ended::Broken(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// Lets go of what comes during the pause; false when the queue was taken away.
async fn discard(outgoing: &mut Outgoing) -> bool {
    let pause = tokio::time::sleep(PAUSE);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            biased;
            () = &mut pause => return true,
            next = outgoing.next() => if next.is_none() { return false },
        }
    }
}
