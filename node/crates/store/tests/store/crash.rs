//! A crash between any two steps of sealing and merging: the directory is copied at that moment,
//! and the copy is opened as the next start would.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use alluvium_store::SealStep;

use super::rig::{Rig, copy_dir, options};

/// Runs sealing and merging with a copy of the directory made at `step`; gives the copy.
fn crash_at(step: SealStep) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (live, copy) = (root.path().join("live"), root.path().join("copy"));
    let armed = Arc::new(Mutex::new(false));
    let mut options = options();
    options.on_step = Some({
        let (armed, live, copy) = (Arc::clone(&armed), live.clone(), copy.clone());
        Arc::new(move |reached| {
            if reached == step && std::mem::take(&mut *armed.lock().unwrap()) {
                copy_dir(&live, &copy);
            }
        })
    });
    let mut rig = Rig::open(&live, options).unwrap();
    rig.append(500);
    rig.cut().unwrap();
    rig.append(40);
    rig.cut().unwrap();
    rig.append(7);
    rig.cut().unwrap();
    rig.settle();
    rig.append(60);
    rig.append(1);
    *armed.lock().unwrap() = true;
    // The fourth cut makes four neighbours, so a merge follows it.
    rig.cut().unwrap();
    rig.settle();
    assert!(!*armed.lock().unwrap(), "{step:?} was not reached");
    rig.check();
    (root, copy)
}

#[test]
fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    for step in [
        SealStep::FileWritten,
        SealStep::FileNamed,
        SealStep::CheckpointWritten,
        SealStep::ManifestWritten,
        SealStep::Published,
        SealStep::MergeNamed,
        SealStep::MergeManifestWritten,
    ] {
        let (_root, copy) = crash_at(step);
        let mut rig = Rig::open(&copy, options()).unwrap();
        rig.settle();
        assert_eq!(rig.replica.machine().end.0, 608, "{step:?}");
        rig.check();
        let sealed_before = rig.log.view().sealed_end;
        let sealed_durably = !matches!(
            step,
            SealStep::FileWritten | SealStep::FileNamed | SealStep::CheckpointWritten
        );
        assert_eq!(sealed_before.0 == 608, sealed_durably, "{step:?}");
        rig.append(5);
        rig.cut().unwrap();
        rig.settle();
        rig.check();
        drop(rig);
        let rig = Rig::open(&copy, options()).unwrap();
        rig.check();
        assert_eq!(rig.replica.machine().end.0, 613, "{step:?}");
    }
}
