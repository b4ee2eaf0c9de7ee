//! Checkpoints of a cluster's groups: taken now and then, and on their way from node to node. What
//! the real shell does with files over its own calls is a delayed copy here, which may be slow,
//! fail, or be cut off by a crash.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::replica::{Checkpoint, Fetch, Input};

use super::faults::Write;
use super::{Cluster, Happening};
use crate::coverage::Event;
use crate::disk::{Op, Then};
use crate::violation::Violation;

impl Cluster {
    /// A replica makes a checkpoint and cuts its log.
    pub(super) fn checkpoint(
        &mut self,
        id: NodeId,
        group: GroupId,
        number: u64,
    ) -> Result<(), Violation> {
        if self.node(id).slots.get(&group).is_none_or(|slot| slot.number != number) {
            return Ok(());
        }
        let again = self.chance.around(self.plan.checkpoint_every);
        self.after(again, Happening::Checkpoint(id, group, number));
        if self.paused(id).is_some() {
            return Ok(());
        }
        self.cut(id, group).map(|_| ())
    }

    /// Cuts, unless there is nothing to cut. Whether a cut is under way now.
    fn cut(&mut self, id: NodeId, group: GroupId) -> Result<bool, Violation> {
        let full = self.is_full(id);
        let node = self.node(id);
        let Some(slot) = node.slots.get(&group) else { return Ok(false) };
        if full || !slot.replica.can_checkpoint() {
            return Ok(false);
        }
        let checkpoint = slot.replica.checkpoint();
        let position = checkpoint.position;
        if position.index <= node.disk.of(group).checkpoint.index {
            return Ok(false);
        }
        let then = Then::Truncate(position.index);
        node.disk.write(group, Op::Cut(checkpoint), then);
        self.trace.line(self.now, format_args!("{id} {group} checkpoint {position}"));
        self.begin_sync(id);
        self.crash_at(id, Write::Checkpoint)?;
        Ok(self.node(id).slots.contains_key(&group))
    }

    /// A replica begins to fetch a checkpoint; a fetch under way is given up.
    pub(super) fn begin_fetch(&mut self, id: NodeId, group: GroupId, fetch: Fetch) {
        let Fetch { from, position } = fetch;
        let line = format_args!("{id} {group} fetches checkpoint {position} from {from}");
        self.trace.line(self.now, line);
        let number = self.number();
        if let Some(slot) = self.node(id).slots.get_mut(&group) {
            slot.fetch = Some((number, fetch));
        }
        let time = self.chance.around(self.plan.fetch);
        self.after(time, Happening::Fetched(id, group, number));
    }

    /// A fetch is done, or fails.
    pub(super) fn fetched(
        &mut self,
        id: NodeId,
        group: GroupId,
        number: u64,
    ) -> Result<(), Violation> {
        let under_way = self.node(id).slots.get(&group).and_then(|slot| slot.fetch);
        let Some((_, fetch)) = under_way.filter(|it| it.0 == number) else { return Ok(()) };
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Fetched(id, group, number));
            return Ok(());
        }
        if let Some(slot) = self.node(id).slots.get_mut(&group) {
            slot.fetch = None;
        }
        let cut_off = self.blocked.contains(&(fetch.from, id))
            || self.paused(fetch.from).is_some()
            || self.is_full(id);
        let fails = cut_off || !self.calm && self.chance.per_mille(self.plan.fetch_loss);
        let there = self.nodes.get(&fetch.from).filter(|node| node.slots.contains_key(&group));
        let checkpoint = there.and_then(|node| stored(node.disk.groups.get(&group)));
        let found = checkpoint.filter(|it| !fails && fetch.position.index <= it.position.index);
        let Some(checkpoint) = found else {
            self.coverage.count(Event::FetchFailed);
            self.trace.line(self.now, format_args!("{id} {group} fetches in vain"));
            return self.feed(id, group, Input::FetchFailed);
        };
        let position = checkpoint.position;
        self.trace.line(self.now, format_args!("{id} {group} has fetched {position}"));
        self.coverage.count(Event::Fetched);
        self.feed(id, group, Input::Fetched { checkpoint })
    }

    /// A follower is behind a node's log: the node makes a checkpoint, or shows the one it has.
    pub(super) fn offer(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        if self.cut(id, group)? {
            if let Some(slot) = self.node(id).slots.get_mut(&group) {
                slot.offers = true;
            }
            return Ok(());
        }
        self.offer_stored(id, group)
    }

    /// A node offers the checkpoint on its disk.
    pub(super) fn offer_stored(&mut self, id: NodeId, group: GroupId) -> Result<(), Violation> {
        let node = self.node(id);
        if !node.slots.contains_key(&group) {
            return Ok(());
        }
        let Some(checkpoint) = stored(node.disk.groups.get(&group)) else { return Ok(()) };
        let position = checkpoint.position;
        self.trace.line(self.now, format_args!("{id} {group} offers {position}"));
        self.feed(id, group, Input::OfferCheckpoint { checkpoint })
    }
}

fn stored(stored: Option<&crate::disk::Stored>) -> Option<Checkpoint> {
    let stored = stored?;
    let (members, state) = (stored.members.clone(), stored.state.clone());
    Some(Checkpoint { position: stored.checkpoint, members, state })
}
