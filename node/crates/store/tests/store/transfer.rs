//! What a view keeps, from one node to another: all of one checkpoint or nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use alluvium_core::ids::{Offset, PartitionNumber, ViewId};
use alluvium_store::{
    QuarantineRow, QuarantinedEvent, Store, StoreError, ViewCheckpoint, ViewChunk, ViewPlace,
    ViewStates,
};
use proptest::prelude::*;

use super::rig::{copy_dir, options};

const PLACE: ViewPlace = ViewPlace { view: ViewId(7), partition: PartitionNumber(3) };

/// Neighbours in the order of keys, and the other partition of the view.
fn neighbours() -> [ViewPlace; 4] {
    let place =
        |view, partition| ViewPlace { view: ViewId(view), partition: PartitionNumber(partition) };
    [place(6, u32::MAX), place(7, 2), place(7, 4), place(8, 0)]
}

/// Everything that is kept in a place.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    row: Option<Vec<u8>>,
    groups: BTreeMap<Vec<u8>, Vec<u8>>,
    quarantined: Vec<QuarantineRow>,
}

fn kept(views: &ViewStates, place: ViewPlace) -> Kept {
    let mut groups = BTreeMap::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        groups.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    views.scan(place, &[], None, &mut visit).unwrap();
    let mut quarantined = views.quarantine(place.view, usize::MAX).unwrap();
    quarantined.retain(|row| row.place == place);
    Kept { row: views.row(place).unwrap(), groups, quarantined }
}

fn event(offset: u64) -> QuarantinedEvent {
    QuarantinedEvent { offset: Offset(offset), reason: "odd".into(), event: vec![1, 2, 3] }
}

fn fill(views: &ViewStates, place: ViewPlace, row: &[u8], puts: &[(Vec<u8>, Vec<u8>)]) {
    let quarantined = [event(4), event(9)];
    let checkpoint = ViewCheckpoint { row, puts, quarantined: &quarantined, ..Default::default() };
    views.write(place, checkpoint).unwrap();
}

fn numbered(count: u32, value_bytes: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |n: u32| vec![n.to_le_bytes()[0]; value_bytes];
    (0..count).map(|n| (n.to_be_bytes().to_vec(), value(n))).collect()
}

fn exported(views: &ViewStates, place: ViewPlace) -> Vec<ViewChunk> {
    let mut chunks = Vec::new();
    let mut visit = |chunk| {
        chunks.push(chunk);
        ControlFlow::Continue(())
    };
    assert!(views.export(place, &mut visit).unwrap());
    chunks
}

fn reason(error: &StoreError) -> &str {
    assert!(!error.is_damage(), "{error}");
    match error {
        StoreError::Import { place, reason } => {
            assert_eq!(*place, PLACE);
            reason
        }
        other => panic!("{other}"),
    }
}

fn some_groups(max: usize) -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    prop::collection::btree_map(bytes(4), bytes(9), 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16, max_shrink_iters: 64, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn what_comes_is_what_was_there(
        theirs in some_groups(60),
        ours in some_groups(60),
        later in some_groups(9),
        large in 0_usize..3,
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let giver = Store::open(from.path(), options()).unwrap();
        let taker = Store::open(to.path(), options()).unwrap();
        let mut theirs: Vec<_> = theirs.into_iter().collect();
        theirs.extend((0..large).map(|n| (vec![9; 5 + n], vec![8; 900 << 10])));
        fill(&giver.views(), PLACE, b"theirs", &theirs);
        fill(&taker.views(), PLACE, b"ours", &ours.into_iter().collect::<Vec<_>>());
        for place in neighbours() {
            for store in [&giver, &taker] {
                fill(&store.views(), place, b"neighbour", &numbered(3, 5));
            }
        }
        let expected = kept(&giver.views(), PLACE);
        let later: Vec<_> = later.into_iter().collect();
        let mut import = taker.views().import(PLACE).unwrap();
        prop_assert_eq!(taker.views().row(PLACE).unwrap(), None);
        let mut chunk_count = 0;
        let mut visit = |chunk: ViewChunk| {
            // The next checkpoint changes nothing of what is under way.
            let checkpoint = ViewCheckpoint {
                row: b"later", puts: &later, delete_ranges: &[(vec![], None)], ..Default::default()
            };
            giver.views().write(PLACE, checkpoint).unwrap();
            chunk_count += 1;
            import.write(chunk).unwrap();
            ControlFlow::Continue(())
        };
        prop_assert!(giver.views().export(PLACE, &mut visit).unwrap());
        prop_assert!(large <= chunk_count + 1 && chunk_count <= large + 1);
        import.finish().unwrap();
        prop_assert_eq!(&kept(&taker.views(), PLACE), &expected);
        prop_assert_eq!(taker.views().durable_row(PLACE).unwrap(), Some(b"theirs".to_vec()));
        for place in neighbours() {
            prop_assert_eq!(kept(&taker.views(), place).row, Some(b"neighbour".to_vec()));
            prop_assert_eq!(kept(&taker.views(), place).groups.len(), 3);
        }
        // The count of quarantined events is the one of what came.
        let quarantined = [event(11)];
        let checkpoint =
            ViewCheckpoint { row: b"next", quarantined: &quarantined, ..Default::default() };
        taker.views().write(PLACE, checkpoint).unwrap();
        prop_assert_eq!(kept(&taker.views(), PLACE).quarantined.len(), 3);
    }
}

#[test]
fn chunks_are_as_large_as_a_message_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    fill(&store.views(), PLACE, b"row", &numbered(5_000, 1_000));
    let chunks = exported(&store.views(), PLACE);
    let mut rows = 0;
    for chunk in &chunks {
        assert_eq!(chunk.preceding, rows);
        rows += chunk.rows.len() as u64;
        let bytes: usize = chunk.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes < 1 << 20, "{bytes}");
    }
    assert_eq!(rows, 5_000 + 2 + 1);
    assert_eq!(chunks.len(), 6);
}

#[test]
fn there_is_nothing_to_export_before_the_first_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let mut visit = |_| panic!("nothing is there");
    assert!(!store.views().export(PLACE, &mut visit).unwrap());
    fill(&store.views(), PLACE, b"row", &numbered(10, 10));
    let _import = store.views().import(PLACE).unwrap();
    assert!(!store.views().export(PLACE, &mut visit).unwrap(), "half of it is nothing");
    fill(&store.views(), neighbours()[0], b"row", &[]);
    let mut visit = |_| ControlFlow::Break(());
    assert!(!store.views().export(neighbours()[0], &mut visit).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let views = store.views();
    fill(&views, PLACE, b"row", &numbered(2_000, 1_000));
    fill(&views, neighbours()[1], b"row", &numbered(2_000, 1_000));
    let chunks = exported(&views, PLACE);
    let others = exported(&views, neighbours()[1]);
    let [first, second, third] = &chunks[..] else { panic!("{}", chunks.len()) };
    let refused = |given: &[&ViewChunk], expected: &str| {
        let mut import = views.import(PLACE).unwrap();
        let result = given.iter().try_for_each(|chunk| import.write((*chunk).clone()));
        let error = result.and_then(|()| import.finish()).unwrap_err();
        assert!(reason(&error).contains(expected), "{error}");
        assert_eq!(kept(&views, PLACE), Kept::default(), "nothing is left of it");
    };
    refused(&[second], "comes after 0");
    refused(&[first, third], "comes after");
    refused(&[first, first], "comes after");
    refused(&[first, second], "it ends after");
    refused(&[], "it ends after 0");
    refused(&[&others[0]], "not one");
    let with = |change: &dyn Fn(&mut ViewChunk)| {
        let mut changed = first.clone();
        change(&mut changed);
        changed
    };
    refused(&[&with(&|chunk| chunk.rows[17].1[5] ^= 1)], "checksum");
    refused(&[&with(&|chunk| chunk.rows[17].0[15] ^= 1)], "checksum");
    refused(&[&with(&|chunk| chunk.rows[17].0[0] = b'z')], "its key is another's");
    refused(&[&with(&|chunk| chunk.rows.swap(17, 18))], "not in order");
    let mut import = views.import(PLACE).unwrap();
    chunks.iter().for_each(|chunk| import.write(chunk.clone()).unwrap());
    import.finish().unwrap();
    assert_eq!(kept(&views, PLACE).groups.len(), 2_000);
}

#[test]
fn a_crash_leaves_nothing_of_half_an_import() {
    let scratch = tempfile::tempdir().unwrap();
    let giver = Store::open(&scratch.path().join("giver"), options()).unwrap();
    fill(&giver.views(), PLACE, b"theirs", &numbered(3_000, 1_000));
    let chunks = exported(&giver.views(), PLACE);
    for is_flushed in [false, true] {
        for taken in 0..=chunks.len() {
            let (dir, copy) = (scratch.path().join("taker"), scratch.path().join("copy"));
            let store = Store::open(&dir, options()).unwrap();
            let views = store.views();
            fill(&views, PLACE, b"ours", &numbered(10, 10));
            fill(&views, neighbours()[1], b"neighbour", &numbered(3, 5));
            views.flush().unwrap();
            let mut import = views.import(PLACE).unwrap();
            chunks[..taken].iter().for_each(|chunk| import.write(chunk.clone()).unwrap());
            if is_flushed {
                views.flush().unwrap();
            }
            copy_dir(&dir, &copy);
            let crashed = Store::open(&copy, options()).unwrap();
            let found = kept(&crashed.views(), PLACE);
            if is_flushed {
                assert_eq!(found, Kept::default(), "after {taken} chunks");
                assert_eq!(crashed.views().places().unwrap(), [neighbours()[1]]);
            } else {
                assert_eq!((found.row, found.groups.len()), (Some(b"ours".to_vec()), 10));
            }
            drop((import, views, store, crashed));
            for dir in [dir, copy] {
                std::fs::remove_dir_all(dir).unwrap();
            }
        }
    }
}
