//! What the leader of the meta group does beside taking changes: it keeps its own group in place,
//! watches who is heard of, and plans where replicas go.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::meta::{Member, MemberState, MetaCommand, NodeReport, plan};
use alluvium_core::replica::{Fetch, Goal, Input};

use super::MetaActor;
use crate::clock::{self, Stopwatch};
use crate::cluster::{self, FetchedCheckpoint};

/// A node that was not heard of for so long counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A dead node's replicas are made again elsewhere after so long: longer than a restart takes.
const DEAD_AFTER: Duration = Duration::from_secs(300);

/// Ticks between two looks at the cluster.
const LOOK_TICKS: u32 = 10;

/// A word of this node to the catalogue; nobody waits for the answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tell(pub MetaCommand);

/// A node gave a sign of life.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct HeardOf {
    pub node: NodeId,
    pub report: NodeReport,
}

/// What only a leader knows.
#[derive(Debug, Default)]
pub(super) struct Leading {
    /// Whether this node led at the last look.
    leads: bool,
    ticks: u32,
    heard: BTreeMap<NodeId, Stopwatch>,
    reports: BTreeMap<NodeId, NodeReport>,
}

impl Leading {
    /// A move has begun or ended: the next one need not wait.
    pub fn look_soon(&mut self) {
        self.ticks = LOOK_TICKS;
    }
}

impl MetaActor {
    /// Called with each tick.
    pub(super) fn lead(&mut self, ctx: &mut Context<Self>) {
        if !self.shell.leads() {
            self.leading = Leading::default();
            return;
        }
        if !self.leading.leads {
            self.leading.leads = true;
            // Nobody was heard of yet by this leader: everyone's silence begins now.
            let members = self.shell.machine().members().keys();
            self.leading.heard = members.map(|&node| (node, Stopwatch::start())).collect();
        }
        self.keep_place(ctx);
        self.leading.ticks += 1;
        if self.leading.ticks < LOOK_TICKS {
            return;
        }
        self.leading.ticks = 0;
        for command in self.looks() {
            self.tell(command, ctx);
        }
    }

    /// What is to be changed, now.
    fn looks(&mut self) -> Vec<MetaCommand> {
        let at = clock::now();
        let mut commands = Vec::new();
        for member in self.shell.machine().members().values().filter(|member| member.stands()) {
            let heard = self.leading.heard.entry(member.node).or_insert_with(Stopwatch::start);
            let own = member.node == self.cluster.me();
            let alive = own || heard.elapsed() < SILENCE_MAX;
            if alive != member.alive && (!alive || self.leading.reports.contains_key(&member.node))
            {
                commands.push(MetaCommand::SetAlive { node: member.node, alive, at });
            }
        }
        let meta = self.shell.machine();
        let moved = meta.placement(GroupId::META).and_then(|placement| {
            let voters = self.shell.members().voters;
            let done = self.shell.is_settled() && placement.lacks(&voters);
            let (as_of, by) = (self.shell.status().applied, placement.placed_at);
            done.then_some(MetaCommand::Moved { group: GroupId::META, voters, as_of, by })
        });
        commands.extend(moved);
        if commands.is_empty() {
            commands = plan(meta, DEAD_AFTER, at, &self.leading.reports);
        }
        commands
    }

    /// Keeps the meta group itself where it shall be: its voters by the plan, everyone else as
    /// learners, so that every node has the catalogue.
    fn keep_place(&mut self, ctx: &mut Context<Self>) {
        let meta = self.shell.machine();
        let Some(placement) = meta.placement(GroupId::META) else { return };
        let voters = placement.wanted.clone();
        let standing = meta.members().values().filter(|member| member.stands());
        let others = standing.map(|member| member.node).filter(|node| !voters.contains(node));
        let learners: Vec<NodeId> = others.collect();
        let me = self.cluster.me();
        // Leadership stays where it is while its holder is wanted, and not being drained.
        let is_active = |member: &Member| member.state == MemberState::Active;
        let stays = voters.contains(&me) && meta.members().get(&me).is_some_and(is_active);
        let leader = if stays { me } else { placement.leader };
        let goal = Goal { voters: &voters, learners: &learners, leader };
        if let Some(input) = self.shell.next_input(&goal, &mut self.requests) {
            self.step(input, ctx);
        }
    }

    /// Proposes a change for this node, here or at the leader. Nobody waits.
    fn tell(&mut self, command: MetaCommand, ctx: &mut Context<Self>) {
        if self.shell.leads() {
            let request = self.next_request();
            return self.step(Input::Propose { request, command: command.encode() }, ctx);
        }
        let Some(leader) = self.shell.status().leader else { return };
        let peers = self.peers.clone();
        let tell = async move {
            // What must happen is said again.
            let _ = peers.change(leader, &command).await;
        };
        ctx.spawn(tell.into_actor(self));
    }

    pub(super) fn checkpoint_written(&mut self, through: Index, ctx: &mut Context<Self>) {
        self.step(Input::Truncate { through }, ctx);
        if let Some(checkpoint) = self.written.take().filter(|_| self.checkpoint_wanted) {
            self.checkpoint_wanted = false;
            self.step(Input::OfferCheckpoint { checkpoint }, ctx);
        }
    }

    /// This replica is behind its leader's log: begins from the leader's checkpoint.
    pub(super) fn fetch(&mut self, fetch: Fetch, ctx: &mut Context<Self>) {
        let (store, peers) = (self.store.clone(), self.peers.clone());
        let fetched = cluster::fetch(store, peers.clone(), GroupId::META, fetch);
        let fetched = peers.io().spawn(fetched).into_actor(self);
        // One fetch at a time.
        ctx.spawn(fetched.map(|fetched, actor, ctx| match fetched {
            Ok(Ok(FetchedCheckpoint { checkpoint, .. })) => {
                actor.step(Input::Fetched { checkpoint }, ctx);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "fetch the catalogue");
                actor.step(Input::FetchFailed, ctx);
            }
            Err(_) => actor.step(Input::FetchFailed, ctx),
        }));
    }
}

impl Handler<Tell> for MetaActor {
    type Result = ();

    fn handle(&mut self, Tell(command): Tell, ctx: &mut Self::Context) {
        self.tell(command, ctx);
    }
}

impl Handler<HeardOf> for MetaActor {
    type Result = ();

    fn handle(&mut self, HeardOf { node, report }: HeardOf, _ctx: &mut Self::Context) {
        self.leading.heard.insert(node, Stopwatch::start());
        self.leading.reports.insert(node, report);
    }
}
