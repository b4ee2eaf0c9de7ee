//! Checkpoints on their way from node to node: what the real shell does with files over its own
//! calls is a delayed copy here, which may be slow, fail, or be cut off by a crash.

use alluvium_core::ids::NodeId;
use alluvium_core::replica::{Checkpoint, Fetch, Input};

use crate::coverage::Event;
use crate::violation::Violation;
use crate::world::{Happening, World};

impl World {
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
            || self.node(fetch.from).replica.is_none();
        let fails = cut_off || !self.calm && self.chance.per_mille(self.plan.fetch_loss);
        let checkpoint = self.stored_checkpoint(fetch.from);
        if fails || checkpoint.position.index < fetch.position.index {
            self.coverage.count(Event::FetchFailed);
            self.trace.line(self.now, format_args!("{id} fetches in vain"));
            return self.feed(id, Input::FetchFailed);
        }
        self.trace.line(self.now, format_args!("{id} has fetched {}", checkpoint.position));
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
