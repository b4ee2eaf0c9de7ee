//! Views as the SQL engine sees them.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::meta::MetaCommand;
use alluvium_core::time::Time;
use alluvium_core::view::{View, ViewDefinition};
use alluvium_query::host::{
    Freshness, HostError, QuarantineRow, ViewChange, ViewPartition, ViewRead, ViewRow,
};
use alluvium_query::views::Maintained;
use alluvium_views::fold::{Keys, Merge, Selection};

use super::NodeHost;
use super::parts::{self, Gathered, PartError, Tries};
use crate::clock;
use crate::streams::ServedStream;
use crate::views::{Condition, ServedView, ViewPart};

/// So many groups are looked up without leaving the thread.
const KEYS_AT_ONCE: usize = 100;

/// Groups in memory that are read without leaving the thread: a tenth of a millisecond.
const BYTES_AT_ONCE: usize = 256 << 10;

/// Quarantined events shown of one view: the newest.
const QUARANTINE_ROWS_MAX: usize = 1_000;

impl NodeHost {
    pub(super) async fn create(
        &self,
        definition: ViewDefinition,
        if_not_exists: bool,
        or_replace: bool,
        owner: Option<String>,
    ) -> Result<(), HostError> {
        let created_at = clock::now();
        let command = MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at };
        self.change_views(super::owned(owner, command)).await
    }

    pub(super) async fn alter(&self, name: &str, change: ViewChange) -> Result<(), HostError> {
        let name = name.to_string();
        let command = match change {
            ViewChange::Rebuild => MetaCommand::RebuildView { name, created_at: clock::now() },
            ViewChange::Resume => MetaCommand::ResumeView { name },
            ViewChange::Cancel => MetaCommand::CancelView { name },
        };
        self.change_views(command).await
    }

    /// Proposes a change; an outcome that refuses it becomes an error.
    pub(super) async fn change_views(&self, command: MetaCommand) -> Result<(), HostError> {
        self.change(command).await.map(|_| ())
    }

    /// A life of a view with what it folds.
    fn served_view(&self, view: &View) -> Result<Arc<ServedView>, HostError> {
        let name = || view.definition.name.clone();
        let served = self.views.life(view.id);
        served.ok_or_else(|| HostError::UnknownView { name: name() })
    }

    /// Groups of a view, as fresh as asked.
    pub(crate) async fn read_groups(
        &self,
        view: &View,
        freshness: &Freshness,
        selection: &Selection,
    ) -> Result<ViewRead, HostError> {
        let mut tries = Tries::default();
        loop {
            match self.look(view, freshness, selection).await {
                Ok(read) => return Ok(read),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    async fn look(
        &self,
        view: &View,
        freshness: &Freshness,
        selection: &Selection,
    ) -> Result<ViewRead, PartError> {
        let served = self.served_view(view)?;
        let maintained = maintained(&served)?;
        let stream = self.served(&maintained.stream)?;
        let places = parts::places(&served, &stream)?;
        let ends = parts::ends(&stream, freshness).await?;
        let definition = Arc::clone(&maintained.definition);
        let merge =
            if maintained.disjoint { Merge::disjoint(definition) } else { Merge::new(definition) };
        let merge = merge.map_err(finish_error)?.selecting(selection);
        let keys = selection.keys();
        let is_short = is_short(&served, keys);
        let Gathered { groups, frontier, .. } =
            parts::gather(&places, &ends, merge, keys, is_short).await?;
        for (place, end) in places.iter().zip(&ends) {
            let next = frontier.0.get(&place.partition()).copied().unwrap_or_default();
            if next < *end {
                // It was opened again meanwhile, and folds anew.
                let reason = format!("view \"{}\" is behind; try again", view.definition.name);
                return Err(PartError::Moved { reason });
            }
            let passed = matches!(freshness, Freshness::AsOf(_)) && next != *end;
            if passed {
                return Err(as_of_error(&view.definition.name, place.partition(), *end).into());
            }
        }
        let batches = if is_short {
            groups.finish()
        } else {
            tokio::task::spawn_blocking(move || groups.finish()).await.map_err(unavailable)?
        };
        Ok(ViewRead { batches: batches.map_err(finish_error)?, frontier })
    }

    pub(super) async fn audit(&self, view: &View) -> Result<Vec<ViewPartition>, HostError> {
        let mut tries = Tries::default();
        loop {
            match self.audit_parts(view).await {
                Ok(audited) => return Ok(audited),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    async fn audit_parts(&self, view: &View) -> Result<Vec<ViewPartition>, PartError> {
        let served = self.served_view(view)?;
        let maintained = maintained(&served)?;
        let stream = self.served(&maintained.stream)?;
        let places = parts::places(&served, &stream)?;
        let ends = parts::ends(&stream, &Freshness::Linearizable).await?;
        let mut audited = Vec::with_capacity(places.len());
        for (place, end) in places.into_iter().zip(ends) {
            let definition = Arc::clone(&maintained.definition);
            audited.push(parts::audit(place, end, definition).await?);
        }
        Ok(audited)
    }

    pub(super) fn rows_of_views(&self) -> Vec<ViewRow> {
        let mut rows = Vec::new();
        for entry in self.views.all().values() {
            for served in std::iter::once(&entry.current).chain(&entry.next) {
                rows.extend(self.rows_of_view(served));
            }
        }
        rows
    }

    fn rows_of_view(&self, served: &ServedView) -> Vec<ViewRow> {
        let maintained =
            served.compiled.as_ref().ok().and_then(|compiled| compiled.maintained.as_ref());
        let Some(maintained) = maintained else {
            return vec![unfolded_row(served)];
        };
        let name = &maintained.stream.definition.name;
        let stream = self.streams.get(name);
        let parts = served.parts.iter().zip(0..);
        let rows = parts.map(|(part, number)| match part {
            Ok(part) => part_row(served, part, name, stream.as_deref()),
            Err(reason) => ViewRow {
                stream: Some(name.clone()),
                partition: PartitionNumber(number),
                state: format!("parked: {reason}"),
                last_error: Some(reason.clone()),
                ..unfolded_row(served)
            },
        });
        rows.collect()
    }

    pub(super) fn rows_of_quarantine(&self) -> Result<Vec<QuarantineRow>, HostError> {
        let mut rows = Vec::new();
        for (name, entry) in self.views.all().iter() {
            let stream = entry.current.compiled.as_ref().ok().and_then(|c| c.maintained.as_ref());
            let Some(stream) = stream.map(|m| m.stream.definition.name.clone()) else { continue };
            let found = self.store.views().quarantine(entry.current.view.id, QUARANTINE_ROWS_MAX);
            let found = found.map_err(unavailable)?;
            rows.extend(found.into_iter().map(|row| QuarantineRow {
                view: name.clone(),
                stream: stream.clone(),
                partition: row.place.partition,
                offset: row.event.offset,
                reason: row.event.reason,
                event: String::from_utf8_lossy(&row.event.event).into_owned(),
            }));
        }
        Ok(rows)
    }
}

/// Whether a read takes less time than to find another thread for it.
fn is_short(served: &ServedView, keys: &Keys) -> bool {
    match keys {
        Keys::These(keys) => keys.len() <= KEYS_AT_ONCE,
        Keys::All | Keys::Range(_) => {
            let progress = served.running().map(|part| part.progress());
            let looked_at =
                progress.map(|found| match found.resident_groups as u64 == found.groups {
                    true => found.resident_bytes,
                    false => usize::MAX,
                });
            looked_at.fold(0, usize::saturating_add) <= BYTES_AT_ONCE
        }
    }
}

/// What a view folds.
fn maintained(served: &ServedView) -> Result<&Maintained, HostError> {
    let name = &served.view.definition.name;
    let unavailable =
        |reason: &String| HostError::Unavailable { reason: format!("view \"{name}\": {reason}") };
    let compiled = served.compiled.as_ref().map_err(unavailable)?;
    compiled.maintained.as_ref().ok_or_else(|| HostError::Invalid {
        reason: format!("view \"{name}\" folds no stream of its own"),
    })
}

fn finish_error(error: impl std::fmt::Display) -> HostError {
    HostError::Invalid { reason: error.to_string() }
}

fn unavailable(error: impl std::fmt::Display) -> HostError {
    HostError::Unavailable { reason: error.to_string() }
}

fn as_of_error(view: &str, partition: PartitionNumber, end: Offset) -> HostError {
    HostError::OutOfRange {
        reason: format!(
            "view \"{view}\" has passed offset {end} of partition {partition} and keeps no older \
             answers; ask its query over the stream as of then"
        ),
    }
}

fn unfolded_row(served: &ServedView) -> ViewRow {
    let broken = served.compiled.as_ref().err();
    ViewRow {
        view: served.view.definition.name.clone(),
        stream: None,
        partition: PartitionNumber(0),
        state: broken.map_or("serving".into(), |reason| format!("parked: {reason}")),
        next_offset: Offset::ZERO,
        lag_events: 0,
        lag: Duration::ZERO,
        groups: 0,
        state_bytes: 0,
        folded: 0,
        filtered: 0,
        expired: 0,
        quarantined: 0,
        watermark: None,
        last_error: broken.cloned(),
        id: served.view.id.0,
    }
}

fn part_row(
    served: &ServedView,
    part: &ViewPart,
    stream: &str,
    source: Option<&ServedStream>,
) -> ViewRow {
    let (status, progress) = (part.status(), part.progress());
    let log = source.and_then(|source| source.partitions[part.partition().0 as usize].log());
    let view = log.map(|log| log.view());
    let end = view.as_ref().map_or(progress.next, |view| view.end);
    let lag_events = end.0.saturating_sub(progress.next.0);
    let waiting = view.as_ref().and_then(|view| view.appended_at(progress.next));
    let lag = waiting.map_or(Duration::ZERO, |since| clock::now().since(since));
    let (state, last_error) = match &status.condition {
        Condition::Building => ("building".to_string(), None),
        Condition::Serving => ("serving".to_string(), None),
        Condition::Stopped => ("stopped".to_string(), None),
        Condition::Parked { reason } => (format!("parked: {reason}"), Some(reason.clone())),
    };
    ViewRow {
        stream: Some(stream.into()),
        partition: part.partition(),
        state,
        next_offset: progress.next,
        lag_events,
        lag,
        groups: progress.groups,
        state_bytes: progress.resident_bytes as u64,
        folded: progress.counts.folded,
        filtered: progress.counts.filtered,
        expired: progress.counts.expired,
        quarantined: progress.counts.quarantined,
        watermark: progress.watermark.map(Time),
        last_error,
        ..unfolded_row(served)
    }
}
