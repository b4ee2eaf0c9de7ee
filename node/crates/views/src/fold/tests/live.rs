//! Cases run, and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_core::ids::Offset;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use super::Fault;
use super::case::{Event, Shape, batch, events};
use super::oracle::{Answer, Oracle};
use super::random::Random;
use crate::fold::{
    Checkpoint, Definition, KeyRange, Keys, Limits, Merge, StoredError, StoredGroups, ViewState,
    Visit, group_hash,
};

/// Cases of one run.
const CASES: u32 = 2_000;
pub(super) const START: Offset = Offset(100);
pub(super) const ROOMY: Limits = Limits { resident_bytes_max: usize::MAX };

/// What a database would hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub row: Option<Vec<u8>>,
    pub groups: BTreeMap<Vec<u8>, Vec<u8>>,
    pub quarantined: Vec<(u64, String)>,
}

impl StoredGroups for Stored {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError> {
        Ok(keys.iter().map(|&key| self.groups.get(key).cloned()).collect())
    }

    fn scan(&self, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoredError> {
        let from = self.groups.range(range.start.clone()..);
        for (key, value) in from.take_while(|(key, _)| range.contains(key)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Stored {
    pub(super) fn write(&mut self, checkpoint: Checkpoint) {
        for key in &checkpoint.deletes {
            assert!(self.groups.remove(key).is_some(), "what is deleted was stored");
        }
        for range in &checkpoint.delete_ranges {
            self.groups.retain(|key, _| !range.contains(key));
        }
        let puts = checkpoint.puts.len();
        let keys: BTreeSet<_> = checkpoint.puts.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys.len(), puts, "a group is put once");
        assert!(checkpoint.deletes.iter().all(|key| !keys.contains(key)), "put and deleted");
        self.groups.extend(checkpoint.puts);
        self.row = Some(checkpoint.row);
        let quarantined = checkpoint.quarantined.into_iter();
        self.quarantined.extend(quarantined.map(|event| (event.offset.0, event.reason)));
    }
}

/// A case from a seed, and what goes on while it is folded.
struct Live {
    random: Random,
    definition: Arc<Definition>,
    limits: Limits,
    state: ViewState,
    stored: Stored,
    fault: Option<Fault>,
}

impl Live {
    fn open(&mut self) {
        let row = self.stored.row.as_deref();
        let definition = Arc::clone(&self.definition);
        self.state = ViewState::open(definition, START, row, self.limits).unwrap();
        self.state.fault = self.fault;
    }

    fn checkpoint(&mut self) {
        let checkpoint = self.state.checkpoint(&self.stored).unwrap();
        if self.random.one_in(8) {
            // As after a crash before it was written.
            return self.open();
        }
        let before = self.stored.clone();
        self.stored.write(checkpoint);
        if self.random.one_in(3) {
            // A reader between the write and what follows it sees each group once.
            let now = read(&self.state, &self.stored, &Keys::All);
            assert_eq!(now, read(&self.state, &before, &Keys::All));
        }
        self.state.stored();
        let progress = self.state.progress();
        assert_eq!(progress.groups, self.stored.groups.len() as u64);
        let hashes = self.stored.groups.iter().map(|(key, value)| group_hash(key, value));
        assert_eq!(progress.digest, hashes.fold(0, u128::wrapping_add));
    }

    fn run(&mut self, events: &[Event]) {
        loop {
            let progress = self.state.progress();
            let at = usize::try_from(progress.next.since(START)).unwrap();
            assert_eq!(progress.counts.total(), at as u64, "each event is counted once");
            if at == events.len() {
                return;
            }
            match self.random.below(8) {
                0 => self.checkpoint(),
                1 if self.random.one_in(3) => self.open(),
                _ => {
                    let most = self.random.pick(&[1, 3, 40]);
                    let count = 1 + usize::try_from(self.random.below(most)).unwrap();
                    let rows = batch(&events[at..(at + count).min(events.len())]);
                    self.state.fold(progress.next, &rows, &self.stored).unwrap();
                }
            }
        }
    }
}

/// Folds in one go, and stores once.
fn replay(definition: &Arc<Definition>, events: &[Event]) -> Stored {
    let mut stored = Stored::default();
    let mut state = ViewState::open(Arc::clone(definition), START, None, ROOMY).unwrap();
    state.fold(START, &batch(events), &stored).unwrap();
    let checkpoint = state.checkpoint(&stored).unwrap();
    stored.write(checkpoint);
    stored
}

pub(super) fn read(state: &ViewState, stored: &Stored, keys: &Keys) -> Vec<Answer> {
    let definition = Arc::clone(state.definition());
    let mut merge = Merge::new(Arc::clone(&definition)).unwrap();
    state.read(keys, stored, &mut merge).unwrap();
    let collected = merge.collected();
    let answers = answers(&merge.finish().unwrap());
    let mut disjoint = Merge::disjoint(Arc::clone(&definition)).unwrap();
    state.read(keys, stored, &mut disjoint).unwrap();
    assert_eq!(super::live::answers(&disjoint.finish().unwrap()), answers);
    // What another node collected gives the same.
    for mut merge in
        [Merge::new(Arc::clone(&definition)), Merge::disjoint(definition)].map(Result::unwrap)
    {
        merge.take_in(keys, &collected).unwrap();
        assert_eq!(super::live::answers(&merge.finish().unwrap()), answers);
    }
    answers
}

pub(super) fn answers(batches: &[RecordBatch]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name);
        let last = batch.num_columns() - 1;
        for row in 0..batch.num_rows() {
            let text = |column: usize| batch.column(column).as_string::<i32>().value(row).into();
            let name = column("name").filter(|names| names.is_valid(row));
            let name = name.map(|names| names.as_string_view().value(row).to_owned());
            let start = column("window").filter(|starts| starts.is_valid(row));
            let start = start.map(|s| s.as_primitive::<TimestampMicrosecondType>().value(row));
            let id = column("id").map(|ids| ids.as_primitive::<Int64Type>().value(row));
            answers.push((name, start, id, [text(last - 1), text(last)]));
        }
    }
    answers.sort();
    answers
}

/// Runs the case of a seed; panics where something differs.
pub(super) fn run(seed: u64, fault: Option<Fault>) {
    let mut random = Random(seed);
    let shape = Shape::random(&mut random);
    let events = events(&mut random);
    let definition = shape.definition();
    let limits = Limits { resident_bytes_max: random.pick(&[0, 3_000, usize::MAX]) };
    let state = ViewState::open(Arc::clone(&definition), START, None, limits).unwrap();
    let stored = Stored::default();
    let mut live = Live { random, definition, limits, state, stored, fault };
    live.state.fault = fault;
    live.run(&events);

    let oracle = Oracle::of(&shape, &events);
    assert_eq!(live.state.progress().counts, oracle.counts);
    let answer = oracle.answer();
    assert_eq!(read(&live.state, &live.stored, &Keys::All), answer, "{shape:?}");
    read_some(&mut live, &answer);

    let checkpoint = live.state.checkpoint(&live.stored).unwrap();
    live.stored.write(checkpoint);
    live.state.stored();
    assert_eq!(read(&live.state, &live.stored, &Keys::All), answer);
    assert_eq!(live.stored, replay(&live.definition, &events), "{shape:?}");
    over_partitions(&shape, &events, &mut live.random);
}

/// Single windows and ranges of keys give the same groups.
fn read_some(live: &mut Live, answer: &[Answer]) {
    let order = live.definition.key_order().unwrap();
    if order.is_empty() {
        return;
    }
    let mut merge = Merge::new(Arc::clone(&live.definition)).unwrap();
    live.state.read(&Keys::All, &live.stored, &mut merge).unwrap();
    let mut keys = BTreeMap::new();
    for batch in merge.finish().unwrap() {
        for row in 0..batch.num_rows() {
            let row = batch.slice(row, 1);
            let values: Vec<_> = order.iter().map(|&group| Arc::clone(row.column(group))).collect();
            let key = live.definition.key_of(&values).unwrap();
            keys.insert(key, answers(&[row]).remove(0));
        }
    }
    assert_eq!(keys.len(), answer.len());
    let random = &mut live.random;
    let some: Vec<Vec<u8>> = keys.keys().filter(|_| random.one_in(3)).cloned().collect();
    let mut expected: Vec<Answer> = some.iter().map(|key| keys[key].clone()).collect();
    expected.sort();
    assert_eq!(read(&live.state, &live.stored, &Keys::These(some.clone())), expected);
    if let [start, .., end] = some.as_slice() {
        let range = KeyRange { start: start.clone(), end: Some(end.clone()) };
        let mut expected: Vec<Answer> =
            keys.range(start.clone()..end.clone()).map(|(_, answer)| answer.clone()).collect();
        expected.sort();
        assert_eq!(read(&live.state, &live.stored, &Keys::Range(range)), expected);
    }
}

/// The events of two partitions, where no bound and no retention makes a difference, amount to what
/// they do in one; but for the order of values.
fn over_partitions(shape: &Shape, events: &[Event], random: &mut Random) {
    let shape = Shape { max: [250, 250], retention: None, ..shape.clone() };
    let definition = shape.definition();
    let parts = events.iter().cloned().partition(|_| random.one_in(2));
    let parts: [Vec<Event>; 2] = parts.into();
    let mut merge = Merge::new(Arc::clone(&definition)).unwrap();
    for part in parts {
        let mut stored = Stored::default();
        let mut state = ViewState::open(Arc::clone(&definition), START, None, ROOMY).unwrap();
        state.fold(START, &batch(&part), &stored).unwrap();
        if random.one_in(2) {
            stored.write(state.checkpoint(&stored).unwrap());
            state = ViewState::open(Arc::clone(&definition), START, stored.row.as_deref(), ROOMY)
                .unwrap();
        }
        state.read(&Keys::All, &stored, &mut merge).unwrap();
    }
    let sorted = |answers: Vec<Answer>| {
        let sort = |text: String| {
            let mut values: Vec<&str> = text.split(',').collect();
            values.sort_unstable();
            values.join(",")
        };
        let each = answers.into_iter();
        each.map(|(name, start, id, texts)| (name, start, id, texts.map(sort))).collect::<Vec<_>>()
    };
    let together = sorted(answers(&merge.finish().unwrap()));
    assert_eq!(together, sorted(Oracle::of(&shape, events).answer()), "{shape:?}");
}

#[test]
fn live_is_replayed_is_computed_row_by_row() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() };
    proptest!(config, |(seed in any::<u64>().no_shrink())| run(seed, None));
}

#[test]
fn a_broken_live_path_is_noticed() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&any::<u64>().no_shrink(), |seed| {
        run(seed, Some(Fault::ForgetStored));
        Ok(())
    });
    assert!(matches!(result, Err(TestError::Fail(..))), "a view that forgets groups passed");
}
