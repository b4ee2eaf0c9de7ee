//! A snapshot from one node to another: what is given away and what is taken in.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_core::ids::{GroupId, Offset, PartitionNumber, SegmentId, Term};
use alluvium_core::replica::{Checkpoint, HardState, Machine, Members, Writes};
use alluvium_store::{
    GroupSnapshot, PartitionLog, SnapshotOffer, Staged, Staging, Store, StoreError, StoreOptions,
};

use super::rig::{
    Counting, GROUP, NODE, Rig, check_log, options, schema, segment_files, stream, write,
};

/// The node that is behind: store and log of the partition, and whoever steps its replica is us.
pub struct Follower {
    pub store: Store,
    pub log: Arc<PartitionLog>,
}

impl Follower {
    pub fn open(dir: &Path, options: StoreOptions) -> Follower {
        let store = Store::open(dir, options).unwrap();
        store.create_group(GROUP, &Members::of_voters([NODE])).unwrap();
        let segments = store.load(GROUP).unwrap().segments;
        let (stream, number) = (stream(), PartitionNumber(0));
        let log = PartitionLog::open(&store, GROUP, stream, number, schema(), segments).unwrap();
        Follower { store, log }
    }

    pub fn take_in(&self, snapshot: &GroupSnapshot) -> Staged {
        let mut staging = self.store.stage(GROUP, snapshot.offer.clone()).unwrap();
        fetch(&mut staging, snapshot, 64 << 10, usize::MAX);
        staging.finish().unwrap()
    }

    pub fn install(&self, snapshot: &GroupSnapshot) {
        let staged = self.take_in(snapshot);
        self.store.prepare(&staged, &snapshot.checkpoint).unwrap();
        install(&self.store, &snapshot.checkpoint);
        assert!(staged.is_installed());
        self.log.install(&staged).unwrap();
        check_log(&self.store, &self.log, end_of(&snapshot.checkpoint));
    }
}

/// Fetches what is missing, at most so many pieces of it; true when nothing is missing then.
pub fn fetch(staging: &mut Staging, from: &GroupSnapshot, piece: usize, pieces_max: usize) -> bool {
    let mut pieces = 0;
    for (segment, there) in staging.missing() {
        let file = from.open(segment.id).unwrap();
        let mut at = there;
        while at < segment.file_bytes {
            if pieces == pieces_max {
                return false;
            }
            pieces += 1;
            let mut bytes = vec![0; piece.min(usize::try_from(segment.file_bytes - at).unwrap())];
            file.read_exact_at(&mut bytes, at).unwrap();
            staging.write(segment.id, at, &bytes).unwrap();
            at += bytes.len() as u64;
        }
    }
    assert_eq!(staging.missing(), []);
    true
}

pub fn install(store: &Store, checkpoint: &Checkpoint) {
    let hard_state = HardState { term: Term(5), vote: None, commit: checkpoint.position.index };
    let (hard_state, install) = (Some(hard_state), Some(checkpoint.clone()));
    let entries = Vec::new();
    write(store, Writes { group: GROUP, step: 0, install, hard_state, entries, must_sync: true });
}

pub fn end_of(checkpoint: &Checkpoint) -> Offset {
    Counting::restore(&checkpoint.state).unwrap().end
}

/// A leader with these cuts, each of so many events, and no merges of its own accord.
pub fn leader(dir: &Path, cuts: &[u64]) -> Rig {
    let mut options = options();
    options.merge = false;
    let mut rig = Rig::open(dir, options).unwrap();
    for &count in cuts {
        rig.append(count);
        rig.cut().unwrap();
    }
    rig.settle();
    rig
}

/// The same node again, merging as it likes.
fn merged(rig: Rig) -> Rig {
    let dir = rig.store.dir().to_path_buf();
    drop(rig);
    let rig = Rig::open(&dir, options()).unwrap();
    rig.settle();
    rig
}

pub fn incoming(store: &Store) -> PathBuf {
    store.dir().join("segments").join(GROUP.0.to_string()).join("incoming")
}

fn reason(error: &StoreError) -> &str {
    match error {
        StoreError::Staging { group, reason } => {
            assert_eq!(*group, GROUP);
            assert!(!error.is_damage() && !error.is_full());
            reason
        }
        other => panic!("{other}"),
    }
}

#[test]
fn there_is_nothing_to_give_before_the_first_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(10);
    let error = rig.store.snapshot(GROUP).unwrap_err();
    assert!(matches!(error, StoreError::NothingToGive { group: GROUP }), "{error}");
    let error = rig.store.snapshot(GroupId(99)).unwrap_err();
    assert!(matches!(error, StoreError::UnknownGroup { .. }), "{error}");
}

#[test]
fn a_snapshot_is_of_one_moment_and_keeps_its_files() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(scratch.path(), options()).unwrap();
    for count in [100, 200, 300] {
        rig.append(count);
        rig.cut().unwrap();
    }
    rig.append(7);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    assert_eq!(end_of(&snapshot.checkpoint).0, 600);
    assert_eq!(snapshot.checkpoint.members, Members::of_voters([NODE]));
    let SnapshotOffer { position, start, sealed_end, segments } = &snapshot.offer;
    assert_eq!((*position, start.0, sealed_end.0), (snapshot.checkpoint.position, 0, 600));
    let ranges: Vec<_> = segments.iter().map(|of| (of.first.0, of.end.0)).collect();
    assert_eq!(ranges, [(0, 100), (100, 300), (300, 600)]);
    // What the snapshot names is merged away, and then expires.
    rig.cut().unwrap();
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 1);
    rig.append(1);
    rig.cut().unwrap();
    rig.retain(608);
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 0);
    for segment in segments {
        let mut bytes = Vec::new();
        snapshot.open(segment.id).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, segment.file_bytes);
        assert_eq!(crc32fast::hash(&bytes), segment.file_crc);
    }
    assert!(snapshot.open(SegmentId(999)).is_err());
    assert_eq!(rig.files().len(), 3);
    drop(snapshot);
    rig.check();
    // Everything is gone by retention, and yet there is something to give: where it ended.
    let offer = rig.store.snapshot(GROUP).unwrap().offer;
    assert_eq!((offer.start.0, offer.sealed_end.0, offer.segments), (608, 608, vec![]));
}

#[test]
fn a_new_replica_takes_everything_in() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[3_000, 20, 1]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options());
    let before = follower.log.view();
    follower.install(&snapshot);
    assert_eq!((before.end.0, before.segments.len()), (0, 0));
    let metrics = follower.store.metrics();
    assert_eq!(metrics.snapshot_bytes.get(), snapshot.offer.file_bytes());
    assert_eq!(metrics.snapshots_installed.get(), 1);
    let again = follower.store.snapshot(GROUP).unwrap();
    assert_eq!(again.checkpoint, snapshot.checkpoint, "it can give what it was given");
    drop((again, before, follower));
    let stored = Store::open(&dir, options()).unwrap().load(GROUP).unwrap();
    assert_eq!(stored.restored.truncated, snapshot.checkpoint.position);
    assert_eq!(stored.restored.entries, []);
    assert_eq!(stored.restored.hard_state.term, Term(5));
    assert_eq!(stored.checkpoint.as_ref(), Some(&snapshot.checkpoint.state));
    drop(stored);
    let mut rig = Rig::open(&dir, options()).unwrap();
    rig.check();
    rig.append(100);
    rig.cut().unwrap();
    rig.settle();
    rig.check();
    assert_eq!(rig.replica.machine().end.0, 3_121);
}

#[test]
fn fetching_goes_on_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[3_000, 3_000, 3_000, 3_000]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options());
    let mut staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    let length = usize::try_from(snapshot.offer.segments[0].file_bytes).unwrap();
    let piece = length / 3 + 1;
    assert!(!fetch(&mut staging, &snapshot, piece, 5), "one and a half files");
    let error = staging.finish().unwrap_err();
    assert!(reason(&error).contains("bytes of"), "{error}");
    drop(follower);

    let follower = Follower::open(&dir, options());
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    let missing: Vec<_> =
        staging.missing().iter().map(|(of, there)| (of.first.0, *there)).collect();
    assert_eq!(missing, [(3_000, 2 * piece as u64), (6_000, 0), (9_000, 0)]);
    drop(staging);
    // Nothing names them, but they can still serve; what cannot goes.
    std::fs::write(incoming(&follower.store).join("nonsense"), "x").unwrap();
    drop(follower);
    let follower = Follower::open(&dir, options());
    let parts = || std::fs::read_dir(incoming(&follower.store)).unwrap().count();
    assert_eq!(parts(), 2);

    // Meanwhile the leader has something else to offer, of which one file is the same.
    rig.append(10);
    rig.cut().unwrap();
    drop(snapshot);
    let mut snapshot = rig.store.snapshot(GROUP).unwrap();
    follower.install(&snapshot);
    assert!(!incoming(&follower.store).exists());
    assert!(follower.store.metrics().snapshot_bytes.get() < snapshot.offer.file_bytes());

    // Half a file of a snapshot that nobody offers any more goes when the next one begins.
    rig.append(5_000);
    rig.cut().unwrap();
    snapshot = rig.store.snapshot(GROUP).unwrap();
    let mut staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert!(!fetch(&mut staging, &snapshot, 100, 3));
    drop(staging);
    assert_eq!(parts(), 1);
    rig = merged(rig);
    snapshot = rig.store.snapshot(GROUP).unwrap();
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert_eq!(staging.missing().len(), 1, "{:?}", snapshot.offer);
    assert_eq!((staging.missing()[0].1, parts()), (0, 0));
    drop(staging);
    follower.install(&snapshot);
}

#[test]
fn what_was_not_offered_is_not_taken() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[1_000, 1_000]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options());
    let mut staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    let error = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap_err();
    assert!(reason(&error).contains("another snapshot"), "{error}");
    let [first, second] = &snapshot.offer.segments[..] else { panic!() };
    let mut bytes = Vec::new();
    snapshot.open(first.id).unwrap().read_to_end(&mut bytes).unwrap();

    staging.write(first.id, 0, &bytes[..500]).unwrap();
    for (at, expected) in [(0, "after byte 500"), (499, "after byte 500"), (501, "after byte 500")]
    {
        let error = staging.write(first.id, at, &bytes[..10]).unwrap_err();
        assert!(reason(&error).contains(expected), "{error}");
    }
    let error = staging.write(first.id, 500, &bytes).unwrap_err();
    assert!(reason(&error).contains("bytes, not"), "{error}");
    let error = staging.write(SegmentId(77), 0, &bytes).unwrap_err();
    assert!(reason(&error).contains("not missing"), "{error}");
    // None of that moved anything.
    assert_eq!(staging.missing()[0].1, 500);
    let wrong: Vec<u8> = bytes[500..].iter().map(|byte| byte ^ 1).collect();
    let error = staging.write(first.id, 500, &wrong).unwrap_err();
    assert!(reason(&error).contains("not what was offered"), "{error}");
    assert_eq!(staging.missing()[0].1, 0, "it has to be fetched again");
    // The content is right and the end is missing; then another file's content, as a crash of the
    // machine could leave it.
    staging.write(first.id, 0, &bytes).unwrap();
    let error = staging.write(first.id, bytes.len() as u64, b"x").unwrap_err();
    assert!(reason(&error).contains("not missing"), "{error}");
    let path = incoming(&follower.store);
    staging.write(second.id, 0, &bytes[..1]).unwrap();
    drop(staging);
    let mut parts: Vec<_> =
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    std::fs::write(&parts[1], vec![0; usize::try_from(second.file_bytes).unwrap()]).unwrap();
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert_eq!(staging.missing(), [], "by their lengths");
    let error = staging.finish().unwrap_err();
    assert!(reason(&error).contains("not what was offered"), "{error}");
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert_eq!(staging.missing(), [(second.clone(), 0)]);
    drop(staging);
    follower.install(&snapshot);
}

#[test]
fn an_offer_that_contradicts_itself_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[100, 100, 100]);
    let offer = rig.store.snapshot(GROUP).unwrap().offer;
    let follower = Follower::open(&scratch.path().join("follower"), options());
    let refused = |change: &dyn Fn(&mut SnapshotOffer), expected: &str| {
        let mut changed = offer.clone();
        change(&mut changed);
        let error = follower.store.stage(GROUP, changed).unwrap_err();
        assert!(reason(&error).contains(expected), "{error}");
    };
    refused(&|offer| drop(offer.segments.remove(1)), "does not follow");
    refused(&|offer| drop(offer.segments.remove(2)), "end at 200, not at 300");
    refused(&|offer| offer.segments.swap(0, 1), "start 0 is not in");
    refused(&|offer| offer.sealed_end = Offset(250), "does not follow");
    refused(&|offer| offer.start = Offset(301), "start 301 is not in");
    refused(&|offer| offer.segments.clear(), "start 0 is not in");
    refused(&|offer| offer.segments[1].file_crc ^= 1, "not what its row says");
    refused(&|offer| offer.segments[1].file_bytes += 1, "not what its row says");
    refused(&|offer| offer.segments[1].row = offer.segments[1].row.slice(1..), "the row of");
    let error = follower.store.stage(GroupId(99), offer.clone()).unwrap_err();
    assert!(matches!(error, StoreError::UnknownGroup { .. }), "{error}");
    assert_eq!(segment_files(&follower.store), Vec::<PathBuf>::new());
}

#[test]
fn what_is_staged_can_be_given_up_or_serve_the_next() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[200]);
    let follower = Follower::open(&scratch.path().join("follower"), options());
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let staged = follower.take_in(&snapshot);
    let error = follower.log.install(&staged).unwrap_err();
    assert!(error.to_string().contains("no checkpoint was installed"), "{error}");
    drop(staged);
    assert_eq!(segment_files(&follower.store).len(), 1, "the store remembers it");
    rig.append(100);
    rig.cut().unwrap();
    let next = rig.store.snapshot(GROUP).unwrap();
    let staging = follower.store.stage(GROUP, next.offer.clone()).unwrap();
    assert_eq!(staging.missing().len(), 1);
    drop(staging);
    drop(follower.take_in(&next));
    assert_eq!(segment_files(&follower.store).len(), 2);
    follower.store.unstage(GROUP);
    assert_eq!(segment_files(&follower.store), Vec::<PathBuf>::new());
    // A group that is removed takes with it what was on its way.
    drop(follower.take_in(&next));
    rig.append(100);
    rig.cut().unwrap();
    let third = rig.store.snapshot(GROUP).unwrap();
    assert!(
        reason(&follower.store.prepare(&follower.take_in(&next), &third.checkpoint).unwrap_err())
            .contains("is not staged")
    );
    let offer = third.offer.clone();
    let mut staging = follower.store.stage(GROUP, offer).unwrap();
    let missing = staging.missing().remove(0).0;
    staging.write(missing.id, 0, b"PAR1").unwrap();
    follower.store.remove_group(GROUP).unwrap();
    assert!(staging.write(missing.id, 4, b"more").is_ok() && staging.finish().is_err());
    assert_eq!(segment_files(&follower.store), Vec::<PathBuf>::new());
}
