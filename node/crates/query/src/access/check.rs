//! Whether the caller of a statement may do what it says, in the words of statements.
//!
//! What is not there is refused like what is not granted: who may not touch something does not
//! learn whether it exists.

use std::sync::Arc;

use alluvium_core::meta::access::Privilege;
use alluvium_core::stream::Stream;
use datafusion::common::TableReference;

use crate::engine::{Pinned, Statements, is_public};
use crate::error::SqlError;
use crate::parameters::Placeholders;
use crate::pg_catalog;
use crate::statement::{self, Statement};

impl Statements {
    /// Refuses a statement that names what its caller may not read.
    pub(crate) fn check_references(
        &self,
        references: &[TableReference],
        listed: &Pinned,
    ) -> Result<(), SqlError> {
        for reference in references.iter().filter(|reference| is_public(reference)) {
            let name = reference.table();
            let is_there = listed.catalogue.contains_key(name) || listed.views.contains_key(name);
            if is_there || !self.is_built_in(name) {
                listed.rights.on_table(Privilege::Select, name)?;
            }
        }
        Ok(())
    }

    /// Whether a name without a schema may mean something that is nobody's.
    pub(crate) fn is_built_in(&self, name: &str) -> bool {
        self.base.table_functions().contains_key(name) || pg_catalog::is_table(name)
    }

    /// Refuses a view that reads what its maker may not read, before anything is told of it.
    pub(crate) fn check_view_reads(&self, query: &str) -> Result<(), SqlError> {
        let Statement::Read(read) = statement::parse(query, Placeholders::NONE)? else {
            return Ok(());
        };
        let references = self.base.resolve_table_references(&read.statement)?;
        self.check_references(&references, &self.listed())
    }

    /// A stream by its name, where it is one and the caller may read it.
    pub(crate) fn readable(&self, name: &str) -> Result<Option<Arc<Stream>>, SqlError> {
        self.check_read(name)?;
        Ok(self.host.catalogue().get(name).map(Arc::clone))
    }

    /// Refuses to show a stream or view that may not be read.
    pub(crate) fn check_read(&self, name: &str) -> Result<(), SqlError> {
        Ok(self.rights().on_table(Privilege::Select, name)?)
    }

    /// Refuses to change a stream or view that belongs to somebody else.
    pub(crate) fn check_owned(&self, name: &str) -> Result<(), SqlError> {
        Ok(self.rights().owns(name)?)
    }

    /// The same of one that is to be dropped. Who may make tables learns which names are taken
    /// anyway, and may say `IF EXISTS` of one that is not.
    pub(crate) fn check_dropped(&self, name: &str, if_exists: bool) -> Result<(), SqlError> {
        let rights = self.rights();
        let is_free = !self.is_there(name) && rights.on_cluster(Privilege::Create).is_ok();
        if if_exists && is_free { Ok(()) } else { self.check_owned(name) }
    }

    /// Refuses to make a stream or view to who may not, whether the name is free or taken; one that
    /// is replaced must be the caller's.
    pub(crate) fn check_made(&self, name: &str, replaces: bool) -> Result<(), SqlError> {
        let rights = self.rights();
        let owned = rights.owns(name);
        if owned.is_err() {
            rights.on_cluster(Privilege::Create)?;
        }
        if replaces && self.is_there(name) { Ok(owned?) } else { Ok(()) }
    }

    /// Who makes a view must be able to read all that it reads: who may read the view sees it.
    pub(crate) fn check_view_rows(&self, reads: &[String]) -> Result<(), SqlError> {
        let rights = self.rights();
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
