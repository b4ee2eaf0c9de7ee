//! What `EXPLAIN VIEW` says: for each operator, whether it is maintained as events come or computed
//! when the view is read, and why.

use alluvium_core::stream::Stream;
use alluvium_views::fold::WindowKind;
use datafusion::logical_expr::LogicalPlan;

use crate::views::maintain::Built;
use crate::views::placeholder::{StandsFor, stands_for};

/// One operator of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What it does.
    pub operator: String,
    /// When it is done.
    pub how: How,
    /// Why then.
    pub why: String,
}

/// When an operator of a view is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With each event.
    Incremental,
    /// With each query.
    AtRead,
}

impl How {
    /// As `EXPLAIN VIEW` says it.
    pub fn text(self) -> &'static str {
        match self {
            How::Incremental => "incremental",
            How::AtRead => "at read",
        }
    }
}

/// The operators of the maintained part, from the events upwards.
pub(crate) fn maintained(built: &Built) -> Vec<Explained> {
    let mut rows = Vec::new();
    let mut add = |operator: String, why: &str| {
        rows.push(Explained { operator, how: How::Incremental, why: why.into() });
    };
    let columns = built.definition.input.fields().iter().map(|field| field.name().as_str());
    let columns: Vec<&str> = columns.collect();
    add(
        format!("events of {} ({})", built.stream.definition.name, columns.join(", ")),
        "each event is folded once, in offset order",
    );
    if let Some(filter) = &built.texts.filter {
        add(format!("filter {filter}"), "it is decided for each event by itself");
    }
    if let Some(window) = built.definition.window {
        add(window_text(window.kind, &built.stream), window_reason(window.kind));
    }
    let merged = if built.disjoint {
        "each event changes one group; a group lies in one partition"
    } else {
        "each event changes one group; the states of the partitions are merged at read"
    };
    if built.texts.groups.is_empty() {
        add("one group".into(), merged);
    } else {
        add(format!("group by {}", built.texts.groups.join(", ")), merged);
    }
    for aggregate in &built.texts.aggregates {
        add(format!("aggregate {aggregate}"), "its state takes in events one by one");
    }
    rows
}

fn window_text(kind: WindowKind, stream: &Stream) -> String {
    let place = stream.definition.event_time.unwrap_or_default();
    let name = stream.definition.schema.columns().get(place).map(|column| column.name.as_str());
    let name = name.unwrap_or_default();
    match kind {
        WindowKind::Tumble { size } => format!("windows of {} by {name}", seconds(size)),
        WindowKind::Hop { slide, size } => {
            format!("windows of {} each {} by {name}", seconds(size), seconds(slide))
        }
        WindowKind::Session { gap } => format!("sessions by {name}, {} apart", seconds(gap)),
    }
}

fn window_reason(kind: WindowKind) -> &'static str {
    match kind {
        WindowKind::Tumble { .. } => "late events change their own window; old ones go as a range",
        WindowKind::Hop { .. } => "kept as panes, which are put together at read",
        WindowKind::Session { .. } => "a late event may join two sessions: their states are merged",
    }
}

fn seconds(micros: i64) -> String {
    if micros % 1_000_000 == 0 {
        format!("{} s", micros / 1_000_000)
    } else {
        format!("{micros} us")
    }
}

/// The operators above the maintained part, from below upwards; of a view that maintains nothing,
/// all of them.
pub(crate) fn finishing(plan: &LogicalPlan) -> Vec<Explained> {
    let mut rows = Vec::new();
    collect(plan, &mut rows);
    rows
}

fn collect(plan: &LogicalPlan, rows: &mut Vec<Explained>) {
    // The groups under the names that the aggregate had: no operator of its own.
    if let LogicalPlan::Projection(projection) = plan
        && let LogicalPlan::TableScan(scan) = projection.input.as_ref()
        && matches!(stands_for(scan), Some((StandsFor::Groups, _)))
    {
        return;
    }
    for input in plan.inputs() {
        collect(input, rows);
    }
    if let Some((operator, why)) = operator(plan) {
        rows.push(Explained { operator, how: How::AtRead, why });
    }
}

fn operator(plan: &LogicalPlan) -> Option<(String, String)> {
    let over_groups = "it is computed over the groups, which are fewer than the events";
    let why = match plan {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Subquery(_) => return None,
        LogicalPlan::TableScan(scan) => {
            return match stands_for(scan)?.0 {
                StandsFor::View(name) => {
                    Some((format!("view {name}"), "it is read as it stands then".into()))
                }
                StandsFor::Stream(stream) => Some((
                    format!("events of {}", stream.definition.name),
                    "nothing is maintained: all events are read".into(),
                )),
                StandsFor::Groups => None,
            };
        }
        LogicalPlan::Window(_) => "one group may change the rank of all others",
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => {
            "it is an aggregate of groups, not of events"
        }
        LogicalPlan::Join(_) => "both sides are read as they stand then",
        LogicalPlan::Sort(_) => "an order is of an answer, not of a state",
        LogicalPlan::Limit(_) => "which rows are first is known when all are",
        LogicalPlan::Filter(_) => "a group may come to pass it, or cease to",
        _ => over_groups,
    };
    Some((plan.display().to_string(), why.into()))
}
