//! What a view's expressions give for some events.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::DataType;

use super::definition::{Evaluate, EvaluateError};
use super::layout::Layout;

/// The events that the view's filter is true for, with all that is needed to fold them.
pub(super) struct Piece {
    /// Where each of them is among the rows that were given; `None`: all are there.
    places: Option<Vec<u32>>,
    pub rows: usize,
    /// In the order of the key.
    pub groups: Vec<ArrayRef>,
    /// For each aggregate.
    pub arguments: Vec<Vec<ArrayRef>>,
    pub filters: Vec<Option<BooleanArray>>,
}

impl Piece {
    /// Evaluates each expression once.
    pub(super) fn evaluate(layout: &Layout, rows: &RecordBatch) -> Result<Piece, EvaluateError> {
        let definition = &layout.definition;
        let mask = definition.filter.as_ref().map(|filter| is_true(filter, rows)).transpose()?;
        let mask = mask.filter(|mask| mask.true_count() != mask.len());
        let kept = match &mask {
            Some(mask) => &filter_record_batch(rows, mask)
                .map_err(|error| EvaluateError(error.to_string()))?,
            None => rows,
        };
        let mut values = Values { rows: kept, known: Vec::new() };
        let groups = layout.order.iter().map(|&group| &definition.groups[group].expression);
        let groups = groups.map(|group| values.of(group)).collect::<Result<_, _>>()?;
        let mut arguments = Vec::with_capacity(definition.aggregates.len());
        let mut filters = Vec::with_capacity(definition.aggregates.len());
        for column in &definition.aggregates {
            let of_column = column.arguments.iter().map(|argument| values.of(argument));
            arguments.push(of_column.collect::<Result<_, _>>()?);
            filters.push(column.filter.as_ref().map(|keep| is_true(keep, kept)).transpose()?);
        }
        let rows = kept.num_rows();
        Ok(Piece { places: mask.as_ref().map(places), rows, groups, arguments, filters })
    }

    /// Where an event is among the rows that were given.
    pub(super) fn place(&self, row: usize) -> usize {
        self.places.as_ref().map_or(row, |places| places[row] as usize)
    }

    /// Only the rows that `keep` is true for.
    pub(super) fn keep(&self, keep: &BooleanArray) -> Piece {
        let kept = |array: &ArrayRef| filter(array, keep).expect("the mask is as long as the rows");
        let places = match &self.places {
            Some(places) => {
                let kept = places.iter().zip(keep.values()).filter(|(_, keep)| *keep);
                kept.map(|(&place, _)| place).collect()
            }
            None => places(keep),
        };
        let columns = |columns: &[ArrayRef]| columns.iter().map(kept).collect::<Vec<_>>();
        let masks = self.filters.iter().map(|mask| {
            let mask = mask.as_ref()?;
            Some(kept(&(Arc::new(mask.clone()) as ArrayRef)).as_boolean().clone())
        });
        Piece {
            rows: places.len(),
            places: Some(places),
            groups: columns(&self.groups),
            arguments: self.arguments.iter().map(|arguments| columns(arguments)).collect(),
            filters: masks.collect(),
        }
    }

    /// The arguments of an aggregate for some of the rows that follow each other.
    pub(super) fn arguments(&self, aggregate: usize, start: usize, rows: usize) -> Vec<ArrayRef> {
        let arguments = &self.arguments[aggregate];
        if rows == self.rows {
            return arguments.clone();
        }
        arguments.iter().map(|argument| argument.slice(start, rows)).collect()
    }

    /// The filter of an aggregate for some of the rows that follow each other.
    pub(super) fn filter(
        &self,
        aggregate: usize,
        start: usize,
        rows: usize,
    ) -> Option<BooleanArray> {
        Some(self.filters[aggregate].as_ref()?.slice(start, rows))
    }
}

/// Values of expressions over the same rows; one that is used twice is evaluated once.
struct Values<'a> {
    rows: &'a RecordBatch,
    known: Vec<(*const (), ArrayRef)>,
}

impl Values<'_> {
    fn of(&mut self, expression: &Arc<dyn Evaluate>) -> Result<ArrayRef, EvaluateError> {
        let identity = Arc::as_ptr(expression).cast::<()>();
        if let Some((_, values)) = self.known.iter().find(|(known, _)| *known == identity) {
            return Ok(Arc::clone(values));
        }
        let values = evaluate(expression, self.rows)?;
        self.known.push((identity, Arc::clone(&values)));
        Ok(values)
    }
}

fn evaluate(expression: &Arc<dyn Evaluate>, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
    let values = expression.evaluate(rows)?;
    if values.len() != rows.num_rows() {
        let (found, expected) = (values.len(), rows.num_rows());
        return Err(EvaluateError(format!("{found} values came for {expected} rows")));
    }
    Ok(values)
}

/// Where a condition is true: neither false nor null.
fn is_true(
    condition: &Arc<dyn Evaluate>,
    rows: &RecordBatch,
) -> Result<BooleanArray, EvaluateError> {
    let values = evaluate(condition, rows)?;
    if *values.data_type() != DataType::Boolean {
        return Err(EvaluateError(format!("a condition is {}", values.data_type())));
    }
    let values = values.as_boolean();
    Ok(if values.null_count() == 0 { values.clone() } else { prep_null_mask_filter(values) })
}

fn places(mask: &BooleanArray) -> Vec<u32> {
    let set = mask.values().set_indices();
    set.map(|place| u32::try_from(place).expect("a batch has fewer than 2^32 rows")).collect()
}
