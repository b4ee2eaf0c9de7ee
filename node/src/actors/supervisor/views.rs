//! Starts and stops the views' parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message, ResponseFuture};
use alluvium_core::ids::{PartitionNumber, ViewId};
use alluvium_core::meta::MetaCommand;
use alluvium_core::stream::Stream;
use alluvium_core::view::{View, ViewEntry};
use alluvium_query::host::ViewCatalogue;
use alluvium_query::views::{CompiledView, ViewCompiler};
use alluvium_store::ViewPlace;
use tokio::sync::oneshot;

use super::Supervisor;
use crate::actors::partition::{PartitionHandle, Serving};
use crate::actors::ticker::{Follow, Ticker};
use crate::actors::view::{MAILBOX_MESSAGES_MAX, Resume, StopView, ViewActor, ViewParts};
use crate::streams::Streams;
use crate::views::{Condition, ServedEntry, ServedView, StoredPart, ViewPart, Views};

/// A part of a view has read everything there was.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CaughtUp(pub ViewId);

/// Writes down where every view stands and ends them.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StopViews;

/// A thread that views share.
#[derive(Debug)]
pub struct ViewThread {
    /// Where their actors run.
    pub arbiter: ArbiterHandle,
    /// Their beat.
    pub ticker: Addr<Ticker>,
}

/// The actors of one life of a view, by partition.
type Actors = BTreeMap<PartitionNumber, Addr<ViewActor>>;

/// Why a part of a view is not on this node.
pub const ELSEWHERE: &str = "other nodes hold this partition";

/// What the supervisor starts views with, and those that run.
#[derive(Debug)]
pub struct RunningViews {
    /// Makes them ready to run.
    pub compiler: ViewCompiler,
    /// What is served, for everyone else.
    pub served: Arc<Views>,
    /// Where they run; a part's thread goes by its partition's number.
    pub threads: Vec<ViewThread>,
    running: BTreeMap<ViewId, Actors>,
}

impl RunningViews {
    /// With nothing started.
    pub fn new(
        compiler: ViewCompiler,
        served: Arc<Views>,
        threads: Vec<ViewThread>,
    ) -> RunningViews {
        RunningViews { compiler, served, threads, running: BTreeMap::new() }
    }

    /// Takes out the actors of lives that the catalogue has no more.
    pub(super) fn take_gone(&mut self, wanted: &[ViewEntry]) -> Vec<(ViewId, Actors)> {
        let wanted = lives(wanted);
        let gone: Vec<ViewId> =
            self.running.keys().filter(|id| !wanted.contains(id)).copied().collect();
        gone.into_iter().filter_map(|id| Some((id, self.running.remove(&id)?))).collect()
    }
}

fn lives(entries: &[ViewEntry]) -> BTreeSet<ViewId> {
    let lives = entries.iter().flat_map(|entry| [Some(&entry.current), entry.next.as_ref()]);
    lives.flatten().map(|view| view.id).collect()
}

/// Ends view actors and waits for them.
pub(super) async fn stop(gone: impl Iterator<Item = &Addr<ViewActor>>) {
    for actor in gone {
        let (done, stopped) = oneshot::channel();
        if actor.send(StopView(done)).await.is_ok() {
            // Its end is all that matters, however it came.
            let _ = stopped.await;
        }
    }
}

impl Supervisor {
    /// Serves exactly these views. Streams are served before their views.
    pub(super) fn serve_views(&mut self, entries: &[ViewEntry]) {
        let catalogue: ViewCatalogue = Arc::new(
            entries.iter().map(|e| (e.current.definition.name.clone(), e.clone())).collect(),
        );
        let running = self.views.served.all();
        let mut served = BTreeMap::new();
        for entry in entries {
            let name = entry.current.definition.name.clone();
            let before = running.get(&name);
            if let Some(before) = before
                && before.entry.resumed != entry.resumed
            {
                self.resume(before);
            }
            let current = self.life(&entry.current, &catalogue);
            let next = entry.next.as_ref().map(|view| self.life(view, &catalogue));
            served.insert(name, ServedEntry { current, next, entry: entry.clone() });
        }
        self.views.served.publish(served);
        self.tell_of_parts();
    }

    fn resume(&self, entry: &ServedEntry) {
        let lives = std::iter::once(&entry.current).chain(&entry.next);
        let running = lives.filter_map(|life| self.views.running.get(&life.view.id));
        for actor in running.flat_map(BTreeMap::values) {
            // At most one for each change of the catalogue.
            actor.do_send(Resume);
        }
    }

    /// The life that runs, or a new one.
    fn life(&mut self, view: &Arc<View>, catalogue: &ViewCatalogue) -> Arc<ServedView> {
        let Some(running) = self.views.served.life(view.id) else {
            return Arc::new(self.start_view(view, catalogue));
        };
        if self.has_its_parts(&running) {
            return running;
        }
        let (view, compiled) = (running.view.clone(), running.compiled.clone());
        let parts = match &compiled {
            Ok(compiled) => self.start_parts(&view, compiled, &running.parts),
            Err(_) => Vec::new(),
        };
        Arc::new(ServedView { view, compiled, parts })
    }

    /// Whether exactly those parts of a view are here whose partitions are.
    fn has_its_parts(&self, served: &ServedView) -> bool {
        let Ok(compiled) = &served.compiled else { return true };
        let Some(maintained) = &compiled.maintained else { return true };
        let groups = maintained.stream.groups.iter();
        groups.zip(&served.parts).all(|(group, part)| {
            let elsewhere = part.as_ref().is_err_and(|reason| reason == ELSEWHERE);
            elsewhere != self.hosts(*group)
        })
    }

    /// Takes out the actors that fold partitions which leave this node.
    pub(super) fn take_parts_of(
        &mut self,
        gone: &[Arc<PartitionHandle>],
    ) -> Vec<(ViewPlace, Addr<ViewActor>)> {
        let mut taken = Vec::new();
        for served in self.views.served.lives() {
            let Ok(compiled) = &served.compiled else { continue };
            let Some(maintained) = &compiled.maintained else { continue };
            let Some(running) = self.views.running.get_mut(&served.view.id) else { continue };
            for partition in gone {
                if maintained.stream.groups.contains(&partition.group)
                    && let Some(actor) = running.remove(&partition.number)
                {
                    let (view, partition) = (served.view.id, partition.number);
                    taken.push((ViewPlace { view, partition }, actor));
                }
            }
        }
        taken
    }

    /// What is stored of parts whose partitions have left this node.
    pub(super) fn remove_parts(&self, left: &[(ViewPlace, Addr<ViewActor>)]) {
        for (place, _) in left {
            if let Err(error) = self.store.views().remove_place(*place) {
                tracing::error!(%error, view = %place.view, "remove a part of a view");
            }
        }
    }

    fn start_view(&mut self, view: &Arc<View>, views: &ViewCatalogue) -> ServedView {
        let name = &view.definition.name;
        let compiled =
            self.views.compiler.compile(&view.definition, &self.streams.catalogue(), views);
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                tracing::error!(view = name, %error, "the view is not served");
                let compiled = Err(error.to_string());
                return ServedView { view: view.clone(), compiled, parts: Vec::new() };
            }
        };
        let parts = self.start_parts(view, &compiled, &[]);
        ServedView { view: view.clone(), compiled: Ok(compiled), parts }
    }

    fn start_parts(
        &mut self,
        view: &Arc<View>,
        compiled: &Arc<CompiledView>,
        kept: &[Result<Arc<ViewPart>, String>],
    ) -> Vec<Result<Arc<ViewPart>, String>> {
        let Some(maintained) = &compiled.maintained else {
            return Vec::new();
        };
        let stream = maintained.stream.clone();
        let mut parts = Vec::with_capacity(stream.groups.len());
        let mut actors = self.views.running.remove(&view.id).unwrap_or_default();
        for (number, group) in stream.partitions() {
            if !self.hosts(group) {
                parts.push(Err(ELSEWHERE.to_owned()));
                continue;
            }
            if let Some(Ok(part)) = kept.get(number.0 as usize)
                && actors.contains_key(&number)
            {
                parts.push(Ok(part.clone()));
                continue;
            }
            let started = self.start_part(view, compiled, &stream, number);
            if let Err(reason) = &started {
                let name = &view.definition.name;
                tracing::error!(view = name, partition = %number, reason, "not maintained");
            }
            parts.push(started.map(|(part, actor)| {
                actors.insert(number, actor);
                part
            }));
        }
        self.views.running.insert(view.id, actors);
        parts
    }

    fn start_part(
        &self,
        view: &Arc<View>,
        compiled: &Arc<CompiledView>,
        stream: &Stream,
        number: PartitionNumber,
    ) -> Result<(Arc<ViewPart>, Addr<ViewActor>), String> {
        let maintained = compiled.maintained.as_ref().expect("the caller has looked");
        let (log, advanced) = source(&self.streams, stream, number)?;
        let place = ViewPlace { view: view.id, partition: number };
        let stored = StoredPart::new(self.store.views(), place);
        let (name, definition) = (&view.definition.name, &maintained.definition);
        let part = Arc::new(ViewPart::open(name, definition, stored, log.view().start)?);
        let parts = ViewParts {
            view: view.id,
            part: part.clone(),
            log,
            columns: maintained.columns.clone(),
            advanced,
            supervisor: self.own.clone().ok_or("the supervisor has not started")?,
            metrics: self.metrics.clone(),
        };
        let thread = &self.views.threads[number.0 as usize % self.views.threads.len()];
        let addr = ViewActor::start_in_arbiter(&thread.arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
            ViewActor::new(parts)
        });
        // Bounded by the number of parts.
        thread.ticker.do_send(Follow(addr.clone().recipient()));
        Ok((part, addr))
    }

    pub(super) fn remove_views(&self, gone: &[(ViewId, Actors)]) {
        for (view, _) in gone {
            if let Err(error) = self.store.views().remove(*view) {
                tracing::error!(%error, %view, "remove what is stored of a view");
            }
        }
    }

    /// State on disk that no view has: its view was dropped just before a crash.
    pub(super) fn remove_strange_views(&self, entries: &[ViewEntry]) {
        let places = match self.store.views().places() {
            Ok(places) => places,
            Err(error) => {
                tracing::error!(%error, "list the views of the store");
                return;
            }
        };
        let wanted = lives(entries);
        let strange: BTreeSet<ViewId> = places.into_iter().map(|place| place.view).collect();
        for view in strange.difference(&wanted) {
            tracing::info!(%view, "remove what is left of a view");
            if let Err(error) = self.store.views().remove(*view) {
                tracing::error!(%error, %view, "remove what is left of a view");
            }
        }
    }

    /// Tells the catalogue which parts have caught up, of the partitions that this node owns: when
    /// all have, readers see the life.
    pub(super) fn tell_of_parts(&self) {
        for entry in self.views.served.all().values() {
            for view in unbuilt(&entry.entry) {
                let Some(served) = self.views.served.life(view.id) else { continue };
                for part in served.running() {
                    let serving = part.status().condition == Condition::Serving;
                    if serving && self.owns(&served, part.partition()) {
                        let (name, id) = (view.definition.name.clone(), view.id);
                        let partition = part.partition();
                        self.meta.tell(MetaCommand::PartCaughtUp { name, id, partition });
                    }
                }
            }
        }
    }

    fn owns(&self, served: &ServedView, number: PartitionNumber) -> bool {
        let compiled = served.compiled.as_ref().ok();
        let maintained = compiled.and_then(|compiled| compiled.maintained.as_ref());
        let group = maintained.and_then(|m| m.stream.groups.get(number.0 as usize));
        let cluster = &self.ways.cluster;
        group.is_some_and(|group| cluster.owner(*group) == Some(cluster.me()))
    }
}

/// The lives of a view that the catalogue does not know to have caught up.
fn unbuilt(entry: &ViewEntry) -> impl Iterator<Item = &Arc<View>> {
    (!entry.built).then_some(&entry.current).into_iter().chain(&entry.next)
}

fn source(
    streams: &Streams,
    stream: &Stream,
    number: PartitionNumber,
) -> Result<
    (Arc<alluvium_store::PartitionLog>, tokio::sync::watch::Receiver<alluvium_core::ids::Offset>),
    String,
> {
    let name = &stream.definition.name;
    let served = streams.get(name).filter(|served| served.stream.id == stream.id);
    let served = served.ok_or_else(|| format!("stream \"{name}\" is not served"))?;
    match &served.partitions[number.0 as usize].serving {
        Serving::Running { log, advanced, .. } => Ok((log.clone(), advanced.subscribe())),
        Serving::Damaged { reason } => Err(reason.clone()),
        Serving::Elsewhere => Err(ELSEWHERE.to_owned()),
    }
}

impl Handler<CaughtUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, CaughtUp(_view): CaughtUp, _ctx: &mut Context<Self>) {
        self.tell_of_parts();
    }
}

impl Handler<StopViews> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _stop: StopViews, _ctx: &mut Context<Self>) -> Self::Result {
        let all = self.views.take_gone(&[]);
        Box::pin(async move { stop(all.iter().flat_map(|(_, actors)| actors.values())).await })
    }
}
