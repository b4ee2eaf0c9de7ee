//! Variance and deviation; covariance, correlation, regression.
//!
//! Means and sums of squared distances from them are kept as Welford does, one row after the other:
//! unlike sums of squares they stay good where the mean is large beside the spread. Two states
//! merge as Chan does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::codec::{Reader, put_f64, put_varint};
use super::count::add_counts;
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::{Regression, StateError, tag};

/// Values as doubles.
pub(super) fn doubles(array: &ArrayRef) -> Result<Float64Array, StateError> {
    let not_numbers =
        |error: arrow::error::ArrowError| Reader::new(&[], "numbers").malformed(error.to_string());
    let array = match array.data_type() {
        DataType::Float64 => Arc::clone(array),
        _ => cast(array, &DataType::Float64).map_err(not_numbers)?,
    };
    Ok(array.as_primitive::<Float64Type>().clone())
}

/// How values spread around their mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    count: u64,
    mean: f64,
    /// The sum of squared distances from the mean.
    squares: f64,
}

/// `var_*` and `stddev_*`.
#[derive(Debug)]
pub(super) struct Variance {
    pub is_sample: bool,
    pub is_deviation: bool,
}

impl Kernel for Variance {
    type Cell = Spread;

    const TAG: u8 = tag::SPREAD;
    const WHAT: &'static str = "variance";

    fn update(
        &self,
        cells: &mut [Spread],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let values = doubles(&arguments[0])?;
        let values = values.values();
        rows.each(arguments, |row, slot| {
            let cell = &mut cells[slot];
            cell.count = cell.count.wrapping_add(1);
            let before = values[row] - cell.mean;
            cell.mean += before / cell.count as f64;
            cell.squares += before * (values[row] - cell.mean);
        });
        Ok(())
    }

    fn encode(&self, cell: &Spread, out: &mut Vec<u8>) {
        put_varint(cell.count, out);
        if cell.count != 0 {
            put_f64(cell.mean, out);
            put_f64(cell.squares, out);
        }
    }

    fn merge(
        &self,
        cell: &mut Spread,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let count = add_counts(cell.count, bytes)?;
        let other_count = count - cell.count;
        if other_count == 0 {
            return Ok(());
        }
        let (mean, squares) = (bytes.f64()?, bytes.f64()?);
        if cell.count == 0 {
            *cell = Spread { count, mean, squares };
            return Ok(());
        }
        let weight = cell.count as f64 * (other_count as f64 / count as f64);
        let apart = mean - cell.mean;
        cell.squares += squares + apart * apart * weight;
        cell.mean += apart * (other_count as f64 / count as f64);
        cell.count = count;
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Spread>) -> Result<ArrayRef, StateError> {
        let values = cells.iter().map(|cell| {
            let divisor = divisor(cell.count, self.is_sample)?;
            let variance = cell.squares / divisor;
            Some(if self.is_deviation { variance.sqrt() } else { variance })
        });
        Ok(Arc::new(values.collect::<Float64Array>()))
    }
}

/// What a sum of squares is divided by; `None` where there are too few values.
fn divisor(count: u64, is_sample: bool) -> Option<f64> {
    let divisor = if is_sample { count.saturating_sub(1) } else { count };
    (divisor != 0).then_some(divisor as f64)
}

/// How points spread around their mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    count: u64,
    mean_x: f64,
    mean_y: f64,
    squares_x: f64,
    squares_y: f64,
    /// The sum of products of the distances from both means.
    products: f64,
}

/// What is wanted of the points.
#[derive(Debug)]
pub(super) enum Figure {
    Covariance { is_sample: bool },
    Correlation,
    Regression(Regression),
}

/// `covar_*`, `corr`, `regr_*`. The first argument is `y`, the second `x`.
#[derive(Debug)]
pub(super) struct Points {
    pub figure: Figure,
    pub output_type: DataType,
}

impl Line {
    #[inline]
    fn add(&mut self, x: f64, y: f64) {
        self.count = self.count.wrapping_add(1);
        let count = self.count as f64;
        let (before_x, before_y) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += before_x / count;
        self.mean_y += before_y / count;
        let after_y = y - self.mean_y;
        self.squares_x += before_x * (x - self.mean_x);
        self.squares_y += before_y * after_y;
        self.products += before_x * after_y;
    }

    fn join(&mut self, other: &Line) {
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let weight = self.count as f64 * share;
        let (apart_x, apart_y) = (other.mean_x - self.mean_x, other.mean_y - self.mean_y);
        self.squares_x += other.squares_x + apart_x * apart_x * weight;
        self.squares_y += other.squares_y + apart_y * apart_y * weight;
        self.products += other.products + apart_x * apart_y * weight;
        self.mean_x += apart_x * share;
        self.mean_y += apart_y * share;
        self.count = count;
    }

    fn figure(&self, figure: &Figure) -> Option<f64> {
        match figure {
            Figure::Covariance { is_sample } => {
                Some(self.products / divisor(self.count, *is_sample)?)
            }
            Figure::Correlation => self.correlation(),
            Figure::Regression(regression) => self.regression(*regression),
        }
    }

    fn correlation(&self) -> Option<f64> {
        if self.mean_x.is_nan() && self.mean_y.is_nan() {
            return Some(f64::NAN);
        }
        let is_defined = 2 <= self.count && !self.mean_x.is_nan() && !self.mean_y.is_nan();
        let is_flat = self.squares_x == 0.0 || self.squares_y == 0.0;
        (is_defined && !is_flat)
            .then(|| self.products / self.squares_x.sqrt() / self.squares_y.sqrt())
    }

    fn regression(&self, regression: Regression) -> Option<f64> {
        let is_line = 2 <= self.count && self.squares_x != 0.0;
        let slope = self.products / self.squares_x;
        let some = |value| (self.count != 0).then_some(value);
        match regression {
            Regression::Slope => is_line.then_some(slope),
            Regression::Intercept => is_line.then_some(self.mean_y - slope * self.mean_x),
            Regression::R2 => {
                (is_line && self.squares_y != 0.0).then(|| slope * (self.products / self.squares_y))
            }
            Regression::Count => Some(self.count as f64),
            Regression::AvgX => some(self.mean_x),
            Regression::AvgY => some(self.mean_y),
            Regression::Sxx => some(self.squares_x),
            Regression::Syy => some(self.squares_y),
            Regression::Sxy => some(self.products),
        }
    }
}

impl Kernel for Points {
    type Cell = Line;

    const TAG: u8 = tag::LINE;
    const WHAT: &'static str = "regression";

    fn update(
        &self,
        cells: &mut [Line],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let (y, x) = (doubles(&arguments[0])?, doubles(&arguments[1])?);
        let (y, x) = (y.values(), x.values());
        rows.each(arguments, |row, slot| cells[slot].add(x[row], y[row]));
        Ok(())
    }

    fn encode(&self, cell: &Line, out: &mut Vec<u8>) {
        put_varint(cell.count, out);
        if cell.count != 0 {
            let Line { count: _, mean_x, mean_y, squares_x, squares_y, products } = *cell;
            for number in [mean_x, mean_y, squares_x, squares_y, products] {
                put_f64(number, out);
            }
        }
    }

    fn merge(
        &self,
        cell: &mut Line,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let count = add_counts(cell.count, bytes)? - cell.count;
        if count == 0 {
            return Ok(());
        }
        let other = Line {
            count,
            mean_x: bytes.f64()?,
            mean_y: bytes.f64()?,
            squares_x: bytes.f64()?,
            squares_y: bytes.f64()?,
            products: bytes.f64()?,
        };
        match cell.count {
            0 => *cell = other,
            _ => cell.join(&other),
        }
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Line>) -> Result<ArrayRef, StateError> {
        let counts = cells.iter().map(|cell| cell.count);
        Ok(match self.output_type {
            DataType::UInt64 => Arc::new(counts.map(Some).collect::<UInt64Array>()),
            DataType::Int64 => {
                let counts = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
                Arc::new(Int64Array::from_iter_values(counts))
            }
            _ => {
                let values = cells.iter().map(|cell| cell.figure(&self.figure));
                Arc::new(values.collect::<Float64Array>())
            }
        })
    }
}
