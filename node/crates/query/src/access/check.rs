//! Whether the caller of a statement may do what it says, in the words of statements.

use std::sync::Arc;

use alluvium_core::meta::access::Privilege;
use alluvium_core::stream::Stream;
use datafusion::common::TableReference;

use crate::engine::{Pinned, Statements, is_public};
use crate::error::SqlError;

impl Statements {
    /// Refuses a statement that names what its caller may not read. What is not there is told
    /// later, by who looks for it.
    pub(crate) fn check_references(
        &self,
        references: &[TableReference],
        listed: &Pinned,
    ) -> Result<(), SqlError> {
        for reference in references.iter().filter(|reference| is_public(reference)) {
            let name = reference.table();
            if listed.catalogue.contains_key(name) || listed.views.contains_key(name) {
                listed.rights.on_table(Privilege::Select, name)?;
            }
        }
        Ok(())
    }

    /// A stream by its name, where it is one and the caller may read it.
    pub(crate) fn readable(&self, name: &str) -> Result<Option<Arc<Stream>>, SqlError> {
        self.check_read(name)?;
        Ok(self.host.catalogue().get(name).map(Arc::clone))
    }

    /// Refuses to show a stream or view that is there and may not be read.
    pub(crate) fn check_read(&self, name: &str) -> Result<(), SqlError> {
        if self.is_there(name) {
            self.rights().on_table(Privilege::Select, name)?;
        }
        Ok(())
    }

    /// Refuses to change a stream or view that is there and belongs to somebody else.
    pub(crate) fn check_owned(&self, name: &str) -> Result<(), SqlError> {
        if self.is_there(name) {
            self.rights().owns(name)?;
        }
        Ok(())
    }

    /// Who makes a view must be able to read all that it reads: who may read the view sees it. One
    /// that is replaced must be the caller's.
    pub(crate) fn check_view_made(
        &self,
        name: &str,
        reads: &[String],
        is_there: bool,
    ) -> Result<(), SqlError> {
        let rights = self.rights();
        match is_there {
            true => rights.owns(name)?,
            false => rights.on_cluster(Privilege::Create)?,
        }
        for read in reads {
            rights.on_table(Privilege::Select, read)?;
            if !rights.sees_all(read) {
                return Err(SqlError::Denied {
                    reason: format!(
                        "permission denied: a policy hides rows of \"{read}\", so no view of it \
                         can be made"
                    ),
                });
            }
        }
        Ok(())
    }

    fn is_there(&self, name: &str) -> bool {
        self.host.catalogue().contains_key(name) || self.host.views().contains_key(name)
    }
}
