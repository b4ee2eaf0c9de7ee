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

use self::gate::Gates;
use super::parts::{self, Changed, Gathered, PartError, Place, Tries};
use crate::grpc::view::{DoorError, Finish, GroupsChanged, GroupsRead, ViewDoor, ViewGroups, Wait};
use crate::streams::Streams;
use crate::views::{ServedView, Views};

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

    /// A life of a view with the places of its parts.
    fn running(&self, view: &ViewGroups) -> Result<(Arc<ServedView>, Vec<Place>), PartError> {
        let ended = || HostError::Unavailable { reason: format!("view \"{}\" is gone", view.name) };
        let served = self.views.life(view.id).ok_or_else(ended)?;
        let name = &view.stream.definition.name;
        let stream = self.streams.get(name).filter(|s| s.stream.id == view.stream.id);
        let stream = stream.ok_or_else(ended)?;
        let places = parts::places(&served, &stream)?;
        Ok((served, places))
    }

    /// Fails where the life that was asked for is not served any more.
    fn check_life(&self, view: &ViewGroups) -> Result<(), DoorError> {
        match self.views.life(view.id) {
            Some(_) => Ok(()),
            None => Err(DoorError::Ended { view: view.name.clone() }),
        }
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
        ends: &Frontier,
        keys: &Keys,
    ) -> Result<GroupsRead, PartError> {
        let (served, places) = self.running(view)?;
        let disjoint = matches!(maintained(&served), Ok((_, maintained)) if maintained.disjoint);
        let definition = Arc::clone(&view.definition);
        let merge = if disjoint { Merge::disjoint(definition) } else { Merge::new(definition) };
        let merge = merge.map_err(|error| HostError::Invalid { reason: error.to_string() })?;
        let is_short = matches!(&keys, Keys::These(keys) if keys.len() <= KEYS_AT_ONCE);
        let ends: Vec<Offset> =
            places.iter().map(|place| offset(ends, place.partition())).collect();
        let Gathered { groups, frontier, watermark } =
            parts::gather(&places, &ends, merge, keys, is_short).await?;
        // A part that was opened again meanwhile is behind until it has folded again.
        let mut reached = frontier.0.values().zip(&ends);
        if !reached.all(|(next, end)| end <= next) {
            let reason = format!("view \"{}\" is behind; try again", view.name);
            return Err(PartError::Moved { reason });
        }
        let groups = groups.finish();
        let groups = groups.map_err(|error| HostError::Invalid { reason: error.to_string() })?;
        Ok(GroupsRead { groups, frontier, watermark })
    }
}

impl NodeDoor {
    /// Waits until a part has something new; what all of them have.
    async fn look_for_changes(
        &self,
        view: &ViewGroups,
        since: &Frontier,
        groups_max: usize,
    ) -> Result<Vec<Changed>, PartError> {
        let (_, places) = self.running(view)?;
        parts::ahead(&places, |partition| offset(since, partition)).await?;
        let changed = places.into_iter().map(|place| {
            // After a restart a part folds again what the caller has already: until then, what it
            // holds is older than what was sent.
            let since = offset(since, place.partition());
            parts::changed(place, since, groups_max, Arc::clone(&view.definition))
        });
        futures::future::try_join_all(changed).await
    }
}

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
        let ends = self.ends(view, wait).await?;
        let mut tries = Tries::default();
        loop {
            let read = self.look(view, &ends, &keys).await;
            self.check_life(view)?;
            match read {
                Ok(read) => return Ok(read),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    async fn changed(
        &self,
        view: &ViewGroups,
        since: &Frontier,
        groups_max: usize,
    ) -> Result<GroupsChanged, DoorError> {
        let mut tries = Tries::default();
        let found = loop {
            let found = self.look_for_changes(view, since, groups_max).await;
            self.check_life(view)?;
            match found {
                Ok(found) => break found,
                Err(error) => tries.after(error).await?,
            }
        };
        let mut frontier = Frontier::default();
        let (mut keys, mut removed, mut watermark) = (Vec::new(), Vec::new(), None);
        for Changed { partition, changes, groups, watermark: time } in found {
            let start = offset(since, partition);
            if start < changes.removed_from {
                return Err(DoorError::Forgotten { view: view.name.clone() });
            }
            // A partition that is not as far as the caller was has nothing new.
            frontier.0.insert(partition, changes.next.max(start));
            removed.extend(changes.removed);
            watermark = [watermark, time].into_iter().flatten().min();
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

fn offset(frontier: &Frontier, partition: PartitionNumber) -> Offset {
    frontier.0.get(&partition).copied().unwrap_or_default()
}

fn keys_of(view: &ViewGroups, groups: &RecordBatch) -> Result<Vec<Vec<u8>>, DoorError> {
    let computed = |reason| DoorError::Computed { view: view.name.clone(), reason };
    view.keys_of(groups).map_err(computed)
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
