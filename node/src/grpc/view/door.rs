//! What looking up and subscribing need of the node: a small part of it, so that both can be tested
//! without one.

use std::fmt::Debug;
use std::sync::Arc;

use alluvium_core::stream::Frontier;
use alluvium_query::SqlError;
use alluvium_query::host::{Freshness, HostError};
use alluvium_views::fold::{Evaluate, EvaluateError, Keys};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::groups::{BadKeys, ViewGroups};

/// The views of a node, without SQL.
#[async_trait]
pub trait ViewDoor: Send + Sync + Debug + 'static {
    /// What readers of this name see now. Cheap: made once for each life of a view.
    fn groups(&self, view: &str) -> Result<Arc<ViewGroups>, DoorError>;

    /// Groups, merged over partitions, with the frontier they reflect.
    async fn read(
        &self,
        view: &ViewGroups,
        wait: &Wait,
        keys: Keys,
    ) -> Result<GroupsRead, DoorError>;

    /// Waits until events after `since` are folded; the groups that such events changed, about
    /// `groups_max` of them, those changed first first. Each as it is now in all partitions.
    async fn changed(
        &self,
        view: &ViewGroups,
        since: &Frontier,
        groups_max: usize,
    ) -> Result<GroupsChanged, DoorError>;

    /// A condition in SQL over these columns.
    fn condition(&self, columns: &SchemaRef, sql: &str) -> Result<Arc<dyn Evaluate>, SqlError>;
}

/// What to wait for before reading.
#[derive(Clone, Debug)]
pub enum Wait {
    /// For nothing: what is folded now.
    Not,
    /// As a query would.
    For(Freshness),
}

/// Groups at one moment.
#[derive(Clone, Debug)]
pub struct GroupsRead {
    /// Rows with the columns of the view's groups.
    pub groups: Vec<RecordBatch>,
    /// What they reflect.
    pub frontier: Frontier,
    /// No event with an earlier event time is expected there, in microseconds.
    pub watermark: Option<i64>,
}

/// Groups that changed.
#[derive(Clone, Debug)]
pub struct GroupsChanged {
    /// Rows with the columns of the view's groups.
    pub groups: Vec<RecordBatch>,
    /// Keys of groups that are no more: sessions that became part of others.
    pub removed: Vec<Vec<u8>>,
    /// Every change before this is in these groups, or came with earlier ones.
    pub frontier: Frontier,
    /// No event with an earlier event time is expected there, in microseconds.
    pub watermark: Option<i64>,
}

/// Why a view could not be had without SQL.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No view has this name.
    #[error("view \"{name}\" does not exist")]
    Unknown {
        /// As asked.
        name: String,
    },
    /// Its rows are not computed from one group each.
    #[error("view \"{name}\" {reason}; read it with SQL")]
    NeedsSql {
        /// The view.
        name: String,
        /// What it does with its groups.
        reason: String,
    },
    /// No column has this name.
    #[error("view \"{view}\" has no column \"{column}\"; it has {known}")]
    Column {
        /// The view.
        view: String,
        /// As asked.
        column: String,
        /// Those there are.
        known: String,
    },
    /// The call contradicts itself.
    #[error("{reason}")]
    Invalid {
        /// What to change.
        reason: String,
    },
    /// Keys cannot be read.
    #[error(transparent)]
    Keys(#[from] BadKeys),
    /// The condition is none.
    #[error(transparent)]
    Condition(#[from] SqlError),
    /// A value of the view cannot be computed.
    #[error("view \"{view}\": {reason}")]
    Computed {
        /// The view.
        view: String,
        /// Why.
        reason: EvaluateError,
    },
    /// The changes after a frontier are not known any more.
    #[error(
        "what changed in view \"{view}\" after that frontier is forgotten; begin FROM SNAPSHOT"
    )]
    Forgotten {
        /// The view.
        view: String,
    },
    /// It was dropped or replaced while it was followed.
    #[error("view \"{view}\" is not the one that was asked for any more; subscribe again")]
    Ended {
        /// The view.
        view: String,
    },
    /// The answer is larger than a call may have.
    #[error("the answer has {bytes} bytes; ask for fewer groups or columns")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The node could not.
    #[error(transparent)]
    Host(#[from] HostError),
}
