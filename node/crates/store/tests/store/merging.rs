//! Many small segments become few; old ones go; readers keep what they hold.

use super::rig::{Rig, options};

#[test]
fn many_tiny_cuts_end_in_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..300 {
        rig.append(3);
        rig.cut().unwrap();
    }
    rig.settle();
    rig.check();
    let levels: Vec<u32> = rig.log.view().segments.iter().map(|segment| segment.level).collect();
    assert!(levels.len() <= 15, "levels {levels:?}");
    assert!(rig.store.metrics().merges.get() >= 5);
    drop(rig);
    let rig = Rig::open(dir.path(), options()).unwrap();
    rig.settle();
    rig.check();
}

#[test]
fn large_row_groups_are_taken_over_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..4 {
        rig.append(70_000);
        rig.cut().unwrap();
    }
    rig.settle();
    let view = rig.log.view();
    assert_eq!(view.segments.len(), 1, "{:?}", view.segments);
    assert_eq!(view.segments[0].level, 1);
    view.segments[0].verify().unwrap();
    drop(view);
    rig.check();
}

#[test]
fn a_reader_keeps_what_was_merged_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..3 {
        rig.append(10);
        rig.cut().unwrap();
    }
    rig.settle();
    let before = rig.log.view();
    rig.append(10);
    rig.cut().unwrap();
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 1);
    for segment in before.segments.iter() {
        segment.verify().unwrap();
    }
    assert_eq!(rig.files().len(), 4, "three inputs are pinned, the fourth is gone");
    drop(before);
    rig.check();
}

#[test]
fn retention_drops_whole_segments() {
    let mut options = options();
    options.merge = false;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options.clone()).unwrap();
    for _ in 0..5 {
        rig.append(100);
        rig.cut().unwrap();
    }
    rig.retain(250);
    let view = rig.log.view();
    assert_eq!(view.start.0, 250, "readers see the start at once");
    drop(view);
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 3);
    assert_eq!(rig.log.view().segments[0].first.0, 200);
    rig.check();
    // Nothing is left, and yet the log goes on where it was.
    rig.append(10);
    rig.retain(505);
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 0);
    drop(rig);
    let mut rig = Rig::open(dir.path(), options).unwrap();
    assert_eq!(rig.log.view().start.0, 500);
    rig.append(1);
    rig.cut().unwrap();
    rig.check();
    assert_eq!(rig.log.view().segments[0].first.0, 500);
}
