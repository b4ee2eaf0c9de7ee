//! Joins that make many rows of few let others have a turn.
//!
//! A statement runs until it waits for something, and its deadline and its end on request are seen
//! only then. The engine makes sources of rows wait now and again. A cross join asks its source
//! once and then makes rows for minutes, so it is made to wait too.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};

/// See the module.
#[derive(Debug)]
pub(crate) struct JoinsTakeBreath;

impl PhysicalOptimizerRule for JoinsTakeBreath {
    fn name(&self) -> &str {
        "JoinsTakeBreath"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let multiplies = plan.downcast_ref::<CrossJoinExec>().is_some()
                || plan.downcast_ref::<NestedLoopJoinExec>().is_some();
            if !multiplies {
                return Ok(Transformed::no(plan));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan))))
        })
        .data()
    }
}
