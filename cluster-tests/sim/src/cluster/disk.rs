//! The disk of a node of a whole cluster: one write-ahead log for all its groups, synced together,
//! and what a crash leaves of it.

use std::collections::{BTreeMap, VecDeque};

use alluvium_core::ids::GroupId;
use alluvium_core::replica::Members;
use bytes::Bytes;

use crate::disk::{Loss, Op, Stored, Then};

/// A write of one group. One of a replica that was removed meanwhile is void.
struct Job {
    group: GroupId,
    what: Option<(Op, Then)>,
}

/// What all groups of a node keep.
#[derive(Default)]
pub struct Disk {
    /// What is synced of each group that is there.
    pub groups: BTreeMap<GroupId, Stored>,
    /// What stays of groups that were removed.
    left: BTreeMap<GroupId, Stored>,
    unsynced: VecDeque<Job>,
    syncing: usize,
}

impl Disk {
    /// Makes a group, unless it is there. Whether a replica of it was here before.
    pub fn create(&mut self, group: GroupId, initial: Members, blank: Bytes) -> bool {
        let left = self.left.remove(&group);
        let again = left.is_some();
        self.groups.entry(group).or_insert_with(|| {
            let Stored { hard_state, forgotten, .. } = left.unwrap_or_default();
            Stored { hard_state, forgotten, members: initial, state: blank, ..Stored::default() }
        });
        again
    }

    /// Removes a group.
    pub fn remove(&mut self, group: GroupId) {
        if let Some(stored) = self.groups.remove(&group) {
            self.left.insert(group, stored.removed(Members::default(), Bytes::new()));
        }
        for job in self.unsynced.iter_mut().filter(|job| job.group == group) {
            job.what = None;
        }
    }

    /// What is synced of a group.
    ///
    /// # Panics
    /// When the group is not there.
    #[must_use]
    pub fn of(&self, group: GroupId) -> &Stored {
        &self.groups[&group]
    }

    /// Takes a write.
    pub fn write(&mut self, group: GroupId, op: Op, then: Then) {
        self.unsynced.push_back(Job { group, what: Some((op, then)) });
    }

    /// Begins a sync of everything written, unless one is under way or there is nothing.
    pub fn begin_sync(&mut self) -> bool {
        if self.syncing != 0 || self.unsynced.is_empty() {
            return false;
        }
        self.syncing = self.unsynced.len();
        true
    }

    /// The sync is done. Gives whom to tell, and how many entries were replaced.
    pub fn finish_sync(&mut self) -> (Vec<(GroupId, Then)>, usize) {
        let mut told = Vec::new();
        let mut replaced = 0;
        for Job { group, what } in self.unsynced.drain(..self.syncing) {
            if let (Some((op, then)), Some(stored)) = (what, self.groups.get_mut(&group)) {
                replaced += stored.carry_out(&op);
                told.push((group, then));
            }
        }
        self.syncing = 0;
        (told, replaced)
    }

    /// The node dies. So many of the writes that are not synced are there when it comes back.
    pub fn crash(&mut self, survivors: u64, torn: bool) -> Loss {
        let written = std::mem::take(&mut self.unsynced);
        self.syncing = 0;
        let mut loss = Loss::default();
        for Job { group, what } in written {
            let (Some((op, _)), Some(stored)) = (what, self.groups.get_mut(&group)) else {
                continue;
            };
            if loss.lost == 0 && loss.survived < survivors {
                stored.carry_out(&op);
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
