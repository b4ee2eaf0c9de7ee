//! What goes wrong in the world, and how it ends.

use alluvium_core::ids::NodeId;
use alluvium_core::replica::LogEntry;

use crate::coverage::Event;
use crate::plan::{MILLI, SECOND};
use crate::violation::Violation;
use crate::world::{Happening, World};

/// What a node asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Entries,
    Vote,
    Checkpoint,
}

impl World {
    /// A node dies, or all of them.
    pub(crate) fn crash_some(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.crash_every, Happening::Crash);
        if self.calm {
            return Ok(());
        }
        if self.plan.crash_all && self.chance.once_in(4) {
            self.coverage.count(Event::CrashOfAll);
            let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
            for id in ids {
                self.crash(id)?;
            }
            Ok(())
        } else {
            let id = self.some_victim();
            self.crash(id)
        }
    }

    /// A node may die right after it asked for a write: the hardest moment.
    pub(crate) fn crash_at(&mut self, id: NodeId, write: Write) -> Result<(), Violation> {
        let times = match write {
            Write::Entries => self.plan.crash_at_write,
            Write::Vote => self.plan.crash_at_vote,
            Write::Checkpoint => self.plan.crash_at_checkpoint,
        };
        if !self.calm && self.chance.once_in(times) {
            self.coverage.count(Event::CrashAtWrite);
            return self.crash(id);
        }
        Ok(())
    }

    /// A node dies, and what it did not sync goes with it. When its disk lied, that is too much: a
    /// voter that forgot what it said would make the others forget, and no program can tell. Such a
    /// node must be replaced like one that is lost; or its process died alone, and nothing is lost.
    fn crash(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.node(id).replica.is_none() {
            return Ok(());
        }
        let unsynced = self.node(id).disk.unsynced();
        let mut survivors = self.chance.between(0, unsynced + 1);
        let torn = self.chance.coin();
        if self.node(id).lies {
            if self.chance.coin() && self.may_lose(id) {
                self.coverage.count(Event::SyncLied);
                return self.lose_node(id);
            }
            survivors = unsynced;
        }
        let node = self.node(id);
        node.stop();
        let loss = node.disk.crash(survivors, torn);
        let boot = node.boot;
        self.trace.line(self.now, format_args!("{id} dies: {loss:?}"));
        self.coverage.count(Event::Crash);
        self.coverage.add(Event::WriteLost, loss.lost);
        self.coverage.add(Event::WriteSurvived, loss.survived);
        self.coverage.add(Event::WriteTorn, loss.torn);
        let back = self.chance.around(self.plan.restart_after);
        self.after(back, Happening::Restart(id, boot));
        Ok(())
    }

    /// A node comes back.
    pub(crate) fn restart(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        let World { oracle, nodes, .. } = self;
        let place = usize::try_from(id.0 - 1).expect("a small number");
        oracle.restarts(id, &nodes[place].disk.stored)?;
        // What was not synced may be there all the same.
        let entries: Vec<LogEntry> = nodes[place].disk.stored.entries.values().cloned().collect();
        self.kept(&entries)?;
        self.coverage.count(Event::Restart);
        self.start(id)?;
        let stored = &self.node(id).disk.stored;
        let (state, first, last) = (stored.hard_state, stored.truncated, stored.last());
        self.trace.line(self.now, format_args!("{id} is back: {state:?} log {first} to {last}"));
        Ok(())
    }

    /// A node stops for a while, and does not notice.
    pub(crate) fn pause(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.pause_every, Happening::Pause);
        let mut id = self.some_victim();
        let leader = self.nodes.iter().find(|node| node.leads()).map(|node| node.id);
        if self.chance.coin() {
            id = leader.unwrap_or(id);
        }
        if !self.calm && self.node(id).replica.is_some() {
            let length = self.chance.around(self.plan.pause_length);
            self.node(id).paused_until = self.now + length;
            self.coverage.count(Event::Pause);
            if leader == Some(id) && 2 * SECOND < length {
                self.coverage.count(Event::LeaderPaused);
            }
            self.trace.line(self.now, format_args!("{id} pauses for {} ms", length / MILLI));
        }
        Ok(())
    }

    /// A leader is going to pause, cut off from the others, while it is busy with a read.
    pub(crate) fn freeze(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.freeze_every, Happening::Freeze);
        let leader = self.nodes.iter().find(|node| node.leads()).map(|node| node.id);
        if let Some(leader) = leader {
            self.after(0, Happening::ReadAt(leader));
            let soon = self.chance.between(self.plan.delay, 4 * self.plan.delay);
            self.after(soon, Happening::Frozen(leader));
        }
        Ok(())
    }

    /// It pauses. When it goes on it is still cut off, and callers who know nothing read from it:
    /// what answers it finds are old ones.
    pub(crate) fn frozen(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.calm || !self.node(id).leads() || !self.blocked.is_empty() {
            return Ok(());
        }
        let length = self.chance.between(2 * SECOND, 4 * SECOND);
        self.node(id).paused_until = self.now + length;
        self.coverage.count(Event::LeaderFrozen);
        self.trace.line(self.now, format_args!("{id} freezes for {} ms", length / MILLI));
        for other in self.living() {
            if other != id {
                self.blocked.insert((id, other));
                self.blocked.insert((other, id));
            }
        }
        self.after(length + SECOND, Happening::Thaw(id));
        for _ in 0..8 {
            let then = self.chance.between(length, length + SECOND);
            self.after(then, Happening::ReadAt(id));
        }
        Ok(())
    }

    /// A disk is full for a while.
    pub(crate) fn full(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.full_every, Happening::Full);
        let id = self.some_victim();
        if !self.calm && self.node(id).replica.is_some() {
            let length = self.chance.around(self.plan.full_length);
            self.node(id).full_until = self.now + length;
            self.coverage.count(Event::DiskFull);
            self.trace.line(self.now, format_args!("{id} is full for {} ms", length / MILLI));
        }
        Ok(())
    }

    /// Whether a disk is full.
    pub(crate) fn is_full(&mut self, id: NodeId) -> bool {
        self.now < self.node(id).full_until
    }

    /// The faults end: everybody is up and reaches everybody.
    pub(crate) fn calm_down(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.blocked.clear();
        self.flapping.clear();
        self.plan.jitter = 0;
        self.plan.fetch = self.plan.fetch.min(SECOND / 5);
        self.trace.line(self.now, format_args!("the faults end"));
        let now = self.now;
        let mut down = Vec::new();
        for node in &mut self.nodes {
            node.paused_until = node.paused_until.min(now);
            node.full_until = node.full_until.min(now);
            if node.replica.is_none() && node.hosts && !node.gone {
                down.push((node.id, node.boot));
            }
        }
        for (id, boot) in down {
            self.restart(id, boot)?;
        }
        Ok(())
    }

    /// Some node that is not lost.
    pub(crate) fn some_victim(&mut self) -> NodeId {
        let living = self.living();
        *self.chance.pick(&living)
    }
}
