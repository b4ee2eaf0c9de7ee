//! Brings a partition to the nodes where it shall live, as its owner; and brings this replica up to
//! the log, where it is too far behind.
//!
//! What to do next is the core's decision ([`alluvium_core::replica::next_step`]); this does it,
//! one step at a time, and tells the catalogue when it is done.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message};
use alluvium_core::ids::{Index, NodeId, Term};
use alluvium_core::meta::{MetaCommand, Placement};
use alluvium_core::replica::{Fetch, Goal, Input};
use alluvium_store::{Staged, Store};
use tokio::sync::oneshot;

use super::PartitionActor;
use crate::actors::meta::MetaLink;
use crate::cluster::{FetchError, FetchedCheckpoint, fetch};

/// Ticks between two words to the catalogue of the same change: it may have got lost.
const TELL_AGAIN_TICKS: u32 = 20;

/// A checkpoint of the leader is here, or could not be had.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Fetched(Result<FetchedCheckpoint, FetchError>);

/// What a replica does about its partition's place and its own.
#[derive(Debug)]
pub struct Place {
    meta: MetaLink,
    files: Arc<Store>,
    /// A follower waits for a checkpoint.
    pub(super) wanted: bool,
    /// Ticks until the catalogue is told again.
    told: u32,
    /// What was fetched for the checkpoint that is being installed.
    staged: Option<Staged>,
    /// Who waits until this replica does not lead any more.
    pub(super) stepping_down: Vec<oneshot::Sender<()>>,
}

impl Place {
    pub(super) fn new(meta: MetaLink, files: Arc<Store>) -> Place {
        Place { meta, files, wanted: false, told: 0, staged: None, stepping_down: Vec::new() }
    }
}

impl PartitionActor {
    fn placement(&self) -> Option<Placement> {
        self.peers.cluster().known().placements.get(&self.group).cloned()
    }

    fn me(&self) -> NodeId {
        self.peers.cluster().me()
    }

    pub(super) fn shall_campaign(&self) -> bool {
        let me = self.me();
        self.shell.members().voters == [me]
            || self.placement().is_some_and(|placement| placement.leader == me)
    }

    /// Stands again where nobody has owned the partition yet: at its beginning the other replicas
    /// may not have been there to vote.
    pub(super) fn begin(&mut self, ctx: &mut Context<Self>) {
        let status = self.shell.status();
        if status.leader.is_none() && status.term == Term(0) && self.shall_campaign() {
            self.step(Input::Campaign, ctx);
        }
    }

    /// Whether a node may throw its replica away, as far as this one knows.
    pub(super) fn may_go(&self, asker: NodeId, term: Term) -> bool {
        let Some(placement) = self.placement() else { return false };
        let learners = self.peers.cluster().learners(&placement);
        let Placement { wanted, leader, .. } = &placement;
        let goal = Goal { voters: wanted, learners: &learners, leader: *leader };
        self.shell.lets_go(&goal, asker, term)
    }

    /// Takes the next step towards the partition's place, if it is this node's to take.
    pub(super) fn keep_place(&mut self, ctx: &mut Context<Self>) {
        self.place.told = self.place.told.saturating_sub(1);
        if !self.shell.leads() {
            return self.begin(ctx);
        }
        let Some(placement) = self.placement() else { return };
        let Placement { wanted, leader, .. } = &placement;
        let cluster = self.peers.cluster();
        let learners = cluster.learners(&placement);
        // Who is about to stop gets nothing back.
        let leader = if cluster.is_stopping(*leader) { cluster.me() } else { *leader };
        let goal = Goal { voters: wanted, learners: &learners, leader };
        if self.leaving.keeps_away(&goal) {
            return;
        }
        let next = self.shell.next_input(&goal, &mut self.requests);
        // Who hands leadership over for good does not ask for it back.
        if let Some(input) = next.filter(|_| self.place.stepping_down.is_empty()) {
            self.step(input, ctx);
        }
        let members = self.shell.members();
        // Nodes that leave stay until they have left the group too.
        let under_way = members.voters == *wanted && members.learners != learners;
        if self.shell.is_settled() && !under_way && placement.lacks(&members.voters) {
            self.tell_moved(members.voters, placement.placed_at);
        }
    }

    fn tell_moved(&mut self, voters: Vec<NodeId>, by: Index) {
        if self.place.told == 0 {
            self.place.told = TELL_AGAIN_TICKS;
            let (group, as_of) = (self.group, self.shell.status().applied);
            self.place.meta.tell(MetaCommand::Moved { group, voters, as_of, by });
        }
    }

    /// Begins to fetch what the log no longer has.
    pub(super) fn fetch(&mut self, asked: Fetch, ctx: &mut Context<Self>) {
        let own = ctx.address();
        let (store, peers, group) = (self.place.files.clone(), self.peers.clone(), self.group);
        self.peers.io().spawn(async move {
            // One fetch at a time.
            own.do_send(Fetched(fetch(store, peers, group, asked).await));
        });
    }

    /// A checkpoint of the leader is in place: readers see its segments.
    pub(super) fn installed(&mut self) {
        let Some(staged) = self.place.staged.take() else {
            tracing::error!(group = %self.group, "a checkpoint was installed that nobody fetched");
            return;
        };
        if let Err(error) = self.log.install(&staged) {
            tracing::error!(group = %self.group, %error, "show what was installed");
            return;
        }
        self.log.retain(staged.start());
        self.advanced.send_replace(staged.sealed_end());
    }
}

impl Handler<Fetched> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Fetched(result): Fetched, ctx: &mut Self::Context) {
        match result {
            Ok(FetchedCheckpoint { checkpoint, staged }) => {
                self.place.staged = staged;
                self.step(Input::Fetched { checkpoint }, ctx);
            }
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "fetch a checkpoint");
                self.step(Input::FetchFailed, ctx);
            }
        }
    }
}
