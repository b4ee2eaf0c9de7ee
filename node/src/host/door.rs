//! Views without SQL, as the front doors reach them.

mod gate;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_core::ids::{Offset, PartitionNumber, ViewId};
use alluvium_core::stream::Frontier;
use alluvium_query::SqlError;
use alluvium_query::host::{Freshness, HostError};
use alluvium_query::views::{CompiledView, Maintained, ViewCompiler};
use alluvium_views::fold::{Evaluate, EvaluateError, Keys, Merge, WindowKind};
use arc_swap::ArcSwap;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::future::select_all;

use self::gate::Gates;
use crate::grpc::view::{DoorError, Finish, GroupsChanged, GroupsRead, ViewDoor, ViewGroups, Wait};
use crate::streams::Streams;
use crate::views::{Condition, ServedView, ViewPart, ViewReadError, Views};

/// So many groups are looked up at once without leaving the thread: that takes less time than to
/// find another one.
const KEYS_AT_ONCE: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct NodeDoor {
    streams: Arc<Streams>,
    views: Arc<Views>,
    compiler: ViewCompiler,
    prepared: ArcSwap<BTreeMap<ViewId, Arc<ViewGroups>>>,
    gates: Gates,
}

/// The finishing part of a view, compiled.
#[derive(Debug)]
struct Finishing(Arc<CompiledView>);

impl Finish for Finishing {
    fn rows(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        self.0.finish_rows(groups).map_err(|error| EvaluateError(error.to_string()))
    }
}

impl NodeDoor {
    /// Over what this node serves.
    pub fn new(streams: Arc<Streams>, views: Arc<Views>, compiler: ViewCompiler) -> NodeDoor {
        NodeDoor { streams, views, compiler, prepared: ArcSwap::default(), gates: Gates::default() }
    }

    fn prepare(&self, served: &ServedView) -> Result<Arc<ViewGroups>, DoorError> {
        let name = &served.view.definition.name;
        let (compiled, maintained) = maintained(served)?;
        let needs_sql =
            |reason: &str| Err(DoorError::NeedsSql { name: name.clone(), reason: reason.into() });
        if !compiled.is_row_wise() {
            return needs_sql(
                "does more with its groups than to compute a row from each (EXPLAIN VIEW says \
                 what)",
            );
        }
        let window = maintained.definition.window.map(|window| window.kind);
        if matches!(window, Some(WindowKind::Session { .. })) && !maintained.disjoint {
            return needs_sql(
                "puts sessions together out of several partitions, since the columns that choose \
                 the partition are not among those it is grouped by",
            );
        }
        let columns = (SchemaRef::clone(&compiled.schema), compiled.shows());
        let view = ViewGroups::new(
            (served.view.id, name),
            Arc::clone(&maintained.stream),
            Arc::clone(&maintained.definition),
            columns,
            Arc::new(Finishing(Arc::clone(compiled))),
        );
        let view = view.map_err(|error| invalid(&error))?;
        Ok(Arc::new(view))
    }

    /// A life of a view with its parts, if all of them run.
    fn running(&self, view: &ViewGroups) -> Result<(Arc<ServedView>, Parts), DoorError> {
        let ended = || DoorError::Ended { view: view.name.clone() };
        let served = self.views.life(view.id).ok_or_else(ended)?;
        let parts = served.parts.iter().map(|part| match part {
            Ok(part) => Ok(Arc::clone(part)),
            Err(reason) => Err(unavailable(&view.name, reason)),
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok((served, parts))
    }

    /// What an answer must reflect at least.
    async fn ends(&self, view: &ViewGroups, wait: &Wait) -> Result<Frontier, DoorError> {
        match wait {
            Wait::Not => Ok(Frontier::default()),
            Wait::For(Freshness::Linearizable) => {
                let name = &view.stream.definition.name;
                let served = self.streams.get(name).filter(|s| s.stream.id == view.stream.id);
                let served = served.ok_or_else(|| DoorError::Ended { view: view.name.clone() })?;
                let ends = self.gates.ends(&served).await;
                ends.map_err(|reason| unavailable(&view.name, &reason))
            }
            Wait::For(Freshness::AtLeast(frontiers)) => {
                let found = frontiers.iter().find(|(id, _)| *id == view.stream.id);
                Ok(found.map(|(_, frontier)| frontier.clone()).unwrap_or_default())
            }
            Wait::For(Freshness::AsOf(_)) => {
                let reason = "views keep no older answers".into();
                Err(DoorError::Invalid { reason })
            }
        }
    }

    /// Groups as they are now.
    async fn look(
        &self,
        view: &ViewGroups,
        (served, parts): &(Arc<ServedView>, Parts),
        keys: &Keys,
    ) -> Result<GroupsRead, DoorError> {
        let disjoint = maintained(served)?.1.disjoint;
        let (definition, parts) = (Arc::clone(&view.definition), parts.clone());
        let (name, keys) = (view.name.clone(), keys.clone());
        let is_short = matches!(&keys, Keys::These(keys) if keys.len() <= KEYS_AT_ONCE);
        let read = move || {
            let merge = if disjoint { Merge::disjoint(definition) } else { Merge::new(definition) };
            let mut merge = merge.map_err(|error| invalid(&error))?;
            let mut frontier = Frontier::default();
            for part in &parts {
                let next = part.read(&keys, &mut merge).map_err(|e| read_error(&name, &e))?;
                frontier.0.insert(part.partition(), next);
            }
            let groups = merge.finish().map_err(|error| invalid(&error))?;
            Ok(GroupsRead { groups, frontier, watermark: watermark(&parts) })
        };
        if is_short { read() } else { blocking(read).await }
    }
}

type Parts = Vec<Arc<ViewPart>>;

#[async_trait]
impl ViewDoor for NodeDoor {
    fn groups(&self, name: &str) -> Result<Arc<ViewGroups>, DoorError> {
        let Some(entry) = self.views.get(name) else {
            return Err(DoorError::Unknown { name: name.into() });
        };
        if let Some(view) = self.prepared.load().get(&entry.current.view.id) {
            return Ok(Arc::clone(view));
        }
        let view = self.prepare(&entry.current)?;
        self.prepared.rcu(|prepared| {
            let alive = prepared.iter().filter(|(id, _)| self.views.life(**id).is_some());
            let mut prepared: BTreeMap<_, _> = alive.map(|(id, v)| (*id, v.clone())).collect();
            prepared.insert(view.id, Arc::clone(&view));
            prepared
        });
        Ok(view)
    }

    async fn read(
        &self,
        view: &ViewGroups,
        wait: &Wait,
        keys: Keys,
    ) -> Result<GroupsRead, DoorError> {
        let running = self.running(view)?;
        let ends = self.ends(view, wait).await?;
        loop {
            reach(view, &running.1, &ends).await?;
            let read = self.look(view, &running, &keys).await?;
            // A part that was opened again meanwhile is behind until it has folded again.
            let mut reached = read.frontier.0.iter();
            if reached.all(|(partition, next)| offset(&ends, *partition) <= *next) {
                return Ok(read);
            }
        }
    }

    async fn changed(
        &self,
        view: &ViewGroups,
        since: &Frontier,
        groups_max: usize,
    ) -> Result<GroupsChanged, DoorError> {
        let (_, parts) = self.running(view)?;
        // After a restart they fold again what the caller has already: until then, what they hold
        // is older than what was sent.
        reach(view, &parts, since).await?;
        ahead(view, &parts, since).await?;
        // Looked at before the groups: what is said to be final must be in them.
        let watermark = watermark(&parts);
        let definition = Arc::clone(&view.definition);
        let (name, start) = (view.name.clone(), since.clone());
        let found = blocking(move || {
            let mut found = Vec::with_capacity(parts.len());
            for part in &parts {
                let mut merge =
                    Merge::new(Arc::clone(&definition)).map_err(|error| invalid(&error))?;
                let start = offset(&start, part.partition());
                let changes = part.changed(start, groups_max, &mut merge);
                let changes = changes.map_err(|error| read_error(&name, &error))?;
                if start < changes.removed_from {
                    return Err(DoorError::Forgotten { view: name });
                }
                let groups = merge.finish().map_err(|error| invalid(&error))?;
                found.push((part.partition(), changes, groups));
            }
            Ok(found)
        });
        let mut frontier = Frontier::default();
        let (mut keys, mut removed) = (Vec::new(), Vec::new());
        for (partition, changes, groups) in found.await? {
            // A partition that is not as far as the caller was has nothing new.
            frontier.0.insert(partition, changes.next.max(offset(since, partition)));
            removed.extend(changes.removed);
            for groups in &groups {
                keys.extend(keys_of(view, groups)?);
            }
        }
        keys.extend(removed.iter().cloned());
        // What changed in one partition is only its share of a group.
        let groups = match keys.is_empty() {
            true => Vec::new(),
            false => {
                let wait = Wait::For(Freshness::AtLeast(vec![(view.stream.id, frontier.clone())]));
                self.read(view, &wait, Keys::These(keys)).await?.groups
            }
        };
        for groups in &groups {
            let found = keys_of(view, groups)?;
            removed.retain(|key| !found.contains(key));
        }
        Ok(GroupsChanged { groups, removed, frontier, watermark })
    }

    fn condition(&self, columns: &SchemaRef, sql: &str) -> Result<Arc<dyn Evaluate>, SqlError> {
        self.compiler.condition(columns, sql)
    }
}

/// Waits until each part has folded everything before these offsets.
async fn reach(view: &ViewGroups, parts: &Parts, ends: &Frontier) -> Result<(), DoorError> {
    for part in parts {
        let end = offset(ends, part.partition());
        part.reach(end).await.map_err(|error| read_error(&view.name, &error))?;
    }
    Ok(())
}

/// Waits until a part has folded more than `since`.
async fn ahead(view: &ViewGroups, parts: &Parts, since: &Frontier) -> Result<(), DoorError> {
    let mut watches: Vec<_> = parts.iter().map(|part| part.watch()).collect();
    loop {
        for (part, watch) in parts.iter().zip(&mut watches) {
            let status = watch.borrow_and_update();
            if status.condition == Condition::Stopped {
                return Err(DoorError::Ended { view: view.name.clone() });
            }
            if offset(since, part.partition()) < status.next {
                return Ok(());
            }
        }
        if watches.is_empty() {
            return Err(DoorError::Ended { view: view.name.clone() });
        }
        let changed = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
        let (changed, ..) = select_all(changed).await;
        changed.map_err(|_| DoorError::Ended { view: view.name.clone() })?;
    }
}

/// The lowest of the parts that have one: a partition without events holds nobody back.
fn watermark(parts: &Parts) -> Option<i64> {
    parts.iter().filter_map(|part| part.progress().watermark).min()
}

fn offset(frontier: &Frontier, partition: PartitionNumber) -> Offset {
    frontier.0.get(&partition).copied().unwrap_or_default()
}

fn keys_of(view: &ViewGroups, groups: &RecordBatch) -> Result<Vec<Vec<u8>>, DoorError> {
    let computed = |reason| DoorError::Computed { view: view.name.clone(), reason };
    view.keys_of(groups).map_err(computed)
}

/// Runs what may read files.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, DoorError> + Send + 'static,
) -> Result<T, DoorError> {
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|error| HostError::Unavailable { reason: error.to_string() })?
}

fn maintained(served: &ServedView) -> Result<(&Arc<CompiledView>, &Maintained), DoorError> {
    let name = &served.view.definition.name;
    let compiled = served.compiled.as_ref().map_err(|reason| unavailable(name, reason))?;
    match &compiled.maintained {
        Some(maintained) => Ok((compiled, maintained)),
        None => Err(DoorError::NeedsSql {
            name: name.clone(),
            reason: "folds no stream of its own, it is computed when it is read".into(),
        }),
    }
}

fn unavailable(name: &str, reason: &str) -> DoorError {
    HostError::Unavailable { reason: format!("view \"{name}\": {reason}") }.into()
}

fn invalid(error: &dyn std::fmt::Display) -> DoorError {
    HostError::Invalid { reason: error.to_string() }.into()
}

fn read_error(name: &str, error: &ViewReadError) -> DoorError {
    match error {
        ViewReadError::Stopped { .. } => DoorError::Ended { view: name.into() },
        ViewReadError::Parked { .. } | ViewReadError::Damaged { .. } => {
            HostError::Unavailable { reason: error.to_string() }.into()
        }
    }
}
