//! A simulated node: a replica, its disk, and the callers that wait.

use std::collections::BTreeMap;

use alluvium_core::ids::{GroupId, NodeId, RequestId, Term};
use alluvium_core::replica::{
    Fetch, Input, LogPosition, Machine as _, Members, Replica, ReplicaConfig, Role,
};

use bytes::Bytes;

use crate::disk::Disk;
use crate::load::Call;
use crate::machine::Witnessed;
use crate::oracle::Value;
use crate::violation::Violation;

/// The one group of the simulation.
pub const GROUP: GroupId = GroupId(1);

/// Who waits for a request.
#[derive(Debug)]
pub enum Waiting {
    /// Batches proposed together.
    Append(Vec<Call>),
    /// A producer that opens again.
    Fence(Call),
    /// A read that must see at least so many events.
    Read {
        /// What was acknowledged when it began.
        floor: u64,
    },
    /// A change of members.
    Change {
        /// Whether learners become voters by it.
        promotes: bool,
    },
    /// Commands of the owner itself.
    Upkeep,
}

/// A node. What is in memory is gone after a crash.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Whether it holds a replica, on its disk at least.
    pub hosts: bool,
    /// Lost with its disk, for good.
    pub gone: bool,
    /// Its disk says that it synced when it did not: what it wrote is gone with the power.
    pub lies: bool,
    /// Its disk is full before this time.
    pub full_until: u64,
    /// Nothing while it is down.
    pub replica: Option<Replica<Witnessed>>,
    /// How often it started; events for a former start are void.
    pub boot: u64,
    /// Its disk.
    pub disk: Disk,
    /// It does nothing before this time.
    pub paused_until: u64,
    /// Its clock is ahead by this.
    pub skew: u64,
    /// Length of its ticks.
    pub tick: u64,
    /// Who waits.
    pub requests: BTreeMap<RequestId, Waiting>,
    /// Batches not proposed yet.
    pub gathered: Vec<(Call, Vec<Value>)>,
    /// Inputs not taken yet.
    pub inbox: Vec<Input>,
    /// The fetch under way, with its number.
    pub fetch: Option<(u64, Fetch)>,
    /// Whether it offers the next checkpoint to followers.
    pub offers: bool,
    /// Commands of the machine that the oracle has seen.
    pub witnessed: usize,
}

impl Node {
    /// A fresh node.
    #[must_use]
    pub fn new(id: NodeId, founders: Members, blank: Bytes, hosts: bool) -> Node {
        Node {
            id,
            hosts,
            gone: false,
            lies: false,
            full_until: 0,
            replica: None,
            boot: 0,
            disk: Disk::new(founders, blank),
            paused_until: 0,
            skew: 0,
            tick: 0,
            requests: BTreeMap::new(),
            gathered: Vec::new(),
            inbox: Vec::new(),
            fetch: None,
            offers: false,
            witnessed: 0,
        }
    }

    /// Starts a replica from what is on the disk.
    ///
    /// # Errors
    /// When the replica refuses it: it was written by a replica, so it must be accepted.
    pub fn start(&mut self, seed: u64, retained_bytes_max: u64) -> Result<(), Violation> {
        let machine = Witnessed::restore(&self.disk.stored.state)
            .map_err(|error| Violation::panic(format!("{}: {error}", self.id)))?;
        let mut config = ReplicaConfig::new(GROUP, self.id, seed);
        config.retained_bytes_max = retained_bytes_max;
        let replica = Replica::new(config, machine, self.disk.stored.restored())
            .map_err(|error| Violation::panic(format!("{}: {error}", self.id)))?;
        self.replica = Some(replica);
        self.boot += 1;
        self.witnessed = 0;
        Ok(())
    }

    /// Everything in memory is gone.
    pub fn stop(&mut self) {
        self.replica = None;
        self.boot += 1;
        self.paused_until = 0;
        self.requests.clear();
        self.gathered.clear();
        self.inbox.clear();
        self.fetch = None;
        self.offers = false;
    }

    /// Whether it is this node, and not lost.
    #[must_use]
    pub fn is(&self, id: NodeId) -> bool {
        self.id == id && !self.gone
    }

    /// The newest term it knows.
    #[must_use]
    pub fn term(&self) -> Term {
        let stored = self.disk.stored.hard_state.term;
        self.replica.as_ref().map_or(stored, |replica| replica.status().term.max(stored))
    }

    /// Whether a change of members that it asked for is under way.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.requests.values().any(|waiting| matches!(waiting, Waiting::Change { .. }))
    }

    /// Whether it leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.status().role == Role::Leader)
    }

    /// Whether an entry is synced here.
    #[must_use]
    pub fn has(&self, at: LogPosition) -> bool {
        self.disk.stored.has(at)
    }
}
