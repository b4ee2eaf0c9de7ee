//! What a view maintains, ready to run.

use std::fmt::Debug;
use std::sync::Arc;

use alluvium_core::view::ViewOptions;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::error::DefinitionError;
use super::layout::Layout;
use crate::aggregate::AggregateCall;
use crate::group::KeyCodec;

/// An expression over rows. The same rows always give the same values.
pub trait Evaluate: Send + Sync + Debug {
    /// One value for each row.
    ///
    /// # Errors
    /// When it fails on at least one of the rows.
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError>;
}

/// Why an expression failed, as a person would read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluateError(pub String);

/// A column that groups are told apart by.
#[derive(Clone, Debug)]
pub struct GroupBy {
    /// Its name in [`Definition::group_schema`].
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether it may be null.
    pub nullable: bool,
    /// Its value for an event.
    pub expression: Arc<dyn Evaluate>,
}

/// A column that is kept for each group.
#[derive(Clone, Debug)]
pub struct AggregateColumn {
    /// Its name in [`Definition::group_schema`].
    pub name: String,
    /// What is computed.
    pub call: AggregateCall,
    /// Whether the value may be null.
    pub nullable: bool,
    /// One for each argument of the call.
    pub arguments: Vec<Arc<dyn Evaluate>>,
    /// Events for which this is not true do not count for this column.
    pub filter: Option<Arc<dyn Evaluate>>,
}

/// Spans of event time that groups belong to. Lengths are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// One after the other, each as long as the next; the group column is the start.
    Tumble {
        /// Length.
        size: i64,
    },
    /// Overlapping; kept as panes as long as the greatest common divisor of the two, which are put
    /// together when read. The group column's expression gives the start of the pane.
    Hop {
        /// From one start to the next.
        slide: i64,
        /// Length.
        size: i64,
    },
    /// Events less than `gap` apart; the group column's expression gives the event's own time, and
    /// the start of the session comes out.
    Session {
        /// The silence that ends a session.
        gap: i64,
    },
}

/// Which group column is a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Place of the group column.
    pub group: usize,
    /// Its kind.
    pub kind: WindowKind,
}

/// The maintained part of a view.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The rows that the expressions are over: some columns of the stream's scan schema.
    pub input: SchemaRef,
    /// Events for which this is not true are not the view's.
    pub filter: Option<Arc<dyn Evaluate>>,
    /// What tells groups apart. None: there is one group, which is there without events too.
    pub groups: Vec<GroupBy>,
    /// What is kept for each group.
    pub aggregates: Vec<AggregateColumn>,
    /// The group column that is a window.
    pub window: Option<Window>,
    /// The event time, as a place in `input`, where the stream has one.
    pub event_time: Option<usize>,
    /// How the view is kept.
    pub options: ViewOptions,
    /// Of the form of its stored groups: one with another fingerprint cannot be read.
    pub fingerprint: u64,
}

impl Definition {
    /// The columns of its groups: what they are told apart by, then what is kept.
    #[must_use]
    pub fn group_schema(&self) -> SchemaRef {
        let groups = self
            .groups
            .iter()
            .map(|group| Field::new(&group.name, group.data_type.clone(), group.nullable));
        let aggregates = self.aggregates.iter().map(|column| {
            Field::new(&column.name, column.call.output_type.clone(), column.nullable)
        });
        Arc::new(Schema::new(groups.chain(aggregates).collect::<Vec<_>>()))
    }

    /// The places of the group columns in the order in which they make up a key: as they are, but a
    /// tumbling or hopping window first, and a session last.
    ///
    /// # Errors
    /// When groups cannot be told apart by these columns.
    pub fn key_order(self: &Arc<Self>) -> Result<Vec<usize>, DefinitionError> {
        Ok(Layout::new(Arc::clone(self))?.order)
    }

    /// Makes keys of values: for many keys, where [`Definition::key_of`] would lay out the
    /// definition for each.
    ///
    /// # Errors
    /// When groups cannot be told apart by these columns.
    pub fn key_codec(self: &Arc<Self>) -> Result<KeyCodec, DefinitionError> {
        Ok(Layout::new(Arc::clone(self))?.codec)
    }

    /// The key of a group, or the beginning of the keys of groups, from the values of the first
    /// columns in the order of [`Definition::key_order`]. Each array has one row and the column's
    /// type.
    ///
    /// # Errors
    /// When the values are not those of the first columns.
    pub fn key_of(self: &Arc<Self>, values: &[ArrayRef]) -> Result<Vec<u8>, DefinitionError> {
        Ok(Layout::new(Arc::clone(self))?.codec.key(values)?)
    }
}
