//! How the groups of a definition are laid out: the order of columns in keys, and windows.
//!
//! A tumbling or hopping window comes first in the key, so that time is a range of keys and windows
//! past retention go as one. A session comes last and newest first, so that the sessions of one
//! group lie together and the one before a time is the first that a scan from there meets.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};

use super::definition::{Definition, WindowKind};
use super::error::{DefinitionError, FoldError};
use super::stored::KeyRange;
use crate::aggregate::States;
use crate::group::{KeyCodec, KeyColumn};

const DAY: i64 = 86_400_000_000;
/// Sessions past retention are looked for each time the watermark has passed one of so many parts
/// of the retention, since finding them means reading them all.
const SESSION_SWEEPS: i64 = 16;
const SECOND: i64 = 1_000_000;

/// A definition with what follows from it.
#[derive(Debug)]
pub(super) struct Layout {
    pub definition: Arc<Definition>,
    /// Places of the group columns, in the order of the key.
    pub order: Vec<usize>,
    pub codec: KeyCodec,
    pub window: Option<WindowLayout>,
}

/// The window column. Times are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct WindowLayout {
    pub kind: WindowKind,
    /// Microseconds in one of the column's units, or units in a microsecond when negative.
    unit: i64,
    retention: Option<i64>,
    lateness: i64,
}

impl Layout {
    pub(super) fn new(definition: Arc<Definition>) -> Result<Layout, DefinitionError> {
        let window = definition.window;
        let mut order: Vec<usize> = (0..definition.groups.len()).collect();
        if let Some(window) = window {
            if definition.groups.len() <= window.group {
                return Err(DefinitionError::Window("the window is not a group column"));
            }
            order.retain(|&group| group != window.group);
            match window.kind {
                WindowKind::Tumble { .. } | WindowKind::Hop { .. } => order.insert(0, window.group),
                WindowKind::Session { .. } => order.push(window.group),
            }
        }
        let columns = order.iter().map(|&group| KeyColumn {
            data_type: definition.groups[group].data_type.clone(),
            descending: window.is_some_and(|window| {
                window.group == group && matches!(window.kind, WindowKind::Session { .. })
            }),
        });
        let codec = KeyCodec::new(columns.collect())?;
        let window = window.map(|_| WindowLayout::new(&definition)).transpose()?;
        Ok(Layout { definition, order, codec, window })
    }

    /// Empty states, one object for each aggregate.
    pub(super) fn states(&self) -> Result<Vec<Box<dyn States>>, DefinitionError> {
        let aggregates = self.definition.aggregates.iter();
        let states = aggregates.map(|column| {
            #[cfg(test)]
            if let Some(states) = super::tests::states_of(column) {
                return Ok(states);
            }
            column.call.states()
        });
        Ok(states.collect::<Result<_, _>>()?)
    }

    /// The gap of its sessions, if it has them.
    pub(super) fn session_gap(&self) -> Option<i64> {
        match self.window.as_ref()?.kind {
            WindowKind::Session { gap } => Some(gap),
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => None,
        }
    }

    /// Where the window is among the columns of the key.
    pub(super) fn window_place(&self) -> usize {
        if self.session_gap().is_some() { self.order.len() - 1 } else { 0 }
    }

    /// Whether a group is past retention: its key, and for sessions the time of its last event.
    pub(super) fn is_dropped(&self, key: &[u8], last: i64, cutoff: Option<i64>) -> bool {
        let (Some(window), Some(cutoff)) = (&self.window, cutoff) else { return false };
        let time = match window.kind {
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => window.start_in(key),
            WindowKind::Session { .. } => Some(last),
        };
        time.is_some_and(|time| window.end(time) <= cutoff)
    }

    /// As [`Layout::is_dropped`], of a whole window in place of a pane.
    pub(super) fn is_dropped_window(&self, key: &[u8], last: i64, cutoff: Option<i64>) -> bool {
        let (Some(window), Some(cutoff)) = (&self.window, cutoff) else { return false };
        match window.kind {
            WindowKind::Hop { size, .. } => {
                let start = window.start_in(key);
                start.is_some_and(|start| start.saturating_add(size) <= cutoff)
            }
            WindowKind::Tumble { .. } | WindowKind::Session { .. } => {
                self.is_dropped(key, last, Some(cutoff))
            }
        }
    }

    /// Where tumbling windows lie: the start of one of them, from 0 up to their size. `None` where
    /// that cannot be told.
    pub(super) fn phase(&self, size: i64) -> Option<i64> {
        let definition = &self.definition;
        let (window, event_time) = (definition.window?, definition.event_time?);
        let fields = definition.input.fields().iter();
        let fields: Vec<Field> = fields.map(|f| f.as_ref().clone().with_nullable(true)).collect();
        // One time on each side of where computers count from.
        let times = [0, -size.checked_mul(7)?.checked_add(1)?];
        let columns = fields.iter().enumerate().map(|(place, field)| {
            if place != event_time {
                return Ok(new_null_array(field.data_type(), times.len()));
            }
            cast(&Int64Array::from(times.to_vec()), field.data_type())
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().ok()?;
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()?;
        let starts = definition.groups[window.group].expression.evaluate(&rows).ok()?;
        let starts = starts.as_primitive_opt::<TimestampMicrosecondType>()?;
        let mut phases = times.iter().zip(starts).map(|(&time, start)| {
            let start = start.filter(|&start| start <= time && time - start < size)?;
            Some(start.rem_euclid(size))
        });
        let (one, other) = (phases.next()??, phases.next()??);
        (one == other).then_some(one)
    }

    /// The group that a session is of, as the beginning of its key, and when it starts.
    pub(super) fn session_in<'a>(
        &self,
        key: &'a [u8],
    ) -> Result<(&'a [u8], Option<i64>), FoldError> {
        let end = self.codec.prefix_len(key, self.codec.columns().len() - 1)?;
        let (prefix, form) = key.split_at(end);
        let start = match form {
            [_, value @ ..] if value.len() == 8 => {
                let bits = i64::from_be_bytes(value.try_into().expect("eight bytes"));
                Some(!bits ^ i64::MIN)
            }
            _ => None,
        };
        Ok((prefix, start))
    }

    /// The keys of windows that end after `from` and not after `cutoff`.
    pub(super) fn dropped_range(&self, from: Option<i64>, cutoff: i64) -> Option<KeyRange> {
        let window = self.window.as_ref()?;
        let bound = |cutoff: i64| window.key_after(cutoff);
        // Windows without a start are nulls, which come first and stay.
        let start = from.map_or_else(|| vec![1], bound);
        let end = bound(cutoff);
        (start < end).then_some(KeyRange { start, end: Some(end) })
    }
}

impl WindowLayout {
    fn new(definition: &Definition) -> Result<WindowLayout, DefinitionError> {
        let window = definition.window.ok_or(DefinitionError::Window("there is no window"))?;
        let unit = match &definition.groups[window.group].data_type {
            DataType::Timestamp(TimeUnit::Second, _) => SECOND,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => -1_000,
            DataType::Date32 => DAY,
            _ => return Err(DefinitionError::Window("a window starts at a timestamp or a date")),
        };
        let lengths = match window.kind {
            WindowKind::Tumble { size } => [size, size],
            WindowKind::Hop { slide, size } => [slide, size],
            WindowKind::Session { gap } => [gap, gap],
        };
        if lengths.iter().any(|&length| length <= 0) {
            return Err(DefinitionError::Window("a window is longer than nothing"));
        }
        let is_session = matches!(window.kind, WindowKind::Session { .. });
        if is_session && unit != 1 {
            return Err(DefinitionError::Window("a session starts at a timestamp in microseconds"));
        }
        Ok(WindowLayout {
            kind: window.kind,
            unit,
            retention: definition.options.retention.map(micros),
            lateness: micros(definition.options.lateness),
        })
    }

    /// Starts, or for sessions event times, in microseconds.
    pub(super) fn micros(&self, column: &ArrayRef) -> Result<Vec<Option<i64>>, FoldError> {
        let values: Vec<Option<i64>> = match column.data_type() {
            DataType::Timestamp(_, _) => {
                let data = column.to_data().into_builder().data_type(DataType::Int64);
                let plain = arrow::array::make_array(data.build().map_err(|_| mismatch(column))?);
                plain.as_primitive::<Int64Type>().iter().collect()
            }
            DataType::Date32 => {
                column.as_primitive::<Date32Type>().iter().map(|day| day.map(i64::from)).collect()
            }
            _ => return Err(mismatch(column)),
        };
        Ok(values.into_iter().map(|value| value.map(|value| self.scale(value))).collect())
    }

    /// The window's start, or the pane's, in a key of tumbling or hopping windows.
    pub(super) fn start_in(&self, key: &[u8]) -> Option<i64> {
        let (&tag, rest) = key.split_first()?;
        let value = if self.is_date() {
            i64::from(i32::from_be_bytes(*rest.first_chunk()?) ^ i32::MIN)
        } else {
            i64::from_be_bytes(*rest.first_chunk()?) ^ i64::MIN
        };
        (tag == 1).then(|| self.scale(value))
    }

    /// The first start whose key is not before these bytes, in windows of microseconds; `None`
    /// where that cannot be told.
    pub(super) fn start_from(&self, key: &[u8]) -> Option<i64> {
        let mut whole = [0; 9];
        whole.get_mut(..key.len())?.copy_from_slice(key);
        self.start_in(&whole).filter(|_| self.unit == 1)
    }

    fn is_date(&self) -> bool {
        self.unit == DAY
    }

    fn scale(&self, value: i64) -> i64 {
        if self.unit < 0 { value.div_euclid(-self.unit) } else { value.saturating_mul(self.unit) }
    }

    /// When the window is over that starts at `time`; of a pane, the last window that it is part
    /// of; of a session, after the event at `time`.
    pub(super) fn end(&self, time: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { size } => time.saturating_add(size),
            WindowKind::Hop { slide, size } => {
                time.div_euclid(slide).saturating_mul(slide).saturating_add(size)
            }
            WindowKind::Session { gap } => time.saturating_add(gap),
        }
    }

    /// Events whose window ends up to here are expired, once an event of `newest` was seen.
    pub(super) fn expired_to(&self, newest: Option<i64>) -> Option<i64> {
        let watermark = newest?.saturating_sub(self.lateness);
        Some(watermark.saturating_sub(self.retention?))
    }

    /// Groups that end up to here are gone, once an event of `newest` was seen.
    pub(super) fn cutoff(&self, newest: Option<i64>) -> Option<i64> {
        let expired_to = self.expired_to(newest)?;
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => Some(expired_to),
            WindowKind::Session { .. } => {
                let step = (self.retention? / SESSION_SWEEPS).max(SECOND);
                Some(expired_to.div_euclid(step).saturating_mul(step))
            }
        }
    }

    /// The key before which lie all windows that end up to `cutoff`, and no others.
    fn key_after(&self, cutoff: i64) -> Vec<u8> {
        // The first start that does not end up to the cutoff.
        let start = match self.kind {
            WindowKind::Tumble { size } => cutoff.saturating_sub(size).saturating_add(1),
            WindowKind::Hop { slide, size } => {
                let last = cutoff.saturating_sub(size).div_euclid(slide);
                last.saturating_add(1).saturating_mul(slide)
            }
            WindowKind::Session { .. } => i64::MIN,
        };
        self.key_of_start(start)
    }

    /// The key of the first start at or after `start`, in tumbling and hopping windows.
    pub(super) fn key_of_start(&self, start: i64) -> Vec<u8> {
        let units = if self.unit < 0 {
            start.saturating_mul(-self.unit)
        } else {
            start.div_euclid(self.unit).saturating_add(i64::from(start.rem_euclid(self.unit) != 0))
        };
        let mut key = vec![1];
        if self.is_date() {
            let units = units.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            let units = i32::try_from(units).expect("clamped to what fits");
            key.extend_from_slice(&(units ^ i32::MIN).to_be_bytes());
        } else {
            key.extend_from_slice(&(units ^ i64::MIN).to_be_bytes());
        }
        key
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn mismatch(column: &ArrayRef) -> FoldError {
    FoldError::Definition(DefinitionError::Expression {
        column: "window".into(),
        expected: "timestamp".into(),
        found: column.data_type().to_string(),
    })
}
