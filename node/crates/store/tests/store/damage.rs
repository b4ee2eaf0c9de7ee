//! Damage is named, and nothing is served from it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use alluvium_store::{Store, StoreError};

use super::rig::{GROUP, Rig, options, schema};

/// Turns one byte of a file over.
fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn sealed(dir: &Path) -> std::path::PathBuf {
    let mut rig = Rig::open(dir, options()).unwrap();
    rig.append(5_000);
    rig.cut().unwrap();
    rig.append(5);
    rig.files().remove(0)
}

fn load_error(dir: &Path) -> StoreError {
    let store = Store::open(dir, options()).unwrap();
    store.load(GROUP).unwrap_err()
}

#[test]
fn a_segment_with_other_ends_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = sealed(dir.path());
    let name = file.file_name().unwrap().to_str().unwrap();
    let length = file.metadata().unwrap().len();
    let whole = std::fs::read(&file).unwrap();
    // A byte of the footer, the magic, the length of the footer, a missing byte, an empty file.
    for at in [length - 30, length - 1, length - 7] {
        flip(&file, at);
        let error = load_error(dir.path());
        assert!(error.is_damage() && error.to_string().contains(name), "{at}: {error}");
        flip(&file, at);
    }
    for kept in [whole.len() - 1, 0] {
        std::fs::write(&file, &whole[..kept]).unwrap();
        let error = load_error(dir.path());
        assert!(error.is_damage() && error.to_string().contains(name), "{kept}: {error}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = load_error(dir.path());
    assert!(error.is_damage() && error.to_string().contains(name), "{error}");
    std::fs::write(&file, whole).unwrap();
    Rig::open(dir.path(), options()).unwrap().check();
}

#[test]
fn damage_inside_a_segment_is_found_after_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = sealed(dir.path());
    flip(&file, file.metadata().unwrap().len() / 3);
    let rig = Rig::open(dir.path(), options()).unwrap();
    rig.settle();
    let damage = rig.log.damage().expect("the whole file was read once");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(damage.contains(name), "{damage}");
    assert_eq!(rig.store.metrics().segments_damaged.get(), 1);
    assert!(rig.log.view().segments[0].verify().unwrap_err().is_damage());
}

#[test]
fn a_damaged_segment_is_not_merged() {
    let mut options = options();
    options.verify_after_open = false;
    let dir = tempfile::tempdir().unwrap();
    let file = sealed(dir.path());
    flip(&file, file.metadata().unwrap().len() / 3);
    let mut rig = Rig::open(dir.path(), options).unwrap();
    for _ in 0..3 {
        rig.append(10);
        rig.cut().unwrap();
    }
    rig.settle();
    assert!(rig.log.damage().is_some());
    assert_eq!(rig.log.view().segments.len(), 4);
}

#[test]
fn a_file_with_fewer_rows_is_an_error_not_fewer_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(100);
    rig.cut().unwrap();
    rig.append(50);
    rig.cut().unwrap();
    rig.settle();
    let view = rig.log.view();
    let [long, short] = &view.segments[..] else { panic!("{view:?}") };
    std::fs::copy(&short.path, &long.path).unwrap();
    let read: Result<Vec<_>, StoreError> = long.read(&schema()).unwrap().collect();
    assert!(read.unwrap_err().is_damage());
}

#[test]
fn a_torn_last_write_is_dropped_and_damage_before_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..20 {
        rig.append(100);
    }
    let copy = dir.path().join("copy");
    super::rig::copy_dir(&dir.path().join("raft"), &copy.join("raft"));
    super::rig::copy_dir(&dir.path().join("state"), &copy.join("state"));
    drop(rig);
    let wal = newest_log_file(&copy.join("raft"));
    let length = wal.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&wal).unwrap().set_len(length - 100).unwrap();
    let rig = Rig::open(&copy, options()).unwrap();
    rig.check();
    assert_eq!(rig.replica.machine().end.0, 1_900, "the torn append is the only one missing");
    drop(rig);

    let other = dir.path().join("other");
    super::rig::copy_dir(&copy.join("state"), &other.join("state"));
    let mut rig = Rig::open(&other, options()).unwrap();
    for _ in 0..20 {
        rig.append(100);
    }
    let damaged = dir.path().join("damaged");
    super::rig::copy_dir(&other.join("raft"), &damaged.join("raft"));
    drop(rig);
    let wal = newest_log_file(&damaged.join("raft"));
    flip(&wal, wal.metadata().unwrap().len() / 2);
    let opened = Store::open(&damaged, options());
    assert!(opened.is_err(), "damage in the middle is not a torn end");
}

fn newest_log_file(raft: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(raft).unwrap().map(|entry| entry.unwrap().path());
    let log = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "log");
    files.filter(log).max().unwrap()
}

#[test]
fn a_cut_that_fails_keeps_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(100);
    // A file where the folder of the segments should be: creating anything below fails.
    let folder = dir.path().join("segments").join(GROUP.0.to_string());
    std::fs::write(&folder, b"in the way").unwrap();
    assert!(rig.cut().is_err());
    assert_eq!(rig.store.metrics().cuts_failed.get(), 1);
    assert_eq!(rig.log.view().sealed_end.0, 0);
    rig.append(1);
    std::fs::remove_file(&folder).unwrap();
    rig.cut().unwrap();
    rig.check();
    assert_eq!(rig.log.view().sealed_end.0, 101);
}

#[test]
fn a_full_disk_is_said_before_it_is_full() {
    let mut options = options();
    options.reserve_bytes = Some(u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options).unwrap();
    assert!(!rig.store.has_room());
    // What is there already can still be sealed: that is what frees the log.
    rig.append(10);
    rig.cut().unwrap();
    rig.check();
}
