//! Single cases that are easily read.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::ids::Offset;
use alluvium_core::view::OnError;

use super::case::{BAD, Event, Shape, batch};
use super::live::{ROOMY, START, Stored, answers, read};
use crate::fold::{
    Changes, CorruptState, Definition, FoldError, Keys, Limits, Merge, ViewState, WindowKind,
};

fn shape() -> Shape {
    Shape {
        by_name: true,
        by_id: false,
        window: None,
        filtered: false,
        max: [200, 200],
        retention: None,
        lateness: 0,
        on_error: OnError::Park,
    }
}

fn event(name: &'static str, value: i64, time: i64) -> Event {
    Event { name: Some(name), id: 0, value: Some(value), time: Some(time) }
}

fn open(definition: &Arc<Definition>, row: Option<&[u8]>) -> ViewState {
    ViewState::open(Arc::clone(definition), START, row, ROOMY).unwrap()
}

fn fold(state: &mut ViewState, stored: &Stored, events: &[Event]) {
    state.fold(state.progress().next, &batch(events), stored).unwrap();
}

/// The texts of what changed, by name, and how far that goes.
fn changed(
    state: &ViewState,
    stored: &Stored,
    since: Offset,
    max: usize,
) -> (BTreeMap<String, String>, Changes) {
    let mut merge = Merge::new(Arc::clone(state.definition())).unwrap();
    let changes = state.changed(since, max, stored, &mut merge).unwrap();
    let answers = answers(&merge.finish().unwrap()).into_iter();
    let texts = answers.map(|(name, start, _, [all, _])| {
        (format!("{}{}", name.unwrap(), start.map_or(String::new(), |at| at.to_string())), all)
    });
    (texts.collect(), changes)
}

#[test]
fn a_parked_view_has_folded_everything_before_what_stopped_it() {
    let definition = shape().definition();
    let stored = Stored::default();
    let mut state = open(&definition, None);
    let events = [event("a", 1, 5), event("b", 2, 6), event("a", BAD, 9), event("a", 3, 7)];
    let error = state.fold(START, &batch(&events), &stored).unwrap_err();
    let FoldError::Poisoned { offset, reason } = error else { panic!("{error}") };
    assert_eq!((offset, reason.as_str()), (Offset(102), "bad value"));
    let progress = state.progress();
    assert_eq!((progress.next, progress.counts.folded), (Offset(102), 2));
    assert_eq!(progress.watermark, Some(6), "an event that is not folded moves no time");
    assert_eq!(read(&state, &stored, &Keys::All).len(), 2);
    // It stops again at the same event.
    let again = state.fold(Offset(102), &batch(&events[2..]), &stored).unwrap_err();
    assert!(matches!(again, FoldError::Poisoned { offset: Offset(102), .. }));
}

#[test]
fn a_view_parks_before_an_event_that_a_group_has_no_room_for() {
    let definition = Shape { max: [3, 200], ..shape() }.definition();
    let stored = Stored::default();
    let mut state = open(&definition, None);
    let events: Vec<Event> =
        [1, 2, 3, 4].into_iter().flat_map(|v| [event("a", v, v), event("b", v, v)]).collect();
    let error = state.fold(START, &batch(&events), &stored).unwrap_err();
    assert!(matches!(error, FoldError::Poisoned { offset: Offset(106), .. }), "{error}");
    let answers = read(&state, &stored, &Keys::All);
    assert!(answers.iter().all(|(.., [all, _])| all == "1,2,3"), "{answers:?}");
}

#[test]
fn changes_come_by_offset_and_can_be_cut() {
    let definition = shape().definition();
    let mut stored = Stored::default();
    let mut state = open(&definition, None);
    fold(&mut state, &stored, &[event("a", 1, 1), event("b", 2, 2), event("a", 3, 3)]);
    let (texts, changes) = changed(&state, &stored, START, 1);
    assert_eq!(texts, BTreeMap::from([("b".into(), "2".into())]));
    assert_eq!(changes.next, Offset(102));
    let (texts, changes) = changed(&state, &stored, changes.next, 1);
    assert_eq!(texts, BTreeMap::from([("a".into(), "1,3".into())]));
    assert_eq!(changes.next, Offset(103));
    // After a restart they come from what is stored.
    stored.write(state.checkpoint(&stored).unwrap());
    let state = open(&definition, stored.row.as_deref());
    assert_eq!(changed(&state, &stored, Offset(102), 9).0.len(), 1);
    assert_eq!(changed(&state, &stored, START, 9).0.len(), 2);
    assert_eq!(changed(&state, &stored, Offset(103), 9).0.len(), 0);
}

#[test]
fn subscribers_learn_of_sessions_that_became_part_of_others() {
    let window = Some(WindowKind::Session { gap: 10 });
    let definition = Shape { window, ..shape() }.definition();
    let stored = Stored::default();
    let mut state = open(&definition, None);
    fold(&mut state, &stored, &[event("a", 1, 100), event("a", 2, 115)]);
    let (texts, changes) = changed(&state, &stored, START, 9);
    assert_eq!(texts.keys().collect::<Vec<_>>(), ["a100", "a115"]);
    assert!(changes.removed.is_empty());
    fold(&mut state, &stored, &[event("a", 3, 107)]);
    let (texts, changes) = changed(&state, &stored, changes.next, 9);
    assert_eq!(texts, BTreeMap::from([("a100".into(), "1,2,3".into())]));
    assert_eq!(changes.removed.len(), 1, "the session that began at 115");
    assert_eq!(changes.removed_from, START);
    assert_eq!(state.progress().groups, 1);
}

#[test]
fn windows_past_retention_go_as_one_range() {
    let window = Some(WindowKind::Tumble { size: 50 });
    let definition = Shape { window, retention: Some(100), ..shape() }.definition();
    let mut stored = Stored::default();
    let mut state = open(&definition, None);
    fold(&mut state, &stored, &[event("a", 1, 10), event("b", 2, 20), event("a", 3, 60)]);
    stored.write(state.checkpoint(&stored).unwrap());
    state.stored();
    assert_eq!(stored.groups.len(), 3);
    // The window up to 50 is gone when the watermark is at 150.
    fold(&mut state, &stored, &[event("a", 4, 150), event("a", 5, 49), event("a", 6, 50)]);
    let counts = state.progress().counts;
    assert_eq!((counts.folded, counts.expired), (5, 1));
    assert_eq!(read(&state, &stored, &Keys::All).len(), 2, "at once, not at the next checkpoint");
    let checkpoint = state.checkpoint(&stored).unwrap();
    assert_eq!(checkpoint.delete_ranges.len(), 1);
    stored.write(checkpoint);
    assert_eq!(stored.groups.len(), 2);
}

#[test]
fn memory_stays_bounded() {
    let definition = Shape { by_id: true, ..shape() }.definition();
    let limits = Limits { resident_bytes_max: 64 << 10 };
    let mut state = ViewState::open(definition, START, None, limits).unwrap();
    let mut stored = Stored::default();
    for round in 0..100_i64 {
        let id = |place| Event { id: round * 100 + place, ..event("a", 1, 1) };
        let events: Vec<Event> = (0..100).map(id).collect();
        fold(&mut state, &stored, &events);
        stored.write(state.checkpoint(&stored).unwrap());
        state.stored();
        assert!(state.progress().resident_bytes < 96 << 10, "round {round}");
    }
    assert_eq!(state.progress().groups, 10_000);
    assert_eq!(read(&state, &stored, &Keys::All).len(), 10_000);
}

#[test]
fn what_is_stored_in_another_form_is_not_read() {
    let definition = shape().definition();
    let stored = Stored::default();
    let row = open(&definition, None).checkpoint(&stored).unwrap().row;
    let other = Arc::new(Definition { fingerprint: 8, ..(*definition).clone() });
    let open = |definition: &Arc<Definition>, row: &[u8]| {
        ViewState::open(Arc::clone(definition), START, Some(row), ROOMY).unwrap_err()
    };
    assert_eq!(open(&other, &row), CorruptState::OtherForm { what: "definition" });
    let later = [&[9], &row[1..]].concat();
    assert_eq!(open(&definition, &later), CorruptState::OtherForm { what: "version of the row" });
    assert_eq!(open(&definition, &row[..9]), CorruptState::Malformed);
}

#[test]
fn a_damaged_group_breaks_the_state_until_it_is_opened_again() {
    let definition = shape().definition();
    let mut stored = Stored::default();
    let mut state = open(&definition, None);
    fold(&mut state, &stored, &[event("a", 1, 1)]);
    stored.write(state.checkpoint(&stored).unwrap());
    let whole = stored.clone();
    stored.groups.values_mut().for_each(|value| value.truncate(4));
    let mut state = open(&definition, stored.row.as_deref());
    let next = state.progress().next;
    let rows = batch(&[event("a", 2, 2)]);
    assert!(matches!(state.fold(next, &rows, &stored), Err(FoldError::Damaged { .. })));
    assert!(matches!(state.fold(next, &rows, &whole), Err(FoldError::Broken)));
    let mut state = open(&definition, whole.row.as_deref());
    fold(&mut state, &whole, &[event("a", 2, 2)]);
    assert_eq!(read(&state, &whole, &Keys::All)[0].3[0], "1,2");
}
