//! Reload, chunks, merge, keep, and bytes that are no states.

use proptest::prelude::*;

use arrow::array::{Array, ArrayRef, BooleanArray};

use super::{AggregateCall, States, array, calls, depends_on_order, encoded, merge_all, shown};

const SLOTS: u32 = 3;

/// A row: its slot, three values, and whether it counts.
type Row = (u32, [Option<i64>; 3], Option<bool>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = || proptest::option::weighted(0.85, -9..12_i64);
    let values = [value(), value(), value()];
    let keep = prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    proptest::collection::vec((0..SLOTS, values, keep), 0..40)
}

struct Columns {
    slots: Vec<u32>,
    arguments: Vec<ArrayRef>,
    keep: BooleanArray,
}

fn columns(call: &AggregateCall, rows: &[Row]) -> Columns {
    let argument = |place: usize| {
        let values: Vec<_> = rows.iter().map(|(_, values, _)| values[place]).collect();
        array(&call.arguments[place], &values)
    };
    Columns {
        slots: rows.iter().map(|(slot, _, _)| *slot).collect(),
        arguments: (0..call.arguments.len()).map(argument).collect(),
        keep: rows.iter().map(|(_, _, keep)| *keep).collect(),
    }
}

fn update(states: &mut dyn States, columns: &Columns, start: usize, end: usize) {
    let count = end - start;
    let cut: Vec<_> = columns.arguments.iter().map(|array| array.slice(start, count)).collect();
    let keep = columns.keep.slice(start, count);
    let slots = &columns.slots[start..end];
    assert!(states.has_room(slots, &cut, Some(&keep)) || states.bytes() < 1 << 20);
    states.update(slots, &cut, Some(&keep)).expect("there is room");
}

fn empty(call: &AggregateCall) -> Box<dyn States> {
    super::states(call, SLOTS as usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn states_are_the_same_whatever_the_cuts(rows in rows(), cuts in any::<[u16; 2]>()) {
        for call in calls() {
            let columns = columns(&call, &rows);
            let mut cuts = cuts.map(|cut| usize::from(cut) % (rows.len() + 1));
            cuts.sort_unstable();
            let mut whole = empty(&call);
            update(&mut *whole, &columns, 0, rows.len());
            let mut cut = empty(&call);
            let mut stored = empty(&call);
            for (start, end) in [(0, cuts[0]), (cuts[0], cuts[1]), (cuts[1], rows.len())] {
                update(&mut *cut, &columns, start, end);
                update(&mut *stored, &columns, start, end);
                let bytes = encoded(&*stored, SLOTS);
                stored = empty(&call);
                merge_all(&mut *stored, &bytes);
            }
            let expected = encoded(&*whole, SLOTS);
            prop_assert_eq!(&encoded(&*cut, SLOTS), &expected, "{:?} cut", call);
            prop_assert_eq!(&encoded(&*stored, SLOTS), &expected, "{:?} stored", call);
            let all = [0, 1, 2];
            let results = [&whole, &stored].map(|states| states.finish(&all).map(|a| shown(&a)));
            prop_assert_eq!(&results[0], &results[1], "{:?}", call);
            let values = whole.finish(&all).expect("small numbers have results");
            prop_assert_eq!(values.data_type(), &call.output_type);
        }
    }

    #[test]
    fn merges_go_in_any_order(rows in rows(), cut in any::<u16>()) {
        for call in calls().into_iter().filter(|call| !depends_on_order(call)) {
            let columns = columns(&call, &rows);
            let cut = usize::from(cut) % (rows.len() + 1);
            let (mut whole, mut before, mut after) = (empty(&call), empty(&call), empty(&call));
            update(&mut *whole, &columns, 0, rows.len());
            update(&mut *before, &columns, 0, cut);
            update(&mut *after, &columns, cut, rows.len());
            let (first, second) = (encoded(&*before, SLOTS), encoded(&*after, SLOTS));
            merge_all(&mut *before, &second);
            merge_all(&mut *after, &first);
            let expected = encoded(&*whole, SLOTS);
            prop_assert_eq!(&encoded(&*before, SLOTS), &expected, "{:?}", call);
            prop_assert_eq!(&encoded(&*after, SLOTS), &expected, "{:?}", call);
        }
    }

    #[test]
    fn absorbed_states_are_those_merged_from_bytes(rows in rows(), cut in any::<u16>()) {
        for call in calls() {
            let columns = columns(&call, &rows);
            let cut = usize::from(cut) % (rows.len() + 1);
            let (mut merged, mut absorbed, mut from) = (empty(&call), empty(&call), empty(&call));
            update(&mut *merged, &columns, 0, cut);
            update(&mut *absorbed, &columns, 0, cut);
            update(&mut *from, &columns, cut, rows.len());
            let bytes = encoded(&*from, SLOTS);
            merge_all(&mut *merged, &bytes);
            absorbed.absorb(&[0, 1, 2], &*from, &[0, 1, 2]).expect("there is room");
            let expected = encoded(&*merged, SLOTS);
            prop_assert_eq!(&encoded(&*absorbed, SLOTS), &expected, "{:?}", call);
            prop_assert_eq!(absorbed.bytes(), merged.bytes(), "{:?}", call);
            for bytes in &bytes {
                let mut rest = bytes.as_slice();
                from.skip(&mut rest).expect("it is a state");
                prop_assert!(rest.is_empty(), "{:?}", call);
            }
        }
    }

    #[test]
    fn kept_slots_stay_as_they_are(rows in rows()) {
        for call in calls() {
            let columns = columns(&call, &rows);
            let mut states = empty(&call);
            update(&mut *states, &columns, 0, rows.len());
            let before = encoded(&*states, SLOTS);
            states.keep(&[2, 0]);
            states.resize(3);
            let after = encoded(&*states, SLOTS);
            prop_assert_eq!(&after[..2], &[before[2].clone(), before[0].clone()]);
            prop_assert_eq!(&after[2], &encoded(&*empty(&call), 1)[0]);
        }
    }

    #[test]
    fn bytes_that_are_no_state_are_an_error(
        rows in rows(),
        place in any::<u16>(),
        flipped in 1..=255_u8,
    ) {
        for call in calls() {
            let columns = columns(&call, &rows);
            let mut states = empty(&call);
            update(&mut *states, &columns, 0, rows.len());
            let bytes = encoded(&*states, 1).remove(0);
            let place = usize::from(place) % bytes.len();
            let mut short = &bytes[..place];
            prop_assert!(empty(&call).merge(0, &mut short).is_err(), "{:?}", call);
            // Other bytes may be those of another state; then they are as good as any.
            let mut other = bytes.clone();
            other[place] ^= flipped;
            let mut damaged = empty(&call);
            if damaged.merge(0, &mut other.as_slice()).is_ok() {
                let _ = damaged.finish(&[0]);
                let _ = damaged.merge(0, &mut bytes.as_slice());
                encoded(&*damaged, 1);
            }
        }
    }
}
