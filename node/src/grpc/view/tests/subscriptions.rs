//! Groups as they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::stream::Frontier;
use alluvium_query::print::{Format, to_text};
use alluvium_query::wire::decode_batches;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tonic::Code;

use super::FakeDoor;
use crate::grpc::status::door_status;
use crate::grpc::view::{Begin, CHANGE, DoorError, Subscribe, Subscribed, subscribe};

/// What a subscriber knows: total by city and floor.
type Known = BTreeMap<(Option<String>, Option<i64>), i64>;

struct Subscriber {
    parts: mpsc::Receiver<Result<Subscribed, DoorError>>,
    known: Known,
    frontier: Frontier,
}

impl Subscriber {
    fn start(door: &Arc<FakeDoor>, condition: &str, from: Begin) -> Subscriber {
        let (sender, parts) = mpsc::channel(1);
        let door = door.clone();
        let asked = Subscribe { view: "sums".into(), condition: condition.into(), from };
        tokio::spawn(async move { subscribe(door.as_ref(), &asked, sender).await });
        Subscriber { parts, known: Known::new(), frontier: Frontier::default() }
    }

    /// Takes in parts until everything before this offset of each partition was sent.
    async fn reach(&mut self, ends: [u64; 2]) {
        let ends = Frontier((0..).map(PartitionNumber).zip(ends.map(Offset)).collect());
        while self.frontier != ends {
            match self.parts.recv().await.unwrap().unwrap() {
                Subscribed::Schema(bytes) => {
                    let (schema, _) = decode_batches(bytes).unwrap();
                    assert_eq!(schema.field(0).name(), CHANGE);
                }
                Subscribed::Changes { batch, frontier } => {
                    if !batch.is_empty() {
                        self.take(&decode_batches(batch).unwrap().1);
                    }
                    if let Some((stream, frontier)) = frontier {
                        assert_eq!(stream, "events");
                        self.frontier = frontier;
                    }
                }
            }
        }
    }

    fn take(&mut self, batches: &[RecordBatch]) {
        for batch in batches {
            let changes = batch.column(0).as_string::<i32>();
            let cities = batch.column(1).as_string_view();
            let floors = batch.column(2).as_primitive::<Int64Type>();
            let totals = batch.column(4).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let city = cities.is_valid(row).then(|| cities.value(row).to_owned());
                let floor = floors.is_valid(row).then(|| floors.value(row));
                match changes.value(row) {
                    "upsert" => self.known.insert((city, floor), totals.value(row)),
                    "remove" => {
                        assert!(totals.is_null(row));
                        self.known.remove(&(city, floor))
                    }
                    other => panic!("what is {other}?"),
                };
            }
        }
    }
}

fn of(city: &str, floor: i64) -> (Option<String>, Option<i64>) {
    (Some(city.into()), Some(floor))
}

#[tokio::test]
async fn a_subscriber_sees_what_is_there_and_what_changes() {
    let door = Arc::new(FakeDoor::new(100));
    door.fold(0, &[(Some("a"), Some(1), 5), (Some("b"), Some(1), 500)]);
    let mut all = Subscriber::start(&door, "", Begin::Snapshot);
    let mut some = Subscriber::start(&door, "total > 7", Begin::Snapshot);
    let mut later = Subscriber::start(&door, "", Begin::Now);
    all.reach([2, 0]).await;
    some.reach([2, 0]).await;
    assert_eq!(all.known, [(of("a", 1), 5)].into());
    assert_eq!(some.known, Known::new());
    // Begun before the change: its schema is there.
    assert!(matches!(later.parts.recv().await, Some(Ok(Subscribed::Schema(_)))));
    door.fold(1, &[(Some("a"), Some(1), 3)]);
    for subscriber in [&mut all, &mut some, &mut later] {
        subscriber.reach([2, 1]).await;
        assert_eq!(subscriber.known, [(of("a", 1), 8)].into());
    }
    // It leaves the condition, then the view itself.
    door.fold(1, &[(Some("a"), Some(1), -2)]);
    some.reach([2, 2]).await;
    assert_eq!(some.known, Known::new());
    all.reach([2, 2]).await;
    door.fold(0, &[(Some("a"), Some(1), 200)]);
    all.reach([3, 2]).await;
    assert_eq!(all.known, Known::new());
}

#[tokio::test]
async fn whoever_was_cut_off_goes_on_from_a_frontier() {
    let seed: u64 = rand::rng().random();
    let mut rng = StdRng::seed_from_u64(seed);
    let door = Arc::new(FakeDoor::new(40));
    let mut ends = [0_u64; 2];
    let mut subscriber = Subscriber::start(&door, "floor <> 2", Begin::Snapshot);
    for _ in 0..60 {
        let partition = rng.random_range(0..2_usize);
        let events: Vec<_> = (0..rng.random_range(1..8))
            .map(|_| {
                let city = [Some("a"), Some("b"), None][rng.random_range(0..3_usize)];
                (city, Some(rng.random_range(0..4)), rng.random_range(-5..10))
            })
            .collect();
        door.fold(partition, &events);
        ends[partition] += events.len() as u64;
        if rng.random_ratio(1, 4) {
            subscriber.reach(ends).await;
        }
        if rng.random_ratio(1, 6) {
            let from =
                Begin::Frontier { stream: "events".into(), frontier: subscriber.frontier.clone() };
            let Subscriber { known, frontier, .. } = subscriber;
            subscriber = Subscriber::start(&door, "floor <> 2", from);
            (subscriber.known, subscriber.frontier) = (known, frontier);
        }
    }
    subscriber.reach(ends).await;
    let mut fresh = Subscriber::start(&door, "floor <> 2", Begin::Snapshot);
    fresh.reach(ends).await;
    assert_eq!(subscriber.known, fresh.known, "seed {seed}");
}

async fn not_begun(door: FakeDoor, asked: Subscribe) -> (Code, String) {
    let (sender, mut parts) = mpsc::channel(1);
    let door = Arc::new(door);
    tokio::spawn(async move { subscribe(door.as_ref(), &asked, sender).await });
    let status = door_status(parts.recv().await.unwrap().unwrap_err());
    assert!(parts.recv().await.is_none(), "nothing follows an error");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn bad_subscriptions_are_told_what_is_wrong() {
    let asked = |condition: &str| Subscribe {
        view: "sums".into(),
        condition: condition.into(),
        from: Begin::Snapshot,
    };
    let conditions = [
        ("totl > 1", "totl"),
        ("total +", ""),
        ("total", "a condition is true or false"),
        ("total > random()", "random() gives another value"),
        ("total > (SELECT 1)", ""),
        (&format!("total > 0{}", " + 1".repeat(2_000)), "1000 operators"),
    ];
    for (condition, expected) in conditions {
        let (code, reason) = not_begun(FakeDoor::new(1), asked(condition)).await;
        let is_refused =
            matches!(code, Code::InvalidArgument | Code::NotFound | Code::Unimplemented);
        assert!(is_refused, "{condition}: {code} {reason}");
        assert!(reason.contains(expected), "{condition}: {reason}");
    }
    let unknown = Subscribe { view: "x".into(), ..asked("") };
    assert_eq!(not_begun(FakeDoor::new(1), unknown).await.0, Code::NotFound);
    let from = |stream: &str, partition| Begin::Frontier {
        stream: stream.into(),
        frontier: Frontier([(PartitionNumber(partition), Offset(1))].into()),
    };
    let cases = [
        (from("other", 0), "view \"sums\" folds stream \"events\""),
        (from("events", 2), "has 2 partitions, none is 2"),
    ];
    for (from, expected) in cases {
        let asked = Subscribe { from, ..asked("") };
        let (code, reason) = not_begun(FakeDoor::new(1), asked).await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(reason.contains(expected), "{reason}");
    }
    let hides = FakeDoor::showing(1, vec![Some(0), None, None, None]);
    let (code, reason) = not_begun(hides, asked("")).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(reason.contains("leaves out \"floor\""), "{reason}");
}

/// The next changes as `window city n`, and the offset in the first partition that was sent.
async fn told(parts: &mut mpsc::Receiver<Result<Subscribed, DoorError>>) -> (Vec<String>, u64) {
    let mut lines = Vec::new();
    loop {
        match parts.recv().await.unwrap().unwrap() {
            Subscribed::Schema(_) => {}
            Subscribed::Changes { batch, frontier } => {
                if !batch.is_empty() {
                    let (schema, batches) = decode_batches(batch).unwrap();
                    let text = to_text(Format::Csv, &schema, &batches).unwrap();
                    lines.extend(text.lines().skip(1).map(str::to_owned));
                }
                if let Some((_, frontier)) = frontier {
                    lines.sort();
                    return (lines, frontier.0[&PartitionNumber(0)].0);
                }
            }
        }
    }
}

#[tokio::test]
async fn windows_come_when_they_are_final_and_again_when_they_are_amended() {
    let door = Arc::new(FakeDoor::windowed());
    let (a, b) = (Some("a"), Some("b"));
    door.fold(0, &[(a, Some(1), 1), (a, Some(12), 1)]);
    let start = |from| {
        let (sender, parts) = mpsc::channel(1);
        let door = door.clone();
        let asked = Subscribe { view: "sums".into(), condition: String::new(), from };
        tokio::spawn(async move { subscribe(door.as_ref(), &asked, sender).await });
        parts
    };
    let of = |fraction: &str, rest: &str| format!("upsert,1970-01-01T00:00:00{fraction},{rest}");
    let mut parts = start(Begin::Snapshot);
    // Both windows are held, so nothing counts as sent.
    assert_eq!(told(&mut parts).await, (vec![], 0));
    door.fold(0, &[(a, Some(15), 1)]);
    assert_eq!(told(&mut parts).await, (vec![of("", "a,1,1")], 0));
    // Late, and told at once.
    door.fold(0, &[(a, Some(3), 5)]);
    assert_eq!(told(&mut parts).await, (vec![of("", "a,2,6")], 0));
    door.fold(0, &[(b, Some(40), 1)]);
    assert_eq!(told(&mut parts).await, (vec![of(".000010", "a,2,2")], 4));
    // Who goes on from there misses nothing: the window that was held comes when it is final.
    let frontier = Frontier([(PartitionNumber(0), Offset(4))].into());
    let mut again = start(Begin::Frontier { stream: "events".into(), frontier });
    assert_eq!(told(&mut again).await, (vec![], 4));
    door.fold(0, &[(b, Some(55), 1)]);
    for parts in [&mut parts, &mut again] {
        assert_eq!(told(parts).await, (vec![of(".000040", "b,1,1")], 5));
    }
}
