//! What waits to be sent to other nodes: one bounded queue for each.
//!
//! Raft bears the loss of a message: what finds no room is dropped and counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_core::ids::NodeId;
use alluvium_core::replica::Envelope;
use arc_swap::ArcSwap;
use tokio::sync::mpsc;

/// Messages that may wait for one node: some for each of a thousand groups.
const QUEUE_MESSAGES_MAX: usize = 16_384;

/// Bytes that may wait for one node: half a second of a fast network.
const QUEUE_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    queues: ArcSwap<BTreeMap<NodeId, Queue>>,
    dropped: AtomicU64,
}

/// The near end of one node's queue.
#[derive(Clone, Debug)]
pub struct Queue {
    sender: mpsc::Sender<Envelope>,
    bytes: Arc<AtomicU64>,
}

/// The far end: read by the link to the node.
#[derive(Debug)]
pub struct Outgoing {
    receiver: mpsc::Receiver<Envelope>,
    bytes: Arc<AtomicU64>,
}

impl Outbox {
    /// Hands messages to their queues; what finds none, or no room, is dropped.
    pub fn send(&self, envelopes: Vec<Envelope>) {
        if envelopes.is_empty() {
            return;
        }
        let queues = self.queues.load();
        for envelope in envelopes {
            let sent = queues.get(&envelope.to).is_some_and(|queue| queue.push(envelope));
            if !sent {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Adds a queue for a node; the link reads its far end.
    pub fn open(&self, node: NodeId) -> Outgoing {
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let bytes = Arc::new(AtomicU64::new(0));
        let queue = Queue { sender, bytes: bytes.clone() };
        self.queues.rcu(|queues| {
            let mut queues = BTreeMap::clone(queues);
            queues.insert(node, queue.clone());
            queues
        });
        Outgoing { receiver, bytes }
    }

    /// Takes a node's queue away; its link ends when it has read what waits.
    pub fn close(&self, node: NodeId) {
        self.queues.rcu(|queues| {
            let mut queues = BTreeMap::clone(queues);
            queues.remove(&node);
            queues
        });
    }

    /// The nodes that have a queue.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.queues.load().keys().copied().collect()
    }

    /// Messages dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn push(&self, envelope: Envelope) -> bool {
        let bytes = envelope.bytes.len() as u64;
        if QUEUE_BYTES_MAX < self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        let sent = self.sender.try_send(envelope).is_ok();
        if !sent {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

impl Outgoing {
    /// The next message; `None` when the queue was taken away.
    pub async fn next(&mut self) -> Option<Envelope> {
        let envelope = self.receiver.recv().await?;
        Some(self.taken(envelope))
    }

    /// The next message that waits already.
    pub fn try_next(&mut self) -> Option<Envelope> {
        let envelope = self.receiver.try_recv().ok()?;
        Some(self.taken(envelope))
    }

    fn taken(&self, envelope: Envelope) -> Envelope {
        self.bytes.fetch_sub(envelope.bytes.len() as u64, Ordering::Relaxed);
        envelope
    }
}

#[cfg(test)]
mod tests {
    use alluvium_core::ids::GroupId;
    use bytes::Bytes;

    use super::*;

    fn envelope(to: u64, bytes: usize) -> Envelope {
        let (group, from, to) = (GroupId(1), NodeId(1), NodeId(to));
        Envelope { group, from, to, bytes: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let outbox = Outbox::default();
        let mut outgoing = outbox.open(NodeId(2));
        let half = usize::try_from(QUEUE_BYTES_MAX / 2).unwrap();
        outbox.send(vec![envelope(2, half), envelope(2, half), envelope(2, 1), envelope(3, 1)]);
        assert_eq!(outbox.dropped(), 2, "one for want of room, one for want of a queue");
        assert_eq!(outgoing.try_next().unwrap().bytes.len(), half);
        outbox.send(vec![envelope(2, 1)]);
        assert_eq!(outbox.dropped(), 2, "what was read makes room");
        outbox.close(NodeId(2));
        assert_eq!(outbox.nodes(), []);
    }
}
