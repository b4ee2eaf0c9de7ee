//! Which groups a read is for, and which of their columns.
//!
//! Keys compare as rows do, so a condition on one group column is a set of ranges of what its
//! values add to a key. A [`Selection`] is such a set for each column that has one. From the first
//! columns of the key follows what is looked at at all; the rest is decided by the bytes of each
//! key, before any state is read.
//!
//! Invariant: a group whose values meet all conditions is never left out. Windows put together when
//! they are read are compared when they are whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::definition::{Definition, WindowKind};
use super::error::DefinitionError;
use super::layout::Layout;
use super::read::Keys;
use super::stored::KeyRange;
use crate::group::{KeyCodec, KeyError};

/// Keys that are asked for one by one. For more, a range is read.
const KEYS_MAX: usize = 1_000;

/// What the values of a group column must be. No comparison holds for a null. Each array has one
/// row, not null, and the column's type.
#[derive(Clone, Debug)]
pub enum Condition {
    /// There is none, or there is one.
    Null(bool),
    /// As compared with a value.
    Is(Comparison, ArrayRef),
    /// One of these holds.
    Any(Vec<Condition>),
    /// All of these hold.
    All(Vec<Condition>),
}

/// How a group's value, which stands on the left, compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    keys: Keys,
    pub(super) filter: KeyFilter,
    /// Places in [`Definition::group_schema`]; `None`: all of them.
    pub(super) columns: Option<Vec<usize>>,
}

/// What the columns of a key must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyFilter {
    /// By place in the key, in order.
    forms: Vec<(usize, Forms)>,
}

/// What the values of one column add to keys: ranges in order, none reaching into another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Forms(Vec<KeyRange>);

impl Selection {
    /// All groups, with all columns.
    #[must_use]
    pub fn all() -> Selection {
        Selection { keys: Keys::All, filter: KeyFilter::default(), columns: None }
    }

    /// The groups that meet these conditions, each on the group column at a place in
    /// [`Definition::groups`].
    ///
    /// # Errors
    /// When a value is not of its column's type.
    pub fn new(
        definition: &Arc<Definition>,
        conditions: &[(usize, Condition)],
    ) -> Result<Selection, DefinitionError> {
        let layout = Layout::new(Arc::clone(definition))?;
        let mut by_place: BTreeMap<usize, Forms> = BTreeMap::new();
        for (group, condition) in conditions {
            let Some(place) = layout.order.iter().position(|other| other == group) else {
                continue;
            };
            let forms = Forms::of(condition, &layout.codec, place)?;
            let both = match by_place.get(&place) {
                Some(known) => known.and(&forms),
                None => forms,
            };
            by_place.insert(place, both);
        }
        let filter = KeyFilter { forms: by_place.into_iter().collect() };
        Ok(Selection { keys: keys(&layout, &filter), filter, columns: None })
    }

    /// The same groups with these columns only, as places in [`Definition::group_schema`].
    #[must_use]
    pub fn with_columns(self, columns: Vec<usize>) -> Selection {
        Selection { columns: Some(columns), ..self }
    }

    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Selection::all()
    }

    /// Outside of which no group is selected.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

impl KeyFilter {
    /// Whether it lets every key pass.
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Two filters: one of all columns but that at `place`, and the whole one where it has a
    /// condition there.
    pub(super) fn without(&self, place: usize) -> (KeyFilter, KeyFilter) {
        let rest: Vec<_> = self.forms.iter().filter(|(at, _)| *at != place).cloned().collect();
        let whole =
            if rest.len() == self.forms.len() { KeyFilter::default() } else { self.clone() };
        (KeyFilter { forms: rest }, whole)
    }

    /// Whether a key meets the conditions.
    pub(super) fn passes(&self, codec: &KeyCodec, key: &[u8]) -> Result<bool, KeyError> {
        let (mut rest, mut place) = (key, 0);
        for (at, forms) in &self.forms {
            while place < *at {
                codec.part(place, &mut rest)?;
                place += 1;
            }
            if !forms.contain(codec.part(place, &mut rest)?) {
                return Ok(false);
            }
            place += 1;
        }
        Ok(true)
    }

    fn at(&self, place: usize) -> Option<&Forms> {
        self.forms.iter().find(|(at, _)| *at == place).map(|(_, forms)| forms)
    }
}

/// The form itself and nothing else: none is the beginning of another.
fn only(form: Vec<u8>) -> KeyRange {
    KeyRange::prefix(&form)
}

/// Before all forms behind this one, which is that of a value.
fn after(form: &[u8]) -> Vec<u8> {
    KeyRange::prefix(form).end.expect("the first byte of a value's form can be counted up")
}

impl Forms {
    fn of(condition: &Condition, codec: &KeyCodec, place: usize) -> Result<Forms, KeyError> {
        Ok(match condition {
            Condition::Null(is_null) => Forms::null(codec, place, *is_null),
            Condition::Is(comparison, value) => {
                let form = codec.form(place, value)?;
                Forms::compared(*comparison, form, codec.columns()[place].descending)
            }
            Condition::Any(conditions) => {
                let mut any = Vec::new();
                for condition in conditions {
                    any.extend(Forms::of(condition, codec, place)?.0);
                }
                Forms::together(any)
            }
            Condition::All(conditions) => {
                let mut all = Forms(vec![KeyRange::all()]);
                for condition in conditions {
                    all = all.and(&Forms::of(condition, codec, place)?);
                }
                all
            }
        })
    }

    fn null(codec: &KeyCodec, place: usize, is_null: bool) -> Forms {
        let null = if codec.columns()[place].descending { 0xFF } else { 0 };
        Forms(vec![match (is_null, null) {
            (true, _) => only(vec![null]),
            (false, 0) => KeyRange { start: vec![1], end: None },
            (false, _) => KeyRange { start: Vec::new(), end: Some(vec![null]) },
        }])
    }

    fn compared(comparison: Comparison, form: Vec<u8>, descending: bool) -> Forms {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        // What is not null, of which larger values come first in a descending column.
        let (first, last) =
            if descending { (Vec::new(), Some(vec![0xFF])) } else { (vec![1], None) };
        let before = |end: Vec<u8>| KeyRange { start: first.clone(), end: Some(end) };
        let behind = |start: Vec<u8>| KeyRange { start, end: last.clone() };
        Forms(match (comparison, descending) {
            (Equal, _) => vec![only(form)],
            (NotEqual, _) => {
                let rest = behind(after(&form));
                vec![before(form), rest]
            }
            (Less, false) | (Greater, true) => vec![before(form)],
            (LessOrEqual, false) | (GreaterOrEqual, true) => vec![before(after(&form))],
            (Greater, false) | (Less, true) => vec![behind(after(&form))],
            (GreaterOrEqual, false) | (LessOrEqual, true) => vec![behind(form)],
        })
    }

    /// What is in any of these ranges.
    fn together(mut ranges: Vec<KeyRange>) -> Forms {
        ranges.sort_unstable_by(|a, b| a.start.cmp(&b.start));
        let mut apart: Vec<KeyRange> = Vec::new();
        for range in ranges {
            match apart.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| range.start < *end) => {
                    last.end = match (last.end.take(), range.end) {
                        (Some(one), Some(other)) => Some(one.max(other)),
                        _ => None,
                    };
                }
                Some(_) | None => apart.push(range),
            }
        }
        Forms(apart)
    }

    /// What is in both.
    fn and(&self, other: &Forms) -> Forms {
        let (mut both, mut left, mut right) = (Vec::new(), 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(left), other.0.get(right)) {
            let start = one.start.clone().max(two.start.clone());
            let is_left_first = match (&one.end, &two.end) {
                (Some(one), Some(two)) => one <= two,
                (one, None) => one.is_some(),
                (None, Some(_)) => false,
            };
            let end = if is_left_first { one.end.clone() } else { two.end.clone() };
            if end.as_ref().is_none_or(|end| start < *end) {
                both.push(KeyRange { start, end });
            }
            if is_left_first {
                left += 1;
            } else {
                right += 1;
            }
        }
        Forms(both)
    }

    fn contain(&self, form: &[u8]) -> bool {
        let behind = self.0.partition_point(|range| range.start.as_slice() <= form);
        behind.checked_sub(1).is_some_and(|last| self.0[last].contains(form))
    }

    /// The forms one by one, where each range has one form.
    fn points(&self, codec: &KeyCodec, place: usize) -> Option<Vec<Vec<u8>>> {
        let point = |range: &KeyRange| {
            let mut rest = range.start.as_slice();
            let is_form = codec.part(place, &mut rest).is_ok() && rest.is_empty();
            (is_form && *range == only(range.start.clone())).then(|| range.start.clone())
        };
        self.0.iter().map(point).collect()
    }
}

/// Outside of which no key passes the filter.
fn keys(layout: &Layout, filter: &KeyFilter) -> Keys {
    // The first columns of the key, each combination once and in order.
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let mut hull = None;
    for place in 0..layout.order.len() {
        // A session's start may change when the partitions are put together.
        let is_session = layout.session_gap().is_some() && place == layout.window_place();
        let Some(forms) = filter.at(place).filter(|_| !is_session) else {
            hull = Some(None);
            break;
        };
        let room = KEYS_MAX / prefixes.len().max(1);
        let points =
            forms.points(&layout.codec, place).or_else(|| starts(layout, forms, place, room));
        let Some(points) = points.filter(|points| points.len() <= room) else {
            hull = Some(Some(forms));
            break;
        };
        let longer = prefixes.iter().flat_map(|prefix| {
            points.iter().map(|point| [prefix.as_slice(), point.as_slice()].concat())
        });
        prefixes = longer.collect();
    }
    let Some(next) = hull else {
        return if layout.order.is_empty() { Keys::All } else { Keys::These(prefixes) };
    };
    let ranges = next.map(|forms| forms.0.as_slice());
    let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else {
        return Keys::These(Vec::new());
    };
    let (start, end) = match ranges {
        None if first.is_empty() => return Keys::All,
        None => (first.clone(), KeyRange::prefix(last).end),
        Some([]) => return Keys::These(Vec::new()),
        Some([least, .., most]) => (join(first, least), end(last, most)),
        Some([only]) => (join(first, only), end(last, only)),
    };
    Keys::Range(KeyRange { start, end })
}

fn join(prefix: &[u8], range: &KeyRange) -> Vec<u8> {
    [prefix, range.start.as_slice()].concat()
}

fn end(prefix: &[u8], range: &KeyRange) -> Option<Vec<u8>> {
    match &range.end {
        Some(end) => Some([prefix, end.as_slice()].concat()),
        None if prefix.is_empty() => None,
        None => KeyRange::prefix(prefix).end,
    }
}

/// The starts of tumbling windows one by one, where there are at most `max`.
fn starts(layout: &Layout, forms: &Forms, place: usize, max: usize) -> Option<Vec<Vec<u8>>> {
    let window = layout.window.as_ref()?;
    let WindowKind::Tumble { size } = window.kind else { return None };
    if place != layout.window_place() {
        return None;
    }
    let phase = layout.phase(size)?;
    let mut starts = Vec::new();
    for range in &forms.0 {
        let end = range.end.as_ref()?;
        if *range == only(vec![0]) {
            starts.push(range.start.clone());
            continue;
        }
        let (first, end) = (window.start_from(&range.start)?, window.start_from(end)?);
        // Both within a window: their difference fits, wherever the first one is.
        let ahead = phase.rem_euclid(size) - first.rem_euclid(size);
        let next = first.checked_add(ahead.rem_euclid(size))?;
        let count = end.saturating_sub(next).div_euclid(size).saturating_add(1);
        let room = i64::try_from(max.saturating_sub(starts.len())).ok()?;
        if room < count {
            return None;
        }
        let all = std::iter::successors(Some(next), |start| start.checked_add(size));
        starts.extend(all.take_while(|start| *start < end).map(|start| window.key_of_start(start)));
    }
    Some(starts)
}
