//! What a seed draws before a whole cluster begins: which faults happen, how often, and the load.
//!
//! Long times of the real program are shorter here, all alike: a node is silent after seconds
//! instead of ten, and dead after several of these instead of five minutes.

use std::time::Duration;

use crate::chance::Chance;
use crate::plan::{MILLI, SECOND};

/// The settings of one run. Times are in microseconds; a mean time of 0 means never.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the faults end.
    pub faults_end: u64,
    /// Nodes in the beginning.
    pub node_count: u64,
    /// Partitions of each stream.
    pub streams: Vec<u32>,
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// Messages doubled, of a thousand.
    pub doubling: u64,
    /// Usual delay of a message.
    pub delay: u64,
    /// Extra delay drawn up to this, which makes messages overtake each other.
    pub jitter: u64,
    /// Mean time between two network splits.
    pub split_every: u64,
    /// Mean length of a split.
    pub split_length: u64,
    /// Whether splits may block one direction only.
    pub one_way: bool,
    /// Mean time between two owners cut off from all nodes, but not from clients.
    pub isolate_every: u64,
    /// Mean time between two times at which the leader of the meta group does not reach some nodes
    /// that everybody else reaches.
    pub apart_every: u64,
    /// Mean time between two crashes.
    pub crash_every: u64,
    /// Whether a crash sometimes takes all nodes at once.
    pub crash_all: bool,
    /// A node dies right after it asked for a write once in so many writes.
    pub crash_at_write: u64,
    /// The same for checkpoints.
    pub crash_at_checkpoint: u64,
    /// Mean time until a crashed node is back.
    pub restart_after: u64,
    /// Mean time between two pauses.
    pub pause_every: u64,
    /// Mean length of a pause.
    pub pause_length: u64,
    /// Usual time of a sync.
    pub sync: u64,
    /// Syncs that take very long, of a thousand.
    pub slow_sync: u64,
    /// Mean time between two checkpoints of a replica.
    pub checkpoint_every: u64,
    /// Usual time of fetching a checkpoint.
    pub fetch: u64,
    /// Fetches that fail, of a thousand.
    pub fetch_loss: u64,
    /// Size of the log kept in memory for followers behind it.
    pub retained: u64,
    /// Mean time between two words of a person to the cluster: join, drain, leave, stay.
    pub administer_every: u64,
    /// Mean time between two losses of a node with its disk.
    pub lose_every: u64,
    /// Whether the disk of one node says that it synced when it did not.
    pub liar: bool,
    /// Mean time between two full disks.
    pub full_every: u64,
    /// Mean time a disk is full.
    pub full_length: u64,
    /// Whether a full disk takes no entries either: its reserve is used up.
    pub full_stalls: bool,
    /// A node not heard of for so long counts as not alive.
    pub silence: u64,
    /// A member not alive for so long has its replicas made elsewhere.
    pub dead_after: Duration,
    /// How far a node's clock is off, at most.
    pub skew: u64,
    /// Drift of a node's ticks, of a thousand, at most.
    pub drift: u64,
    /// Producers of each partition.
    pub producer_count: u64,
    /// Batches a producer has under way.
    pub window: usize,
    /// Mean time between two batches of a producer.
    pub think: u64,
    /// How long a node waits for more batches before it proposes.
    pub linger: u64,
    /// Answers and requests of clients lost, of a thousand.
    pub client_loss: u64,
    /// Mean time between two lives of a producer.
    pub reopen_every: u64,
    /// Mean time between two reads.
    pub read_every: u64,
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(chance: &mut Chance) -> Plan {
        let mut maybe = |from: u64, to: u64| {
            let on = chance.coin();
            let value = chance.between(from, to);
            if on { value } else { 0 }
        };
        let (loss, doubling) = (maybe(1, 60), maybe(1, 60));
        let jitter = maybe(MILLI, 60 * MILLI);
        let split_every = maybe(3 * SECOND, 12 * SECOND);
        let isolate_every = maybe(4 * SECOND, 15 * SECOND);
        let apart_every = maybe(4 * SECOND, 12 * SECOND);
        let crash_every = maybe(2 * SECOND, 12 * SECOND);
        let crash_at_write = maybe(300, 3_000);
        let crash_at_checkpoint = maybe(10, 60);
        let pause_every = maybe(3 * SECOND, 12 * SECOND);
        let slow_sync = maybe(1, 20);
        let skew = maybe(MILLI, 2 * SECOND);
        let drift = maybe(1, 80);
        let client_loss = maybe(1, 60);
        let reopen_every = maybe(4 * SECOND, 15 * SECOND);
        let lose_every = maybe(5 * SECOND, 20 * SECOND);
        let full_every = maybe(4 * SECOND, 20 * SECOND);
        let fetch_loss = maybe(50, 400);
        let administer_every = maybe(3 * SECOND, 12 * SECOND);
        Plan {
            faults_end: chance.between(25 * SECOND, 60 * SECOND),
            node_count: chance.between(3, 6),
            streams: chance.pick(&[vec![2], vec![3], vec![1, 1], vec![1, 2], vec![2, 2]]).clone(),
            loss,
            doubling,
            delay: chance.between(MILLI / 5, 15 * MILLI),
            jitter,
            split_every,
            split_length: chance.between(SECOND / 2, 6 * SECOND),
            one_way: chance.coin(),
            isolate_every,
            apart_every,
            crash_every,
            crash_all: chance.coin(),
            crash_at_write,
            crash_at_checkpoint,
            restart_after: chance.between(10 * MILLI, 5 * SECOND),
            pause_every,
            pause_length: chance.between(100 * MILLI, 5 * SECOND),
            sync: chance.between(MILLI / 10, 8 * MILLI),
            slow_sync,
            checkpoint_every: chance.between(SECOND, 6 * SECOND),
            fetch: chance.between(MILLI, 2 * SECOND),
            fetch_loss,
            retained: *chance.pick(&[0, 2_000, 20_000, 1 << 24]),
            administer_every,
            lose_every,
            liar: lose_every != 0 && chance.coin(),
            full_every,
            full_length: chance.between(SECOND / 5, 4 * SECOND),
            full_stalls: chance.coin(),
            silence: chance.between(2 * SECOND, 4 * SECOND),
            dead_after: Duration::from_micros(chance.between(2 * SECOND, 15 * SECOND)),
            skew,
            drift,
            producer_count: chance.between(1, 3),
            window: usize::try_from(chance.between(1, 4)).expect("a small number"),
            think: chance.between(60 * MILLI, 400 * MILLI),
            linger: chance.between(0, 3 * MILLI),
            client_loss,
            reopen_every,
            read_every: chance.between(50 * MILLI, 300 * MILLI),
        }
    }
}
