//! Plans of questions to views, kept for when the same question comes again: planning takes many
//! times as long as reading a few groups.
//!
//! Kept is what reads one view, once, and nothing else; and what is a function of its groups alone,
//! since a plan has the clock and the like in it. It holds as long as the catalogue that it was
//! planned over, and for the caller that it was planned for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_core::ids::ViewId;
use alluvium_core::meta::access::Access;
use alluvium_core::view::View;
use alluvium_views::fold::Selection;
use arrow::array::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use crate::access::Caller;
use crate::answer::Answer;
use crate::engine::{Pinned, Planning, Statements};
use crate::error::SqlError;
use crate::host::{Catalogue, Freshness, ViewCatalogue};
use crate::output;
use crate::parameters::Parameter;
use crate::views::expand;
use crate::views::groups::GroupsTable;
use crate::views::scan::Rows;

/// Plans kept at one time: a few screens full of charts.
const PLANS_MAX: usize = 256;

/// Length of the text of a question whose plan is kept. Longer ones are not asked by people.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A question, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    sql: String,
    parameters: String,
    caller: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    plans: Mutex<ByQuestion>,
}

#[derive(Debug, Default)]
struct ByQuestion {
    by_question: HashMap<Question, (u64, Arc<KeptPlan>)>,
    /// Counts the questions.
    clock: u64,
}

/// A question, planned.
#[derive(Debug)]
struct KeptPlan {
    over: Over,
    view: Arc<View>,
    stream: String,
    selection: Selection,
    plan: Arc<dyn ExecutionPlan>,
    tag: String,
}

/// Whether a plan was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It was.
    Yes,
    /// It is not one to keep.
    No,
}

/// What a plan was made over. They are held, so that no other comes to lie at the same place.
#[derive(Clone, Debug)]
struct Over {
    catalogue: Catalogue,
    views: ViewCatalogue,
    /// Unless everybody may do everything.
    access: Option<Arc<Access>>,
}

impl Over {
    fn is_same(&self, other: &Over) -> bool {
        Arc::ptr_eq(&self.catalogue, &other.catalogue)
            && Arc::ptr_eq(&self.views, &other.views)
            && self.access.as_ref().map(Arc::as_ptr) == other.access.as_ref().map(Arc::as_ptr)
    }
}

impl Question {
    /// `None`: it is too long to be kept.
    pub(crate) fn new(sql: &str, parameters: &[Parameter], caller: &Caller) -> Option<Question> {
        let parameters =
            if parameters.is_empty() { String::new() } else { format!("{parameters:?}") };
        let length = sql.len() + parameters.len();
        let caller = match caller {
            Caller::Everybody => String::new(),
            // No role has such a name.
            Caller::Role(role) => format!("\0{role}"),
        };
        (length <= TEXT_BYTES_MAX).then(|| Question { sql: sql.into(), parameters, caller })
    }
}

impl Plans {
    fn get(&self, question: &Question, over: &Over) -> Option<Arc<KeptPlan>> {
        let mut kept = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let clock = kept.clock;
        let (used, plan) = kept.by_question.get_mut(question)?;
        if !plan.over.is_same(over) {
            kept.by_question.remove(question);
            return None;
        }
        *used = clock;
        Some(Arc::clone(plan))
    }

    fn keep(&self, question: Question, plan: KeptPlan) {
        let mut kept = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = kept.clock;
        kept.by_question.insert(question, (clock, Arc::new(plan)));
        if PLANS_MAX < kept.by_question.len() {
            let oldest = kept.by_question.iter().min_by_key(|(_, (used, _))| *used);
            let oldest = oldest.map(|(question, _)| question.clone());
            oldest.map(|question| kept.by_question.remove(&question));
        }
    }
}

impl Statements {
    /// Answers a question whose plan is kept.
    pub(crate) async fn ask_again(
        &self,
        question: &Question,
        freshness: &Freshness,
    ) -> Result<Option<Answer>, SqlError> {
        let Some(kept) = self.plans.get(question, &self.over()) else { return Ok(None) };
        let read = self.host.read_view(&kept.view, freshness, &kept.selection).await?;
        let rows = Rows(BTreeMap::from([(kept.view.id, read.batches)]));
        let plan = reset_plan_states(Arc::clone(&kept.plan))?;
        let stream = execute_stream(plan, context(&self.base, rows))?;
        let (schema, batches) = output::plain_stream(stream);
        let as_of = vec![(kept.stream.clone(), read.frontier)];
        Ok(Some(Answer { schema, batches, as_of, tag: kept.tag.clone() }))
    }

    /// Answers a question that is planned, and keeps the plan if it is one to keep.
    pub(crate) async fn answer(
        &self,
        question: Option<Question>,
        pinned: &Pinned,
        planning: &Planning,
        plan: &LogicalPlan,
        tag: &str,
    ) -> Result<Answer, SqlError> {
        let physical = planning.physical(plan).await?;
        let physical = match self.keep(question, pinned, planning, plan, &physical, tag) {
            // One that is kept is not run itself: runs leave traces in it.
            Kept::Yes => reset_plan_states(physical)?,
            Kept::No => physical,
        };
        let mut as_of = pinned.as_of();
        for (stream, frontier) in planning.groups.iter().filter_map(|groups| groups.as_of()) {
            expand::add_as_of(&mut as_of, stream, frontier);
        }
        let stream = execute_stream(physical, planning.context())?;
        let (schema, batches) = output::plain_stream(stream);
        Ok(Answer { schema, batches, as_of, tag: tag.into() })
    }

    /// Keeps a plan, if it is one to keep. `plan` is as it was before it was optimized.
    fn keep(
        &self,
        question: Option<Question>,
        pinned: &Pinned,
        planning: &Planning,
        plan: &LogicalPlan,
        physical: &Arc<dyn ExecutionPlan>,
        tag: &str,
    ) -> Kept {
        let (catalogue, views) = (Arc::clone(&pinned.catalogue), Arc::clone(&pinned.views));
        let over = Over { catalogue, views, access: pinned.rights.known() };
        let (Some(question), [groups]) = (question, planning.groups.as_slice()) else {
            return Kept::No;
        };
        // Were anything changed while it was planned, it could be of either.
        if !over.is_same(&self.over()) || !reads_one_view(plan).unwrap_or(false) {
            return Kept::No;
        }
        // One that is read twice in a plan is read whole.
        let selection = groups.found().map(|(selection, _)| selection);
        let Some(selection) = selection.filter(|selection| !selection.is_all()) else {
            return Kept::No;
        };
        let plan = KeptPlan {
            over,
            view: Arc::clone(groups.view()),
            stream: groups.stream().into(),
            selection: selection.clone(),
            plan: Arc::clone(physical),
            tag: tag.into(),
        };
        self.plans.keep(question, plan);
        Kept::Yes
    }

    fn over(&self) -> Over {
        let (catalogue, views) = (self.host.catalogue(), self.host.views());
        Over { catalogue, views, access: self.rights().known() }
    }
}

impl Planning {
    /// Where what was planned runs.
    pub(crate) fn context(&self) -> Arc<TaskContext> {
        if self.groups.is_empty() {
            self.state.task_ctx()
        } else {
            context(&self.state, rows(&self.groups))
        }
    }
}

/// Where a plan runs over what was read of views.
fn context(state: &SessionState, rows: Rows) -> Arc<TaskContext> {
    // Functions are in the plan already; by their names nobody looks for them any more.
    Arc::new(TaskContext::new(
        None,
        String::new(),
        state.config().clone().with_extension(Arc::new(rows)),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::clone(state.runtime_env()),
    ))
}

/// What was read while planning.
fn rows(groups: &[Arc<GroupsTable>]) -> Rows {
    let read = groups.iter().filter_map(|groups| {
        let (_, batches) = groups.found()?;
        Some((groups.view().id, batches.clone()))
    });
    let read: BTreeMap<ViewId, Vec<RecordBatch>> = read.collect();
    Rows(read)
}

/// Whether a plan is a function of the groups of one view, made of parts that can be run again.
fn reads_one_view(plan: &LogicalPlan) -> Result<bool> {
    let (mut scans, mut is_plain) = (0, true);
    plan.apply(|node| {
        is_plain &= match node {
            LogicalPlan::TableScan(scan) => {
                scans += 1;
                let provider = source_as_provider(&scan.source)?;
                provider.downcast_ref::<GroupsTable>().is_some()
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::SubqueryAlias(_) => true,
            _ => false,
        };
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                is_plain &= is_function_of_rows(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_plain && scans == 1)
}

fn is_function_of_rows(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(function) => {
            function.func.signature().volatility == Volatility::Immutable
        }
        Expr::ScalarVariable(..)
        | Expr::Placeholder(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::SetComparison(_)
        | Expr::OuterReferenceColumn(..) => false,
        _ => true,
    }
}
