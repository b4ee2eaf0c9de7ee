//! Tables that are there to be planned over or listed, and hold nothing; and the state over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_views::columns;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;

use crate::catalog::{Catalog, OneCatalog, PG_CATALOG, Tables};
use crate::cut::Cut;
use crate::engine::{Pinned, Statements, in_memory};
use crate::error::SqlError;
use crate::host::Freshness;
use crate::pg_catalog;
use crate::system;
use crate::table::{Hidden, StreamTable, visible};

impl Statements {
    /// Everything there is, and nothing of it pinned.
    pub(crate) fn listed(&self) -> Pinned {
        Pinned {
            catalogue: self.host.catalogue(),
            views: self.host.views(),
            freshness: Freshness::default(),
            rights: self.rights(),
            direct: BTreeSet::new(),
            pins: Vec::new(),
            named: Vec::new(),
        }
    }

    /// A state in which every table is there and empty.
    pub(crate) fn listing(
        &self,
        listed: &Pinned,
        hidden: Hidden,
        references: &[TableReference],
        target: Tables,
    ) -> Result<SessionState, SqlError> {
        let mut public = Tables::new();
        self.list(listed, hidden, &mut public);
        let system = self.empty_system_tables()?;
        let pg_catalog = self.add_pg_catalog(listed, references, &mut public)?;
        Ok(self.state_over(public, system, target, pg_catalog))
    }

    /// The state in which these tables are all there are.
    pub(crate) fn state_over(
        &self,
        public: Tables,
        system: Tables,
        target: Tables,
        pg_catalog: Tables,
    ) -> SessionState {
        let mut state = SessionState::clone(&self.base);
        let catalog = Arc::new(Catalog::new(public, system, target, pg_catalog));
        state.register_catalog_list(Arc::new(OneCatalog(catalog)));
        state.mark_start_execution();
        state
    }

    /// Adds every stream and view that the caller sees as a table that holds nothing.
    pub(crate) fn list(&self, pinned: &Pinned, hidden: Hidden, public: &mut Tables) {
        self.list_views(pinned, public);
        let seen = pinned.catalogue.iter().filter(|(name, _)| pinned.rights.sees(name));
        for (name, stream) in seen {
            let mut scan = columns::scan_schema(&stream.definition.schema);
            if matches!(hidden, Hidden::Left) {
                scan = visible(&scan);
            }
            let listed = StreamTable::new(name, scan, hidden, Cut::default(), self.footers());
            public.insert(name.clone(), Arc::new(listed));
        }
    }

    /// The tables of schema `system`, without what they hold.
    pub(crate) fn empty_system_tables(&self) -> Result<Tables, SqlError> {
        let mut system = Tables::new();
        for name in system::TABLES {
            system.insert(name.into(), in_memory(system::empty_table(name)?)?);
        }
        Ok(system)
    }

    /// The tables of `pg_catalog` that a statement names, under their own names too.
    pub(crate) fn add_pg_catalog(
        &self,
        pinned: &Pinned,
        references: &[TableReference],
        public: &mut Tables,
    ) -> Result<Tables, SqlError> {
        let mut tables = Tables::new();
        let mut relations = None;
        for reference in references {
            let name = reference.table();
            let is_named = match reference.schema() {
                Some(schema) => schema == PG_CATALOG,
                None => !public.contains_key(name),
            };
            if !is_named || !pg_catalog::is_table(name) || tables.contains_key(name) {
                continue;
            }
            let relations = relations.get_or_insert_with(|| self.relations(pinned));
            let table = in_memory(pg_catalog::table(name, relations)?)?;
            tables.insert(name.into(), Arc::clone(&table));
            if reference.schema().is_none() {
                public.insert(name.into(), table);
            }
        }
        Ok(tables)
    }
}
