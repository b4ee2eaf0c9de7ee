//! What a restart gives back, and to whom.

use std::sync::{Arc, Mutex, mpsc};

use alluvium_core::ids::{GroupId, Index, NodeId, Term};
use alluvium_core::replica::{
    Checkpoint, Effects, EntryKind, HardState, Input, LogEntry, LogPosition, Machine, Members,
    Replica, ReplicaConfig, Writes,
};
use alluvium_store::{Identity, Store, StoreError, SubmitError, WriteTask};
use bytes::Bytes;

use super::rig::{Counting, GROUP, NODE, Rig, options, write};

#[test]
fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for count in [1, 5_000, 17, 300, 1] {
        rig.append(count);
    }
    rig.check();
    let status = rig.replica.status();
    drop(rig);
    let rig = Rig::open(dir.path(), options()).unwrap();
    rig.check();
    assert_eq!(rig.replica.machine().end.0, 5_319);
    assert!(status.term < rig.replica.status().term, "it was elected again");
}

#[test]
fn a_restart_after_a_cut_replays_only_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(1_000);
    let through = rig.cut().unwrap();
    rig.append(10);
    rig.check();
    drop(rig);
    let store = Store::open(dir.path(), options()).unwrap();
    let stored = store.load(GROUP).unwrap();
    assert_eq!(stored.restored.truncated.index, through);
    assert_eq!(stored.restored.members, Members::of_voters([NODE]));
    assert_eq!(stored.restored.entries.len(), 1);
    assert_eq!(Counting::restore(&stored.checkpoint.unwrap()).unwrap().end.0, 1_000);
    drop((stored.segments, store));
    Rig::open(dir.path(), options()).unwrap().check();
}

#[test]
fn one_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let error = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { pid: Some(_), .. }), "{error}");
    drop(store);
    Store::open(dir.path(), options()).unwrap();
}

#[test]
fn the_identity_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.identity().unwrap(), None);
    let identity = Identity { cluster_id: 5, node_id: NodeId(1), name: "one".into() };
    store.set_identity(&identity).unwrap();
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.identity().unwrap(), Some(identity));
}

#[test]
fn a_group_without_events_keeps_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    let checkpoint = rig.replica.checkpoint();
    let (sender, truncated) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    rig.store.segment_writer().checkpoint_only(GROUP, checkpoint.clone(), done).unwrap();
    assert_eq!(truncated.recv().unwrap().unwrap(), checkpoint.position.index);
    rig.step(Input::Truncate { through: checkpoint.position.index });
    drop(rig);
    let store = Store::open(dir.path(), options()).unwrap();
    let stored = store.load(GROUP).unwrap();
    assert_eq!(stored.restored.truncated, checkpoint.position);
    assert_eq!(stored.checkpoint, Some(checkpoint.state));
}

#[test]
fn a_removed_group_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(100);
    rig.cut().unwrap();
    rig.append(3);
    let pinned = rig.log.view();
    rig.store.remove_group(GROUP).unwrap();
    assert_eq!(rig.store.groups().unwrap(), []);
    assert!(matches!(rig.store.load(GROUP), Err(StoreError::UnknownGroup { .. })));
    assert!(matches!(rig.cut(), Err(StoreError::Removed { .. })));
    assert!(pinned.segments[0].path.exists(), "a reader still has it");
    let path = pinned.segments[0].path.clone();
    drop(pinned);
    assert!(!path.exists());
    drop(rig);
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.groups().unwrap(), []);
}

#[test]
fn a_replica_that_comes_back_remembers_its_vote() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), options()).unwrap();
    store.create_group(GroupId(0), &Members::of_voters([NODE])).unwrap();
    let members = Members::of_voters([NODE, NodeId(2), NodeId(3)]);
    let state = HardState { term: Term(9), vote: Some(NodeId(3)), commit: Index(4) };
    write(&store, writes(Some(state), entries(1..=6, 9)));
    let left = HardState { commit: Index(0), ..state };
    assert_eq!(store.load(GroupId(0)).unwrap().restored.forgotten, LogPosition::default());
    for is_reopened in [false, true, false] {
        store.remove_group(GroupId(0)).unwrap();
        assert_eq!(store.groups().unwrap(), []);
        assert!(matches!(store.load(GroupId(0)), Err(StoreError::UnknownGroup { .. })));
        if is_reopened {
            drop(store);
            store = Store::open(dir.path(), options()).unwrap();
            assert_eq!(store.groups().unwrap(), []);
        }
        store.create_group(GroupId(0), &members).unwrap();
        let stored = store.load(GroupId(0)).unwrap();
        assert_eq!(stored.restored.hard_state, left);
        assert_eq!(stored.restored.truncated, LogPosition::default());
        assert_eq!(stored.restored.entries, []);
        assert_eq!(stored.checkpoint, None);
        // It has forgotten the entries it agreed to, but not how far they went.
        let end = LogPosition { index: Index(6), term: Term(9) };
        assert_eq!(stored.restored.forgotten, end);
    }
    // A replica takes that as what it starts from.
    let restored = store.load(GroupId(0)).unwrap().restored;
    let config = ReplicaConfig::new(GroupId(0), NODE, 1);
    let replica = Replica::new(config, Counting::default(), restored).unwrap();
    assert_eq!(replica.status().term, Term(9));
    // Whatever it had before, the furthest end counts, as voters compare logs.
    let ends = [(5, 9, (6, 9)), (3, 10, (3, 10)), (9, 9, (3, 10)), (4, 10, (4, 10))];
    for (last, term, (index, of_term)) in ends {
        write_as_leader(&store, entries(1..=last, term));
        store.remove_group(GroupId(0)).unwrap();
        store.create_group(GroupId(0), &members).unwrap();
        let forgotten = store.load(GroupId(0)).unwrap().restored.forgotten;
        assert_eq!(forgotten, LogPosition { index: Index(index), term: Term(of_term) });
    }
}

/// Writes entries into a group of several voters.
fn write_as_leader(store: &Store, entries: Vec<LogEntry>) {
    // Whoever makes the proof needs a group it can lead alone.
    store.create_group(GroupId(99), &Members::of_voters([NODE])).unwrap();
    let restored = store.load(GroupId(99)).unwrap().restored;
    let config = ReplicaConfig::new(GroupId(0), NODE, 1);
    let mut replica = Replica::new(config, Counting::default(), restored).unwrap();
    let Effects { writes, held, .. } = replica.step(Input::Campaign);
    let (sender, durable) = mpsc::channel();
    let done = Box::new(move |_, _| sender.send(()).unwrap());
    let writes = Writes { hard_state: None, entries, ..writes.unwrap() };
    store.log_writer().submit(WriteTask { writes, held, done }).unwrap();
    durable.recv().unwrap();
}

fn entries(indices: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    let entry = |index| LogEntry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Normal,
        context: Bytes::from_static(b"why"),
        data: Bytes::from(vec![u8::try_from(index).unwrap(); 10 * usize::try_from(index).unwrap()]),
    };
    indices.map(entry).collect()
}

fn writes(hard_state: Option<HardState>, entries: Vec<LogEntry>) -> Writes {
    Writes { group: GroupId(0), step: 0, install: None, hard_state, entries, must_sync: true }
}

#[test]
fn entries_behind_a_conflict_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    store.create_group(GroupId(0), &Members::of_voters([NODE])).unwrap();
    let state = HardState { term: Term(9), vote: Some(NodeId(3)), commit: Index(2) };
    write(&store, writes(Some(state), entries(1..=9, 1)));
    write(&store, writes(None, entries(4..=5, 2)));
    drop(store);
    // The first write after a restart has to find out where the stored log ends.
    let store = Store::open(dir.path(), options()).unwrap();
    let stored = store.load(GroupId(0)).unwrap();
    let expected = [entries(1..=3, 1), entries(4..=5, 2)].concat();
    assert_eq!(stored.restored.entries, expected);
    write(&store, writes(None, entries(3..=3, 4)));
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    let stored = store.load(GroupId(0)).unwrap();
    assert_eq!(stored.restored.entries, [entries(1..=2, 1), entries(3..=3, 4)].concat());
    assert_eq!(stored.restored.hard_state, state);
}

#[test]
fn an_installed_checkpoint_replaces_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    store.create_group(GroupId(0), &Members::of_voters([NODE])).unwrap();
    let state = HardState { term: Term(9), vote: None, commit: Index(3) };
    write(&store, writes(Some(state), entries(1..=9, 1)));
    let checkpoint = Checkpoint {
        position: LogPosition { index: Index(20), term: Term(8) },
        members: Members::of_voters([NODE, NodeId(2), NodeId(3)]),
        state: Bytes::copy_from_slice(&7_u64.to_le_bytes()),
    };
    let install = Some(checkpoint.clone());
    write(&store, Writes { install, ..writes(None, entries(21..=22, 8)) });
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    let stored = store.load(GroupId(0)).unwrap();
    assert_eq!(stored.restored.truncated, checkpoint.position);
    assert_eq!(stored.restored.members, checkpoint.members);
    assert_eq!(stored.restored.hard_state, HardState { commit: Index(20), ..state });
    assert_eq!(stored.restored.entries, entries(21..=22, 8));
    assert_eq!(stored.checkpoint, Some(checkpoint.state));
}

#[test]
fn a_log_with_a_hole_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    store.create_groups(&[GroupId(0), GroupId(1)], &Members::of_voters([NODE])).unwrap();
    write(&store, writes(None, [entries(1..=2, 1), entries(4..=4, 1)].concat()));
    let error = store.load(GroupId(0)).unwrap_err();
    assert!(error.is_damage());
    assert_eq!(error.to_string(), "the log of g0 is damaged: entry i3 is missing, i4 follows");
    store.load(GroupId(1)).expect("the other group is whole");
}

#[test]
fn a_log_that_ends_before_its_commit_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    store.create_group(GroupId(0), &Members::of_voters([NODE])).unwrap();
    let state = HardState { term: Term(1), vote: None, commit: Index(3) };
    write(&store, writes(Some(state), entries(1..=2, 1)));
    let error = store.load(GroupId(0)).unwrap_err();
    assert_eq!(error.to_string(), "the log of g0 is damaged: it ends at i2, but i3 is committed");
}

#[test]
fn done_runs_in_the_order_of_submission() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let writer = store.log_writer();
    for number in 0..64 {
        let group = GroupId(number);
        store.create_group(group, &Members::of_voters([NODE])).unwrap();
        let restored = store.load(group).unwrap().restored;
        let config = ReplicaConfig::new(group, NODE, 1);
        let mut replica = Replica::new(config, Counting::default(), restored).unwrap();
        let effects = replica.step(Input::Campaign);
        let order = Arc::clone(&order);
        let done = Box::new(move |_, _| order.lock().unwrap().push(number));
        let task = WriteTask { writes: effects.writes.unwrap(), held: effects.held, done };
        writer.submit(task).unwrap();
    }
    store.close().unwrap();
    assert!(order.lock().unwrap().iter().copied().eq(0..64), "closing finishes what waits");
    let metrics = store.metrics();
    assert_eq!(metrics.queued_tasks.get(), 0);
    assert_eq!(metrics.queued_bytes.get(), 0);
    assert_eq!(metrics.batch_tasks.sum(), 64);
    // A closed store takes nothing more.
    let restored = store.load(GroupId(1)).unwrap().restored;
    let config = ReplicaConfig::new(GroupId(1), NODE, 1);
    let mut replica = Replica::new(config, Counting::default(), restored).unwrap();
    let effects = replica.step(Input::Campaign);
    let task = WriteTask {
        writes: effects.writes.unwrap(),
        held: effects.held,
        done: Box::new(|_, _| panic!("nothing was written")),
    };
    assert!(matches!(writer.submit(task), Err(SubmitError::Stopped)));
}
