//! A staged snapshot takes the place of what a node has, with merges, cuts and crashes in between.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use alluvium_core::ids::{Index, Offset, ViewId};
use alluvium_store::{EventReader, SealStep, StoreError};
use proptest::prelude::*;

use super::rig::{GROUP, Rig, check_log, copy_dir, options, schema, segment_files};
use super::snapshots::{Follower, end_of, fetch, incoming, install, leader};

#[test]
fn segments_that_are_here_stay_as_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[500, 400, 300]);
    let dir = scratch.path().join("follower");
    copy_dir(rig.store.dir(), &dir);
    rig.append(200);
    rig.cut().unwrap();
    let snapshot = rig.store.snapshot(GROUP).unwrap();

    let mut behind = Rig::open(&dir, options()).unwrap();
    behind.settle();
    let before = behind.log.view();
    let ids: Vec<_> = before.segments.iter().map(|segment| segment.id).collect();
    let mut staging = behind.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    let [(missing, 0)] = &staging.missing()[..] else { panic!("{:?}", staging.missing()) };
    assert_eq!((missing.first.0, missing.end.0), (1_200, 1_400));
    // Meanwhile this node makes one segment of these three and a fourth of its own.
    behind.append(50);
    behind.cut().unwrap();
    behind.append(5);
    behind.settle();
    assert_eq!(behind.log.view().segments.len(), 1);
    let merged = behind.log.view();
    fetch(&mut staging, &snapshot, 10_000, usize::MAX);
    let staged = staging.finish().unwrap();
    install(&behind.store, &snapshot.checkpoint);
    // Between the write and the moment when readers see it, nobody touches the segments.
    let error = behind.cut().unwrap_err();
    assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
    assert!(matches!(behind.store.snapshot(GROUP), Err(StoreError::Replaced { .. })));
    behind.retain(1_255);
    behind.store.segment_writer().merge(&behind.log);
    behind.settle();
    assert_eq!(behind.log.view().segments.len(), 1);
    behind.log.install(&staged).unwrap();
    let after = behind.log.view();
    let kept: Vec<_> = after.segments[..3].iter().map(|segment| segment.id).collect();
    assert_eq!(kept, ids, "those that stay keep their ids");
    assert_eq!((after.end.0, after.sealed_end.0, after.tail.len()), (1_400, 1_400, 0));
    // Pinned views read on; then what only they had is gone.
    for view in [&before, &merged] {
        view.segments.iter().for_each(|segment| segment.verify().unwrap());
    }
    drop((before, merged, staged));
    assert_eq!(after.start.0, 1_255, "what retention took here stays gone");
    behind.settle();
    drop(after);
    behind.store.segment_writer().merge(&behind.log);
    behind.settle();
    check_log(&behind.store, &behind.log, Offset(1_400));
    drop(behind);
    let rig = Rig::open(&dir, options()).unwrap();
    rig.settle();
    rig.check();
    assert_eq!(rig.replica.machine().end.0, 1_400);
}

#[test]
fn a_cut_under_way_gives_way_to_an_installed_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[300]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let dir = scratch.path().join("follower");
    let (paused, is_paused) = mpsc::channel();
    let (resume, resumed) = mpsc::channel::<()>();
    let resumed = Mutex::new(resumed);
    let mut options = options();
    options.on_step = Some(Arc::new(move |step| {
        if step == SealStep::CheckpointWritten {
            paused.send(()).unwrap();
            resumed.lock().unwrap().recv().unwrap();
        }
    }));
    let mut behind = Rig::open(&dir, options).unwrap();
    behind.append(100);
    let staged = {
        let mut staging = behind.store.stage(GROUP, snapshot.offer.clone()).unwrap();
        fetch(&mut staging, &snapshot, 10_000, usize::MAX);
        staging.finish().unwrap()
    };
    let (store, log) = (behind.store.clone(), Arc::clone(&behind.log));
    std::thread::scope(|scope| {
        let cut = scope.spawn(move || (behind.cut(), behind));
        is_paused.recv().unwrap();
        install(&store, &snapshot.checkpoint);
        log.install(&staged).unwrap();
        resume.send(()).unwrap();
        let (result, behind) = cut.join().unwrap();
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
        drop(behind);
    });
    check_log(&store, &log, Offset(300));
    drop((store, log));
    let rig = Rig::open(&dir, super::rig::options()).unwrap();
    rig.check();
    assert_eq!(rig.replica.machine().end.0, 300);
}

#[test]
fn a_replica_may_begin_where_retention_has_come_to() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[100, 100, 100]);
    rig.retain(150);
    rig.settle();
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options());
    follower.log.hold(ViewId(1), Offset(0));
    follower.log.hold(ViewId(2), Offset(250));
    follower.install(&rig.store.snapshot(GROUP).unwrap());
    let view = follower.log.view();
    assert_eq!((view.start.0, view.segments[0].first.0, view.end.0), (150, 100, 300));
    let reader = |next| {
        let columns = Arc::new(schema().project(&[0]).unwrap());
        EventReader::new(Arc::clone(&follower.log), columns, Offset(next)).unwrap()
    };
    match reader(0).next(10).unwrap_err() {
        StoreError::Gone { start, .. } => assert_eq!(start.0, 150),
        other => panic!("{other}"),
    }
    assert_eq!(reader(250).next(1_000).unwrap().unwrap().rows.num_rows(), 50);
    drop(view);
    // Nothing is left of it at all, and the follower jumps there too.
    rig.retain(300);
    rig.settle();
    rig.append(1);
    follower.install(&rig.store.snapshot(GROUP).unwrap());
    assert_eq!((follower.log.view().start.0, follower.log.view().segments.len()), (300, 0));
    drop(follower);
    let mut rig = Rig::open(&dir, options()).unwrap();
    rig.append(10);
    rig.cut().unwrap();
    rig.check();
    assert_eq!(rig.log.view().segments[0].first.0, 300);
}

#[test]
fn a_damaged_segment_is_fetched_again() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[2_000, 2_000]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let dir = scratch.path().join("follower");
    copy_dir(rig.store.dir(), &dir);
    let mut options = options();
    options.verify_after_open = false;
    let follower = Follower::open(&dir, options);
    let path = segment_files(&follower.store).remove(1);
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 900).unwrap();
    file.write_all_at(&[byte[0] ^ 8], 900).unwrap();
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert_eq!(staging.missing(), [(snapshot.offer.segments[1].clone(), 0)]);
    drop(staging);
    // Once the partition is known to be damaged, nothing of it is trusted.
    assert!(follower.log.verify(&follower.log.view()).is_err());
    let staging = follower.store.stage(GROUP, snapshot.offer.clone()).unwrap();
    assert_eq!(staging.missing().len(), 2);
    drop(staging);
    follower.install(&snapshot);
    assert_eq!(follower.log.damage(), None);
}

#[test]
fn two_snapshots_in_a_row_end_with_the_second() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[200]);
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options());
    let first = rig.store.snapshot(GROUP).unwrap();
    let staged_first = follower.take_in(&first);
    install(&follower.store, &first.checkpoint);
    rig.append(70);
    rig.cut().unwrap();
    let second = rig.store.snapshot(GROUP).unwrap();
    let staged_second = follower.take_in(&second);
    install(&follower.store, &second.checkpoint);
    follower.log.install(&staged_first).unwrap();
    assert_eq!(follower.log.view().end.0, 200);
    assert!(matches!(follower.store.snapshot(GROUP), Err(StoreError::Replaced { .. })));
    follower.log.install(&staged_second).unwrap();
    drop((staged_first, staged_second));
    check_log(&follower.store, &follower.log, Offset(270));
    drop(follower);
    Rig::open(&dir, options()).unwrap().check();
}

#[test]
fn a_file_that_the_second_snapshot_names_again_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let [path, other_path, dir] =
        ["leader", "other", "follower"].map(|name| scratch.path().join(name));
    let mut rig = leader(&path, &[200, 100, 100, 100]);
    copy_dir(&path, &other_path);
    copy_dir(&path, &dir);
    // The other node has merged what this one and the follower have in four files.
    let other = Rig::open(&other_path, options()).unwrap();
    other.settle();
    let first = other.store.snapshot(GROUP).unwrap();
    assert_eq!(first.offer.segments.len(), 1);
    rig.append(10);
    rig.cut().unwrap();
    let second = rig.store.snapshot(GROUP).unwrap();
    assert_eq!(second.offer.segments.len(), 5);

    let mut unmerged = options();
    unmerged.merge = false;
    let follower = Follower::open(&dir, unmerged.clone());
    let staged_first = follower.take_in(&first);
    install(&follower.store, &first.checkpoint);
    let staging = follower.store.stage(GROUP, second.offer.clone()).unwrap();
    assert_eq!(staging.missing().len(), 1, "four are in the former view");
    drop(staging);
    let staged_second = follower.take_in(&second);
    install(&follower.store, &second.checkpoint);
    follower.log.install(&staged_first).unwrap();
    assert_eq!(follower.log.view().segments.len(), 1);
    follower.log.install(&staged_second).unwrap();
    drop((staged_first, staged_second));
    check_log(&follower.store, &follower.log, Offset(510));
    drop(follower);
    let rig = Rig::open(&dir, unmerged).unwrap();
    assert_eq!(rig.replica.machine().end.0, 510);
    rig.check();
}

#[test]
fn one_snapshot_may_be_whole_while_another_is_on_its_way_to_the_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let mut rig = leader(&scratch.path().join("leader"), &[200]);
    let dir = scratch.path().join("follower");
    let mut behind = Rig::open(&dir, options()).unwrap();
    let mut taken = Vec::new();
    for _ in 0..3 {
        rig.append(70);
        rig.cut().unwrap();
        let snapshot = rig.store.snapshot(GROUP).unwrap();
        let mut staging = behind.store.stage(GROUP, snapshot.offer.clone()).unwrap();
        assert!(fetch(&mut staging, &snapshot, 10_000, usize::MAX));
        let staged = staging.finish().unwrap();
        behind.store.prepare(&staged, &snapshot.checkpoint).unwrap();
        taken.push((staged, snapshot));
    }
    // What this node cuts and clears meanwhile leaves alone what is prepared.
    behind.append(30);
    behind.cut().unwrap();
    behind.settle();
    for (staged, snapshot) in &taken[1..] {
        install(&behind.store, &snapshot.checkpoint);
        behind.log.install(staged).unwrap();
    }
    assert!(!taken[0].0.is_installed() && taken[1].0.is_installed());
    drop(taken);
    check_log(&behind.store, &behind.log, Offset(410));
    drop(behind);
    let rig = Rig::open(&dir, options()).unwrap();
    assert_eq!(rig.replica.machine().end.0, 410);
    rig.settle();
    rig.check();
}

#[test]
fn a_checkpoint_without_its_segments_is_a_broken_promise() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = leader(&scratch.path().join("leader"), &[200]);
    let snapshot = rig.store.snapshot(GROUP).unwrap();
    let (sender, gave_up) = mpsc::channel();
    let mut options = options();
    options.on_fatal = Arc::new(move |reason| sender.send(reason.to_owned()).unwrap());
    let dir = scratch.path().join("follower");
    let follower = Follower::open(&dir, options);
    let staged = follower.take_in(&snapshot);
    let mut other = snapshot.checkpoint.clone();
    other.position.index = Index(other.position.index.0 + 1);
    let store = follower.store.clone();
    let installing = std::thread::spawn(move || install(&store, &other));
    let reason = gave_up.recv().unwrap();
    assert!(reason.contains("nothing is staged"), "{reason}");
    assert!(installing.join().is_err(), "nobody was told that it is durable");
    assert!(!staged.is_installed());
    drop((staged, follower));
    let rig = Rig::open(&dir, super::rig::options()).unwrap();
    assert_eq!(rig.replica.machine().end.0, 0, "nothing was written");
    rig.check();
}

#[test]
fn a_crash_leaves_the_former_state_or_the_new_one() {
    for step in [SealStep::StagedChecked, SealStep::StagedNamed, SealStep::Installed] {
        let scratch = tempfile::tempdir().unwrap();
        let mut rig = leader(&scratch.path().join("leader"), &[500, 400]);
        let (live, copy) = (scratch.path().join("live"), scratch.path().join("copy"));
        copy_dir(rig.store.dir(), &live);
        rig.append(300);
        rig.cut().unwrap();
        let snapshot = rig.store.snapshot(GROUP).unwrap();
        let armed = Arc::new(Mutex::new(false));
        let mut stepped = options();
        stepped.merge = false;
        stepped.on_step = Some({
            let (armed, live, copy) = (Arc::clone(&armed), live.clone(), copy.clone());
            Arc::new(move |reached| {
                if reached == step && std::mem::take(&mut *armed.lock().unwrap()) {
                    copy_dir(&live, &copy);
                }
            })
        });
        // It has come its own way since: a tail that the leader has too, and a segment of its own.
        let mut behind = Rig::open(&live, stepped).unwrap();
        behind.append(20);
        behind.cut().unwrap();
        behind.append(6);
        behind.settle();
        let Rig { store, log, .. } = behind;
        let follower = Follower { store, log };
        *armed.lock().unwrap() = true;
        follower.install(&snapshot);
        assert!(!*armed.lock().unwrap(), "{step:?} was not reached");
        drop(follower);

        let mut options = options();
        options.merge = false;
        let named: BTreeSet<_> = names(&copy.join("segments").join(GROUP.0.to_string()));
        let mut crashed = Rig::open(&copy, options.clone()).unwrap();
        let expected = if step == SealStep::Installed { 1_200 } else { 926 };
        assert_eq!(crashed.replica.machine().end.0, expected, "{step:?}");
        if step == SealStep::StagedChecked {
            // What was fetched is still there.
            let staging = crashed.store.stage(GROUP, snapshot.offer.clone()).unwrap();
            assert_eq!(staging.missing(), []);
            drop(staging.finish().unwrap());
            crashed.store.unstage(GROUP);
        }
        crashed.check();
        crashed.append(10);
        crashed.cut().unwrap();
        let newest = crashed.files().pop().unwrap();
        assert!(!named.contains(newest.file_name().unwrap()), "{step:?}: an id was used again");
        crashed.check();
        drop(crashed);
        Rig::open(&copy, options).unwrap().check();
    }
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Cut,
    Settle,
    Retain(prop::sample::Index),
    /// Fetches so many pieces of so many bytes; installs when that was all.
    Fetch {
        pieces: usize,
        piece: usize,
    },
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let fetch = (prop_oneof![1_usize..10, Just(usize::MAX)], 1_000_usize..40_000)
        .prop_map(|(pieces, piece)| Step::Fetch { pieces, piece });
    prop_oneof![
        5 => prop_oneof![1_u64..5, 1_u64..300, Just(5_000_u64)].prop_map(Step::Append),
        5 => Just(Step::Cut),
        1 => Just(Step::Settle),
        1 => any::<prop::sample::Index>().prop_map(Step::Retain),
        4 => fetch,
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12, max_shrink_iters: 64, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_follower_has_what_its_leader_had(steps in prop::collection::vec(step(), 1..40)) {
        let scratch = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(&scratch.path().join("leader"), options()).unwrap();
        let mut dir = scratch.path().join("follower");
        let mut follower = Follower::open(&dir, options());
        let (mut end, mut installed, mut crashes) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Append(count) => {
                    rig.append(count);
                    end += count;
                }
                Step::Cut => drop(rig.cut().unwrap()),
                Step::Settle => rig.settle(),
                Step::Retain(at) => rig.retain(at.index(usize::try_from(end).unwrap() + 1) as u64),
                Step::Fetch { pieces, piece } => {
                    let Ok(snapshot) = rig.store.snapshot(GROUP) else { continue };
                    let position = snapshot.offer.position;
                    if position == follower.store.load(GROUP).unwrap().restored.truncated {
                        continue;
                    }
                    let offer = snapshot.offer.clone();
                    let mut staging = follower.store.stage(GROUP, offer).unwrap();
                    if !fetch(&mut staging, &snapshot, piece, pieces) {
                        continue;
                    }
                    let staged = staging.finish().unwrap();
                    install(&follower.store, &snapshot.checkpoint);
                    follower.log.install(&staged).unwrap();
                    installed = end_of(&snapshot.checkpoint).0;
                    prop_assert!(snapshot.offer.start <= follower.log.view().start);
                    // Whatever this node does with its files is its own matter.
                    follower.store.segment_writer().merge(&follower.log);
                }
                Step::Reopen => {
                    drop(follower);
                    follower = Follower::open(&dir, options());
                }
                Step::Crash => {
                    follower.store.segment_writer().wait();
                    crashes += 1;
                    let copy = scratch.path().join(format!("follower{crashes}"));
                    copy_dir(&dir, &copy);
                    drop(follower);
                    dir = copy;
                    follower = Follower::open(&dir, options());
                }
            }
            prop_assert_eq!(follower.log.view().end.0, installed);
        }
        follower.store.segment_writer().wait();
        follower.store.unstage(GROUP);
        // What was left half fetched lies beside the segments.
        let _ = std::fs::remove_dir_all(incoming(&follower.store));
        check_log(&follower.store, &follower.log, Offset(installed));
    }
}
