//! What goes wrong in the world, and how it ends.

use alluvium_core::ids::NodeId;
use alluvium_core::replica::Members;

use crate::coverage::Event;
use crate::plan::MILLI;
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
            ids.into_iter().for_each(|id| self.crash(id));
        } else {
            let id = self.some_victim();
            self.crash(id);
        }
        Ok(())
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
            self.crash(id);
        }
        Ok(())
    }

    fn crash(&mut self, id: NodeId) {
        if self.node(id).replica.is_none() {
            return;
        }
        let unsynced = self.node(id).disk.unsynced();
        let survivors = self.chance.between(0, unsynced + 1);
        let torn = self.chance.coin();
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
    }

    /// A node comes back.
    pub(crate) fn restart(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if self.node(id).boot != boot {
            return Ok(());
        }
        let World { oracle, nodes, .. } = self;
        let place = usize::try_from(id.0 - 1).expect("a small number");
        oracle.restarts(id, &nodes[place].disk.stored)?;
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
        let id = self.some_victim();
        if !self.calm && self.node(id).replica.is_some() {
            let length = self.chance.around(self.plan.pause_length);
            self.node(id).paused_until = self.now + length;
            self.coverage.count(Event::Pause);
            self.trace.line(self.now, format_args!("{id} pauses for {} ms", length / MILLI));
        }
        Ok(())
    }

    /// The network splits: one node, or a random part, is cut off, both ways or one.
    pub(crate) fn split(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let alone = self.some_victim();
        let far: Vec<NodeId> = if self.chance.coin() {
            vec![alone]
        } else {
            ids.iter().copied().filter(|_| self.chance.coin()).collect()
        };
        let one_way = self.plan.one_way && self.chance.coin();
        let outward = self.chance.coin();
        for &from in &ids {
            for &to in &ids {
                let leaves = far.contains(&from) && !far.contains(&to);
                let enters = !far.contains(&from) && far.contains(&to);
                let blocked =
                    if one_way { if outward { leaves } else { enters } } else { leaves || enters };
                if blocked {
                    self.blocked.insert((from, to));
                }
            }
        }
        self.coverage.count(if one_way { Event::OneWaySplit } else { Event::Split });
        self.trace.line(self.now, format_args!("the network splits: {:?}", self.blocked));
        let length = self.chance.around(self.plan.split_length);
        self.after(length, Happening::Whole);
        Ok(())
    }

    /// The network is whole again.
    pub(crate) fn whole(&mut self) -> Result<(), Violation> {
        self.blocked.clear();
        self.trace.line(self.now, format_args!("the network is whole"));
        self.sometime(self.plan.split_every, Happening::Split);
        Ok(())
    }

    /// Whoever leads is asked for other members.
    pub(crate) fn change(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.change_every, Happening::Change);
        let leader = self.nodes.iter().find(|node| node.leads()).map(|node| node.id);
        let Some(leader) = leader.filter(|_| !self.calm) else { return Ok(()) };
        if self.paused(leader).is_some() {
            return Ok(());
        }
        let mut voters: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        while 3 < voters.len() {
            let at = usize::try_from(self.chance.between(0, voters.len() as u64));
            voters.remove(at.expect("a small number"));
        }
        self.trace.line(self.now, format_args!("{leader} is asked for members {voters:?}"));
        // Noted now: a step may lead through several sets, of which only the last can be seen
        // after.
        self.voter_sets.insert(voters.clone());
        self.ask_for_members(leader, Members::of_voters(voters))
    }

    /// The faults end: everybody is up and reaches everybody.
    pub(crate) fn calm_down(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.blocked.clear();
        self.plan.jitter = 0;
        self.trace.line(self.now, format_args!("the faults end"));
        let now = self.now;
        let mut down = Vec::new();
        for node in &mut self.nodes {
            node.paused_until = node.paused_until.min(now);
            if node.replica.is_none() {
                down.push((node.id, node.boot));
            }
        }
        for (id, boot) in down {
            self.restart(id, boot)?;
        }
        Ok(())
    }

    fn some_victim(&mut self) -> NodeId {
        NodeId(1 + self.chance.between(0, self.nodes.len() as u64))
    }
}
