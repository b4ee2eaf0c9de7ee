//! What a stored sketch amounts to, row by row.

use alluvium_views::aggregate::{Aggregate, AggregateCall, Form};
use arrow::array::{Array, ArrayRef};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::function::failed;

/// The functions.
pub(super) const NAMES: [&str; 2] = ["approx_distinct_value", "approx_percentile_value"];

/// `approx_distinct_value(state)`, `approx_percentile_value(state, share)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StateValue {
    name: &'static str,
    signature: Signature,
}

impl StateValue {
    pub fn new(name: &'static str) -> StateValue {
        StateValue { name, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn is_quantile(&self) -> bool {
        self.name == "approx_percentile_value"
    }

    fn aggregate(&self, args: &[ColumnarValue]) -> Result<Aggregate> {
        match args.get(1) {
            None => Ok(Aggregate::ApproxDistinct),
            Some(ColumnarValue::Scalar(ScalarValue::Float64(Some(quantile))))
                if (0.0..=1.0).contains(quantile) =>
            {
                Ok(Aggregate::ApproxQuantile { quantile: *quantile })
            }
            Some(_) => exec_err!("{} takes a constant from 0 to 1 as its share", self.name),
        }
    }
}

impl ScalarUDFImpl for StateValue {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_binary = |data_type: &DataType| data_type.is_binary() || data_type.is_null();
        match (types, self.is_quantile()) {
            ([state], false) if is_binary(state) => Ok(vec![DataType::Binary]),
            ([state, share], true) if is_binary(state) && share.is_numeric() => {
                Ok(vec![DataType::Binary, DataType::Float64])
            }
            (_, true) => plan_err!("{} takes a state and a share from 0 to 1", self.name),
            (_, false) => plan_err!("{} takes a state of approx_distinct_state", self.name),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(if self.is_quantile() { DataType::Float64 } else { DataType::UInt64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = AggregateCall {
            aggregate: self.aggregate(&args.args)?,
            distinct: false,
            arguments: vec![DataType::Binary],
            input: Form::State,
            output: Form::Values,
            output_type: args.return_type().clone(),
        };
        let column: ArrayRef = args.args[0].to_array(args.number_rows)?;
        let mut states = call.states().map_err(failed)?;
        states.resize(column.len());
        let count = u32::try_from(column.len()).expect("a batch has less than 2^32 rows");
        let slots: Vec<u32> = (0..count).collect();
        states.update(&slots, std::slice::from_ref(&column), None).map_err(failed)?;
        let values = states.finish(&slots).map_err(failed)?;
        Ok(ColumnarValue::Array(nullif(&values, &is_null(&column)?)?))
    }
}
