//! A whole cluster on one thread, from one seed: the meta group and partitions, nodes that join,
//! drain, leave and are lost, owners that move their groups where the planner wants them, clients
//! that write and read through any node.
//!
//! The catalogue, the planner, the next step of a move and the replicas are the real ones; what is
//! simulated is what the shell does around them, as thin as it can be, and the world.
//!
//! Reading order: [`plan`] (what a seed draws), [`hosted`] (the machines), [`node`], [`disk`],
//! `shell` (what a node does with a replica), `catalogue` (what it does with the catalogue),
//! `place` (what an owner does about its group's place), `removal`, `serve` and `clients`,
//! `admin`, `faults`, `network`, `checks` (what nobody alone can see), `rest` (when all is done),
//! [`twist`] (being wrong on purpose).

mod admin;
mod catalogue;
mod checkpoints;
mod checks;
mod clients;
pub mod disk;
mod faults;
pub mod hosted;
mod network;
pub mod node;
mod place;
pub mod plan;
mod reads;
mod removal;
mod rest;
mod serve;
mod shell;
pub mod twist;

use std::collections::{BTreeMap, BTreeSet};

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::replica::Envelope;

use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::coverage::{Coverage, Event};
use crate::load::{Answer, Ask, Call, Producer};
use crate::oracle::Oracle;
use crate::plan::{MILLI, SECOND};
use crate::quorum::Configuration;
use crate::trace::Trace;
use crate::violation::Violation;

use admin::Joiner;
use network::Word;
use node::Node;
use plan::Plan;
use reads::Reading;
pub use twist::Twist;

/// A unit of a replica's time.
const TICK: u64 = 100 * MILLI;

/// Between two signs of life of a node.
const BEAT: u64 = SECOND;

/// How long a client waits for an answer before it tries elsewhere.
const PATIENCE: u64 = SECOND;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Happening {
    /// A tick on a node.
    Tick(NodeId, u64),
    /// A node gives a sign of life.
    Beat(NodeId, u64),
    /// A message of a replica arrives.
    Arrive(Envelope),
    /// One arrives that the network held up, whatever became of the link since.
    HeldUp(Envelope),
    /// Something else that a node says to another arrives: from, to, what.
    Heard(NodeId, NodeId, Word),
    /// A node hears that another one does not hear it.
    CutOff(NodeId, NodeId),
    /// A sync is done.
    Synced(NodeId, u64),
    /// A node proposes what it gathered.
    Flush(NodeId, u64, GroupId),
    /// A replica makes a checkpoint, by its number.
    Checkpoint(NodeId, GroupId, u64),
    /// A replica has fetched a checkpoint, by the fetch's number.
    Fetched(NodeId, GroupId, u64),
    /// A request of a producer arrives at a node.
    Asked(NodeId, Ask),
    /// An answer arrives at a producer.
    Answered(Call, Answer),
    /// A producer gives up waiting for an answer.
    TimedOut(Call),
    /// A producer makes a batch.
    Produce(usize),
    /// A producer sends what is due.
    Send(usize),
    /// A producer dies and comes back.
    Reopen,
    /// Someone reads.
    Read,
    /// Someone reads a group at this node.
    ReadAt(NodeId, GroupId),
    /// A read arrives at a node.
    Reads(NodeId, u64),
    /// A directory asks to join.
    Join(usize),
    /// It hears the id it was given.
    Joined(usize, NodeId),
    /// Someone makes a stream.
    Create(usize),
    /// Someone says something to the cluster.
    Administer,
    /// A node dies.
    Crash,
    /// It comes back.
    Restart(NodeId, u64),
    /// A node stops for a while.
    Pause,
    /// An owner is cut off from all nodes, but not from clients.
    Isolate,
    /// The leader of the meta group does not reach some nodes that everybody else reaches.
    Apart,
    /// A node is not cut off any more.
    Thaw(NodeId),
    /// The network splits.
    Split,
    /// The network is whole again.
    Whole,
    /// Links that come and go do so.
    Flap,
    /// A disk is full for a while.
    Full,
    /// A node is lost with its disk.
    Lose,
    /// Whoever looks after the cluster does so.
    Care,
    /// The faults end.
    Calm,
}

/// What everybody together knows of one group.
pub struct Group {
    /// Sees everything.
    pub oracle: Oracle,
    /// The configurations, with what the first replica in each had executed then.
    pub configurations: Vec<(Index, Configuration)>,
    /// Which of them the catalogue was told of last.
    pub told: usize,
    /// The furthest that a finished read has seen.
    pub read_end: u64,
}

/// A producer and the group it sends to.
pub struct Client {
    /// The producer.
    pub producer: Producer,
    /// The partition.
    pub group: GroupId,
}

/// Everything there is in one run.
pub struct Cluster {
    /// Microseconds since the start.
    pub now: u64,
    agenda: Agenda<Happening>,
    /// What the seed draws.
    pub chance: Chance,
    /// What the seed drew at the start.
    pub plan: Plan,
    /// The nodes there ever were.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Directories that want to join, and those that did.
    joiners: Vec<Joiner>,
    /// The groups there are.
    pub groups: BTreeMap<GroupId, Group>,
    /// Links that pass nothing, as (from, to).
    pub blocked: BTreeSet<(NodeId, NodeId)>,
    flapping: Vec<(NodeId, NodeId)>,
    /// The producers, number 0 first.
    pub clients: Vec<Client>,
    reads: BTreeMap<u64, Reading>,
    handed: BTreeMap<GroupId, NodeId>,
    /// The streams that are there, by number.
    made: BTreeSet<usize>,
    numbers: u64,
    /// Whether the faults are over.
    pub calm: bool,
    /// How this run is wrong on purpose.
    pub twist: Option<Twist>,
    /// What happened, counted.
    pub coverage: Coverage,
    /// What happened, line by line.
    pub trace: Trace,
}

impl Cluster {
    /// A node that begins a cluster, others that will join, and the load.
    ///
    /// # Errors
    /// When a fresh replica is refused.
    pub fn new(seed: u64, twist: Option<Twist>, keep_all: bool) -> Result<Cluster, Violation> {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let mut cluster = Cluster {
            now: 0,
            agenda: Agenda::default(),
            chance,
            plan,
            nodes: BTreeMap::new(),
            joiners: Vec::new(),
            groups: BTreeMap::new(),
            blocked: BTreeSet::new(),
            flapping: Vec::new(),
            clients: Vec::new(),
            reads: BTreeMap::new(),
            handed: BTreeMap::new(),
            made: BTreeSet::new(),
            numbers: 0,
            calm: false,
            twist,
            coverage: Coverage::new(&Event::OF_CLUSTER),
            trace: Trace::new(keep_all),
        };
        cluster.begin()?;
        Ok(cluster)
    }

    fn begin(&mut self) -> Result<(), Violation> {
        self.trace.line(0, format_args!("{:?}", self.plan));
        self.found()?;
        for _ in 1..self.plan.node_count {
            let later = self.chance.between(0, 8 * SECOND);
            self.want_to_join(later);
        }
        for number in 0..self.plan.streams.len() {
            let later = self.chance.between(SECOND, 12 * SECOND);
            self.after(later, Happening::Create(number));
        }
        if self.plan.liar {
            let liar = NodeId(self.chance.between(1, self.plan.node_count + 1));
            self.trace.line(0, format_args!("the disk of {liar} lies"));
            self.joiners[0].liar = Some(liar);
        }
        self.after(self.plan.read_every, Happening::Read);
        self.after(4 * SECOND, Happening::Care);
        let faults = [
            (self.plan.reopen_every, Happening::Reopen),
            (self.plan.crash_every, Happening::Crash),
            (self.plan.pause_every, Happening::Pause),
            (self.plan.isolate_every, Happening::Isolate),
            (self.plan.apart_every, Happening::Apart),
            (self.plan.split_every, Happening::Split),
            (self.plan.full_every, Happening::Full),
            (self.plan.administer_every, Happening::Administer),
            (self.plan.lose_every, Happening::Lose),
        ];
        for (every, what) in faults {
            self.sometime(every, what);
        }
        self.after(self.plan.faults_end, Happening::Calm);
        Ok(())
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// When a promise is broken.
    pub fn step(&mut self) -> Result<(), Violation> {
        let Some((now, next)) = self.agenda.take() else { return Ok(()) };
        self.now = now;
        match next {
            Happening::Tick(id, boot) => self.tick(id, boot),
            Happening::Beat(id, boot) => self.beat(id, boot),
            Happening::Arrive(envelope) => self.arrive(envelope),
            Happening::HeldUp(envelope) => self.deliver(envelope),
            Happening::Heard(from, to, word) => self.heard(from, to, word),
            Happening::CutOff(id, node) => self.cut_off(id, node),
            Happening::Synced(id, boot) => self.synced(id, boot),
            Happening::Flush(id, boot, group) => self.flush(id, boot, group),
            Happening::Checkpoint(id, group, number) => self.checkpoint(id, group, number),
            Happening::Fetched(id, group, number) => self.fetched(id, group, number),
            Happening::Asked(id, ask) => self.asked(id, ask, None),
            Happening::Answered(call, answer) => self.answered(call, answer),
            Happening::TimedOut(call) => self.timed_out(call),
            Happening::Produce(client) => self.produce(client),
            Happening::Send(client) => self.send_due(client),
            Happening::Reopen => self.reopen(),
            Happening::Read => self.read(),
            Happening::ReadAt(id, group) => self.read_at(id, group),
            Happening::Reads(id, number) => self.reads(id, number),
            Happening::Join(place) => self.join(place),
            Happening::Joined(place, id) => self.joined(place, id),
            Happening::Create(number) => self.create(number),
            Happening::Administer => self.administer(),
            Happening::Crash => self.crash_some(),
            Happening::Restart(id, boot) => self.restart(id, boot),
            Happening::Pause => self.pause(),
            Happening::Isolate => self.isolate(),
            Happening::Apart => self.apart(),
            Happening::Thaw(id) => self.thaw(id),
            Happening::Split => self.split(),
            Happening::Whole => self.whole(),
            Happening::Flap => self.flap(),
            Happening::Full => self.full(),
            Happening::Lose => self.lose(),
            Happening::Care => self.care(),
            Happening::Calm => self.calm_down(),
        }
    }

    /// Lets something happen after `delay`.
    pub fn after(&mut self, delay: u64, what: Happening) {
        self.at(self.now + delay, what);
    }

    /// Lets something happen at `at`.
    pub fn at(&mut self, at: u64, what: Happening) {
        self.agenda.put(at, what);
    }

    /// Lets a fault happen after about `mean`; never when that is 0 or the faults are over.
    pub fn sometime(&mut self, mean: u64, what: Happening) {
        if mean != 0 && !self.calm {
            let delay = self.chance.around(mean);
            self.after(delay, what);
        }
    }

    /// A node by name.
    ///
    /// # Panics
    /// When there never was one of that name.
    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("names of nodes come from nodes")
    }

    /// A node that runs, by name and life.
    pub fn running(&self, id: NodeId, boot: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.up && node.boot == boot)
    }

    /// The time until which a node is paused, when it is.
    #[must_use]
    pub fn paused(&self, id: NodeId) -> Option<u64> {
        let until = self.nodes.get(&id)?.paused_until;
        (self.now < until).then_some(until)
    }

    /// The nodes that are neither lost nor removed, up or down.
    #[must_use]
    pub fn living(&self) -> Vec<NodeId> {
        self.nodes.values().filter(|node| !node.gone).map(|node| node.id).collect()
    }

    /// Some node that is not lost.
    pub fn some_node(&mut self) -> NodeId {
        let living = self.living();
        *self.chance.pick(&living)
    }

    /// The partitions, as clients know them.
    #[must_use]
    pub fn partitions(&self) -> Vec<GroupId> {
        self.groups.keys().copied().filter(|group| *group != GroupId::META).collect()
    }

    /// Another number, never given out before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The oracle of a group.
    ///
    /// # Panics
    /// When there never was such a group.
    pub fn group(&mut self, group: GroupId) -> &mut Group {
        self.groups.get_mut(&group).expect("groups are known when their first replica starts")
    }
}
