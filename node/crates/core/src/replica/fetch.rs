//! How a follower behind the leader's log gets a checkpoint.
//!
//! The leader's message names a position and carries no state. It is not given to Raft at once: the
//! shell is asked to fetch a checkpoint that reaches the position, and when everything it names is
//! staged on this node, the message is given to Raft with the checkpoint that was fetched. Until
//! then the message counts as a heartbeat, so that a fetch may take long.
//!
//! One fetch at a time. What was asked for under another leader or term is forgotten: that leader
//! asks again, and what is staged already need not be fetched twice.

use super::effects::{Effects, Fetch};
use super::entry::Checkpoint;
use super::machine::Machine;
use super::message::{MessageKind, PeerMessage};
use super::{Replica, RoleChange};
use crate::ids::{NodeId, Term};

/// The message that waits for its checkpoint.
#[derive(Debug)]
pub(super) struct Fetching {
    from: NodeId,
    term: Term,
}

impl<M: Machine> Replica<M> {
    /// The leader says that this replica is behind its log.
    pub(super) fn behind(
        &mut self,
        from: NodeId,
        message: PeerMessage,
        effects: &mut Effects<M::Outcome>,
    ) {
        let Some(position) = message.checkpoint.as_ref().map(|checkpoint| checkpoint.position)
        else {
            return;
        };
        // Raft answers with what is committed here, and never installs what it has.
        if self.consensus.has(position) {
            self.consensus.receive(from, self.node, message);
            return;
        }
        let term = message.term;
        self.consensus.receive(from, self.node, message.into_heartbeat());
        let follows = self.follows(from, term);
        if !follows || self.installing.is_some() || self.is_fetching() {
            return;
        }
        self.fetching = Some(Fetching { from, term });
        effects.fetch = Some(Fetch { from, position });
    }

    /// The shell has fetched a checkpoint. One that reaches into a later term than the one known
    /// here is of a log whose leader was not heard yet: that one says itself where to begin.
    pub(super) fn fetched(&mut self, checkpoint: Checkpoint) {
        let current = self.is_fetching();
        let Some(Fetching { from, term }) = self.fetching.take() else { return };
        let of_this_log = checkpoint.position.term <= term;
        if current && of_this_log && !self.consensus.has(checkpoint.position) {
            let message = PeerMessage::of_checkpoint(term, checkpoint);
            self.consensus.receive(from, self.node, message);
        }
    }

    /// Whether a fetch is under way that the leader of this term asked for.
    fn is_fetching(&self) -> bool {
        self.fetching.as_ref().is_some_and(|it| self.follows(it.from, it.term))
    }

    fn follows(&self, from: NodeId, in_term: Term) -> bool {
        let RoleChange { term, leader, role: _ } = self.consensus.role();
        (leader, term) == (Some(from), in_term)
    }
}

impl PeerMessage {
    /// What a leader's message says by being there: it leads.
    fn into_heartbeat(self) -> PeerMessage {
        PeerMessage { checkpoint: None, ..PeerMessage::new(MessageKind::Heartbeat, self.term) }
    }

    /// A leader's message with the checkpoint it speaks of.
    fn of_checkpoint(term: Term, checkpoint: Checkpoint) -> PeerMessage {
        let checkpoint = Some(checkpoint);
        PeerMessage { checkpoint, ..PeerMessage::new(MessageKind::Checkpoint, term) }
    }
}
