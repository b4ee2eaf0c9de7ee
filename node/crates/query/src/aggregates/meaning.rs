//! What the functions mean, and what they take.

use alluvium_views::aggregate::{Aggregate, BOUNDS_MAX, Form, K_MAX, Regression};
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;

/// The functions, by the names they are registered under.
pub(super) const NAMES: [&str; 29] = [
    "approx_distinct",
    "approx_distinct_state",
    "approx_distinct_merge",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_state",
    "approx_percentile_merge",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_r2",
    "regr_count",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "arg_min",
    "arg_max",
    "top_k",
    "top_k_state",
    "top_k_merge",
    "histogram",
];

/// What a call computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meaning {
    pub(crate) aggregate: Aggregate,
    /// How many arguments are values of rows; those after them are constants.
    pub(crate) values: usize,
    pub(crate) input: Form,
    pub(crate) output: Form,
}

impl Meaning {
    /// The type of what comes out, given those of the arguments.
    pub(crate) fn output_type(&self, arguments: &[DataType]) -> Option<DataType> {
        match (self.output, self.input, &self.aggregate) {
            (Form::State, _, _) => Some(DataType::Binary),
            // A state of frequent items does not say in the plan what the items are.
            (Form::Values, Form::State, Aggregate::FrequentItems { .. }) => {
                self.aggregate.output_type(&[DataType::Utf8View])
            }
            (Form::Values, Form::Values | Form::State, _) => self.aggregate.output_type(arguments),
        }
    }
}

/// The meaning of a call with these constants, by their places; `None` for other functions.
/// Without constants where there must be some it is that of any call of the function.
pub(crate) fn meaning(
    name: &str,
    constants: &dyn Fn(usize) -> Option<ScalarValue>,
    count: usize,
) -> Result<Option<Meaning>> {
    if let Some((aggregate, values)) = moments(name) {
        return Ok(Some(Meaning { values, ..of_values(aggregate) }));
    }
    let to_state = |aggregate| Meaning { output: Form::State, ..of_values(aggregate) };
    let from_state = |aggregate| Meaning { input: Form::State, ..of_values(aggregate) };
    let chosen = |aggregate| Meaning { values: 2, ..of_values(aggregate) };
    let quantile = || quantile(name, constants(1));
    let items = || frequent_items(name, constants(1));
    let middle = Aggregate::ApproxQuantile { quantile: 0.5 };
    Ok(Some(match name {
        "approx_distinct" => of_values(Aggregate::ApproxDistinct),
        "approx_distinct_state" => to_state(Aggregate::ApproxDistinct),
        "approx_distinct_merge" => from_state(Aggregate::ApproxDistinct),
        "approx_median" => of_values(middle),
        "approx_percentile_cont" => of_values(quantile()?),
        "approx_percentile_state" => to_state(middle),
        "approx_percentile_merge" => from_state(quantile()?),
        "arg_min" => chosen(Aggregate::ArgMin),
        "arg_max" => chosen(Aggregate::ArgMax),
        "top_k" => of_values(items()?),
        "top_k_state" => to_state(items()?),
        "top_k_merge" => from_state(items()?),
        "histogram" => of_values(histogram((1..count).map(constants))?),
        _ => return Ok(None),
    }))
}

fn of_values(aggregate: Aggregate) -> Meaning {
    Meaning { aggregate, values: 1, input: Form::Values, output: Form::Values }
}

/// Those over numbers alone, with how many they take.
fn moments(name: &str) -> Option<(Aggregate, usize)> {
    let line = |regression| (Aggregate::Regression(regression), 2);
    Some(match name {
        "var" | "var_samp" => (Aggregate::Variance { sample: true }, 1),
        "var_pop" => (Aggregate::Variance { sample: false }, 1),
        "stddev" | "stddev_samp" => (Aggregate::Deviation { sample: true }, 1),
        "stddev_pop" => (Aggregate::Deviation { sample: false }, 1),
        "covar_samp" => (Aggregate::Covariance { sample: true }, 2),
        "covar_pop" => (Aggregate::Covariance { sample: false }, 2),
        "corr" => (Aggregate::Correlation, 2),
        "regr_slope" => line(Regression::Slope),
        "regr_intercept" => line(Regression::Intercept),
        "regr_r2" => line(Regression::R2),
        "regr_count" => line(Regression::Count),
        "regr_avgx" => line(Regression::AvgX),
        "regr_avgy" => line(Regression::AvgY),
        "regr_sxx" => line(Regression::Sxx),
        "regr_syy" => line(Regression::Syy),
        "regr_sxy" => line(Regression::Sxy),
        _ => return None,
    })
}

fn histogram(constants: impl Iterator<Item = Option<ScalarValue>>) -> Result<Aggregate> {
    let bounds: Vec<f64> = constants.map(|bound| number(bound).unwrap_or(f64::NAN)).collect();
    let is_unknown = bounds.iter().any(|bound| bound.is_nan());
    if is_unknown || bounds.windows(2).any(|two| two[1] <= two[0]) {
        return plan_err!("histogram(x, b1, b2, …) takes ascending constants as its bounds");
    }
    Ok(Aggregate::Histogram { bounds })
}

/// What any call of the function has in common with all others, whatever its constants.
pub(super) fn any_meaning(name: &str, count: usize) -> Result<Meaning> {
    let any = |place: usize| match name {
        "approx_percentile_cont" | "approx_percentile_merge" => {
            Some(ScalarValue::Float64(Some(0.5)))
        }
        _ => Some(ScalarValue::Int64(Some(place as i64))),
    };
    match meaning(name, &any, count)? {
        Some(meaning) => Ok(meaning),
        None => plan_err!("{name} is not one of these aggregates"),
    }
}

fn number(constant: Option<ScalarValue>) -> Option<f64> {
    match constant?.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(number) => number,
        _ => None,
    }
}

fn quantile(name: &str, constant: Option<ScalarValue>) -> Result<Aggregate> {
    match number(constant) {
        Some(quantile) if (0.0..=1.0).contains(&quantile) => {
            Ok(Aggregate::ApproxQuantile { quantile })
        }
        Some(other) => plan_err!("{name} takes a share from 0 to 1, found {other}"),
        None => plan_err!("{name} takes a constant from 0 to 1 as its share"),
    }
}

fn frequent_items(name: &str, constant: Option<ScalarValue>) -> Result<Aggregate> {
    let number = match constant.map(|constant| constant.cast_to(&DataType::Int64)) {
        Some(Ok(ScalarValue::Int64(Some(number)))) => number,
        _ => return plan_err!("{name} takes a constant from 1 to {K_MAX} as its k"),
    };
    match usize::try_from(number) {
        Ok(k) if (1..=K_MAX).contains(&k) => Ok(Aggregate::FrequentItems { k }),
        Ok(_) | Err(_) => plan_err!("{name} takes a k from 1 to {K_MAX}, found {number}"),
    }
}

/// The types the arguments are cast to.
pub(super) fn coerce(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let found = || {
        let types: Vec<_> = types.iter().map(DataType::to_string).collect();
        types.join(", ")
    };
    let wrong = |takes: &str| plan_err!("{name} takes {takes}; found {name}({})", found());
    let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
    let doubles = || Ok(vec![DataType::Float64; types.len()]);
    let are_numbers = types.iter().all(is_number);
    let first = types.first().map(plain_type);
    match (name, types.len()) {
        ("approx_distinct" | "approx_distinct_state", 1) => Ok(first.into_iter().collect()),
        ("approx_distinct" | "approx_distinct_state", _) => wrong("one value"),
        ("approx_distinct_merge", 1) if is_state(types) => Ok(types.to_vec()),
        ("approx_distinct_merge", _) => wrong("one state of approx_distinct_state"),
        ("approx_percentile_merge" | "top_k_merge", 2) if is_state(types) => {
            Ok(vec![types[0].clone(), constant_type(name)])
        }
        ("approx_percentile_merge", _) => wrong("a state of approx_percentile_state and a share"),
        ("top_k_merge", _) => wrong("a state of top_k_state over text, and k"),
        ("top_k" | "top_k_state", 2) => {
            Ok(first.into_iter().chain([constant_type(name)]).collect())
        }
        ("top_k" | "top_k_state", _) => wrong("a value and k"),
        ("arg_min" | "arg_max", 2) => Ok(types.iter().map(plain_type).collect()),
        ("arg_min" | "arg_max", _) => wrong("a value, and what it is chosen by"),
        ("histogram", 2..) if are_numbers && types.len() <= BOUNDS_MAX => doubles(),
        ("histogram", _) => wrong("a number and ascending bounds"),
        ("approx_percentile_cont", 2 | 3) if are_numbers => doubles(),
        ("approx_percentile_cont", _) => wrong("a number and a share from 0 to 1"),
        ("approx_median" | "approx_percentile_state", 1) if are_numbers => doubles(),
        ("var" | "var_pop" | "stddev" | "stddev_pop", 1) if are_numbers => doubles(),
        ("approx_median" | "approx_percentile_state", _) => wrong("one number"),
        ("var" | "var_pop" | "stddev" | "stddev_pop", _) => wrong("one number"),
        (_, 2) if are_numbers => doubles(),
        _ => wrong("two numbers"),
    }
}

fn is_state(types: &[DataType]) -> bool {
    matches!(
        types.first(),
        Some(DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null)
    )
}

fn constant_type(name: &str) -> DataType {
    if name.starts_with("top_k") { DataType::Int64 } else { DataType::Float64 }
}

/// The type of the values alone.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Null => DataType::Utf8View,
        DataType::Float16 => DataType::Float32,
        other => other.clone(),
    }
}
