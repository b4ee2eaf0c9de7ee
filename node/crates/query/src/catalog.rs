//! What a statement can name: streams in `public`, the node's own tables in `system`, and what
//! clients of PostgreSQL look for in `pg_catalog`.
//!
//! Built anew for each statement from what was pinned for it, so nothing a planner resolves can
//! change or be forgotten under it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};

/// The one catalogue's name; `information_schema` shows it.
pub(crate) const CATALOGUE: &str = "alluvium";
/// Where streams are.
pub(crate) const PUBLIC: &str = "public";
/// Where the node's own tables are.
pub(crate) const SYSTEM: &str = "system";
/// Where the stream of an `INSERT` stands, without hidden columns; not listed.
pub(crate) const TARGET: &str = "_target";

/// Where clients of PostgreSQL look for what there is; not listed.
pub(crate) const PG_CATALOG: &str = "pg_catalog";

/// Tables by name.
pub(crate) type Tables = BTreeMap<String, Arc<dyn TableProvider>>;

/// The one catalogue.
#[derive(Debug)]
pub(crate) struct Catalog {
    schemas: BTreeMap<&'static str, Arc<dyn SchemaProvider>>,
}

impl Catalog {
    pub(crate) fn new(
        public: Tables,
        system: Tables,
        target: Tables,
        pg_catalog: Tables,
    ) -> Catalog {
        let parts =
            [(PUBLIC, public), (SYSTEM, system), (TARGET, target), (PG_CATALOG, pg_catalog)];
        let schemas = parts.into_iter().map(|(name, tables)| {
            let schema: Arc<dyn SchemaProvider> = Arc::new(FixedTables { tables });
            (name, schema)
        });
        Catalog { schemas: schemas.collect() }
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![PUBLIC.into(), SYSTEM.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).map(Arc::clone)
    }
}

/// The list of the one catalogue.
#[derive(Debug)]
pub(crate) struct OneCatalog(pub(crate) Arc<Catalog>);

impl CatalogProviderList for OneCatalog {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOGUE.into()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        if name != CATALOGUE {
            return None;
        }
        let catalog: Arc<dyn CatalogProvider> = Arc::<Catalog>::clone(&self.0);
        Some(catalog)
    }
}

#[derive(Debug)]
struct FixedTables {
    tables: Tables,
}

#[async_trait]
impl SchemaProvider for FixedTables {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.tables.get(name).map(Arc::clone))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
