//! Variance and deviation; covariance, correlation, regression.
//!
//! The states are sums of values, squares and products, with twice the digits of a double
//! ([`Twofold`]). So it shows in the last digit at most in which order rows came or states were
//! merged, and a view and a query agree even where a covariance is near zero.
//!
//! A spread that the sums cannot tell from none (less than 2^-44 of the values, about one part in
//! 10^13) counts as none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::codec::{Reader, put_varint};
use super::count::add_counts;
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::twofold::Twofold;
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

/// What is told from sums: of `count` times a sum of products, the square of a sum.
const RESOLUTION: f64 = 1.0 / (1_u128 << 88) as f64;

/// The sum of the products of the distances of `x` and `y` from their means; `size` is what the
/// products amount to at most.
fn products(count: u64, xy: Twofold, x: Twofold, y: Twofold, size: f64) -> f64 {
    let count = count as f64;
    let apart = xy.times_double(count).minus(x.times(y)).double();
    if apart.abs() <= RESOLUTION * count * size { 0.0 } else { apart / count }
}

/// The sum of the squared distances from the mean.
fn squares(count: u64, xx: Twofold, x: Twofold) -> f64 {
    let squares = products(count, xx, x, x, xx.double());
    // Of very many rows, rounding may be more than what is told apart. Not a number stays so.
    if squares < 0.0 { 0.0 } else { squares }
}

/// The sums of values and of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    count: u64,
    sum: Twofold,
    squares: Twofold,
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
            let (cell, value) = (&mut cells[slot], values[row]);
            cell.count = cell.count.wrapping_add(1);
            cell.sum = cell.sum.plus_double(value);
            cell.squares = cell.squares.plus(Twofold::product(value, value));
        });
        Ok(())
    }

    fn encode(&self, cell: &Spread, out: &mut Vec<u8>) {
        put_varint(cell.count, out);
        if cell.count != 0 {
            cell.sum.put(out);
            cell.squares.put(out);
        }
    }

    fn merge(
        &self,
        cell: &mut Spread,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let count = add_counts(cell.count, bytes)?;
        if count == cell.count {
            return Ok(());
        }
        let (sum, squares) = (Twofold::read(bytes)?, Twofold::read(bytes)?);
        *cell = match cell.count {
            0 => Spread { count, sum, squares },
            _ => Spread { count, sum: cell.sum.plus(sum), squares: cell.squares.plus(squares) },
        };
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Spread>) -> Result<ArrayRef, StateError> {
        let values = cells.iter().map(|cell| {
            let divisor = divisor(cell.count, self.is_sample)?;
            let variance = squares(cell.count, cell.squares, cell.sum) / divisor;
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

/// The sums of points, of their squares and of their products.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    count: u64,
    x: Twofold,
    y: Twofold,
    xx: Twofold,
    yy: Twofold,
    xy: Twofold,
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

/// How points spread around their mean.
struct Around {
    mean_x: f64,
    mean_y: f64,
    squares_x: f64,
    squares_y: f64,
    /// The sum of products of the distances from both means.
    products: f64,
}

impl Line {
    #[inline]
    fn add(&mut self, x: f64, y: f64) {
        self.count = self.count.wrapping_add(1);
        self.x = self.x.plus_double(x);
        self.y = self.y.plus_double(y);
        self.xx = self.xx.plus(Twofold::product(x, x));
        self.yy = self.yy.plus(Twofold::product(y, y));
        self.xy = self.xy.plus(Twofold::product(x, y));
    }

    fn join(&mut self, other: &Line) {
        *self = Line {
            count: self.count + other.count,
            x: self.x.plus(other.x),
            y: self.y.plus(other.y),
            xx: self.xx.plus(other.xx),
            yy: self.yy.plus(other.yy),
            xy: self.xy.plus(other.xy),
        };
    }

    fn around(&self) -> Around {
        let Line { count, x, y, xx, yy, xy } = *self;
        let number = count as f64;
        Around {
            mean_x: x.double() / number,
            mean_y: y.double() / number,
            squares_x: squares(count, xx, x),
            squares_y: squares(count, yy, y),
            products: products(count, xy, x, y, xx.double().sqrt() * yy.double().sqrt()),
        }
    }

    fn figure(&self, figure: &Figure) -> Option<f64> {
        match figure {
            Figure::Covariance { is_sample } => {
                Some(self.around().products / divisor(self.count, *is_sample)?)
            }
            Figure::Correlation => self.correlation(),
            Figure::Regression(regression) => self.regression(*regression),
        }
    }

    fn correlation(&self) -> Option<f64> {
        let around = self.around();
        if around.mean_x.is_nan() && around.mean_y.is_nan() {
            return (self.count != 0).then_some(f64::NAN);
        }
        let is_defined = 2 <= self.count && !around.mean_x.is_nan() && !around.mean_y.is_nan();
        let is_flat = around.squares_x == 0.0 || around.squares_y == 0.0;
        let correlation = around.products / around.squares_x.sqrt() / around.squares_y.sqrt();
        (is_defined && !is_flat).then(|| correlation.clamp(-1.0, 1.0))
    }

    fn regression(&self, regression: Regression) -> Option<f64> {
        let Around { mean_x, mean_y, squares_x, squares_y, products } = self.around();
        let is_line = 2 <= self.count && squares_x != 0.0;
        let slope = products / squares_x;
        let some = |value| (self.count != 0).then_some(value);
        match regression {
            Regression::Slope => is_line.then_some(slope),
            Regression::Intercept => is_line.then_some(mean_y - slope * mean_x),
            Regression::R2 => {
                let is_flat = squares_y == 0.0;
                (is_line && !is_flat).then(|| (slope * (products / squares_y)).min(1.0))
            }
            Regression::Count => Some(self.count as f64),
            Regression::AvgX => some(mean_x),
            Regression::AvgY => some(mean_y),
            Regression::Sxx => some(squares_x),
            Regression::Syy => some(squares_y),
            Regression::Sxy => some(products),
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
            let Line { count: _, x, y, xx, yy, xy } = *cell;
            for sum in [x, y, xx, yy, xy] {
                sum.put(out);
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
            x: Twofold::read(bytes)?,
            y: Twofold::read(bytes)?,
            xx: Twofold::read(bytes)?,
            yy: Twofold::read(bytes)?,
            xy: Twofold::read(bytes)?,
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
