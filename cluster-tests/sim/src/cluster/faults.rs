//! What goes wrong in a cluster, and how it ends.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::replica::LogEntry;

use super::node::Node;
use super::{Cluster, Happening, Twist};
use crate::coverage::Event;
use crate::plan::{MILLI, SECOND};
use crate::violation::Violation;

/// What a node asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Entries,
    Checkpoint,
}

impl Cluster {
    /// A node dies, or all of them.
    pub(super) fn crash_some(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.crash_every, Happening::Crash);
        if self.calm {
            return Ok(());
        }
        if self.plan.crash_all && self.chance.once_in(5) {
            self.coverage.count(Event::CrashOfAll);
            for id in self.living() {
                self.crash(id)?;
            }
            return Ok(());
        }
        let id = self.some_node();
        self.crash(id)
    }

    /// A node may die right after it asked for a write: the hardest moment.
    pub(super) fn crash_at(&mut self, id: NodeId, write: Write) -> Result<(), Violation> {
        let times = match write {
            Write::Entries => self.plan.crash_at_write,
            Write::Checkpoint => self.plan.crash_at_checkpoint,
        };
        if !self.calm && self.chance.once_in(times) {
            self.coverage.count(Event::CrashAtWrite);
            return self.crash(id);
        }
        Ok(())
    }

    /// A node dies, and what it did not sync goes with it. When its disk lied, that is too much: it
    /// must be replaced like one that is lost; or its process died alone, and nothing is lost.
    fn crash(&mut self, id: NodeId) -> Result<(), Violation> {
        if !self.node(id).up {
            return Ok(());
        }
        let unsynced = self.node(id).disk.unsynced();
        let mut survivors = self.chance.between(0, unsynced + 1);
        let torn = self.chance.coin();
        if self.node(id).lies {
            if self.may_lose(id) {
                self.coverage.count(Event::SyncLied);
                return self.lose_node(id);
            }
            survivors = unsynced;
        }
        let node = self.node(id);
        let fetches = node.slots.values().any(|slot| slot.fetch.is_some());
        node.stop();
        let loss = node.disk.crash(survivors, torn);
        let boot = node.boot;
        self.trace.line(self.now, format_args!("{id} dies: {loss:?}"));
        self.coverage.count(Event::Crash);
        self.coverage.add(Event::FetchInterrupted, u64::from(fetches));
        self.coverage.add(Event::WriteLost, loss.lost);
        self.coverage.add(Event::WriteSurvived, loss.survived);
        self.coverage.add(Event::WriteTorn, loss.torn);
        let back = self.chance.around(self.plan.restart_after);
        self.after(back, Happening::Restart(id, boot));
        Ok(())
    }

    /// A node comes back.
    pub(super) fn restart(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        let node = self.node(id);
        if node.boot != boot || node.up || node.gone {
            return Ok(());
        }
        let Cluster { nodes, groups, .. } = self;
        for (group, stored) in &nodes[&id].disk.groups {
            let oracle = &mut groups.get_mut(group).expect("it was there").oracle;
            oracle.restarts(id, stored)?;
            // What was not synced may be there all the same.
            let entries: Vec<&LogEntry> = stored.entries.values().collect();
            oracle.kept(entries, true)?;
        }
        self.coverage.count(Event::Restart);
        self.trace.line(self.now, format_args!("{id} is back"));
        self.start(id)
    }

    /// A node stops for a while, and does not notice.
    pub(super) fn pause(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.pause_every, Happening::Pause);
        let id = self.some_node();
        if !self.calm && self.node(id).up {
            let length = self.chance.around(self.plan.pause_length);
            let node = self.node(id);
            let leads = node.groups().into_iter().any(|group| node.leads(group));
            self.node(id).paused_until = self.now + length;
            self.coverage.count(Event::Pause);
            if leads && 2 * SECOND < length {
                self.coverage.count(Event::LeaderPaused);
            }
            self.trace.line(self.now, format_args!("{id} pauses for {} ms", length / MILLI));
        }
        Ok(())
    }

    /// A disk is full for a while.
    pub(super) fn full(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.full_every, Happening::Full);
        let id = self.some_node();
        if !self.calm && self.node(id).up {
            let length = self.chance.around(self.plan.full_length);
            self.node(id).full_until = self.now + length;
            self.coverage.count(Event::DiskFull);
            self.trace.line(self.now, format_args!("{id} is full for {} ms", length / MILLI));
        }
        Ok(())
    }

    /// Whether a disk is full.
    pub(super) fn is_full(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| self.now < node.full_until)
    }

    /// A node is lost with its disk.
    pub(super) fn lose(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.lose_every, Happening::Lose);
        let id = self.some_node();
        if self.calm || !self.may_lose(id) {
            return Ok(());
        }
        self.lose_node(id)
    }

    /// Another directory comes in its place, empty.
    fn lose_node(&mut self, id: NodeId) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("{id} is lost with its disk"));
        self.coverage.count(Event::NodeLost);
        let reused = self.twist == Some(Twist::IdentityReused);
        let node = self.node(id);
        node.stop();
        if reused {
            let token = node.token;
            let boot = node.boot;
            *node = Node { boot, ..Node::new(id, token) };
            return self.start(id);
        }
        node.gone = true;
        let later = self.chance.between(0, 4 * SECOND);
        self.want_to_join(later);
        Ok(())
    }

    /// Whether the cluster can bear to lose a node now. Only one loss at a time: those lost before
    /// must be out of everything, and wherever this one is named, two others are. A stream made
    /// just now may have its only replica on a node of which nobody knows yet that it is lost, so
    /// all are to be there before.
    fn may_lose(&self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get(&id) else { return false };
        let lost = |id: &NodeId| self.nodes.get(id).is_none_or(|node| node.gone);
        if node.gone || self.living().len() < 3 || self.made.len() < self.plan.streams.len() {
            return false;
        }
        let catalogues = self.nodes.values().filter_map(Node::meta);
        let mut placements = catalogues.flat_map(|meta| meta.placements().values());
        let spared = placements.all(|placement| {
            [&placement.replicas, &placement.wanted]
                .into_iter()
                .all(|nodes| (!nodes.contains(&id) || 3 <= nodes.len()) && !nodes.iter().any(lost))
        });
        spared && self.groups.iter().all(|(group, of)| self.can_lose(id, *group, of))
    }

    fn can_lose(&self, id: NodeId, group: GroupId, of: &super::Group) -> bool {
        let Some((_, now)) = of.configurations.last() else { return false };
        let all = now.voters.iter().chain(&now.outgoing);
        let nobody_lost = all.clone().all(|voter| !self.nodes[voter].gone);
        let spared = !now.voters.contains(&id) || 3 <= now.voters.len();
        let changing = self
            .nodes
            .values()
            .filter_map(|node| node.replica(group))
            .any(|replica| replica.status().changing || !replica.can_checkpoint());
        nobody_lost && spared && now.outgoing.is_empty() && !changing
    }

    /// The faults end: everybody is up and reaches everybody.
    pub(super) fn calm_down(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.blocked.clear();
        self.flapping.clear();
        self.plan.jitter = 0;
        self.plan.fetch = self.plan.fetch.min(SECOND / 5);
        self.trace.line(self.now, format_args!("the faults end"));
        let now = self.now;
        let mut down = Vec::new();
        for node in self.nodes.values_mut().filter(|node| !node.gone) {
            node.paused_until = node.paused_until.min(now);
            node.full_until = node.full_until.min(now);
            if !node.up {
                down.push((node.id, node.boot));
            }
        }
        for (id, boot) in down {
            self.restart(id, boot)?;
        }
        Ok(())
    }
}
