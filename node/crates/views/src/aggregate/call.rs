//! From an aggregate with its types to the code that keeps its states.

use std::fmt::Debug;
use std::marker::PhantomData;

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use super::bits::{Bits, Bitwise};
use super::choice::Choice;
use super::count::Count;
use super::distinct::Distinct;
use super::extreme::{Booleans, End, ExtremeBytes, ExtremeFixed, Fixed, Wides, Words};
use super::frequent::{FrequentItems, K_MAX};
use super::grouped::Grouped;
use super::histogram::Histogram;
use super::item::{Item, ItemBytes};
use super::moments::{Figure, Points, Variance};
use super::quantile::ApproxQuantile;
use super::registers::ApproxDistinct;
use super::sum::{Sum, Totals};
use super::words::{Shape, shape, with_word_type};
use super::{Aggregate, AggregateCall, Form, Order, States, UnsupportedAggregate};

type Made = Option<Box<dyn States>>;

impl AggregateCall {
    /// States for no slots yet.
    ///
    /// # Errors
    /// When there is no such aggregate over such arguments.
    pub fn states(&self) -> Result<Box<dyn States>, UnsupportedAggregate> {
        self.make().ok_or_else(|| {
            let arguments: Vec<_> = self.arguments.iter().map(DataType::to_string).collect();
            let distinct = if self.distinct { "DISTINCT " } else { "" };
            UnsupportedAggregate {
                what: self.aggregate.name().to_owned(),
                arguments: format!("({distinct}{})", arguments.join(", ")),
            }
        })
    }

    fn make(&self) -> Made {
        let first = self.arguments.first();
        if self.distinct && !self.aggregate.is_same_over_distinct() {
            return self.distinct(first?);
        }
        match &self.aggregate {
            Aggregate::Count => Some(Grouped::states(Count, self)),
            Aggregate::Sum => self.totals(first?, false),
            Aggregate::Avg => self.totals(first?, true),
            Aggregate::Min => self.extreme(first?, false),
            Aggregate::Max => self.extreme(first?, true),
            Aggregate::Variance { sample } => self.variance(*sample, false),
            Aggregate::Deviation { sample } => self.variance(*sample, true),
            Aggregate::Covariance { sample } => {
                self.points(Figure::Covariance { is_sample: *sample })
            }
            Aggregate::Correlation => self.points(Figure::Correlation),
            Aggregate::Regression(regression) => self.points(Figure::Regression(*regression)),
            Aggregate::BoolAnd => self.booleans(Bitwise::And),
            Aggregate::BoolOr => self.booleans(Bitwise::Or),
            Aggregate::BitAnd => self.bits(Bitwise::And),
            Aggregate::BitOr => self.bits(Bitwise::Or),
            Aggregate::BitXor => self.bits(Bitwise::Xor),
            Aggregate::First { orders, ignore_nulls } => {
                self.choice(orders, false, if *ignore_nulls { vec![0] } else { vec![] })
            }
            Aggregate::Last { orders, ignore_nulls } => {
                let orders: Vec<_> = orders.iter().map(|order| order.reversed()).collect();
                self.choice(&orders, true, if *ignore_nulls { vec![0] } else { vec![] })
            }
            Aggregate::ArgMin => self.choice(&[Order::ASCENDING], false, vec![1]),
            Aggregate::ArgMax => self.choice(&[Order::ASCENDING.reversed()], false, vec![1]),
            Aggregate::ApproxDistinct => self.approx_distinct(first?),
            Aggregate::ApproxQuantile { quantile } => self.approx_quantile(*quantile),
            Aggregate::FrequentItems { k } => self.frequent_items(first?, *k),
            Aggregate::Histogram { bounds } => self.histogram(bounds),
        }
    }

    fn totals(&self, argument: &DataType, is_mean: bool) -> Made {
        match argument {
            DataType::Int8 => self.totals_of::<Int8Type, i128>(0, is_mean),
            DataType::Int16 => self.totals_of::<Int16Type, i128>(0, is_mean),
            DataType::Int32 => self.totals_of::<Int32Type, i128>(0, is_mean),
            DataType::Int64 => self.totals_of::<Int64Type, i128>(0, is_mean),
            DataType::UInt8 => self.totals_of::<UInt8Type, i128>(0, is_mean),
            DataType::UInt16 => self.totals_of::<UInt16Type, i128>(0, is_mean),
            DataType::UInt32 => self.totals_of::<UInt32Type, i128>(0, is_mean),
            DataType::UInt64 => self.totals_of::<UInt64Type, i128>(0, is_mean),
            DataType::Float32 => self.totals_of::<Float32Type, f64>(0, is_mean),
            DataType::Float64 => self.totals_of::<Float64Type, f64>(0, is_mean),
            DataType::Decimal32(_, scale) => self.totals_of::<Decimal32Type, i128>(*scale, is_mean),
            DataType::Decimal64(_, scale) => self.totals_of::<Decimal64Type, i128>(*scale, is_mean),
            DataType::Decimal128(_, scale) => {
                self.totals_of::<Decimal128Type, i256>(*scale, is_mean)
            }
            _ => None,
        }
    }

    fn totals_of<T, S>(&self, scale: i8, is_mean: bool) -> Made
    where
        T: ArrowPrimitiveType + Debug,
        S: Sum + From<T::Native>,
    {
        let output_type = self.output_type.clone();
        let kernel: Totals<T, S> = Totals { is_mean, scale, output_type, types: PhantomData };
        Some(Grouped::states(kernel, self))
    }

    fn extreme(&self, argument: &DataType, is_max: bool) -> Made {
        let end = End { is_max, data_type: argument.clone() };
        match shape(argument)? {
            Shape::Bytes => Some(Grouped::states(ExtremeBytes { end }, self)),
            Shape::Wide => Some(self.extreme_of::<Wides>(end)),
            Shape::Word => Some(with_word_type!(
                argument,
                T => self.extreme_of::<Words<T>>(end),
                self.extreme_of::<Booleans>(end)
            )),
        }
    }

    fn extreme_of<F: Fixed>(&self, end: End) -> Box<dyn States> {
        let kernel: ExtremeFixed<F> = ExtremeFixed { end, values: PhantomData };
        Grouped::states(kernel, self)
    }

    fn variance(&self, is_sample: bool, is_deviation: bool) -> Made {
        self.are_numbers(1).then(|| Grouped::states(Variance { is_sample, is_deviation }, self))
    }

    fn points(&self, figure: Figure) -> Made {
        let output_type = self.output_type.clone();
        self.are_numbers(2).then(|| Grouped::states(Points { figure, output_type }, self))
    }

    /// There are so many arguments, each a number; or the argument is a state.
    fn are_numbers(&self, count: usize) -> bool {
        match self.input {
            Form::State => true,
            Form::Values => {
                self.arguments.len() == count && self.arguments.iter().all(DataType::is_numeric)
            }
        }
    }

    fn booleans(&self, bitwise: Bitwise) -> Made {
        let argument = self.arguments.first()?;
        (*argument == DataType::Boolean)
            .then(|| Grouped::states(Bits::new(bitwise, DataType::Boolean), self))
    }

    fn bits(&self, bitwise: Bitwise) -> Made {
        let argument = self.arguments.first()?;
        argument.is_integer().then(|| Grouped::states(Bits::new(bitwise, argument.clone()), self))
    }

    fn distinct(&self, argument: &DataType) -> Made {
        let is_over_set = matches!(
            self.aggregate,
            Aggregate::Count
                | Aggregate::Sum
                | Aggregate::Avg
                | Aggregate::Variance { .. }
                | Aggregate::Deviation { .. }
                | Aggregate::BitXor
        );
        if !is_over_set || self.arguments.len() != 1 {
            return None;
        }
        let over = AggregateCall { distinct: false, input: Form::Values, ..self.clone() };
        over.make()?;
        Some(match shape(argument)? {
            Shape::Word => Grouped::states(Distinct::<u64>::new(self, argument), self),
            Shape::Wide => Grouped::states(Distinct::<u128>::new(self, argument), self),
            Shape::Bytes => Grouped::states(Distinct::<ItemBytes>::new(self, argument), self),
        })
    }

    fn choice(&self, orders: &[Order], takes_last: bool, not_null: Vec<usize>) -> Made {
        let choice = Choice::new(&self.arguments, orders, takes_last, not_null)?;
        Some(Grouped::states(choice, self))
    }

    fn approx_distinct(&self, argument: &DataType) -> Made {
        // A state does not say what its values were, and it does not matter.
        let shape = if self.input == Form::State { Shape::Word } else { shape(argument)? };
        Some(match shape {
            Shape::Word => self.approx_distinct_of::<u64>(),
            Shape::Wide => self.approx_distinct_of::<u128>(),
            Shape::Bytes => self.approx_distinct_of::<ItemBytes>(),
        })
    }

    fn approx_distinct_of<I: Item>(&self) -> Box<dyn States> {
        let output_type = self.output_type.clone();
        Grouped::states(ApproxDistinct::<I> { output_type, items: PhantomData }, self)
    }

    fn approx_quantile(&self, quantile: f64) -> Made {
        let output_type = self.output_type.clone();
        let is_made = (0.0..=1.0).contains(&quantile) && self.are_numbers(1);
        is_made.then(|| Grouped::states(ApproxQuantile { quantile, output_type }, self))
    }

    fn frequent_items(&self, argument: &DataType, k: usize) -> Made {
        if !(1..=K_MAX).contains(&k) {
            return None;
        }
        // A state is of values of the type that comes out.
        let argument = match (self.input, &self.output_type) {
            (Form::State, DataType::List(item)) => match item.data_type() {
                DataType::Struct(fields) => fields.first()?.data_type(),
                _ => return None,
            },
            (Form::State | Form::Values, _) => argument,
        };
        Some(match shape(argument)? {
            Shape::Word => self.frequent_items_of::<u64>(argument, k),
            Shape::Wide => self.frequent_items_of::<u128>(argument, k),
            Shape::Bytes => self.frequent_items_of::<ItemBytes>(argument, k),
        })
    }

    fn frequent_items_of<I: Item>(&self, argument: &DataType, k: usize) -> Box<dyn States> {
        let data_type = argument.clone();
        Grouped::states(FrequentItems::<I> { k, data_type, items: PhantomData }, self)
    }

    fn histogram(&self, bounds: &[f64]) -> Made {
        let is_made = Histogram::are_bounds(bounds) && self.are_numbers(1);
        is_made.then(|| Grouped::states(Histogram { bounds: bounds.to_vec() }, self))
    }
}
