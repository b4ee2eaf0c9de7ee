//! What a view is: its name, its query, and how it is kept.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{StreamId, ViewId};
use crate::time::Time;

/// Length of the text of one view's query.
pub const QUERY_BYTES_MAX: usize = 64 << 10;

/// What a view does with an event that its expressions fail on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Sets the event aside, with the reason, and goes on.
    #[default]
    Quarantine,
    /// Stops before the event until it is told to go on.
    Park,
}

/// How a view is kept, as `WITH (…)` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// How long a window is kept after its end, by the watermark. `None`: for ever.
    pub retention: Option<Duration>,
    /// How far the watermark stays behind the newest event.
    pub lateness: Duration,
    /// Subscribers get a window only when the watermark is this far past its end. `None`: each
    /// change as it comes.
    pub emit_final_after: Option<Duration>,
    /// What happens to an event that cannot be folded.
    pub on_error: OnError,
}

/// What `CREATE VIEW` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDefinition {
    /// As a stream's; both share one name space.
    pub name: String,
    /// The text after `AS`, at most [`QUERY_BYTES_MAX`] long.
    pub query: String,
    /// Whether its groups are maintained. Otherwise the query is put in where the view is named.
    pub materialized: bool,
    /// Names of the streams and views it reads, in order, each once.
    pub reads: Vec<String>,
    /// The stream whose events it folds. `None`: it is computed from other views when it is read.
    pub folds: Option<StreamId>,
    /// How it is kept.
    pub options: ViewOptions,
}

/// A view in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Given once, never reused.
    pub id: ViewId,
    /// What was asked.
    pub definition: ViewDefinition,
    /// When this life began.
    pub created_at: Time,
}

/// A view as the catalogue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// What readers see.
    pub current: Arc<View>,
    /// What is built beside, to become current when it has caught up.
    pub next: Option<Arc<View>>,
    /// Whether `current` has caught up with the log once. Until then there is nothing behind it
    /// that readers could go on with: who cancels the view drops it.
    pub built: bool,
    /// How often a parked view was told to go on.
    pub resumed: u32,
}
