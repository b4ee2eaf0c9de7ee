//! Makes the maintained part of a view ready to run.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_core::stream::Stream;
use alluvium_core::view::ViewOptions;
use alluvium_views::fold::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, Window, WindowKind,
};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;

use crate::error::SqlError;
use crate::views::calls::{Call, call_of};
use crate::views::check;
use crate::views::flatten::flatten;
use crate::views::placeholder::stream_of;
use crate::views::window;

/// Of the form of stored groups. Another form gets another number.
const LAYOUT_VERSION: u64 = 1;

/// The maintained part, and what it says of itself.
pub(crate) struct Built {
    pub(crate) stream: Arc<Stream>,
    pub(crate) definition: Definition,
    pub(crate) disjoint: bool,
    /// The columns that the part had in the plan.
    pub(crate) schema: DFSchemaRef,
    /// The group expressions, filter and aggregates, as a person would read them.
    pub(crate) texts: Texts,
}

/// See [`Built::texts`].
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) groups: Vec<String>,
    pub(crate) filter: Option<String>,
    pub(crate) aggregates: Vec<String>,
}

/// An expression of the engine underneath, as a fold evaluates it.
#[derive(Debug)]
pub(crate) struct Physical(Arc<dyn PhysicalExpr>);

impl Physical {
    /// `schema` has no qualifiers; neither has the expression.
    pub(crate) fn new(
        state: &SessionState,
        expr: Expr,
        schema: &DFSchema,
    ) -> Result<Physical, SqlError> {
        // Some functions run only in the form that the simplifier gives them.
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let expr = ExprSimplifier::new(context).simplify(expr)?;
        Ok(Physical(state.create_physical_expr(expr, schema)?))
    }
}

impl Physical {
    /// The type of its values.
    fn data_type(&self, input: &Schema) -> Result<DataType, SqlError> {
        Ok(self.0.data_type(input)?)
    }
}

impl Evaluate for Physical {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let value = self.0.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
        value.map_err(|error| EvaluateError(SqlError::from(error).to_string()))
    }
}

/// An aggregate as the plan has it.
struct Shape<'a> {
    input: &'a LogicalPlan,
    groups: Vec<Expr>,
    calls: Vec<(Call, Option<Expr>, String)>,
    schema: DFSchemaRef,
}

impl Shape<'_> {
    /// All its expressions: those of the groups, then each call's arguments and filter.
    fn exprs(&self) -> Vec<Expr> {
        let mut exprs = self.groups.clone();
        for (call, filter, _) in &self.calls {
            exprs.extend(call.arguments.iter().cloned());
            exprs.extend(filter.iter().cloned());
        }
        exprs
    }
}

/// Makes a part that [`super::find::maintainable`] found ready to run.
pub(crate) fn build(
    state: &SessionState,
    part: &LogicalPlan,
    options: &ViewOptions,
) -> Result<Built, SqlError> {
    let shape = shape(part)?;
    let flat = flatten(shape.input, shape.exprs())?;
    check::about_one_event(flat.exprs.iter().chain(&flat.filters))?;
    let stream = stream_of(flat.scan)
        .ok_or_else(|| SqlError::internal("the maintained part reads no stream"))?;
    let mut exprs = flat.exprs.into_iter().map(unqualified).collect::<Result<Vec<_>, _>>()?;
    let filters = flat.filters.into_iter().map(unqualified).collect::<Result<Vec<_>, _>>()?;
    let rest = exprs.split_off(shape.groups.len());
    let groups: Vec<Expr> = exprs.into_iter().map(Expr::unalias).collect();
    let disjoint = is_disjoint(&stream, &groups);
    let event_time = event_time(&stream);
    let texts = texts(&groups, &filters, &shape.calls);
    let (groups, window) = windows(state, groups, event_time.as_deref())?;
    check_options(options, window.is_some())?;

    let used = groups.iter().chain(&rest).chain(&filters);
    let input = input(&flat.scan.source.schema(), used, event_time.as_deref());
    let schema = DFSchema::try_from(Arc::clone(&input))?;
    let physical = |expr: Expr| -> Result<Arc<dyn Evaluate>, SqlError> {
        Ok(Arc::new(Physical::new(state, expr, &schema)?))
    };
    let names = names(&shape.schema);
    let group_columns = groups.into_iter().enumerate().map(|(place, expr)| {
        let expression = Physical::new(state, expr, &schema)?;
        Ok(GroupBy {
            name: names[place].clone(),
            data_type: expression.data_type(&input)?,
            nullable: shape.schema.field(place).is_nullable(),
            expression: Arc::new(expression),
        })
    });
    let group_columns = group_columns.collect::<Result<Vec<GroupBy>, SqlError>>()?;
    let mut rest = rest.into_iter();
    let mut take = |count: usize| rest.by_ref().take(count).collect::<Vec<Expr>>();
    let mut aggregates = Vec::new();
    for (place, (call, filter, _)) in (group_columns.len()..).zip(shape.calls) {
        let arguments = take(call.arguments.len()).into_iter().map(&physical);
        aggregates.push(AggregateColumn {
            name: names[place].clone(),
            call: call.call,
            nullable: shape.schema.field(place).is_nullable(),
            arguments: arguments.collect::<Result<_, _>>()?,
            filter: match filter {
                Some(_) => take(1).pop().map(&physical).transpose()?,
                None => None,
            },
        });
    }
    let filter = conjunction(filters).map(&physical).transpose()?;
    let event_time = event_time.and_then(|name| input.index_of(&name).ok());
    let definition = fingerprinted(Definition {
        input,
        filter,
        groups: group_columns,
        aggregates,
        window,
        event_time,
        options: options.clone(),
        fingerprint: 0,
    });
    Ok(Built { stream, definition, disjoint, schema: shape.schema, texts })
}

fn texts(groups: &[Expr], filters: &[Expr], calls: &[(Call, Option<Expr>, String)]) -> Texts {
    Texts {
        groups: groups.iter().map(text).collect(),
        filter: conjunction(filters.iter().cloned()).as_ref().map(text),
        aggregates: calls.iter().map(|(_, _, text)| text.clone()).collect(),
    }
}

/// The stored form of a part is told from others by its fingerprint.
fn fingerprinted(definition: Definition) -> Definition {
    let fingerprint = fingerprint(&definition);
    Definition { fingerprint, ..definition }
}

fn shape(part: &LogicalPlan) -> Result<Shape<'_>, SqlError> {
    match part {
        LogicalPlan::Aggregate(aggregate) => {
            if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
                return Err(SqlError::unsupported(
                    "GROUPING SETS, ROLLUP and CUBE are not maintained: maintain the finest groups \
                     in a materialized view, and roll them up where you read it",
                ));
            }
            let groups = aggregate.group_expr.len();
            let mut calls = Vec::new();
            for (place, expr) in (groups..).zip(&aggregate.aggr_expr) {
                let output = aggregate.schema.field(place).data_type();
                calls.push(call(expr, output, aggregate.input.schema())?);
            }
            Ok(Shape {
                input: &aggregate.input,
                groups: aggregate.group_expr.clone(),
                calls,
                schema: Arc::clone(&aggregate.schema),
            })
        }
        LogicalPlan::Distinct(Distinct::All(input)) => Ok(Shape {
            input,
            groups: input.schema().columns().into_iter().map(Expr::Column).collect(),
            calls: Vec::new(),
            schema: Arc::clone(input.schema()),
        }),
        other => Err(SqlError::internal(format!("{} is not an aggregate", other.display()))),
    }
}

fn call(
    expr: &Expr,
    output: &DataType,
    input: &DFSchema,
) -> Result<(Call, Option<Expr>, String), SqlError> {
    let Expr::AggregateFunction(function) = expr.clone().unalias() else {
        return Err(SqlError::internal(format!("{expr} is not an aggregate function")));
    };
    let call = call_of(&function, output, &|expr| Ok(expr.get_type(input)?))?;
    Ok((call, function.params.filter.map(|filter| *filter), text(expr)))
}

/// Finds the window among the group expressions: a hopping or session window, else the first that
/// tumbles.
fn windows(
    state: &SessionState,
    mut groups: Vec<Expr>,
    event_time: Option<&str>,
) -> Result<(Vec<Expr>, Option<Window>), SqlError> {
    let date_bin = state.udf("date_bin")?;
    let mut chosen: Option<Window> = None;
    for (group, expr) in groups.iter_mut().enumerate() {
        let Some(found) = window::find(expr, event_time, &date_bin)? else {
            continue;
        };
        let is_tumbling = matches!(found.kind, WindowKind::Tumble { .. });
        match chosen.map(|window| window.kind) {
            None => {}
            Some(WindowKind::Tumble { .. }) if !is_tumbling => {}
            Some(_) if is_tumbling => continue,
            Some(_) => {
                return Err(SqlError::unsupported(
                    "a view groups by one hopping or session window; create a view for each",
                ));
            }
        }
        chosen = Some(Window { group, kind: found.kind });
        *expr = found.expr;
    }
    Ok((groups, chosen))
}

fn check_options(options: &ViewOptions, has_window: bool) -> Result<(), SqlError> {
    let without = |what: &str| {
        SqlError::invalid(format!(
            "{what} counts from the end of a window of event time, and no column of GROUP BY is \
             one: group by tumble(ts, INTERVAL '1 hour') of the stream's event time, or leave it \
             out"
        ))
    };
    if options.retention.is_some() && !has_window {
        return Err(without("retention"));
    }
    if options.emit_final_after.is_some() && !has_window {
        return Err(without("EMIT FINAL AFTER"));
    }
    Ok(())
}

fn is_disjoint(stream: &Stream, groups: &[Expr]) -> bool {
    let columns = stream.definition.schema.columns();
    let key = &stream.definition.partition_by;
    let is_group = |place: &usize| {
        let name = &columns[*place].name;
        groups.iter().any(|group| matches!(group, Expr::Column(column) if column.name == *name))
    };
    stream.definition.partitions == 1 || (!key.is_empty() && key.iter().all(is_group))
}

fn event_time(stream: &Stream) -> Option<String> {
    let place = stream.definition.event_time?;
    Some(stream.definition.schema.columns().get(place)?.name.clone())
}

/// The columns that expressions name, in the order of the scan.
fn input<'a>(
    scan: &SchemaRef,
    exprs: impl Iterator<Item = &'a Expr>,
    event_time: Option<&str>,
) -> SchemaRef {
    let mut used: BTreeSet<String> = event_time.map(String::from).into_iter().collect();
    for expr in exprs {
        used.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
    }
    if used.is_empty() {
        // Something must say how many rows there are; this is the cheapest to read.
        used.extend(scan.fields().first().map(|field| field.name().clone()));
    }
    let fields = scan.fields().iter().filter(|field| used.contains(field.name())).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// There is one table only, so its name is left out.
pub(crate) fn unqualified(expr: Expr) -> Result<Expr, SqlError> {
    let transformed = expr.transform(|expr| match expr {
        Expr::Column(column) => {
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name))))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(transformed.data)
}

/// A name for each column of a part, no two the same.
fn names(schema: &DFSchema) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        while names.contains(&name) {
            name.push('\'');
        }
        names.push(name);
    }
    names
}

/// An expression as a person would write it.
pub(crate) fn text(expr: &Expr) -> String {
    let text = expr.clone().unalias().human_display().to_string();
    // The planner counts ones.
    text.replace("count(1)", "count(*)").replace("count(Int64(1))", "count(*)")
}

/// FNV-1a over what decides the form of stored groups. Not over the expressions: they decide the
/// values, and a view's query never changes in one life.
fn fingerprint(definition: &Definition) -> u64 {
    let mut form = format!("{LAYOUT_VERSION}");
    for group in &definition.groups {
        form.push_str(&format!("|{}", group.data_type));
    }
    for column in &definition.aggregates {
        form.push_str(&format!("|{:?}", column.call));
    }
    form.push_str(&format!("|{:?}", definition.window));
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in form.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
