//! Histories as a few lines of text, good ones and bad ones.

use super::*;

fn rows_of(producer: u32, sequences: std::ops::Range<u64>) -> u64 {
    sequences.map(|sequence| u64::from(rows::batch_rows(producer, sequence))).sum()
}

fn part(first: u64, end: u64) -> PartitionAck {
    PartitionAck { partition: 0, first: Some(first), end: Some(end), duplicate: false }
}

/// A stream of one partition and one producer: what its reads find follows from how many batches
/// they see.
#[derive(Default)]
struct Script {
    history: History,
}

impl Script {
    fn send(&mut self, sequence: u64) {
        self.history.sent((0, sequence));
    }

    fn ack(&mut self, sequence: u64) {
        let end = rows_of(0, 0..sequence + 1);
        let first = rows_of(0, 0..sequence);
        self.history.acked((0, sequence), vec![part(first, end)]);
    }

    fn begin(&mut self) -> ReadId {
        self.history.read_began()
    }

    /// Ends a read that finds so many batches.
    fn end(&mut self, read: ReadId, batches: u64) {
        let rows = rows_of(0, 0..batches);
        let producers = (0 < batches).then(|| (0, (rows, batches - 1)));
        let seen = Seen {
            by: "a read".into(),
            only: None,
            producers: producers.into_iter().collect(),
            frontier: BTreeMap::from([(0, rows)]),
        };
        self.history.read_ended(read, seen);
    }

    fn read(&mut self, batches: u64) {
        let read = self.begin();
        self.end(read, batches);
    }

    #[track_caller]
    fn good(&self) {
        assert_eq!(self.history.check(), Vec::<String>::new());
    }

    #[track_caller]
    fn bad(&self, word: &str) {
        let violations = self.history.check();
        assert!(violations.iter().any(|text| text.contains(word)), "{violations:?}");
    }
}

#[test]
fn what_is_in_flight_may_be_seen_or_not() {
    for found in [1, 2] {
        let mut script = Script::default();
        script.send(0);
        script.ack(0);
        script.send(1);
        script.read(found);
        script.ack(1);
        script.read(2);
        script.good();
    }
}

#[test]
fn a_read_without_what_was_acknowledged_before_it_is_stale() {
    let mut script = Script::default();
    script.send(0);
    script.ack(0);
    script.read(0);
    script.bad("stale");
}

#[test]
fn a_read_that_began_before_the_ack_need_not_hold_it() {
    let mut script = Script::default();
    script.send(0);
    let read = script.begin();
    script.ack(0);
    script.end(read, 0);
    script.good();
}

#[test]
fn reads_never_go_back() {
    let mut script = Script::default();
    script.send(0);
    script.read(1);
    script.read(0);
    script.bad("stale");
    // Two reads at once may differ either way.
    let mut script = Script::default();
    script.send(0);
    let (one, other) = (script.begin(), script.begin());
    script.end(one, 1);
    script.end(other, 0);
    script.good();
}

#[test]
fn what_was_never_sent_is_found_by_nobody() {
    let mut script = Script::default();
    script.send(0);
    script.ack(0);
    script.read(2);
    script.bad("sent were");
}

#[test]
fn a_batch_stands_behind_what_was_known_before_it_was_sent() {
    let mut script = Script::default();
    script.send(0);
    script.ack(0);
    script.send(1);
    script.history.acked((0, 1), vec![part(0, 1)]);
    script.bad("before the batch was sent");
    // A retry counts from its first attempt.
    let mut script = Script::default();
    script.send(0);
    script.send(1);
    let read = script.begin();
    script.end(read, 2);
    script.send(0);
    script.ack(0);
    script.send(1);
    script.ack(1);
    script.good();
}

#[test]
fn an_answer_of_two_moments_is_found() {
    let mut script = Script::default();
    script.send(0);
    let read = script.begin();
    let rows = rows_of(0, 0..1);
    let producers = BTreeMap::from([(0, (rows, 0))]);
    let frontier = BTreeMap::from([(0, rows + 1)]);
    let seen = Seen { by: "a read".into(), only: None, producers, frontier };
    script.history.read_ended(read, seen);
    script.bad("as of a frontier");
}

#[test]
fn a_partition_is_written_again_when_it_takes_what_was_sent_since() {
    let mut script = Script::default();
    script.send(0);
    let since = Instant::now();
    script.ack(0);
    assert_eq!(script.history.written_again(&[0], since), None, "sent before");
    script.send(1);
    let held = PartitionAck { duplicate: true, ..part(0, 1) };
    script.history.acked((0, 1), vec![held]);
    assert_eq!(script.history.written_again(&[0], since), None, "held before");
    script.send(2);
    script.ack(2);
    assert!(script.history.written_again(&[0], since).is_some());
    assert_eq!(script.history.written_again(&[0, 1], since), None, "the other was not written");
}
