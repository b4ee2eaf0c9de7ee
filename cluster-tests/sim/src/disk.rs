//! A node's disk: what is synced, and what is only written.
//!
//! Writes are atomic and keep their order, as in a write-ahead log with checksums. A crash keeps
//! what is synced and a random number of the writes after it; the first one lost may have reached
//! the disk in part, which its checksum tells, so it counts as lost.

use std::collections::{BTreeMap, VecDeque};

use alluvium_core::ids::{Index, Term};
use alluvium_core::replica::{
    Checkpoint, HardState, Held, LogEntry, LogPosition, Members, Restored, Writes,
};
use bytes::Bytes;

/// What a crash cannot take.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Who belongs to the group, as of the checkpoint.
    pub members: Members,
    /// Where the log begins.
    pub truncated: LogPosition,
    /// What follows.
    pub entries: BTreeMap<Index, LogEntry>,
    /// Where the checkpoint stands: at `truncated`, unless something went wrong.
    pub checkpoint: LogPosition,
    /// The checkpoint.
    pub state: Bytes,
    /// Where the log of a removed replica of this node ended.
    pub forgotten: LogPosition,
}

impl Stored {
    /// The term at an index, when that is still known.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        self.entries.get(&index).map(|entry| entry.term)
    }

    /// Whether the entry is here, in the log or behind a checkpoint.
    #[must_use]
    pub fn has(&self, at: LogPosition) -> bool {
        at.index < self.truncated.index || self.term(at.index) == Some(at.term)
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.entries.values().next_back().map_or(self.truncated, LogEntry::position)
    }

    /// What a replica starts from.
    #[must_use]
    pub fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            members: self.members.clone(),
            truncated: self.truncated,
            entries: self.entries.values().cloned().collect(),
            forgotten: self.forgotten,
        }
    }

    /// Carries out a write. Gives how many entries it replaced.
    pub fn carry_out(&mut self, op: &Op) -> usize {
        match op {
            Op::Log(write) => {
                if let Some(install) = &write.install {
                    self.replace(install);
                    self.entries.clear();
                }
                self.hard_state = write.hard_state.unwrap_or(self.hard_state);
                let Some(first) = write.entries.first() else { return 0 };
                let replaced = self.entries.split_off(&first.index).len();
                let entries = write.entries.iter().cloned();
                self.entries.extend(entries.map(|entry| (entry.index, entry)));
                replaced
            }
            Op::State(state) => {
                self.state = state.clone();
                0
            }
            // A checkpoint taken before another one was installed is out of date.
            Op::Cut(checkpoint) => {
                if self.checkpoint.index < checkpoint.position.index {
                    self.replace(checkpoint);
                    self.cut(checkpoint.position);
                }
                0
            }
        }
    }

    /// What is there once the replica is removed, and there is to be another one: what it voted
    /// stays, and where its log ended, because what it acknowledged counts for ever.
    #[must_use]
    pub fn removed(&self, members: Members, state: Bytes) -> Stored {
        let hard_state = HardState { commit: Index(0), ..self.hard_state };
        let order = |at: &LogPosition| (at.term, at.index);
        let forgotten = std::cmp::max_by_key(self.forgotten, self.last(), order);
        Stored { hard_state, forgotten, members, state, ..Stored::default() }
    }

    /// Drops the log up to `to`.
    pub fn cut(&mut self, to: LogPosition) {
        self.truncated = to;
        self.entries = self.entries.split_off(&to.index.next());
    }

    fn replace(&mut self, checkpoint: &Checkpoint) {
        self.truncated = checkpoint.position;
        self.checkpoint = checkpoint.position;
        self.members = checkpoint.members.clone();
        self.state = checkpoint.state.clone();
    }
}

/// What [`Writes`] ask for, without the right to call it durable.
#[derive(Debug)]
pub struct LogWrite {
    /// Replaces everything.
    pub install: Option<Checkpoint>,
    /// Term, vote, commit.
    pub hard_state: Option<HardState>,
    /// Entries.
    pub entries: Vec<LogEntry>,
}

impl LogWrite {
    /// A copy of what is asked for.
    #[must_use]
    pub fn of(writes: &Writes) -> LogWrite {
        LogWrite {
            install: writes.install.clone(),
            hard_state: writes.hard_state,
            entries: writes.entries.clone(),
        }
    }

    /// Whether it holds a vote or term alone.
    #[must_use]
    pub fn only_vote(&self) -> bool {
        self.entries.is_empty() && self.install.is_none()
    }
}

/// One atomic write.
#[derive(Debug)]
pub enum Op {
    /// Log and hard state.
    Log(LogWrite),
    /// A checkpoint, and the log cut up to it.
    Cut(Checkpoint),
    /// The state of a checkpoint alone, which is wrong: see
    /// [`crate::mutant::Mutant::PositionApart`].
    State(Bytes),
}

/// What is to be told once a write is synced.
#[derive(Debug)]
pub enum Then {
    /// The replica waits for it.
    Release(Box<Writes>, Held),
    /// The log in memory may be cut.
    Truncate(Index),
    /// Nobody waits.
    Nothing,
}

/// Whether a write asks for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It does.
    Wanted,
    /// It does not; it stays un-synced, and so does what follows it, until another write asks.
    Skipped,
}

/// What a crash did to writes that were not synced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    /// Writes gone.
    pub lost: u64,
    /// Writes there all the same.
    pub survived: u64,
    /// Writes gone of which a part was there.
    pub torn: u64,
}

/// A disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// What is synced.
    pub stored: Stored,
    unsynced: VecDeque<(Op, Then, Sync)>,
    syncing: usize,
}

impl Disk {
    /// A disk with a fresh replica on it.
    #[must_use]
    pub fn new(members: Members, state: Bytes) -> Disk {
        Disk { stored: Stored { members, state, ..Stored::default() }, ..Disk::default() }
    }

    /// The replica is removed; see [`Stored::removed`].
    pub fn remove(&mut self, members: Members, state: Bytes, remembers: bool) {
        let mut stored = self.stored.removed(members, state);
        if !remembers {
            stored.forgotten = LogPosition::default();
        }
        *self = Disk { stored, ..Disk::default() };
    }

    /// Takes a write.
    pub fn write(&mut self, op: Op, then: Then, sync: Sync) {
        self.unsynced.push_back((op, then, sync));
    }

    /// Begins a sync of everything written, unless one is under way or none is wanted.
    pub fn begin_sync(&mut self) -> bool {
        let wanted = self.unsynced.iter().any(|(_, _, sync)| *sync == Sync::Wanted);
        if self.syncing != 0 || !wanted {
            return false;
        }
        self.syncing = self.unsynced.len();
        true
    }

    /// The sync is done: carries the writes out in order. Gives whom to tell, and how many entries
    /// were replaced.
    pub fn finish_sync(&mut self) -> (Vec<Then>, usize) {
        let mut told = Vec::new();
        let mut replaced = 0;
        for (op, then, _) in self.unsynced.drain(..self.syncing) {
            replaced += self.stored.carry_out(&op);
            told.push(then);
        }
        self.syncing = 0;
        (told, replaced)
    }

    /// The node dies. `survivors` of the writes that are not synced are there when it comes back;
    /// one that skipped its sync is not, and neither is anything after it.
    pub fn crash(&mut self, survivors: u64, torn: bool) -> Loss {
        let written = std::mem::take(&mut self.unsynced);
        self.syncing = 0;
        let mut loss = Loss::default();
        for (op, _, sync) in written {
            if loss.lost == 0 && loss.survived < survivors && sync == Sync::Wanted {
                self.stored.carry_out(&op);
                loss.survived += 1;
            } else {
                loss.lost += 1;
            }
        }
        loss.torn = u64::from(torn && loss.lost != 0);
        loss
    }

    /// How many writes are not synced.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        self.unsynced.len() as u64
    }
}
