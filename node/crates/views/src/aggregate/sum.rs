//! `sum` and `avg`.
//!
//! Sums of integers and decimals are exact: what the state holds cannot overflow, only the result
//! can be outside its type. Doubles are added in row order.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Int64Type, UInt64Type, i256,
};

use super::codec::{Reader, put_f64, put_i128, put_i256, put_varint};
use super::count::{add_counts, join_counts};
use super::grouped::{Kernel, Picked};
use super::rows::Rows;
use super::{StateError, tag};

/// What sums are kept in.
pub(super) trait Sum: Copy + Default + Debug + Send + Sync + 'static {
    /// See [`Kernel::TAG`].
    const TAG: u8;
    /// One more value.
    fn add(self, value: Self) -> Self;
    /// The sum of both, `None` when there is no such sum: then one was not made by adding values.
    fn join(self, other: Self) -> Option<Self>;
    fn put(self, out: &mut Vec<u8>);
    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError>;
    /// The sum, if it is a whole number of 128 bits.
    fn whole(self) -> Option<i128>;
    /// The sum, for dividing it.
    fn double(self) -> f64;
    /// The sum times a power of ten, over a count, without the digits that are left over.
    fn divide(self, factor: i128, count: u64) -> Option<i128>;
}

impl Sum for i128 {
    const TAG: u8 = tag::SUM_INTEGERS;

    #[inline]
    fn add(self, value: i128) -> i128 {
        self.wrapping_add(value)
    }

    fn join(self, other: i128) -> Option<i128> {
        self.checked_add(other)
    }

    fn put(self, out: &mut Vec<u8>) {
        put_i128(self, out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<i128, StateError> {
        bytes.i128()
    }

    fn whole(self) -> Option<i128> {
        Some(self)
    }

    fn double(self) -> f64 {
        self as f64
    }

    fn divide(self, factor: i128, count: u64) -> Option<i128> {
        i256::from_i128(self).divide(factor, count)
    }
}

impl Sum for i256 {
    const TAG: u8 = tag::SUM_DECIMALS;

    #[inline]
    fn add(self, value: i256) -> i256 {
        self.wrapping_add(value)
    }

    fn join(self, other: i256) -> Option<i256> {
        self.checked_add(other)
    }

    fn put(self, out: &mut Vec<u8>) {
        put_i256(self, out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<i256, StateError> {
        bytes.i256()
    }

    fn whole(self) -> Option<i128> {
        self.to_i128()
    }

    fn double(self) -> f64 {
        self.to_i128().map_or(f64::NAN, |whole| whole as f64)
    }

    fn divide(self, factor: i128, count: u64) -> Option<i128> {
        let count = i256::from_i128(i128::from(count));
        self.checked_mul(i256::from_i128(factor))?.checked_div(count)?.to_i128()
    }
}

impl Sum for f64 {
    const TAG: u8 = tag::SUM_DOUBLES;

    #[inline]
    fn add(self, value: f64) -> f64 {
        self + value
    }

    fn join(self, other: f64) -> Option<f64> {
        Some(self + other)
    }

    fn put(self, out: &mut Vec<u8>) {
        put_f64(self, out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<f64, StateError> {
        bytes.f64()
    }

    fn whole(self) -> Option<i128> {
        None
    }

    fn double(self) -> f64 {
        self
    }

    fn divide(self, _factor: i128, _count: u64) -> Option<i128> {
        None
    }
}

/// A sum, and of how many values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total<S> {
    sum: S,
    count: u64,
}

/// Adds values of the Arrow type `T` into sums `S`.
#[derive(Debug)]
pub(super) struct Totals<T, S> {
    /// `avg` instead of `sum`.
    pub is_mean: bool,
    /// Scale of the values.
    pub scale: i8,
    pub output_type: DataType,
    pub types: PhantomData<fn(T) -> S>,
}

impl<T, S> Kernel for Totals<T, S>
where
    T: ArrowPrimitiveType + Debug,
    S: Sum + From<T::Native>,
{
    type Cell = Total<S>;

    const TAG: u8 = S::TAG;
    const WHAT: &'static str = "sum";

    fn update(
        &self,
        cells: &mut [Total<S>],
        rows: Rows<'_>,
        arguments: &[ArrayRef],
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let values = arguments[0].as_primitive::<T>().values();
        rows.each(arguments, |row, slot| {
            let total = &mut cells[slot];
            total.sum = total.sum.add(S::from(values[row]));
            total.count = total.count.wrapping_add(1);
        });
        Ok(())
    }

    fn encode(&self, cell: &Total<S>, out: &mut Vec<u8>) {
        put_varint(cell.count, out);
        if cell.count != 0 {
            cell.sum.put(out);
        }
    }

    fn merge(
        &self,
        cell: &mut Total<S>,
        bytes: &mut Reader<'_>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        let count = add_counts(cell.count, bytes)?;
        if count == cell.count {
            return Ok(());
        }
        let sum = S::read(bytes)?;
        cell.sum = match cell.count {
            0 => sum,
            _ => cell.sum.join(sum).ok_or_else(|| bytes.malformed("its sum is too large"))?,
        };
        cell.count = count;
        Ok(())
    }

    fn absorb(
        &self,
        cell: &mut Total<S>,
        other: &Total<S>,
        _heap: &mut usize,
    ) -> Result<(), StateError> {
        if other.count == 0 {
            return Ok(());
        }
        let too_large = || Reader::new(&[], Self::WHAT).malformed("its sum is too large");
        let count = join_counts(cell.count, other.count, Self::WHAT)?;
        cell.sum = match cell.count {
            0 => other.sum,
            _ => cell.sum.join(other.sum).ok_or_else(too_large)?,
        };
        cell.count = count;
        Ok(())
    }

    fn finish(&self, cells: &Picked<'_, Total<S>>) -> Result<ArrayRef, StateError> {
        let totals = cells.iter().map(|total| (total.count != 0).then_some(total));
        if self.output_type == DataType::Float64 {
            let doubles = totals.map(|total| {
                total.map(|total| match self.is_mean {
                    true => total.sum.double() / total.count as f64,
                    false => total.sum.double(),
                })
            });
            return Ok(Arc::new(Float64Array::from_iter(doubles)));
        }
        let mut wholes = Vec::with_capacity(cells.iter().len());
        for total in totals {
            let whole = total.map(|total| self.whole(total).ok_or_else(|| self.overflow()));
            wholes.push(whole.transpose()?);
        }
        self.array(&wholes)
    }
}

impl<T, S: Sum> Totals<T, S> {
    /// The result as a whole number of the last digits; `None` outside 128 bits.
    fn whole(&self, total: &Total<S>) -> Option<i128> {
        if !self.is_mean {
            return total.sum.whole();
        }
        let output_scale = match self.output_type {
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale) => scale,
            _ => 0,
        };
        let digits = u32::try_from(i32::from(output_scale) - i32::from(self.scale)).ok()?;
        total.sum.divide(10_i128.checked_pow(digits)?, total.count)
    }

    fn array(&self, wholes: &[Option<i128>]) -> Result<ArrayRef, StateError> {
        match self.output_type {
            DataType::Int64 => self.narrow::<Int64Type>(wholes, i128::MAX),
            DataType::UInt64 => self.narrow::<UInt64Type>(wholes, i128::MAX),
            DataType::Decimal32(precision, _) => {
                self.narrow::<Decimal32Type>(wholes, digits_end(precision))
            }
            DataType::Decimal64(precision, _) => {
                self.narrow::<Decimal64Type>(wholes, digits_end(precision))
            }
            DataType::Decimal128(precision, _) => {
                self.narrow::<Decimal128Type>(wholes, digits_end(precision))
            }
            _ => Err(self.overflow()),
        }
    }

    /// As values of the output type, each of them between `-end` and `end`.
    fn narrow<N>(&self, wholes: &[Option<i128>], end: i128) -> Result<ArrayRef, StateError>
    where
        N: ArrowPrimitiveType<Native: TryFrom<i128>>,
    {
        let value = |whole: &Option<i128>| {
            let Some(whole) = *whole else { return Ok(None) };
            let value = N::Native::try_from(whole).ok().filter(|_| -end < whole && whole < end);
            value.map(Some).ok_or_else(|| self.overflow())
        };
        let values = wholes.iter().map(value).collect::<Result<PrimitiveArray<N>, _>>()?;
        Ok(Arc::new(values.with_data_type(self.output_type.clone())))
    }

    fn overflow(&self) -> StateError {
        let what = if self.is_mean { "avg" } else { "sum" };
        StateError::Overflow { what, output_type: sql_type(&self.output_type) }
    }
}

/// The smallest whole number that has more digits.
fn digits_end(digits: u8) -> i128 {
    10_i128.pow(u32::from(digits.min(38)))
}

/// The type as SQL says it.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => format!("NUMERIC({precision},{scale})"),
        other => other.to_string(),
    }
}
