//! What the library reads as its storage: the log in memory, the members, and the checkpoint that
//! followers behind the log are sent to fetch.

use std::cell::Cell;

use raft::eraftpb::{ConfState, Entry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::super::config::ReplicaError;
use super::super::entry::{Checkpoint, Restored};
use super::super::log::MemoryLog;
use super::convert::{conf_state_of, snapshot_of, theirs};
use crate::ids::{Index, NodeId};

/// What the library reads.
pub(super) struct Mirror {
    pub log: MemoryLog,
    hard_state: RaftHardState,
    pub members: ConfState,
    /// Without its state: followers fetch that.
    pub offered: Option<Checkpoint>,
    /// A follower needs a checkpoint, and what is offered does not help it.
    pub wanted: Cell<bool>,
}

impl Mirror {
    pub(super) fn restore(restored: Restored) -> Result<Mirror, ReplicaError> {
        let Restored { hard_state, members, truncated, entries, forgotten: _ } = restored;
        let log = MemoryLog::restore(truncated, entries, hard_state.term)?;
        // The commit index on disk may lag behind what the checkpoint proves to be committed.
        let commit = hard_state.commit.max(truncated.index);
        let last = log.last().index;
        if last < commit {
            return Err(ReplicaError::CommitBeyondLog { commit, last });
        }
        let (term, vote) = (hard_state.term.0, hard_state.vote.map_or(0, |vote| vote.0));
        let stored = RaftHardState { term, vote, commit: commit.0, ..RaftHardState::default() };
        let members = conf_state_of(&members);
        Ok(Mirror { log, hard_state: stored, members, offered: None, wanted: Cell::new(false) })
    }

    /// Whether a checkpoint helps a follower: the log goes on where it ends, and it names the
    /// follower as a member, without which the library there would refuse it.
    fn helps(&self, checkpoint: &Checkpoint, follower: NodeId) -> bool {
        self.log.truncated().index <= checkpoint.position.index
            && checkpoint.members.contains(follower)
    }
}

impl Storage for Mirror {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.log.truncated().index.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        Ok(self.log.range(Index(low), Index(high), max_size.into()).map(theirs).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.log.truncated().index.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let term = self.log.term(Index(index));
        term.map(|term| term.0).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.truncated().index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last().index.0)
    }

    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match &self.offered {
            Some(checkpoint) if self.helps(checkpoint, NodeId(to)) => Ok(snapshot_of(checkpoint)),
            Some(_) | None => {
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
