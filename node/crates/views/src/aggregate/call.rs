//! From an aggregate with its types to the code that keeps its states.

use std::fmt::Debug;
use std::marker::PhantomData;

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use super::bits::{Bits, Bitwise};
use super::count::Count;
use super::extreme::{Booleans, End, ExtremeBytes, ExtremeFixed, Fixed, Wides, Words};
use super::grouped::Grouped;
use super::moments::{Figure, Points, Variance};
use super::sum::{Sum, Totals};
use super::words::{Shape, shape, with_word_type};
use super::{Aggregate, AggregateCall, Form, Regression, States, UnsupportedAggregate};

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
            Aggregate::First { .. }
            | Aggregate::Last { .. }
            | Aggregate::ArgMin
            | Aggregate::ArgMax
            | Aggregate::ApproxDistinct
            | Aggregate::ApproxQuantile { .. }
            | Aggregate::FrequentItems { .. }
            | Aggregate::Histogram { .. } => None,
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
            DataType::Decimal32(_, scale) => {
                self.totals_of::<Decimal32Type, i128>(*scale, is_mean)
            }
            DataType::Decimal64(_, scale) => {
                self.totals_of::<Decimal64Type, i128>(*scale, is_mean)
            }
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
        argument
            .is_integer()
            .then(|| Grouped::states(Bits::new(bitwise, argument.clone()), self))
    }
}

impl Aggregate {
    /// Its name in SQL.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Aggregate::Count => "count",
            Aggregate::Sum => "sum",
            Aggregate::Avg => "avg",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Variance { sample: true } => "var_samp",
            Aggregate::Variance { sample: false } => "var_pop",
            Aggregate::Deviation { sample: true } => "stddev_samp",
            Aggregate::Deviation { sample: false } => "stddev_pop",
            Aggregate::Covariance { sample: true } => "covar_samp",
            Aggregate::Covariance { sample: false } => "covar_pop",
            Aggregate::Correlation => "corr",
            Aggregate::Regression(regression) => regression.name(),
            Aggregate::BoolAnd => "bool_and",
            Aggregate::BoolOr => "bool_or",
            Aggregate::BitAnd => "bit_and",
            Aggregate::BitOr => "bit_or",
            Aggregate::BitXor => "bit_xor",
            Aggregate::First { .. } => "first_value",
            Aggregate::Last { .. } => "last_value",
            Aggregate::ArgMin => "arg_min",
            Aggregate::ArgMax => "arg_max",
            Aggregate::ApproxDistinct => "approx_distinct",
            Aggregate::ApproxQuantile { .. } => "approx_percentile_cont",
            Aggregate::FrequentItems { .. } => "top_k",
            Aggregate::Histogram { .. } => "histogram",
        }
    }
}

impl Regression {
    /// Its name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Regression::Slope => "regr_slope",
            Regression::Intercept => "regr_intercept",
            Regression::R2 => "regr_r2",
            Regression::Count => "regr_count",
            Regression::AvgX => "regr_avgx",
            Regression::AvgY => "regr_avgy",
            Regression::Sxx => "regr_sxx",
            Regression::Syy => "regr_syy",
            Regression::Sxy => "regr_sxy",
        }
    }
}
