//! What stands in a compiled plan for a table that a statement brings along.
//!
//! A plan is compiled once and read many times, each time over tables of that statement's own. So
//! it names its tables by what they are, and [`super::expand`] puts real ones in.

use std::sync::Arc;

use alluvium_core::stream::Stream;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableScan};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::SqlError;

/// Which table it is.
#[derive(Clone, Debug)]
pub(crate) enum StandsFor {
    /// The events of a stream.
    Stream(Arc<Stream>),
    /// The rows of another view, by its name.
    View(String),
    /// The groups that this view maintains.
    Groups,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Placeholder {
    pub(crate) stands_for: StandsFor,
    schema: SchemaRef,
}

impl Placeholder {
    pub(crate) fn new(stands_for: StandsFor, schema: SchemaRef) -> Placeholder {
        Placeholder { stands_for, schema }
    }
}

#[async_trait]
impl TableProvider for Placeholder {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(SqlError::internal("a view was read before its tables were put in").into())
    }
}

/// What a scan stands for, where it is a placeholder.
pub(crate) fn stands_for(scan: &TableScan) -> Option<(StandsFor, SchemaRef)> {
    let provider = source_as_provider(&scan.source).ok()?;
    let placeholder = provider.downcast_ref::<Placeholder>()?;
    Some((placeholder.stands_for.clone(), Arc::clone(&placeholder.schema)))
}

/// The stream a scan stands for, where it does.
pub(crate) fn stream_of(scan: &TableScan) -> Option<Arc<Stream>> {
    match stands_for(scan)?.0 {
        StandsFor::Stream(stream) => Some(stream),
        StandsFor::View(_) | StandsFor::Groups => None,
    }
}
