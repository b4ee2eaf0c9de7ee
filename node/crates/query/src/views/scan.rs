//! Groups of a view as the source of a plan: which ones is known to the plan, what they are to its
//! run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_core::ids::ViewId;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};

use crate::error::SqlError;

/// What one run of a plan reads, by view: rows in the columns of the plan's [`GroupsExec`].
#[derive(Debug, Default)]
pub(crate) struct Rows(pub(crate) BTreeMap<ViewId, Vec<RecordBatch>>);

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupsExec {
    view: ViewId,
    schema: SchemaRef,
    /// About how many there are: those that were there when it was planned.
    rows: usize,
    properties: Arc<PlanProperties>,
}

impl GroupsExec {
    pub(crate) fn new(view: ViewId, schema: SchemaRef, rows: usize) -> GroupsExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = properties.with_scheduling_type(SchedulingType::Cooperative);
        GroupsExec { view, schema, rows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for GroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        write!(f, "GroupsExec: [{}]", names.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for GroupsExec {
    fn name(&self) -> &'static str {
        "GroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = context.session_config().get_extension::<Rows>();
        let rows = rows.as_ref().and_then(|rows| rows.0.get(&self.view));
        let rows = rows.ok_or_else(|| SqlError::internal("groups are run before they are read"))?;
        Ok(Box::pin(MemoryStream::try_new(rows.clone(), Arc::clone(&self.schema), None)?))
    }

    // Never exact: what is read at the next run is more or less.
    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Inexact(self.rows);
        Ok(Arc::new(statistics))
    }
}
