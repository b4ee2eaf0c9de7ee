//! Groups picked by conditions on their columns: what a selection reads is what a plain read gives,
//! filtered row by row.

use std::cmp::Ordering;
use std::sync::Arc;

use alluvium_core::ids::Offset;
use alluvium_core::view::ViewOptions;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt32Array,
    make_comparator,
};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::live::{ROOMY, START, Stored};
use super::random::Random;
use crate::aggregate::{Aggregate, AggregateCall, Form};
use crate::fold::{
    AggregateColumn, Comparison, Condition, Definition, Evaluate, EvaluateError, GroupBy, Keys,
    Merge, Selection, ViewState, Window, WindowKind,
};

const SIZE: i64 = 60;

type Part = (ViewState, Stored);

/// A column as it is, or the start of the window that it is in.
#[derive(Debug)]
struct Column {
    place: usize,
    /// Of tumbling windows: where they lie, and how long they are.
    window: Option<(i64, i64)>,
}

impl Evaluate for Column {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let column = rows.column(self.place);
        let Some((phase, size)) = self.window else { return Ok(Arc::clone(column)) };
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let start = |time: i64| (time - phase).div_euclid(size) * size + phase;
        Ok(Arc::new(times.unary::<_, TimestampMicrosecondType>(start)))
    }
}

/// Values of each type, with those that are easily got wrong.
fn values(kind: usize, random: &mut Random, count: usize) -> ArrayRef {
    let null = |random: &mut Random| random.one_in(6);
    macro_rules! of {
        ($array:ty, $values:expr) => {{
            let all = $values;
            let one = |_| if null(random) { None } else { Some(random.pick(&all)) };
            Arc::new((0..count).map(one).collect::<$array>()) as ArrayRef
        }};
    }
    match kind {
        0 => of!(StringViewArray, ["", "a", "a\0", "a\0\u{1}", "ab", "b", "B", "ä", "z\u{ff}"]),
        1 => of!(Int64Array, [i64::MIN, -257, -256, -255, -1, 0, 1, 254, 255, 256, i64::MAX]),
        2 => {
            let all = [f64::NEG_INFINITY, -1.5, -1e-300, 0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
            of!(Float64Array, all)
        }
        3 => {
            let all = [-100_i128, -1, 0, 1, 99, 100, 12_345_678_901_234_567_890];
            let one = |_| if null(random) { None } else { Some(random.pick(&all)) };
            let values = (0..count).map(one).collect::<Decimal128Array>();
            Arc::new(values.with_precision_and_scale(38, 2).unwrap())
        }
        4 => of!(BooleanArray, [true, false]),
        5 => of!(Date32Array, [-1, 0, 1, 255, 256, 19_000]),
        6 => of!(BinaryViewArray, [b"".as_slice(), b"\0", b"\0\0", b"\xff", b"\xff\xff", b"a"]),
        _ => {
            let time = |_| (!null(random)).then(|| random.below(1_200).cast_signed() - 600);
            Arc::new((0..count).map(time).collect::<TimestampMicrosecondArray>())
        }
    }
}

const TIME: usize = 7;

fn definition(random: &mut Random, rows: &RecordBatch) -> Arc<Definition> {
    let mut places: Vec<usize> = (0..TIME).filter(|_| random.one_in(3)).collect();
    let window = match random.below(4) {
        0 => None,
        1 => Some(WindowKind::Hop { slide: 20, size: SIZE }),
        2 => Some(WindowKind::Session { gap: 30 }),
        _ => Some(WindowKind::Tumble { size: SIZE }),
    };
    let at = usize::try_from(random.below(places.len() as u64 + 1)).unwrap();
    if window.is_some() {
        places.insert(at, TIME);
    }
    let phase = random.pick(&[0, 0, 7]);
    let groups = places.iter().map(|&place| {
        let window = window.filter(|_| place == TIME).and_then(|kind| match kind {
            WindowKind::Tumble { size } => Some((phase, size)),
            WindowKind::Hop { slide, .. } => Some((0, slide)),
            WindowKind::Session { .. } => None,
        });
        GroupBy {
            name: format!("c{place}"),
            data_type: rows.column(place).data_type().clone(),
            nullable: true,
            expression: Arc::new(Column { place, window }),
        }
    });
    let count = |place: usize| AggregateColumn {
        name: format!("n{place}"),
        call: AggregateCall {
            aggregate: Aggregate::Count,
            distinct: false,
            arguments: vec![rows.column(place).data_type().clone()],
            input: Form::Values,
            output: Form::Values,
            output_type: DataType::Int64,
        },
        nullable: false,
        arguments: vec![Arc::new(Column { place, window: None })],
        filter: None,
    };
    Arc::new(Definition {
        input: rows.schema(),
        filter: None,
        groups: groups.collect(),
        aggregates: vec![count(0), count(1), count(2)],
        window: window.map(|kind| Window { group: at, kind }),
        event_time: Some(TIME),
        options: ViewOptions::default(),
        fingerprint: 7,
    })
}

fn condition(random: &mut Random, kind: usize, depth: u32) -> Condition {
    let mut value = || loop {
        let one = values(kind, random, 1);
        if one.is_valid(0) {
            return one;
        }
    };
    let value = value();
    match random.below(if depth == 0 { 7 } else { 9 }) {
        0 => Condition::Null(random.one_in(2)),
        1..=3 => Condition::Is(Comparison::Equal, value),
        4..=6 => {
            use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
            let all = [NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];
            Condition::Is(random.pick(&all), value)
        }
        number => {
            let all = (0..=random.below(3)).map(|_| condition(random, kind, depth - 1)).collect();
            if number == 7 { Condition::Any(all) } else { Condition::All(all) }
        }
    }
}

/// What SQL says of one value.
fn holds(condition: &Condition, column: &ArrayRef, row: usize) -> bool {
    match condition {
        Condition::Null(is_null) => column.is_null(row) == *is_null,
        Condition::Any(all) => all.iter().any(|one| holds(one, column, row)),
        Condition::All(all) => all.iter().all(|one| holds(one, column, row)),
        Condition::Is(..) if column.is_null(row) => false,
        Condition::Is(comparison, value) => {
            let compare = make_comparator(column, value, SortOptions::default()).unwrap();
            let found = compare(row, 0);
            match comparison {
                Comparison::Equal => found == Ordering::Equal,
                Comparison::NotEqual => found != Ordering::Equal,
                Comparison::Less => found == Ordering::Less,
                Comparison::LessOrEqual => found != Ordering::Greater,
                Comparison::Greater => found == Ordering::Greater,
                Comparison::GreaterOrEqual => found != Ordering::Less,
            }
        }
    }
}

/// The rows, as text, in order.
fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let mut shown = Vec::new();
    let options = FormatOptions::default().with_null("∅");
    for batch in batches {
        let columns = batch.columns().iter();
        let columns = columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap());
        let columns: Vec<_> = columns.collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|c| format!("{:?}", c.value(row).to_string()));
            shown.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    shown.sort();
    shown
}

/// Two partitions; no group is in both where they are to be disjoint.
fn parts(rows: &RecordBatch, disjoint: bool, random: &mut Random) -> [RecordBatch; 2] {
    let count = u32::try_from(rows.num_rows()).unwrap();
    let here: Vec<bool> = (0..count).map(|_| disjoint || random.one_in(2)).collect();
    [true, false].map(|side| {
        let picked: UInt32Array = (0..count).filter(|&row| here[row as usize] == side).collect();
        take_record_batch(rows, &picked).unwrap()
    })
}

/// A partition, some of its groups in memory and some stored.
fn folded(definition: &Arc<Definition>, rows: &RecordBatch, random: &mut Random) -> Part {
    let mut stored = Stored::default();
    let mut state = ViewState::open(Arc::clone(definition), START, None, ROOMY).unwrap();
    let half = rows.num_rows() / 2;
    state.fold(START, &rows.slice(0, half), &stored).unwrap();
    if random.one_in(2) {
        stored.write(state.checkpoint(&stored).unwrap());
        let row = stored.row.as_deref();
        state = ViewState::open(Arc::clone(definition), START, row, ROOMY).unwrap();
    }
    let rest = rows.slice(half, rows.num_rows() - half);
    state.fold(Offset(START.0 + half as u64), &rest, &stored).unwrap();
    (state, stored)
}

/// What of all rows passes the conditions, in these columns.
fn filtered(
    all: &[RecordBatch],
    conditions: &[(usize, Condition)],
    wanted: &[usize],
) -> Vec<RecordBatch> {
    let one = |batch: &RecordBatch| {
        let passes = |row: &u32| {
            let row = *row as usize;
            conditions.iter().all(|(group, one)| holds(one, batch.column(*group), row))
        };
        let count = u32::try_from(batch.num_rows()).unwrap();
        let picked: UInt32Array = (0..count).filter(passes).collect();
        take_record_batch(batch, &picked).unwrap().project(wanted).unwrap()
    };
    all.iter().map(one).collect()
}

fn run(seed: u64) {
    let random = &mut Random(seed);
    let count = usize::try_from(random.below(150)).unwrap();
    let columns: Vec<ArrayRef> = (0..=TIME).map(|kind| values(kind, random, count)).collect();
    let fields = (0..).zip(&columns);
    let fields = fields.map(|(n, c)| Field::new(format!("c{n}"), c.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(schema, columns).unwrap();
    let definition = definition(random, &rows);
    let disjoint = random.one_in(2);
    let states = parts(&rows, disjoint, random).map(|rows| folded(&definition, &rows, random));
    let merge = || match disjoint {
        true => Merge::disjoint(Arc::clone(&definition)).unwrap(),
        false => Merge::new(Arc::clone(&definition)).unwrap(),
    };
    let mut all = merge();
    for (state, stored) in &states {
        state.read(&Keys::All, stored, &mut all).unwrap();
    }
    let all = all.finish().unwrap();
    for _ in 0..6 {
        let mut conditions = Vec::new();
        for (place, group) in definition.groups.iter().enumerate() {
            let kind = group.name[1..].parse().unwrap();
            let count = random.pick(&[0, 1, 1, 2]);
            conditions.extend((0..count).map(|_| (place, condition(random, kind, 2))));
        }
        let width = definition.groups.len() + definition.aggregates.len();
        let wanted: Vec<usize> = (0..width).filter(|_| random.one_in(2)).collect();
        let selection = Selection::new(&definition, &conditions).unwrap();
        let selection = selection.with_columns(wanted.clone());
        let expected = shown(&filtered(&all, &conditions, &wanted));
        let mut selected = merge().selecting(&selection);
        let mut elsewhere = merge().selecting(&selection);
        for (state, stored) in &states {
            state.read(selection.keys(), stored, &mut selected).unwrap();
            // What another node sends is not picked there by more than its keys.
            let mut collected = Merge::new(Arc::clone(&definition)).unwrap();
            state.read(selection.keys(), stored, &mut collected).unwrap();
            elsewhere.take_in(selection.keys(), &collected.collected()).unwrap();
        }
        let what = format!("seed {seed}: {:?} {conditions:?} {wanted:?}", definition.window);
        assert_eq!(shown(&selected.finish().unwrap()), expected, "{what}");
        assert_eq!(shown(&elsewhere.finish().unwrap()), expected, "{what}, elsewhere");
    }
}

#[test]
fn selected_groups_are_those_that_a_filter_leaves() {
    let config = ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() };
    proptest!(config, |(seed in any::<u64>().no_shrink())| run(seed));
}

#[test]
fn a_range_of_windows_and_a_value_become_keys() {
    let rows = RecordBatch::try_new(
        Arc::new(Schema::new(vec![
            Field::new("c0", DataType::Utf8View, true),
            Field::new(
                "c1",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
                true,
            ),
        ])),
        vec![
            Arc::new(StringViewArray::from(vec!["a"])),
            Arc::new(TimestampMicrosecondArray::from(vec![5])),
        ],
    )
    .unwrap();
    let group = |place: usize, window| GroupBy {
        name: format!("c{place}"),
        data_type: rows.column(place).data_type().clone(),
        nullable: true,
        expression: Arc::new(Column { place, window }),
    };
    let definition = Arc::new(Definition {
        input: rows.schema(),
        filter: None,
        groups: vec![group(0, None), group(1, Some((7, SIZE)))],
        aggregates: Vec::new(),
        window: Some(Window { group: 1, kind: WindowKind::Tumble { size: SIZE } }),
        event_time: Some(1),
        options: ViewOptions::default(),
        fingerprint: 7,
    });
    let time = |time: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![time])) };
    let conditions = [
        (0, Condition::Is(Comparison::Equal, Arc::clone(rows.column(0)))),
        (1, Condition::Is(Comparison::GreaterOrEqual, time(-60))),
        (1, Condition::Is(Comparison::Less, time(127))),
    ];
    let selection = Selection::new(&definition, &conditions).unwrap();
    let key = |start: i64| definition.key_of(&[time(start), Arc::clone(rows.column(0))]).unwrap();
    assert_eq!(*selection.keys(), Keys::These(vec![key(-53), key(7), key(67)]));
}
