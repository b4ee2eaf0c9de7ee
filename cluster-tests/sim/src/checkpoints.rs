//! Checkpoints: taken now and then, and on their way from node to node. What the real shell does
//! with files over its own calls is a delayed copy here, which may be slow, fail, or be cut off by
//! a crash.

use alluvium_core::ids::NodeId;
use alluvium_core::replica::{Checkpoint, Fetch, Input};

use crate::coverage::Event;
use crate::disk::{Op, Sync, Then};
use crate::faults::Write;
use crate::mutant::Mutant;
use crate::shell::replica;
use crate::violation::Violation;
use crate::world::{Happening, World};

impl World {
    /// A node makes a checkpoint and cuts its log.
    pub(crate) fn checkpoint(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        let again = self.chance.around(self.plan.checkpoint_every);
        self.after(again, Happening::Checkpoint(id, boot));
        if self.paused(id).is_some() {
            return Ok(());
        }
        self.cut(id).map(|_| ())
    }

    /// Cuts, unless there is nothing to cut. Whether a cut is under way now.
    pub(crate) fn cut(&mut self, id: NodeId) -> Result<bool, Violation> {
        let full = self.is_full(id);
        let node = self.node(id);
        let replica = replica(node.replica.as_ref());
        if full || !replica.can_checkpoint() {
            return Ok(false);
        }
        let mut checkpoint = replica.checkpoint();
        let position = checkpoint.position;
        if position.index <= node.disk.stored.checkpoint.index {
            return Ok(false);
        }
        let then = Then::Truncate(position.index);
        self.trace.line(self.now, format_args!("{id} checkpoint {position}"));
        if self.mutant == Some(Mutant::TruncateTooEarly) {
            self.node(id).disk.stored.cut(position);
        }
        if self.mutant == Some(Mutant::CheckpointWithoutMembers) {
            checkpoint.members = self.founders.clone();
        }
        if self.mutant == Some(Mutant::PositionApart) {
            let state = Op::State(checkpoint.state.clone());
            self.node(id).disk.write(state, Then::Nothing, Sync::Wanted);
        }
        self.node(id).disk.write(Op::Cut(checkpoint), then, Sync::Wanted);
        self.begin_sync(id);
        self.crash_at(id, Write::Checkpoint)?;
        Ok(self.node(id).replica.is_some())
    }

    /// A node begins to fetch a checkpoint; a fetch under way is given up.
    pub(crate) fn begin_fetch(&mut self, id: NodeId, fetch: Fetch) {
        let Fetch { from, position } = fetch;
        self.trace.line(self.now, format_args!("{id} fetches checkpoint {position} from {from}"));
        self.requests += 1;
        let number = self.requests;
        let node = self.node(id);
        node.fetch = Some((number, fetch));
        let boot = node.boot;
        let time = self.chance.around(self.plan.fetch);
        self.after(time, Happening::Fetched(id, boot, number));
    }

    /// A fetch is done, or fails.
    pub(crate) fn fetched(&mut self, id: NodeId, boot: u64, number: u64) -> Result<(), Violation> {
        let node = self.node(id);
        let Some((_, fetch)) = node.fetch.filter(|it| node.boot == boot && it.0 == number) else {
            return Ok(());
        };
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Fetched(id, boot, number));
            return Ok(());
        }
        self.node(id).fetch = None;
        let cut_off = self.blocked.contains(&(fetch.from, id))
            || self.paused(fetch.from).is_some()
            || self.node(fetch.from).replica.is_none()
            || self.is_full(id);
        let fails = cut_off || !self.calm && self.chance.per_mille(self.plan.fetch_loss);
        let checkpoint = self.stored_checkpoint(fetch.from);
        if fails || checkpoint.position.index < fetch.position.index {
            self.coverage.count(Event::FetchFailed);
            self.trace.line(self.now, format_args!("{id} fetches in vain"));
            return self.feed(id, Input::FetchFailed);
        }
        self.trace.line(self.now, format_args!("{id} has fetched {}", checkpoint.position));
        self.coverage.count(Event::Fetched);
        self.feed(id, Input::Fetched { checkpoint })
    }

    /// A follower is behind a node's log: the node makes a checkpoint, or shows the one it has.
    pub(crate) fn offer(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.cut(id)? {
            self.node(id).offers = true;
            return Ok(());
        }
        if self.node(id).replica.is_none() {
            return Ok(());
        }
        self.offer_stored(id)
    }

    /// A node offers the checkpoint on its disk.
    pub(crate) fn offer_stored(&mut self, id: NodeId) -> Result<(), Violation> {
        let checkpoint = self.stored_checkpoint(id);
        self.trace.line(self.now, format_args!("{id} offers {}", checkpoint.position));
        self.feed(id, Input::OfferCheckpoint { checkpoint })
    }

    fn stored_checkpoint(&mut self, id: NodeId) -> Checkpoint {
        let stored = &self.node(id).disk.stored;
        let (members, state) = (stored.members.clone(), stored.state.clone());
        Checkpoint { position: stored.checkpoint, members, state }
    }
}
