//! Aggregates, and the states they keep for each group.
//!
//! One implementation for both uses: a view keeps the states of its groups for ever, a query over
//! the stream makes them and throws them away. So the two agree.
//!
//! Promises, each held by a property test over every aggregate:
//!
//! - **reload**: encoding a state, merging it into an empty one and going on gives the same bytes
//!   as never having stored it;
//! - **chunks**: cutting the rows differently gives the same bytes;
//! - **merge**: states merged in the same order give the same bytes; in any order, the same but for
//!   the last digits of sums of doubles.

mod bits;
mod call;
mod choice;
mod codec;
mod count;
mod distinct;
mod extreme;
mod frequent;
mod grouped;
mod histogram;
mod item;
mod moments;
mod names;
mod quantile;
mod registers;
mod rows;
mod sum;
mod tag;
#[cfg(test)]
mod tests;
mod twofold;
mod words;

use std::any::Any;
use std::fmt::Debug;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;

pub use distinct::{DISTINCT_BYTES_MAX, DISTINCT_VALUES_MAX};
pub use frequent::{COUNTERS_FOR_EACH, COUNTERS_MIN, K_MAX};
pub use histogram::BOUNDS_MAX;
pub use quantile::RELATIVE_ERROR_MAX;

/// What is computed over the rows of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// Rows; with arguments, rows in which none of them is null.
    Count,
    /// Exact for integers and decimals; doubles are added in row order.
    Sum,
    /// The mean.
    Avg,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// `var_samp`, `var_pop`.
    Variance {
        /// Divided by `n - 1`.
        sample: bool,
    },
    /// `stddev_samp`, `stddev_pop`.
    Deviation {
        /// Divided by `n - 1`.
        sample: bool,
    },
    /// `covar_samp`, `covar_pop`.
    Covariance {
        /// Divided by `n - 1`.
        sample: bool,
    },
    /// `corr`.
    Correlation,
    /// `regr_…(y, x)`.
    Regression(Regression),
    /// All are true.
    BoolAnd,
    /// One is true.
    BoolOr,
    /// `bit_and`.
    BitAnd,
    /// `bit_or`.
    BitOr,
    /// `bit_xor`.
    BitXor,
    /// The value of the first row by the order keys, which follow it as arguments.
    First {
        /// One for each order key; without any, the first row.
        orders: Vec<Order>,
        /// Rows without a value do not count.
        ignore_nulls: bool,
    },
    /// As `First`, the last row.
    Last {
        /// As in `First`.
        orders: Vec<Order>,
        /// As in `First`.
        ignore_nulls: bool,
    },
    /// The first argument where the second is smallest.
    ArgMin,
    /// The first argument where the second is largest.
    ArgMax,
    /// About how many different values there are.
    ApproxDistinct,
    /// About the value that this share of the values is not above.
    ApproxQuantile {
        /// From 0 to 1.
        quantile: f64,
    },
    /// The values met most often, with their counts.
    FrequentItems {
        /// How many.
        k: usize,
    },
    /// How many values lie between bounds.
    Histogram {
        /// Ascending. There is one count below the first, one from each bound on.
        bounds: Vec<f64>,
    },
}

/// Which figure of the line through the points `(x, y)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Regression {
    Slope,
    Intercept,
    R2,
    Count,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
}

/// How one key orders rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Largest first.
    pub descending: bool,
    /// Nulls before values.
    pub nulls_first: bool,
}

/// Whether values or encoded states go in or come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Values of the argument or output type.
    #[default]
    Values,
    /// States of this aggregate as `Binary`: what [`States::encode`] writes.
    State,
}

/// An aggregate with its types.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    /// Which.
    pub aggregate: Aggregate,
    /// Each value counts once.
    pub distinct: bool,
    /// Types of the arguments: none for `count(*)`; the value, then the order keys, for `First` and
    /// `Last`.
    pub arguments: Vec<DataType>,
    /// What goes in. With [`Form::State`] the only argument is the state.
    pub input: Form,
    /// What comes out.
    pub output: Form,
    /// The type of what comes out.
    pub output_type: DataType,
}

/// The states of one aggregate, for groups in slots `0..len`.
pub trait States: Any + Send + Sync + Debug {
    /// Makes it so many slots. New ones are empty states.
    fn resize(&mut self, slots: usize);

    /// Takes in rows, in order: row `i` belongs to slot `slots[i]`. Rows where `keep` is not true
    /// are left out.
    ///
    /// # Errors
    /// When a state has no room for what a row brings. The states of these slots are then not to be
    /// used any more; others are as they were.
    fn update(
        &mut self,
        slots: &[u32],
        arguments: &[ArrayRef],
        keep: Option<&BooleanArray>,
    ) -> Result<(), StateError>;

    /// Whether `update` with these rows is certain not to fail, told cheaply. Where it is not, the
    /// caller keeps copies of the states of these slots, to go back to.
    fn has_room(&self, slots: &[u32], arguments: &[ArrayRef], keep: Option<&BooleanArray>) -> bool {
        let _ = (slots, arguments, keep);
        false
    }

    /// Appends the state of a slot, in a versioned form that says where it ends.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);

    /// Takes one encoded state from the front of `bytes` and merges it into a slot; into an empty
    /// slot, copies it exactly.
    ///
    /// # Errors
    /// When the bytes are no state of this aggregate, or there is no room.
    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), StateError>;

    /// Takes one encoded state from the front of `bytes` and forgets it.
    ///
    /// # Errors
    /// When the bytes are no state of this aggregate.
    fn skip(&self, bytes: &mut &[u8]) -> Result<(), StateError>;

    /// Merges states of the same aggregate into these slots, each as [`States::merge`] does with
    /// what [`States::encode`] makes of it.
    ///
    /// # Errors
    /// When there is no room.
    fn absorb(
        &mut self,
        slots: &[u32],
        from: &dyn States,
        numbers: &[u32],
    ) -> Result<(), StateError> {
        let mut bytes = Vec::new();
        for (&slot, &number) in slots.iter().zip(numbers) {
            bytes.clear();
            from.encode(number, &mut bytes);
            self.merge(slot, &mut bytes.as_slice())?;
        }
        Ok(())
    }

    /// What the states of these slots amount to: values, or encoded states.
    ///
    /// # Errors
    /// When a result is outside its type.
    fn finish(&self, slots: &[u32]) -> Result<ArrayRef, StateError>;

    /// Keeps only these slots, in this order, with numbers from 0.
    fn keep(&mut self, slots: &[u32]);

    /// Memory they take, roughly.
    fn bytes(&self) -> usize;
}

/// Why states could not be updated, read or finished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A result does not fit its type.
    #[error("{what} is outside {output_type}")]
    Overflow {
        /// What was computed, for example "sum".
        what: &'static str,
        /// Its type, as SQL says it.
        output_type: String,
    },
    /// A group's state would grow beyond its bound.
    #[error("{what} of one group has more than {max} {unit}; {instead}")]
    TooLarge {
        /// Which aggregate.
        what: &'static str,
        /// The bound.
        max: usize,
        /// Of what.
        unit: &'static str,
        /// What to use in its place.
        instead: &'static str,
    },
    /// The bytes are not a state.
    #[error("a stored state of {what} is malformed: {reason}")]
    Malformed {
        /// Which aggregate.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// There is no such aggregate over such arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {arguments} is not maintained")]
pub struct UnsupportedAggregate {
    /// Which aggregate.
    pub what: String,
    /// The argument types.
    pub arguments: String,
}
