//! Brings a replica to its end that this node shall not hold any more.
//!
//! The catalogue's word begins it; what ends it is the word of the group's leader that the group
//! does without this replica (see [`alluvium_core::replica::lets_go`]). Until then the replica
//! takes part as before: it may be one of those that an acknowledged event is counted on. While it
//! asks it is silent, so that nothing it says after the leader's answer can be counted.

use actix::{AsyncContext, Context, Handler, Message};
use alluvium_core::ids::{GroupId, NodeId, Term};
use alluvium_core::replica::Goal;
use tokio::sync::oneshot;

use super::PartitionActor;
use crate::actors::supervisor::Released;

/// Ticks between two questions.
const ASK_TICKS: u32 = 5;

/// Ticks for which a node that was let go does not come back into its group: longer than what it
/// said before can be under way.
const AWAY_TICKS: u32 = 50;

/// A node asks whether it may throw its replica away.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LetGo {
    /// The node.
    pub asker: NodeId,
    /// The newest term its replica knows.
    pub term: Term,
    /// The answer.
    pub reply: oneshot::Sender<bool>,
}

/// What the leader answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Answer {
    may_go: bool,
}

/// How far the end has come, and whom this replica has let go as leader.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// It has asked, and says nothing until there is an answer.
    silent: bool,
    ticks: u32,
    let_go: Vec<(NodeId, u32)>,
}

impl Leaving {
    /// Whether the replica takes no part at the moment.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether one of these was let go a moment ago.
    pub fn keeps_away(&self, goal: &Goal<'_>) -> bool {
        let mut away = self.let_go.iter().map(|(node, _)| node);
        away.any(|node| goal.voters.contains(node) || goal.learners.contains(node))
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.saturating_sub(1);
        self.let_go.iter_mut().for_each(|(_, ticks)| *ticks -= 1);
        self.let_go.retain(|(_, ticks)| 0 < *ticks);
    }
}

impl PartitionActor {
    /// Called with each tick.
    pub(super) fn leave_when_due(&mut self, ctx: &mut Context<Self>) {
        self.leaving.tick();
        if self.peers.cluster().hosts(self.group) {
            // It came back while the answer was on its way.
            self.leaving.silent = false;
            return;
        }
        if self.leaving.silent || self.shell.leads() || 0 < self.leaving.ticks {
            return;
        }
        self.leaving.silent = true;
        self.leaving.ticks = ASK_TICKS;
        let (peers, group, term) = (self.peers.clone(), self.group, self.shell.status().term);
        let own = ctx.address();
        self.peers.io().spawn(async move {
            let cluster = peers.cluster();
            let owner = cluster.owner(group);
            let others = cluster.candidates(group).into_iter().filter(|node| Some(*node) != owner);
            let mut may_go = false;
            for node in owner.into_iter().chain(others).filter(|node| *node != cluster.me()) {
                if let Ok(true) = peers.let_go(node, group, term).await {
                    may_go = true;
                    break;
                }
            }
            // One question at a time.
            own.do_send(Answer { may_go });
        });
    }
}

impl Handler<Answer> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Answer { may_go }: Answer, _ctx: &mut Self::Context) {
        if may_go && !self.peers.cluster().hosts(self.group) {
            let GroupId(group) = self.group;
            tracing::info!(group, "the group does without this replica");
            // Once in the life of the replica; silent to its end.
            self.released.do_send(Released(self.group));
        } else {
            self.leaving.silent = false;
        }
    }
}

impl Handler<LetGo> for PartitionActor {
    type Result = ();

    fn handle(&mut self, LetGo { asker, term, reply }: LetGo, _ctx: &mut Self::Context) {
        let may_go = self.may_go(asker, term);
        if may_go {
            self.leaving.let_go.push((asker, AWAY_TICKS));
        }
        // An asker that left asks again.
        let _ = reply.send(may_go);
    }
}
