//! Windows that subscribers get only when they are final: `EMIT FINAL AFTER`.
//!
//! A group is held until the watermark is so far past the end of its window. As long as something
//! is held, the frontier given to the subscriber stays before the change that is held: whoever goes
//! on from there is told of it again. So some groups may come twice, and none is lost.

use std::collections::BTreeMap;

use alluvium_core::ids::PartitionNumber;
use alluvium_core::stream::Frontier;
use alluvium_views::fold::{Definition, EvaluateError, WindowKind};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use super::groups::{ViewGroups, cast, keep};

/// What is held back of one subscription.
#[derive(Debug)]
pub struct Finality {
    /// Place of the window among the columns of the groups.
    window: usize,
    /// From a window's start until it is final, in microseconds of the watermark.
    after: i64,
    held: BTreeMap<Vec<u8>, Held>,
}

#[derive(Debug)]
struct Held {
    final_at: i64,
    /// Before the change.
    before: Frontier,
}

impl Finality {
    /// For a view that wants it; an error says why it cannot be had.
    pub fn of(definition: &Definition) -> Result<Option<Finality>, &'static str> {
        let Some(after) = definition.options.emit_final_after else {
            return Ok(None);
        };
        let Some(window) = definition.window else {
            return Ok(None);
        };
        let size = match window.kind {
            WindowKind::Tumble { size } | WindowKind::Hop { size, .. } => size,
            WindowKind::Session { .. } => {
                return Err("is told only when final, and when a session is final is not seen \
                            from its row");
            }
        };
        let after = i64::try_from(after.as_micros()).unwrap_or(i64::MAX).saturating_add(size);
        Ok(Some(Finality { window: window.group, after, held: BTreeMap::new() }))
    }

    /// Those of the groups that are final; the others are held. Their changes came after `before`.
    ///
    /// # Errors
    /// When the groups are not of this view.
    pub fn take(
        &mut self,
        view: &ViewGroups,
        groups: &RecordBatch,
        before: &Frontier,
        watermark: Option<i64>,
    ) -> Result<RecordBatch, EvaluateError> {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let starts: ArrayRef = cast(groups.column(self.window), &micros)?;
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let mut is_final = Vec::with_capacity(groups.num_rows());
        for (row, key) in view.keys_of(groups)?.into_iter().enumerate() {
            // Without a time it belongs to no window, so there is no end to wait for.
            let final_at = match starts.is_null(row) {
                true => i64::MIN,
                false => starts.value(row).saturating_add(self.after),
            };
            let due = final_at == i64::MIN || watermark.is_some_and(|now| final_at <= now);
            is_final.push(Some(due));
            match due {
                true => self.held.remove(&key),
                false => {
                    let held = || Held { final_at, before: before.clone() };
                    self.held.entry(key).or_insert_with(held);
                    None
                }
            };
        }
        keep(groups, &BooleanArray::from(is_final))
    }

    /// Keys that were held and are final now.
    pub fn due(&mut self, watermark: Option<i64>) -> Vec<Vec<u8>> {
        let Some(now) = watermark else {
            return Vec::new();
        };
        let due = self.held.extract_if(.., |_, held| held.final_at <= now);
        due.map(|(key, _)| key).collect()
    }

    /// Groups that are no more are held no more.
    pub fn forget(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            self.held.remove(key);
        }
    }

    /// What may be said to be sent, when everything before `reached` is sent or held.
    pub fn sent(&self, reached: &Frontier) -> Frontier {
        let mut sent = reached.clone();
        for held in self.held.values() {
            for (partition, offset) in &mut sent.0 {
                *offset = (*offset).min(offset_of(&held.before, *partition));
            }
        }
        sent
    }
}

fn offset_of(frontier: &Frontier, partition: PartitionNumber) -> alluvium_core::ids::Offset {
    frontier.0.get(&partition).copied().unwrap_or_default()
}
