//! What views keep: whole checkpoints, the first ones after a crash, and damage that is named.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber, ViewId};
use alluvium_core::time::Time;
use alluvium_store::{
    Clock, QuarantinedEvent, Store, StoreError, ViewCheckpoint, ViewPlace, ViewStates,
};
use proptest::prelude::*;

use super::rig::{copy_dir, options};

type Groups = BTreeMap<Vec<u8>, Vec<u8>>;

fn place(view: u64, partition: u32) -> ViewPlace {
    ViewPlace { view: ViewId(view), partition: PartitionNumber(partition) }
}

fn groups(views: &ViewStates, place: ViewPlace) -> Groups {
    let mut found = Groups::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        assert_eq!(found.insert(key.to_vec(), value.to_vec()), None, "a key comes once");
        ControlFlow::Continue(())
    };
    views.scan(place, &[], None, &mut visit).unwrap();
    found
}

fn event(offset: u64) -> QuarantinedEvent {
    let (reason, event) = (format!("event {offset} is odd"), offset.to_string().into_bytes());
    QuarantinedEvent { offset: Offset(offset), reason, event }
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        place: usize,
        ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        deletes: Vec<Vec<u8>>,
        puts: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Remove(usize),
    Flush,
    Reopen,
    Crash,
}

/// Few enough that they meet, and with the bytes at the ends of what a byte can be.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0_u8), Just(0xff), 0_u8..4], 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let ranges = prop::collection::vec((key(), prop::option::of(key())), 0..2);
    let puts = prop::collection::vec((key(), prop::collection::vec(any::<u8>(), 0..40)), 0..20);
    let write = (0..PLACES.len(), ranges, prop::collection::vec(key(), 0..3), puts)
        .prop_map(|(place, ranges, deletes, puts)| Step::Write { place, ranges, deletes, puts });
    prop_oneof![
        12 => write,
        1 => (0..PLACES.len()).prop_map(Step::Remove),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

/// Neighbours in the order of keys, at its ends as well.
const PLACES: [(u64, u32); 4] = [(1, 0), (1, 1), (2, 0), (u64::MAX, u32::MAX)];

/// The state of every place.
type Model = [(Option<u64>, Groups); PLACES.len()];

fn stored(views: &ViewStates) -> Model {
    PLACES.map(|(view, partition)| {
        let place = place(view, partition);
        let row = views.row(place).unwrap();
        (row.map(|row| u64::from_le_bytes(row.try_into().unwrap())), groups(views, place))
    })
}

fn check_reads(views: &ViewStates, model: &Model) {
    assert_eq!(&stored(views), model);
    let mut places = vec![];
    for (&(view, partition), (row, groups)) in PLACES.iter().zip(model) {
        let place = place(view, partition);
        if row.is_some() || !groups.is_empty() {
            places.push(place);
        }
        let mut asked: Vec<&[u8]> = groups.keys().map(Vec::as_slice).collect();
        asked.push(&[7, 7, 7]);
        asked.reverse();
        let expected: Vec<_> = asked.iter().map(|key| groups.get(*key).cloned()).collect();
        assert_eq!(views.get(place, &asked).unwrap(), expected);
        let (start, end) = (vec![1], vec![3]);
        let mut found = vec![];
        let mut visit = |key: &[u8], _: &[u8]| {
            found.push(key.to_vec());
            if found.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        views.scan(place, &start, Some(&end), &mut visit).unwrap();
        let expected: Vec<_> =
            groups.range(start..end).map(|(key, _)| key.clone()).take(2).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(views.places().unwrap(), places);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, max_shrink_iters: 64, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_crash_leaves_the_first_checkpoints_whole(steps in prop::collection::vec(step(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), options()).unwrap();
        // The state after each write so far, and up to which one a flush has reached.
        let mut history: Vec<Model> = vec![Model::default()];
        let mut durable = 0;
        for step in steps {
            let mut model = history.last().unwrap().clone();
            match step {
                Step::Write { place: at, ranges, deletes, puts } => {
                    let (row, groups) = &mut model[at];
                    *row = Some(history.len() as u64);
                    groups.retain(|key, _| !ranges.iter().any(|(start, end)| {
                        start <= key && end.as_ref().is_none_or(|end| key < end)
                    }));
                    groups.retain(|key, _| !deletes.contains(key));
                    groups.extend(puts.iter().cloned());
                    let row = (history.len() as u64).to_le_bytes();
                    let checkpoint = ViewCheckpoint {
                        row: &row, delete_ranges: &ranges, deletes: &deletes, puts: &puts,
                        quarantined: &[],
                    };
                    store.views().write(place(PLACES[at].0, PLACES[at].1), checkpoint).unwrap();
                    history.push(model);
                }
                Step::Remove(at) => {
                    store.views().remove(ViewId(PLACES[at].0)).unwrap();
                    for (of, (view, _)) in model.iter_mut().zip(PLACES) {
                        if view == PLACES[at].0 {
                            *of = Default::default();
                        }
                    }
                    history.push(model);
                    durable = history.len() - 1;
                }
                Step::Flush => {
                    store.views().flush().unwrap();
                    durable = history.len() - 1;
                }
                Step::Reopen => {
                    store.close().unwrap();
                    drop(store);
                    store = Store::open(dir.path(), options()).unwrap();
                    durable = history.len() - 1;
                }
                Step::Crash => {
                    let said = PLACES.map(|(view, partition)| {
                        store.views().durable_row(place(view, partition)).unwrap()
                    });
                    let copy = tempfile::tempdir().unwrap();
                    copy_dir(dir.path(), copy.path());
                    drop(store);
                    dir = copy;
                    store = Store::open(dir.path(), options()).unwrap();
                    let found = stored(&store.views());
                    let survived = history.iter().rposition(|model| *model == found);
                    prop_assert!(survived.is_some(), "not the state after any write: {found:?}");
                    prop_assert!(Some(durable) <= survived, "{durable} <= {survived:?}");
                    for (said, (row, _)) in said.iter().zip(&found) {
                        let row = row.map(|row| row.to_le_bytes().to_vec());
                        prop_assert_eq!(said, &row, "what was said to be durable");
                    }
                    history.truncate(survived.unwrap() + 1);
                    durable = survived.unwrap();
                }
            }
            check_reads(&store.views(), history.last().unwrap());
        }
    }
}

/// Every look at it is a minute later.
#[derive(Default)]
struct FastClock(AtomicU64);

impl Clock for FastClock {
    fn now(&self) -> Time {
        Time(0)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(60 * self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn a_checkpoint_becomes_durable_after_a_minute() {
    let mut options = options();
    options.clock = Arc::new(FastClock::default());
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options).unwrap();
    let views = store.views();
    views.write(place(1, 0), ViewCheckpoint { row: b"one", ..Default::default() }).unwrap();
    // The flush is under way in a thread of the database.
    while views.durable_row(place(1, 0)).unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(views.durable_row(place(1, 0)).unwrap().unwrap(), b"one");
}

#[test]
fn the_newest_quarantined_events_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), options()).unwrap();
    let mut after = 0;
    let check = |views: &ViewStates, after: u64| {
        let rows = views.quarantine(ViewId(1), usize::MAX).unwrap();
        let (one, other): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.place == place(1, 0));
        let first = after.saturating_sub(10_000);
        let expected: Vec<_> = (first..after).map(event).collect();
        assert_eq!(one.into_iter().map(|row| row.event).collect::<Vec<_>>(), expected);
        assert_eq!(other.len(), 3, "the other partition is counted by itself");
        let limited = views.quarantine(ViewId(1), 4).unwrap();
        assert_eq!(limited.len(), 4, "at most so many");
    };
    let write = |views: &ViewStates, place, events: std::ops::Range<u64>| {
        let quarantined: Vec<_> = events.map(event).collect();
        let checkpoint =
            ViewCheckpoint { row: b"r", quarantined: &quarantined, ..Default::default() };
        views.write(place, checkpoint).unwrap();
    };
    write(&store.views(), place(1, 1), 0..3);
    for count in [1, 9_998, 1, 1, 500, 0, 12_000, 9_999, 3] {
        write(&store.views(), place(1, 0), after..after + count);
        after += count;
        check(&store.views(), after);
        if count == 500 {
            // What is counted in memory is counted again.
            store.close().unwrap();
            drop(store);
            store = Store::open(dir.path(), options()).unwrap();
        }
    }
    store.views().remove(ViewId(1)).unwrap();
    assert_eq!(store.views().quarantine(ViewId(1), usize::MAX).unwrap(), []);
    assert_eq!(store.views().places().unwrap(), []);
}

/// A view with some groups, durable and closed.
fn stored_groups(dir: &Path) {
    let store = Store::open(dir, options()).unwrap();
    for partition in [0, 1] {
        let puts: Vec<_> = (0_u32..500)
            .map(|n| (n.to_be_bytes().to_vec(), format!("value {n}").into_bytes()))
            .collect();
        let checkpoint = ViewCheckpoint { row: b"row", puts: &puts, ..Default::default() };
        store.views().write(place(5, partition), checkpoint).unwrap();
    }
    store.close().unwrap();
}

/// The stored key of a group of view 5 in partition 1.
fn stored_key(tag: u8, group: &[u8]) -> Vec<u8> {
    [&[tag][..], &5_u64.to_be_bytes(), &1_u32.to_be_bytes(), group].concat()
}

/// Changes a stored value as nobody but a fault would.
fn tamper(dir: &Path, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let database = rocksdb::DB::open_default(dir.join("state")).unwrap();
    let mut value = database.get(key).unwrap().expect("the key is documented");
    change(&mut value);
    database.put(key, value).unwrap();
    database.flush().unwrap();
}

fn damage(error: &StoreError) -> (ViewPlace, Vec<u8>) {
    assert!(error.is_damage(), "{error}");
    match error {
        StoreError::CorruptView { place, key, .. } => (*place, key.clone()),
        other => panic!("{other}"),
    }
}

#[test]
fn one_flipped_byte_of_a_group_is_named() {
    let group = 123_u32.to_be_bytes();
    // The version, the value, the checksum.
    for at in [0, 3, 12] {
        let dir = tempfile::tempdir().unwrap();
        stored_groups(dir.path());
        tamper(dir.path(), &stored_key(b'g', &group), |value| value[at] ^= 0x04);
        let store = Store::open(dir.path(), options()).unwrap();
        let views = store.views();
        let error = views.get(place(5, 1), &[&[0, 0, 0, 1], &group]).unwrap_err();
        assert_eq!(damage(&error), (place(5, 1), group.to_vec()));
        let text = error.to_string();
        assert!(text.contains("of v5 in partition 1") && text.contains("0000007b"), "{text}");
        let mut seen = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            seen += 1;
            ControlFlow::Continue(())
        };
        let error = views.scan(place(5, 1), &[], None, &mut visit).unwrap_err();
        assert_eq!((damage(&error), seen), ((place(5, 1), group.to_vec()), 123));
        // What is beside it is not touched by it.
        assert_eq!(views.get(place(5, 0), &[&group]).unwrap()[0].as_deref().unwrap(), b"value 123");
        assert_eq!(groups(&views, place(5, 0)).len(), 500);
    }
}

#[test]
fn a_value_is_not_believed_under_another_key() {
    let dir = tempfile::tempdir().unwrap();
    stored_groups(dir.path());
    let mut other = Vec::new();
    tamper(dir.path(), &stored_key(b'g', &[0, 0, 0, 7]), |value| other.clone_from(value));
    tamper(dir.path(), &stored_key(b'g', &[0, 0, 0, 9]), |value| *value = other);
    let store = Store::open(dir.path(), options()).unwrap();
    let error = store.views().get(place(5, 1), &[&[0, 0, 0, 7], &[0, 0, 0, 9]]).unwrap_err();
    assert_eq!(damage(&error), (place(5, 1), vec![0, 0, 0, 9]));
}

#[test]
fn a_damaged_row_is_named() {
    let dir = tempfile::tempdir().unwrap();
    stored_groups(dir.path());
    tamper(dir.path(), &stored_key(b'v', &[]), |row| row[2] ^= 1);
    let store = Store::open(dir.path(), options()).unwrap();
    for read in [store.views().row(place(5, 1)), store.views().durable_row(place(5, 1))] {
        assert_eq!(damage(&read.unwrap_err()), (place(5, 1), vec![]));
    }
    assert_eq!(store.views().row(place(5, 0)).unwrap().unwrap(), b"row");
}

#[test]
fn damage_below_the_database_is_named_by_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    stored_groups(dir.path());
    let tables = std::fs::read_dir(dir.path().join("state")).unwrap();
    let tables = tables.map(|entry| entry.unwrap().path());
    for table in tables.filter(|path| path.extension().is_some_and(|end| end == "sst")) {
        let mut bytes = std::fs::read(&table).unwrap();
        // The first block holds the first groups.
        bytes[40] ^= 0x20;
        std::fs::write(&table, bytes).unwrap();
    }
    let store = Store::open(dir.path(), options()).unwrap();
    let error = store.views().get(place(5, 0), &[&[0, 0, 0, 3]]).unwrap_err();
    assert_eq!(damage(&error), (place(5, 0), vec![0, 0, 0, 3]));
    let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
    let error = store.views().scan(place(5, 0), &[], None, &mut visit).unwrap_err();
    assert_eq!(damage(&error).0, place(5, 0));
}
