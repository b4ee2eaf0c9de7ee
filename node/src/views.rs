//! The views this node maintains, as everyone but their actors sees them.
//!
//! Published by the supervisor after each change of the catalogue. A part is a view in one
//! partition: its actor folds, any number of readers look at it between two slices.

mod part;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::ids::ViewId;
use alluvium_core::view::{View, ViewEntry};
use alluvium_query::host::ViewCatalogue;
use alluvium_query::views::CompiledView;
use arc_swap::ArcSwap;

pub use part::{Audited, Condition, PartStatus, StoredPart, ViewPart, ViewReadError, reason_of};

/// One life of a view.
#[derive(Debug)]
pub struct ServedView {
    /// As the catalogue has it.
    pub view: Arc<View>,
    /// Ready to run, or why it cannot be.
    pub compiled: Result<Arc<CompiledView>, String>,
    /// By partition number, or why there is none; empty for a view that folds nothing itself.
    pub parts: Vec<Result<Arc<ViewPart>, String>>,
}

/// A view of the catalogue.
#[derive(Clone, Debug)]
pub struct ServedEntry {
    /// What readers see.
    pub current: Arc<ServedView>,
    /// What is built beside it.
    pub next: Option<Arc<ServedView>>,
    /// As the catalogue has it.
    pub entry: ViewEntry,
}

/// Every view of this node, by name.
#[derive(Debug, Default)]
pub struct Views {
    served: ArcSwap<BTreeMap<String, ServedEntry>>,
    catalogue: ArcSwap<BTreeMap<String, ViewEntry>>,
}

impl Views {
    /// One view by its name.
    pub fn get(&self, name: &str) -> Option<ServedEntry> {
        self.served.load().get(name).cloned()
    }

    /// One life of a view.
    pub fn life(&self, id: ViewId) -> Option<Arc<ServedView>> {
        let served = self.served.load();
        let lives = served.values().flat_map(|entry| [Some(&entry.current), entry.next.as_ref()]);
        lives.flatten().find(|served| served.view.id == id).cloned()
    }

    /// Every life of every view.
    pub fn lives(&self) -> Vec<Arc<ServedView>> {
        let served = self.served.load();
        let lives = served.values().flat_map(|entry| [Some(&entry.current), entry.next.as_ref()]);
        lives.flatten().cloned().collect()
    }

    /// All of them at this moment.
    pub fn all(&self) -> Arc<BTreeMap<String, ServedEntry>> {
        self.served.load_full()
    }

    /// The catalogue at this moment, for SQL.
    pub fn catalogue(&self) -> ViewCatalogue {
        self.catalogue.load_full()
    }

    /// Replaces what is served. Only the supervisor calls this.
    pub fn publish(&self, served: BTreeMap<String, ServedEntry>) {
        let catalogue =
            served.iter().map(|(name, entry)| (name.clone(), entry.entry.clone())).collect();
        self.served.store(Arc::new(served));
        self.catalogue.store(Arc::new(catalogue));
    }
}

impl ServedView {
    /// Its parts that run.
    pub fn running(&self) -> impl Iterator<Item = &Arc<ViewPart>> {
        self.parts.iter().filter_map(|part| part.as_ref().ok())
    }
}
