//! What aggregates are called, and what comes out of them.

use arrow::datatypes::DataType;

use super::histogram::Histogram;
use super::{Aggregate, Order, Regression, frequent};

impl Order {
    /// Smallest first, nulls last: as SQL orders unless told otherwise.
    pub const ASCENDING: Order = Order { descending: false, nulls_first: false };

    /// The other way around.
    #[must_use]
    pub fn reversed(self) -> Order {
        Order { descending: !self.descending, nulls_first: !self.nulls_first }
    }
}

impl Aggregate {
    /// Whether values that are met again change nothing.
    #[must_use]
    pub fn is_same_over_distinct(&self) -> bool {
        match self {
            Aggregate::Min
            | Aggregate::Max
            | Aggregate::BoolAnd
            | Aggregate::BoolOr
            | Aggregate::BitAnd
            | Aggregate::BitOr
            | Aggregate::ApproxDistinct => true,
            Aggregate::Count
            | Aggregate::Sum
            | Aggregate::Avg
            | Aggregate::Variance { .. }
            | Aggregate::Deviation { .. }
            | Aggregate::Covariance { .. }
            | Aggregate::Correlation
            | Aggregate::Regression(_)
            | Aggregate::BitXor
            | Aggregate::First { .. }
            | Aggregate::Last { .. }
            | Aggregate::ArgMin
            | Aggregate::ArgMax
            | Aggregate::ApproxQuantile { .. }
            | Aggregate::FrequentItems { .. }
            | Aggregate::Histogram { .. } => false,
        }
    }

    /// The type of its values over arguments of these types; `None` where it has none.
    #[must_use]
    pub fn output_type(&self, arguments: &[DataType]) -> Option<DataType> {
        match self {
            Aggregate::Count => Some(DataType::Int64),
            Aggregate::Sum => sum_type(arguments.first()?),
            Aggregate::Avg => avg_type(arguments.first()?),
            Aggregate::Variance { .. }
            | Aggregate::Deviation { .. }
            | Aggregate::Covariance { .. }
            | Aggregate::Correlation
            | Aggregate::ApproxQuantile { .. } => Some(DataType::Float64),
            Aggregate::Regression(Regression::Count) | Aggregate::ApproxDistinct => {
                Some(DataType::UInt64)
            }
            Aggregate::Regression(_) => Some(DataType::Float64),
            Aggregate::Min
            | Aggregate::Max
            | Aggregate::BoolAnd
            | Aggregate::BoolOr
            | Aggregate::BitAnd
            | Aggregate::BitOr
            | Aggregate::BitXor
            | Aggregate::First { .. }
            | Aggregate::Last { .. }
            | Aggregate::ArgMin
            | Aggregate::ArgMax => arguments.first().cloned(),
            Aggregate::FrequentItems { .. } => arguments.first().map(frequent::output_type),
            Aggregate::Histogram { .. } => Some(Histogram::output_type()),
        }
    }

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

fn sum_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            Some(DataType::Int64)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            Some(DataType::UInt64)
        }
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Decimal32(precision, scale) => {
            Some(DataType::Decimal32((precision + 10).min(9), *scale))
        }
        DataType::Decimal64(precision, scale) => {
            Some(DataType::Decimal64((precision + 10).min(18), *scale))
        }
        DataType::Decimal128(precision, scale) => {
            Some(DataType::Decimal128((precision + 10).min(38), *scale))
        }
        _ => None,
    }
}

fn avg_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Decimal32(precision, scale) => {
            Some(DataType::Decimal32((precision + 4).min(9), (scale + 4).min(9)))
        }
        DataType::Decimal64(precision, scale) => {
            Some(DataType::Decimal64((precision + 4).min(18), (scale + 4).min(18)))
        }
        DataType::Decimal128(precision, scale) => {
            Some(DataType::Decimal128((precision + 4).min(38), (scale + 4).min(38)))
        }
        other => other.is_numeric().then_some(DataType::Float64),
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
