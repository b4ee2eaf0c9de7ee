//! The streams this node serves, as everyone but their owners sees them.
//!
//! Published by the supervisor after each change of the catalogue, read without locks by appends
//! and queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use alluvium_core::ids::GroupId;
use alluvium_core::stream::Stream;
use alluvium_query::host::Catalogue;
use arc_swap::ArcSwap;
use arrow::datatypes::SchemaRef;

use crate::actors::partition::PartitionHandle;
use crate::ingest::Lane;

/// One stream with its partitions on this node.
#[derive(Debug)]
pub struct ServedStream {
    /// As the catalogue has it.
    pub stream: Arc<Stream>,
    /// Arrow form of its columns in the event log.
    pub log_schema: SchemaRef,
    /// Arrow form of its columns in queries, hidden ones included.
    pub scan_schema: SchemaRef,
    /// By partition number.
    pub partitions: Vec<Arc<PartitionHandle>>,
    /// Where its small appends gather.
    pub lane: Lane,
    turn: AtomicU32,
}

impl ServedStream {
    /// With its partitions in order of their numbers.
    pub fn new(stream: Arc<Stream>, partitions: Vec<Arc<PartitionHandle>>) -> ServedStream {
        let log_schema = alluvium_views::columns::log_schema(&stream.definition.schema);
        let scan_schema = alluvium_views::columns::scan_schema(&stream.definition.schema);
        let (lane, turn) = (Lane::default(), AtomicU32::new(0));
        ServedStream { stream, log_schema, scan_schema, partitions, lane, turn }
    }

    /// Whose turn it is among the partitions of a stream without a key.
    pub fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// Every stream of this node, by name.
#[derive(Debug, Default)]
pub struct Streams {
    served: ArcSwap<BTreeMap<String, Arc<ServedStream>>>,
    partitions: ArcSwap<BTreeMap<GroupId, Arc<PartitionHandle>>>,
    catalogue: ArcSwap<BTreeMap<String, Arc<Stream>>>,
}

impl Streams {
    /// One stream by its name.
    pub fn get(&self, name: &str) -> Option<Arc<ServedStream>> {
        self.served.load().get(name).cloned()
    }

    /// One partition by its group.
    pub fn partition(&self, group: GroupId) -> Option<Arc<PartitionHandle>> {
        self.partitions.load().get(&group).cloned()
    }

    /// All of them at this moment.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<ServedStream>>> {
        self.served.load_full()
    }

    /// The catalogue at this moment, for SQL.
    pub fn catalogue(&self) -> Catalogue {
        self.catalogue.load_full()
    }

    /// Replaces what is served. Only the supervisor calls this.
    pub fn publish(&self, served: BTreeMap<String, Arc<ServedStream>>) {
        let mut catalogue = BTreeMap::new();
        let mut partitions = BTreeMap::new();
        for (name, stream) in &served {
            catalogue.insert(name.clone(), stream.stream.clone());
            let handles = stream.partitions.iter();
            partitions.extend(handles.map(|partition| (partition.group, partition.clone())));
        }
        self.partitions.store(Arc::new(partitions));
        self.served.store(Arc::new(served));
        self.catalogue.store(Arc::new(catalogue));
    }
}
