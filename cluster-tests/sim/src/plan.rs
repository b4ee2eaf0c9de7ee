//! What a seed draws before the run begins: which faults happen, how often, and the load.
//!
//! Each fault is off in about half of the seeds. A run with few faults goes deeper into them than a
//! run in which nothing ever gets done.

use crate::chance::Chance;

/// Microseconds in a millisecond.
pub const MILLI: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// The settings of one run. Times are in microseconds; a mean time of 0 means never.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the faults end.
    pub faults_end: u64,
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
    /// Mean time between two crashes.
    pub crash_every: u64,
    /// Whether a crash sometimes takes all nodes at once.
    pub crash_all: bool,
    /// A node dies right after it asked for a write once in so many writes.
    pub crash_at_write: u64,
    /// The same for writes of a vote or term alone.
    pub crash_at_vote: u64,
    /// The same for checkpoints.
    pub crash_at_checkpoint: u64,
    /// Mean time until a crashed node is back.
    pub restart_after: u64,
    /// Mean time between two pauses.
    pub pause_every: u64,
    /// Mean length of a pause.
    pub pause_length: u64,
    /// Mean time between two leaders that pause cut off from the others.
    pub freeze_every: u64,
    /// Usual time of a sync.
    pub sync: u64,
    /// Syncs that take very long, of a thousand.
    pub slow_sync: u64,
    /// Mean time between two checkpoints of a node.
    pub checkpoint_every: u64,
    /// Usual time of fetching a checkpoint.
    pub fetch: u64,
    /// Fetches that fail, of a thousand.
    pub fetch_loss: u64,
    /// Size of the log kept in memory for followers behind it.
    pub retained: u64,
    /// Mean time between two changes of the placement.
    pub place_every: u64,
    /// Mean time until a node removes a replica that is not wanted there.
    pub remove_after: u64,
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
    /// How far a node's clock is off, at most.
    pub skew: u64,
    /// Drift of a node's ticks, of a thousand, at most.
    pub drift: u64,
    /// Producers.
    pub producer_count: u64,
    /// Batches a producer has under way.
    pub window: usize,
    /// Mean time between two batches of a producer.
    pub think: u64,
    /// How long a node waits for more batches before it proposes.
    pub linger: u64,
    /// How long a node's inputs wait for each other, at most.
    pub drain: u64,
    /// Answers and requests of producers lost, of a thousand.
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
        let loss = maybe(1, 80);
        let doubling = maybe(1, 80);
        let jitter = maybe(MILLI, 60 * MILLI);
        let split_every = maybe(2 * SECOND, 8 * SECOND);
        let crash_every = maybe(SECOND, 10 * SECOND);
        let crash_at_write = maybe(100, 1_000);
        let crash_at_vote = maybe(2, 10);
        let crash_at_checkpoint = maybe(3, 15);
        let pause_every = maybe(2 * SECOND, 10 * SECOND);
        let freeze_every = maybe(4 * SECOND, 15 * SECOND);
        let slow_sync = maybe(1, 30);
        let skew = maybe(MILLI, 10 * SECOND);
        let drift = maybe(1, 80);
        let client_loss = maybe(1, 100);
        let reopen_every = maybe(2 * SECOND, 10 * SECOND);
        let drain = maybe(MILLI / 10, 5 * MILLI);
        let place_every = maybe(2 * SECOND, 12 * SECOND);
        let lose_every = maybe(3 * SECOND, 20 * SECOND);
        let full_every = maybe(3 * SECOND, 20 * SECOND);
        let fetch_loss = maybe(50, 500);
        Plan {
            faults_end: chance.between(20 * SECOND, 90 * SECOND),
            loss,
            doubling,
            delay: chance.between(MILLI / 5, 20 * MILLI),
            jitter,
            split_every,
            split_length: chance.between(SECOND / 2, 6 * SECOND),
            one_way: chance.coin(),
            crash_every,
            crash_all: chance.coin(),
            crash_at_write,
            crash_at_vote,
            crash_at_checkpoint,
            restart_after: chance.between(10 * MILLI, 4 * SECOND),
            pause_every,
            pause_length: chance.between(100 * MILLI, 5 * SECOND),
            freeze_every,
            sync: chance.between(MILLI / 10, 8 * MILLI),
            slow_sync,
            checkpoint_every: chance.between(SECOND / 2, 5 * SECOND),
            fetch: chance.between(MILLI, 3 * SECOND),
            fetch_loss,
            retained: *chance.pick(&[0, 2_000, 20_000, 1 << 24]),
            place_every,
            remove_after: chance.between(MILLI, 4 * SECOND),
            lose_every: if place_every == 0 { 0 } else { lose_every },
            liar: place_every != 0 && chance.once_in(4),
            full_every,
            full_length: chance.between(SECOND / 5, 5 * SECOND),
            full_stalls: chance.coin(),
            skew,
            drift,
            producer_count: chance.between(1, 5),
            window: usize::try_from(chance.between(1, 6)).expect("a small number"),
            think: chance.between(10 * MILLI, 120 * MILLI),
            linger: chance.between(0, 3 * MILLI),
            drain,
            client_loss,
            reopen_every,
            read_every: chance.between(50 * MILLI, 500 * MILLI),
        }
    }
}
