//! A node of a whole cluster: replicas of several groups over one disk, and what it knows of the
//! others. What is in memory is gone after a crash.

use std::collections::BTreeMap;

use alluvium_core::ids::{GroupId, Index, NodeId, RequestId};
use alluvium_core::meta::{Meta, MetaCommand, NodeReport};
use alluvium_core::replica::{Fetch, Replica, Role};

use super::disk::Disk;
use super::hosted::Hosted;
use crate::load::Call;
use crate::oracle::Value;

/// Who wants a change of the catalogue.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Nobody waits.
    Nobody,
    /// A node that says it is there.
    Presence(NodeId),
    /// A directory that wants to join, by the place it has among those that do.
    Joiner(usize),
    /// Whoever makes a stream, by its number.
    Creator(usize),
}

/// A change of the catalogue on its way.
#[derive(Clone, Debug)]
pub struct Change {
    /// What.
    pub command: MetaCommand,
    /// Who is told of the outcome.
    pub asker: Asker,
}

/// A call of a producer at a node, and the node it came through when that is another one.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The call.
    pub call: Call,
    /// The node that passed it on.
    pub via: Option<NodeId>,
}

/// Who waits for a request.
#[derive(Debug)]
pub enum Waiting {
    /// Batches proposed together.
    Append(Vec<Caller>),
    /// A producer that opens again.
    Fence(Caller),
    /// A node that answers a read and asks for the end of the log.
    Frontier {
        /// The read.
        number: u64,
        /// The node that answers it.
        asker: NodeId,
    },
    /// A node that asks where the catalogue stands.
    Where(NodeId),
    /// A change of the catalogue.
    Change(Change),
    /// A change of members.
    Members {
        /// Whether learners become voters by it.
        promotes: bool,
    },
    /// Commands of the owner itself.
    Upkeep,
}

/// How far a node's catalogue is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may lack something acknowledged.
    Unknown,
    /// The leader was asked where the log stands, and is asked again after this time.
    Asked(u64),
    /// Everything up to here was acknowledged when it was asked.
    Known(Index),
    /// It has held all that was acknowledged before this life.
    Ready,
}

/// What only a leader of the meta group knows.
#[derive(Debug, Default)]
pub struct Leading {
    /// Whether this node led at the last look.
    pub leads: bool,
    /// Ticks since the last look.
    pub ticks: u32,
    /// When each node was heard of last.
    pub heard: BTreeMap<NodeId, u64>,
    /// What each said.
    pub reports: BTreeMap<NodeId, NodeReport>,
}

/// A replica and who waits for it.
pub struct Slot {
    /// The replica.
    pub replica: Replica<Hosted>,
    /// Tells it from another replica of the group in the same life of the node.
    pub number: u64,
    /// Batches not proposed yet.
    pub gathered: Vec<(Caller, Vec<Value>)>,
    /// The fetch under way, with its number.
    pub fetch: Option<(u64, Fetch)>,
    /// Whether it offers the next checkpoint to followers.
    pub offers: bool,
    /// Commands of the machine that the oracle has seen.
    pub witnessed: usize,
    /// Ticks until the catalogue is told again where the group is.
    pub told: u32,
    /// Ticks until it is asked again whether this replica is needed.
    pub asks: u32,
    /// Whether it led at some time.
    pub has_led: bool,
}

/// A node.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Drawn by its directory.
    pub token: u128,
    /// Whether its process runs.
    pub up: bool,
    /// Lost with its disk, or removed from the cluster.
    pub gone: bool,
    /// Its disk says that it synced when it did not.
    pub lies: bool,
    /// Its disk is full before this time.
    pub full_until: u64,
    /// It does nothing before this time.
    pub paused_until: u64,
    /// How often it started; events for a former start are void.
    pub boot: u64,
    /// Its disk.
    pub disk: Disk,
    /// Its clock is ahead by this.
    pub skew: u64,
    /// Length of its ticks.
    pub tick: u64,
    /// Its replicas.
    pub slots: BTreeMap<GroupId, Slot>,
    /// Who waits.
    pub requests: BTreeMap<RequestId, (GroupId, Waiting)>,
    /// How far its catalogue is to be believed.
    pub readiness: Readiness,
    /// Whether the catalogue has heard that it is there.
    pub announced: bool,
    /// Beats without a leader of the meta group.
    pub alone: u32,
    /// Who owns a group, as others said last.
    pub owners: BTreeMap<GroupId, NodeId>,
    /// What it knows as the leader of the meta group.
    pub leading: Leading,
}

impl Node {
    /// One that does not run yet.
    #[must_use]
    pub fn new(id: NodeId, token: u128) -> Node {
        Node {
            id,
            token,
            up: false,
            gone: false,
            lies: false,
            full_until: 0,
            paused_until: 0,
            boot: 0,
            disk: Disk::default(),
            skew: 0,
            tick: 0,
            slots: BTreeMap::new(),
            requests: BTreeMap::new(),
            readiness: Readiness::Unknown,
            announced: false,
            alone: 0,
            owners: BTreeMap::new(),
            leading: Leading::default(),
        }
    }

    /// Everything in memory is gone.
    pub fn stop(&mut self) {
        self.up = false;
        self.boot += 1;
        self.paused_until = 0;
        self.slots.clear();
        self.requests.clear();
        self.readiness = Readiness::Unknown;
        self.announced = false;
        self.alone = 0;
        self.owners.clear();
        self.leading = Leading::default();
    }

    /// Its replica of a group, when that runs.
    #[must_use]
    pub fn replica(&self, group: GroupId) -> Option<&Replica<Hosted>> {
        self.slots.get(&group).map(|slot| &slot.replica)
    }

    /// Whether it leads a group, as far as it knows.
    #[must_use]
    pub fn leads(&self, group: GroupId) -> bool {
        self.replica(group).is_some_and(|replica| replica.status().role == Role::Leader)
    }

    /// Its catalogue, as far as it has applied it.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        self.replica(GroupId::META)?.machine().meta()
    }

    /// Who owns a group, as far as it knows: its own replica first, then what others said, then
    /// what the catalogue says shall be.
    #[must_use]
    pub fn owner(&self, group: GroupId) -> Option<NodeId> {
        let leader = self.replica(group).and_then(|replica| replica.status().leader);
        let shall = || self.meta()?.placement(group).map(|placement| placement.leader);
        leader.or_else(|| self.owners.get(&group).copied()).or_else(shall)
    }

    /// Whether a change of members that it asked for is under way in a group.
    #[must_use]
    pub fn is_changing(&self, group: GroupId) -> bool {
        self.requests
            .values()
            .any(|(of, waiting)| *of == group && matches!(waiting, Waiting::Members { .. }))
    }

    /// The groups it runs.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.slots.keys().copied().collect()
    }

    /// Where the event log of a partition ends here.
    #[must_use]
    pub fn end(&self, group: GroupId) -> Option<u64> {
        Some(self.replica(group)?.machine().partition()?.end().0)
    }
}
