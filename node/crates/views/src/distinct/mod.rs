//! Counts the distinct values of each group.
//!
//! [`DistinctValues`] keeps the pairs of group and value that were seen, in one flat set for all
//! groups. A large set is split by hash into many small tables, and pairs wait in a short queue
//! before each: what is filled at one time then lies in the cache, where a single large table would
//! miss it with every pair.
//!
//! For values that fit 64 bits; it is not a sketch, and knows nothing of text.
//!
//! Invariants: a pair is counted once; a group's count is the number of its pairs; nothing waits in
//! a queue when counts or values are given out.

mod pairs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, ListArray,
    PrimitiveArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use self::pairs::Pairs;

/// See the module.
#[derive(Debug)]
pub struct DistinctValues {
    value_type: DataType,
    pairs: Pairs,
}

/// Runs an expression with `$T` as the Arrow type of `$data_type`.
macro_rules! with_type {
    ($data_type:expr, $T:ident => $body:expr) => {
        match $data_type {
            DataType::Int16 => {
                type $T = Int16Type;
                $body
            }
            DataType::Int32 => {
                type $T = Int32Type;
                $body
            }
            DataType::Int64 => {
                type $T = Int64Type;
                $body
            }
            DataType::Date32 => {
                type $T = Date32Type;
                $body
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                type $T = Time64MicrosecondType;
                $body
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                type $T = TimestampMicrosecondType;
                $body
            }
            other => Err(unsupported(other)),
        }
    };
}

impl DistinctValues {
    /// An empty set for values of this type; `None` where the type is not supported.
    #[must_use]
    pub fn new(value_type: &DataType) -> Option<DistinctValues> {
        let supported = is_supported(value_type);
        supported
            .then(|| DistinctValues { value_type: value_type.clone(), pairs: Pairs::default() })
    }

    /// Adds the value of each row to its group; rows without a value, and those that the filter
    /// does not let through, add nothing. `group_count` is the number of groups so far.
    pub fn update(
        &mut self,
        values: &dyn Array,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), ArrowError> {
        self.pairs.set_group_count(group_count)?;
        with_type!(values.data_type(), T => {
            self.pairs.add(values.as_primitive::<T>(), groups, filter);
            Ok(())
        })
    }

    /// Adds what [`state`](Self::state) gave out, one list for each row.
    pub fn merge(
        &mut self,
        lists: &ListArray,
        groups: &[usize],
        group_count: usize,
    ) -> Result<(), ArrowError> {
        self.pairs.set_group_count(group_count)?;
        with_type!(&lists.value_type(), T => {
            let values = lists.values().as_primitive::<T>().values();
            for (bounds, &group) in lists.value_offsets().windows(2).zip(groups) {
                let [start, end] = [bounds[0], bounds[1]].map(|place| place as usize);
                self.pairs.add_all(group, &values[start..end]);
            }
            Ok(())
        })
    }

    /// The counts of the first groups, or of all; they are forgotten, and the others move up.
    pub fn counts(&mut self, first: Option<usize>) -> Int64Array {
        let counts = self.pairs.counts();
        let taken = counts[..first.unwrap_or(counts.len())].to_vec();
        self.pairs.forget(taken.len());
        Int64Array::from(taken)
    }

    /// The values of the first groups, or of all, as one list for each; they are forgotten, and the
    /// others move up.
    pub fn state(&mut self, first: Option<usize>) -> Result<ListArray, ArrowError> {
        let taken = first.unwrap_or(self.pairs.counts().len());
        let (offsets, values) = self.pairs.lists(taken)?;
        self.pairs.forget(taken);
        lists(&self.value_type, offsets, values)
    }

    /// Each row as a state of its own, for rows that are not worth grouping yet.
    pub fn convert(
        &self,
        values: &dyn Array,
        filter: Option<&BooleanArray>,
    ) -> Result<ListArray, ArrowError> {
        let mut offsets = Vec::with_capacity(values.len() + 1);
        let mut kept = Vec::with_capacity(values.len());
        offsets.push(0);
        with_type!(values.data_type(), T => {
            let array = values.as_primitive::<T>();
            for row in 0..array.len() {
                if array.is_valid(row) && filter.is_none_or(|filter| lets(filter, row)) {
                    kept.push(widen(array.value(row)));
                }
                offsets.push(kept.len() as i32);
            }
            Ok::<_, ArrowError>(())
        })?;
        lists(&self.value_type, offsets, kept)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.pairs.size()
    }
}

/// Whether values of this type can be counted.
#[must_use]
pub fn is_supported(value_type: &DataType) -> bool {
    with_type!(value_type, T => Ok::<_, ArrowError>(size_of::<T>())).is_ok()
}

fn lets(filter: &BooleanArray, row: usize) -> bool {
    filter.is_valid(row) && filter.value(row)
}

fn lists(
    value_type: &DataType,
    offsets: Vec<i32>,
    values: Vec<i64>,
) -> Result<ListArray, ArrowError> {
    let values = with_type!(value_type, T => Ok(narrow::<T>(values, value_type)))?;
    let field = Arc::new(Field::new_list_field(value_type.clone(), true));
    ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, None)
}

fn narrow<T>(values: Vec<i64>, value_type: &DataType) -> ArrayRef
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i64>,
{
    let back = |value| match T::Native::try_from(value) {
        Ok(value) => value,
        Err(_) => unreachable!("it was widened from this type"),
    };
    let values: ScalarBuffer<T::Native> = values.into_iter().map(back).collect();
    let array = PrimitiveArray::<T>::new(values, None);
    Arc::new(array.with_data_type(value_type.clone()))
}

fn widen<N>(value: N) -> i64
where
    i64: From<N>,
{
    i64::from(value)
}

fn unsupported(data_type: &DataType) -> ArrowError {
    ArrowError::NotYetImplemented(format!("count distinct values of type {data_type}"))
}
