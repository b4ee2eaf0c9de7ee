//! Starts and stops the views' parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message, Recipient, ResponseFuture};
use alluvium_core::ids::{PartitionNumber, ViewId};
use alluvium_core::meta::MetaCommand;
use alluvium_core::stream::Stream;
use alluvium_core::view::{View, ViewEntry};
use alluvium_query::host::ViewCatalogue;
use alluvium_query::views::{CompiledView, ViewCompiler};
use alluvium_store::ViewPlace;
use tokio::sync::oneshot;

use super::Supervisor;
use crate::actors::meta::Change;
use crate::actors::partition::Serving;
use crate::actors::ticker::{Follow, Ticker};
use crate::actors::view::{MAILBOX_MESSAGES_MAX, Resume, StopView, ViewActor, ViewParts};
use crate::streams::Streams;
use crate::views::{Condition, ServedEntry, ServedView, StoredPart, ViewPart, Views};

/// A part of a view has read everything there was.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CaughtUp(pub ViewId);

/// Tells the supervisor where changes of the catalogue are proposed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Meet(pub Recipient<Change>);

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

/// What the supervisor starts views with, and those that run.
#[derive(Debug)]
pub struct RunningViews {
    /// Makes them ready to run.
    pub compiler: ViewCompiler,
    /// What is served, for everyone else.
    pub served: Arc<Views>,
    /// Where they run; a part's thread goes by its partition's number.
    pub threads: Vec<ViewThread>,
    running: BTreeMap<ViewId, Vec<Addr<ViewActor>>>,
    meta: Option<Recipient<Change>>,
}

impl RunningViews {
    /// With nothing started.
    pub fn new(
        compiler: ViewCompiler,
        served: Arc<Views>,
        threads: Vec<ViewThread>,
    ) -> RunningViews {
        RunningViews { compiler, served, threads, running: BTreeMap::new(), meta: None }
    }

    /// Takes out the actors of lives that the catalogue has no more.
    pub(super) fn take_gone(
        &mut self,
        wanted: &[ViewEntry],
    ) -> Vec<(ViewId, Vec<Addr<ViewActor>>)> {
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
pub(super) async fn stop(gone: &[(ViewId, Vec<Addr<ViewActor>>)]) {
    for actor in gone.iter().flat_map(|(_, actors)| actors) {
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
        self.switch_if_built(entries);
    }

    fn resume(&self, entry: &ServedEntry) {
        let lives = std::iter::once(&entry.current).chain(&entry.next);
        for actor in lives.filter_map(|life| self.views.running.get(&life.view.id)).flatten() {
            // At most one for each change of the catalogue.
            actor.do_send(Resume);
        }
    }

    /// The life that runs, or a new one.
    fn life(&mut self, view: &Arc<View>, catalogue: &ViewCatalogue) -> Arc<ServedView> {
        if let Some(running) = self.views.served.life(view.id) {
            return running;
        }
        Arc::new(self.start_view(view, catalogue))
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
        let parts = self.start_parts(view, &compiled);
        ServedView { view: view.clone(), compiled: Ok(compiled), parts }
    }

    fn start_parts(
        &mut self,
        view: &Arc<View>,
        compiled: &Arc<CompiledView>,
    ) -> Vec<Result<Arc<ViewPart>, String>> {
        let Some(maintained) = &compiled.maintained else {
            return Vec::new();
        };
        let stream = maintained.stream.clone();
        let mut parts = Vec::with_capacity(stream.groups.len());
        let mut actors = Vec::with_capacity(stream.groups.len());
        for (number, _) in stream.partitions() {
            let started = self.start_part(view, compiled, &stream, number);
            if let Err(reason) = &started {
                let name = &view.definition.name;
                tracing::error!(view = name, partition = %number, reason, "not maintained");
            }
            parts.push(started.map(|(part, actor)| {
                actors.push(actor);
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

    pub(super) fn remove_views(&self, gone: &[(ViewId, Vec<Addr<ViewActor>>)]) {
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

    /// Tells the catalogue of lives that have caught up: one that was built beside takes the place
    /// of what it replaces, and a first one is no more dropped by who cancels it.
    fn switch_if_built(&self, entries: &[ViewEntry]) {
        for view in entries.iter().flat_map(unbuilt) {
            let Some(served) = self.views.served.life(view.id) else { continue };
            let built = served.compiled.is_ok()
                && served.parts.iter().all(|part| match part {
                    Ok(part) => part.status().condition == Condition::Serving,
                    Err(_) => false,
                });
            if let Some(meta) = self.views.meta.as_ref().filter(|_| built) {
                let (reply, _) = oneshot::channel();
                let name = view.definition.name.clone();
                let command = MetaCommand::SwitchView { name, id: view.id };
                // At most one for each part that catches up and each change of the catalogue.
                meta.do_send(Change(command, reply));
            }
        }
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
    }
}

impl Handler<CaughtUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, CaughtUp(view): CaughtUp, _ctx: &mut Context<Self>) {
        let entries: Vec<ViewEntry> =
            self.views.served.all().values().map(|served| served.entry.clone()).collect();
        let built: Vec<ViewEntry> = entries
            .into_iter()
            .filter(|entry| unbuilt(entry).any(|life| life.id == view))
            .collect();
        self.switch_if_built(&built);
    }
}

impl Handler<Meet> for Supervisor {
    type Result = ();

    fn handle(&mut self, Meet(meta): Meet, _ctx: &mut Context<Self>) {
        self.views.meta = Some(meta);
        let all = self.views.served.all();
        let entries: Vec<ViewEntry> = all.values().map(|served| served.entry.clone()).collect();
        self.switch_if_built(&entries);
    }
}

impl Handler<StopViews> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _stop: StopViews, _ctx: &mut Context<Self>) -> Self::Result {
        let all = self.views.take_gone(&[]);
        Box::pin(async move { stop(&all).await })
    }
}
