//! `GROUP BY hop(…)` and `GROUP BY session(…)` in queries over events: written out in terms that
//! the engine underneath knows, so that a query gives what a view of the same text gives.
//!
//! `hop` becomes one row for each window that an event belongs to. `session` becomes a window
//! function that starts a session after each gap.

use std::sync::Arc;

use alluvium_views::fold::WindowKind;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, TimestampMicrosecondBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowFrame,
    WindowFunctionDefinition, cast, lit, when,
};

use crate::error::SqlError;
use crate::views::window;

const START: &str = "_window_start";
const TIME: &str = "_window_time";

/// Writes the windows of a plan out.
pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(is_window) => {
            Ok(Transformed::yes(write_out(aggregate)?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

fn is_window(expr: &Expr) -> bool {
    kind_of(expr).is_some()
}

fn kind_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, .. })
            if matches!(func.name(), "hop" | "session") =>
        {
            Some(func.name())
        }
        _ => None,
    }
}

fn write_out(aggregate: Aggregate) -> Result<LogicalPlan, SqlError> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    if group_expr.iter().filter(|expr| is_window(expr)).count() != 1 {
        return Err(SqlError::unsupported("a query groups by one hopping or session window"));
    }
    let place = group_expr.iter().position(is_window).expect("one of them is a window");
    let Expr::ScalarFunction(function) = &group_expr[place] else {
        return Err(SqlError::internal("a window is a function"));
    };
    let kind = window::kind(function)?;
    let time = function.args[0].clone();
    let others = group_expr.iter().enumerate().filter(|(other, _)| *other != place);
    let others: Vec<Expr> = others.map(|(_, expr)| expr.clone()).collect();
    let input = Arc::unwrap_or_clone(input);
    let (input, start) = match kind {
        WindowKind::Session { gap } => sessions(input, time, gap, &others)?,
        WindowKind::Tumble { .. } | WindowKind::Hop { .. } => hops(input, time, kind)?,
    };
    let mut groups = group_expr;
    groups[place] = start;
    let plan = LogicalPlanBuilder::from(input).aggregate(groups, aggr_expr)?.build()?;
    // Under the names that the query has for them.
    let found = plan.schema().columns();
    let columns = found.into_iter().zip(schema.iter()).map(|(column, (qualifier, field))| {
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// All columns of a plan, and more.
fn with(plan: &LogicalPlan, more: Vec<Expr>) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).chain(more).collect()
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn hops(input: LogicalPlan, time: Expr, kind: WindowKind) -> Result<(LogicalPlan, Expr), SqlError> {
    let signature = Signature::any(1, Volatility::Immutable);
    let starts = ScalarUDF::new_from_impl(Starts { kind: Form::of(kind), signature });
    let columns = with(&input, vec![starts.call(vec![time]).alias(START)]);
    let plan = LogicalPlanBuilder::from(input).project(columns)?.unnest_column(START)?.build()?;
    Ok((plan, column(START)))
}

/// An aggregate as a window function, which alone may be told its rows.
fn over(aggregate: Arc<AggregateUDF>, argument: Expr) -> Expr {
    let definition = WindowFunctionDefinition::AggregateUDF(aggregate);
    Expr::from(WindowFunction::new(definition, vec![argument]))
}

fn sessions(
    input: LogicalPlan,
    time: Expr,
    gap: i64,
    others: &[Expr],
) -> Result<(LogicalPlan, Expr), SqlError> {
    let columns = with(&input, vec![time.alias(TIME)]);
    let input = LogicalPlanBuilder::from(input).project(columns)?.build()?;
    let order = vec![column(TIME).sort(true, true)];
    let micros = |expr: Expr| cast(expr, DataType::Int64);
    let before = lag(column(TIME), Some(1), None)
        .partition_by(others.to_vec())
        .order_by(order.clone())
        .build()?
        .alias("_window_before");
    let plan = LogicalPlanBuilder::from(input).window(vec![before])?.build()?;
    let is_near = (micros(column(TIME)) - micros(column("_window_before"))).lt(lit(gap));
    let is_null = column(TIME).is_null().and(column("_window_before").is_null());
    let begins = when(is_near.or(is_null), lit(0_i64)).otherwise(lit(1_i64))?;
    let columns = with(&plan, vec![begins.alias("_window_begins")]);
    let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
    let number = over(sum_udaf(), column("_window_begins"))
        .partition_by(others.to_vec())
        .order_by(order)
        .window_frame(WindowFrame::new(Some(true)))
        .build()?
        .alias("_window_number");
    let plan = LogicalPlanBuilder::from(plan).window(vec![number])?.build()?;
    let mut within = others.to_vec();
    within.push(column("_window_number"));
    let start = over(min_udaf(), column(TIME)).partition_by(within).build()?.alias(START);
    let plan = LogicalPlanBuilder::from(plan).window(vec![start])?.build()?;
    Ok((plan, column(START)))
}

/// A window's lengths, as a function keeps them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Form {
    slide: i64,
    size: i64,
}

impl Form {
    fn of(kind: WindowKind) -> Form {
        match kind {
            WindowKind::Tumble { size } => Form { slide: size, size },
            WindowKind::Hop { slide, size } => Form { slide, size },
            WindowKind::Session { gap } => Form { slide: gap, size: gap },
        }
    }
}

/// The starts of the windows that a time belongs to, as a list.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Starts {
    kind: Form,
    signature: Signature,
}

impl ScalarUDFImpl for Starts {
    fn name(&self) -> &str {
        "hop_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(types[0].clone(), true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let Some(micros) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(SqlError::invalid("hop takes a TIMESTAMP or TIMESTAMPTZ").into());
        };
        let Form { slide, size } = self.kind;
        let mut starts = TimestampMicrosecondBuilder::new();
        let mut lengths = Vec::with_capacity(times.len());
        for time in micros {
            let before = starts.values_slice().len();
            if let Some(time) = time {
                let mut start = time.div_euclid(slide) * slide;
                while time - size < start {
                    starts.append_value(start);
                    start -= slide;
                }
            }
            lengths.push(starts.values_slice().len() - before);
        }
        let values: ArrayRef = arrow::compute::cast(&starts.finish(), times.data_type())?;
        let item = Arc::new(Field::new_list_field(times.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = micros.nulls().cloned();
        let list = ListArray::try_new(item, offsets, values, nulls)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
