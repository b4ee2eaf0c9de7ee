//! Reading a partition's events in order, whatever is cut, merged and retained meanwhile.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use alluvium_core::ids::{Offset, ViewId};
use alluvium_store::{EventReader, StoreError};
use arrow::array::{ArrayRef, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::rig::{Rig, options, rows, schema};

/// The columns with these names, as scans have them.
fn columns(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| match *name {
        "_partition" => Field::new("_partition", DataType::Int32, false),
        name => {
            let field = schema().field_with_name(name).unwrap().clone();
            let text = *field.data_type() == DataType::Utf8;
            if text { field.with_data_type(DataType::Utf8View) } else { field }
        }
    };
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// A reader beside what it must read next.
struct Checked {
    reader: EventReader,
    columns: SchemaRef,
    next: u64,
}

impl Checked {
    fn new(rig: &Rig, columns: SchemaRef, next: u64) -> Checked {
        let log = Arc::clone(&rig.log);
        let reader = EventReader::new(log, Arc::clone(&columns), Offset(next)).unwrap();
        Checked { reader, columns, next }
    }

    /// Reads once; false when there is nothing to read.
    fn read(&mut self, rows_max: usize) -> Result<bool, StoreError> {
        assert_eq!(self.reader.offset().0, self.next);
        let Some(batch) = self.reader.next(rows_max)? else { return Ok(false) };
        assert_eq!(batch.first.0, self.next);
        assert_eq!(batch.rows.schema(), self.columns);
        let row_count = batch.rows.num_rows();
        assert!((1..=rows_max).contains(&row_count), "{row_count} of at most {rows_max}");
        let end = self.next + row_count as u64;
        let expected = rows(self.next..end);
        for (field, found) in self.columns.fields().iter().zip(batch.rows.columns()) {
            let expected: ArrayRef = match field.name().as_str() {
                "_partition" => Arc::new(Int32Array::from_value(0, row_count)),
                name => {
                    let stored = expected.column_by_name(name).unwrap();
                    cast(stored, field.data_type()).unwrap()
                }
            };
            assert_eq!(found, &expected, "{} of {}..{end}", field.name(), self.next);
        }
        self.next = end;
        Ok(true)
    }

    fn read_all(&mut self, end: u64) {
        while self.read(100_000).unwrap() {}
        assert_eq!(self.next, end, "nothing is left out");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Cut,
    Merge,
    Read { reader: usize, rows_max: usize, times: usize },
    Retain(prop::sample::Index),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let rows_max = prop_oneof![Just(1_usize), 1_usize..200, Just(1_000), Just(100_000)];
    let read = (0..3_usize, rows_max, 1..12_usize);
    prop_oneof![
        6 => prop_oneof![1_u64..5, 1_u64..300, Just(5_000_u64), Just(9_000)].prop_map(Step::Append),
        4 => Just(Step::Cut),
        1 => Just(Step::Merge),
        8 => read.prop_map(|(reader, rows_max, times)| Step::Read { reader, rows_max, times }),
        1 => any::<prop::sample::Index>().prop_map(Step::Retain),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, max_shrink_iters: 64, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn what_is_read_is_what_was_appended(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path(), options()).unwrap();
        let all = ["pair", "list", "span", "_offset", "ratio", "word", "ts", "n", "_partition",
            "_appended_at"];
        let wanted = [columns(&all), columns(&["word", "n"]), columns(&["_partition", "_offset"])];
        let mut readers = wanted.map(|columns| Checked::new(&rig, columns, 0));
        let (mut end, mut retained) = (0, 0);
        for step in steps {
            let held = readers.iter().map(|reader| reader.next).min().unwrap();
            rig.log.hold(ViewId(9), Offset(held));
            match step {
                Step::Append(count) => {
                    rig.append(count);
                    end += count;
                }
                Step::Cut => drop(rig.cut().unwrap()),
                Step::Merge => rig.settle(),
                Step::Read { reader, rows_max, times } => {
                    for _ in 0..times {
                        let found = readers[reader].read(rows_max).unwrap();
                        prop_assert_eq!(found || readers[reader].next == end, true);
                    }
                }
                Step::Retain(at) => {
                    retained = retained.max(at.index(usize::try_from(end).unwrap() + 1) as u64);
                    rig.retain(retained);
                    prop_assert!(rig.log.view().start.0 <= held);
                }
                Step::Reopen => {
                    let next = readers.map(|reader| (reader.columns, reader.next));
                    drop(rig);
                    rig = Rig::open(dir.path(), options()).unwrap();
                    readers = next.map(|(columns, next)| Checked::new(&rig, columns, next));
                }
            }
        }
        for reader in &mut readers {
            reader.read_all(end);
        }
        rig.settle();
    }
}

#[test]
fn reading_starts_in_the_middle_of_a_large_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..4 {
        rig.append(70_000);
        rig.cut().unwrap();
    }
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 1);
    rig.append(10);
    for start in [0, 69_999, 131_071, 131_072, 131_073, 270_001, 279_999, 280_000, 280_010] {
        let mut reader = Checked::new(&rig, columns(&["n", "word", "_offset"]), start);
        reader.read_all(280_010);
    }
}

#[test]
fn a_file_that_is_merged_away_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    for _ in 0..3 {
        rig.append(1_000);
        rig.cut().unwrap();
    }
    let mut reader = Checked::new(&rig, columns(&["n", "word"]), 0);
    assert!(reader.read(10).unwrap());
    rig.append(1_000);
    rig.cut().unwrap();
    rig.settle();
    assert_eq!(rig.log.view().segments.len(), 1);
    assert_eq!(rig.files().len(), 2, "the reader has the first one open");
    reader.read_all(4_000);
    assert_eq!(rig.files().len(), 1);
}

#[test]
fn no_columns_are_still_events() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options()).unwrap();
    rig.append(300);
    rig.cut().unwrap();
    rig.append(40);
    Checked::new(&rig, columns(&[]), 0).read_all(340);
}

#[test]
fn a_column_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path(), options()).unwrap();
    let columns = Arc::new(Schema::new(vec![Field::new("nobody", DataType::Int64, true)]));
    let error = EventReader::new(Arc::clone(&rig.log), columns, Offset(0)).unwrap_err();
    assert!(error.to_string().contains("no column \"nobody\""), "{error}");
}

#[test]
fn what_retention_took_is_said_to_be_gone() {
    let mut options = options();
    options.merge = false;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options).unwrap();
    for _ in 0..5 {
        rig.append(100);
        rig.cut().unwrap();
    }
    let mut reader = Checked::new(&rig, columns(&["n"]), 0);
    assert!(reader.read(10).unwrap());
    rig.retain(250);
    match reader.read(10).unwrap_err() {
        StoreError::Gone { start, .. } => assert_eq!(start.0, 250),
        other => panic!("{other}"),
    }
    // In the middle of a segment.
    Checked::new(&rig, columns(&["n"]), 250).read_all(500);
}

#[test]
fn retention_does_not_take_what_a_view_holds() {
    let mut options = options();
    options.merge = false;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options).unwrap();
    for _ in 0..5 {
        rig.append(100);
        rig.cut().unwrap();
    }
    assert_eq!(rig.log.held(), None);
    rig.log.hold(ViewId(1), Offset(150));
    rig.log.hold(ViewId(2), Offset(320));
    assert_eq!(rig.log.held(), Some(Offset(150)));
    let state = |rig: &Rig| {
        rig.settle();
        let view = rig.log.view();
        (view.start.0, view.segments[0].first.0)
    };
    rig.retain(400);
    assert_eq!(state(&rig), (150, 100));
    rig.log.hold(ViewId(1), Offset(230));
    assert_eq!(rig.log.view().start.0, 230, "what is folded goes without being asked for again");
    rig.log.release(ViewId(1));
    assert_eq!(rig.log.view().start.0, 320);
    rig.log.release(ViewId(2));
    rig.retain(0);
    assert_eq!(state(&rig), (400, 400));
    // A view that comes later finds what is there.
    rig.log.hold(ViewId(3), Offset(0));
    assert_eq!(state(&rig), (400, 400));
}

#[test]
fn nothing_is_read_from_a_damaged_file() {
    let mut options = options();
    options.verify_after_open = false;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), options.clone()).unwrap();
    rig.append(5_000);
    rig.cut().unwrap();
    rig.append(5_000);
    rig.cut().unwrap();
    let path = rig.files().remove(1);
    drop(rig);
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 2_000).unwrap();
    let rig = Rig::open(dir.path(), options).unwrap();
    let mut reader = Checked::new(&rig, columns(&["n"]), 0);
    let error = loop {
        match reader.read(1_000) {
            Ok(found) => assert!(found, "the damage is not seen"),
            Err(error) => break error,
        }
    };
    assert_eq!(reader.next, 5_000, "the first file is whole");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(error.is_damage() && error.to_string().contains(name), "{error}");
    assert!(rig.log.damage().is_some());
    assert!(reader.read(1_000).unwrap_err().is_damage(), "nor the next time");
}
