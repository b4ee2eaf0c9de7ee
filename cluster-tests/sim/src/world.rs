//! The world: time, events in order, the network, and everybody in it.
//!
//! One event is taken at a time, the earliest first; two at the same time in the order they were
//! asked for. Whatever is drawn comes from the seed, so a seed is a run.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_core::ids::{Index, NodeId};
use alluvium_core::replica::{Envelope, Machine as _, Members, Step};
use bytes::Bytes;

use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::coverage::{Coverage, Event};
use crate::load::{Answer, Ask, Call, Producer};
use crate::machine::Witnessed;
use crate::mutant::Mutant;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::placement::Placement;
use crate::plan::{MILLI, Plan, SECOND};
use crate::quorum::{Configuration, founded};
use crate::trace::Trace;
use crate::violation::Violation;

/// A unit of a replica's time.
const TICK: u64 = 100 * MILLI;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Happening {
    /// A tick on a node.
    Tick(NodeId, u64),
    /// A message arrives.
    Arrive(Envelope),
    /// A message arrives that the network held up, whatever became of the link since.
    HeldUp(Envelope),
    /// A sync is done.
    Synced(NodeId, u64),
    /// A node proposes what it gathered.
    Flush(NodeId, u64),
    /// A node takes the inputs that wait.
    Drain(NodeId, u64),
    /// A node hears that another one does not hear it.
    CutOff(NodeId, NodeId),
    /// A node makes a checkpoint.
    Checkpoint(NodeId, u64),
    /// A node has fetched a checkpoint.
    Fetched(NodeId, u64, u64),
    /// A request arrives at a node.
    Asked(NodeId, Ask),
    /// An answer arrives at a producer.
    Answered(Call, Answer),
    /// A producer gives up waiting for an answer.
    TimedOut(Call),
    /// A producer makes a batch.
    Produce(u64),
    /// A producer sends what is due.
    Send(u64),
    /// Someone reads.
    Read,
    /// Someone reads at this node.
    ReadAt(NodeId),
    /// A producer dies and comes back.
    Reopen,
    /// A node dies.
    Crash,
    /// A node comes back.
    Restart(NodeId, u64),
    /// A node stops for a while.
    Pause,
    /// A leader stops for a while and is cut off from the others, but not from its callers.
    Freeze,
    /// It does.
    Frozen(NodeId),
    /// It is not cut off any more.
    Thaw(NodeId),
    /// The network splits.
    Split,
    /// The network is whole again.
    Whole,
    /// Links that come and go do so.
    Flap,
    /// A disk is full for a while.
    Full,
    /// The placement changes.
    Place,
    /// A node removes its replica, unless it is wanted there.
    Remove(NodeId),
    /// A node is lost with its disk.
    Lose,
    /// The faults end.
    Calm,
}

/// Everything there is in one run.
pub struct World {
    /// Microseconds since the start.
    pub now: u64,
    agenda: Agenda<Happening>,
    /// What the seed draws.
    pub chance: Chance,
    /// What the seed drew at the start.
    pub plan: Plan,
    /// The nodes, `n1` first.
    pub nodes: Vec<Node>,
    /// Links that pass nothing, as (from, to).
    pub blocked: BTreeSet<(NodeId, NodeId)>,
    /// The producers, number 0 first.
    pub producers: Vec<Producer>,
    /// Who sees everything.
    pub oracle: Oracle,
    /// Links that come and go.
    pub flapping: Vec<(NodeId, NodeId)>,
    /// The members the group was founded with.
    pub founders: Members,
    /// The state of a fresh machine.
    pub blank: Bytes,
    /// What the catalogue says.
    pub placement: Placement,
    /// Whom an owner handed leadership to last.
    pub handed_to: Option<NodeId>,
    /// The configurations of the group, with what the first replica in each had executed then.
    pub configurations: Vec<(Index, Configuration)>,
    /// For mutants: what the leader last asked its followers for reads.
    pub(crate) last_read: BTreeMap<NodeId, Bytes>,
    /// Requests given out.
    pub requests: u64,
    /// Whether the faults are over.
    pub calm: bool,
    /// How this run is wrong on purpose.
    pub mutant: Option<Mutant>,
    /// What happened, counted.
    pub coverage: Coverage,
    /// What happened, line by line.
    pub trace: Trace,
}

impl World {
    /// A fresh cluster and its load.
    ///
    /// # Errors
    /// When a fresh replica is refused.
    pub fn new(seed: u64, mutant: Option<Mutant>, keep_all: bool) -> Result<World, Violation> {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let node_count = if plan.place_every == 0 { 3 } else { 5 };
        let founders = Members::of_voters((1..=3).map(NodeId));
        let blank = Witnessed::new(mutant == Some(Mutant::DuplicateNotRecognised)).checkpoint();
        let mut nodes: Vec<Node> = (1..=node_count)
            .map(|id| Node::new(NodeId(id), founders.clone(), blank.clone(), id <= 3))
            .collect();
        if plan.liar {
            let at = chance.between(0, node_count);
            nodes[usize::try_from(at).expect("a small number")].lies = true;
        }
        let producers = (0..plan.producer_count).map(Producer::new).collect();
        let mut world = World {
            now: 0,
            agenda: Agenda::default(),
            chance,
            plan,
            nodes,
            blocked: BTreeSet::new(),
            producers,
            oracle: Oracle::default(),
            flapping: Vec::new(),
            placement: Placement { wanted: founders.clone(), leader: NodeId(1), reached: true },
            handed_to: None,
            configurations: founded(&founders.voters),
            last_read: BTreeMap::new(),
            founders,
            blank,
            requests: 0,
            calm: false,
            mutant,
            coverage: Coverage::new(&Event::OF_GROUP),
            trace: Trace::new(keep_all),
        };
        world.begin()?;
        Ok(world)
    }

    fn begin(&mut self) -> Result<(), Violation> {
        self.trace.line(0, format_args!("{:?}", self.plan));
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        for id in ids {
            self.set_clock(id);
            if self.node(id).hosts {
                self.start(id)?;
            }
        }
        for producer in 0..self.plan.producer_count {
            self.after(self.plan.think, Happening::Produce(producer));
        }
        self.after(self.plan.read_every, Happening::Read);
        let faults = [
            (self.plan.reopen_every, Happening::Reopen),
            (self.plan.crash_every, Happening::Crash),
            (self.plan.pause_every, Happening::Pause),
            (self.plan.freeze_every, Happening::Freeze),
            (self.plan.split_every, Happening::Split),
            (self.plan.full_every, Happening::Full),
            (self.plan.place_every, Happening::Place),
            (self.plan.lose_every, Happening::Lose),
        ];
        for (every, what) in faults {
            self.sometime(every, what);
        }
        self.after(self.plan.faults_end, Happening::Calm);
        Ok(())
    }

    /// Draws how a node's clock is wrong.
    pub fn set_clock(&mut self, id: NodeId) {
        let skew = self.chance.between(0, self.plan.skew + 1);
        let drift = TICK * self.chance.between(0, 2 * self.plan.drift + 1) / 1000;
        let node = self.node(id);
        node.skew = skew;
        node.tick = TICK + drift - drift / 2;
    }

    /// Starts a node and its clocks.
    ///
    /// # Errors
    /// When its disk is not what it should be.
    pub fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let seed = self.chance.seed();
        let first = self.chance.between(0, TICK);
        let retained_bytes_max = self.plan.retained;
        let node = self.node(id);
        node.start(seed, retained_bytes_max)?;
        let boot = node.boot;
        self.after(first, Happening::Tick(id, boot));
        let checkpoint = self.chance.around(self.plan.checkpoint_every);
        self.after(checkpoint, Happening::Checkpoint(id, boot));
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
            Happening::Arrive(envelope) => self.arrive(envelope),
            Happening::HeldUp(envelope) => self.deliver(envelope),
            Happening::Synced(id, boot) => self.synced(id, boot),
            Happening::Flush(id, boot) => self.flush(id, boot),
            Happening::Drain(id, boot) => self.drain(id, boot),
            Happening::CutOff(id, node) => self.cut_off(id, node),
            Happening::Checkpoint(id, boot) => self.checkpoint(id, boot),
            Happening::Fetched(id, boot, number) => self.fetched(id, boot, number),
            Happening::Asked(id, ask) => self.asked(id, ask),
            Happening::Answered(call, answer) => self.answered(call, answer),
            Happening::TimedOut(call) => self.timed_out(call),
            Happening::Produce(producer) => self.produce(producer),
            Happening::Send(producer) => self.send_due(producer),
            Happening::Read => self.read(),
            Happening::ReadAt(id) => self.read_at(id),
            Happening::Reopen => self.reopen(),
            Happening::Crash => self.crash_some(),
            Happening::Restart(id, boot) => self.restart(id, boot),
            Happening::Pause => self.pause(),
            Happening::Freeze => self.freeze(),
            Happening::Frozen(id) => self.frozen(id),
            Happening::Thaw(id) => self.thaw(id),
            Happening::Split => self.split(),
            Happening::Whole => self.whole(),
            Happening::Flap => self.flap(),
            Happening::Full => self.full(),
            Happening::Place => self.place(),
            Happening::Remove(id) => self.remove(id),
            Happening::Lose => self.lose(),
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
    pub fn node(&mut self, id: NodeId) -> &mut Node {
        let place = usize::try_from(id.0 - 1).expect("a small number");
        &mut self.nodes[place]
    }

    /// The time until which a node is paused, when it is.
    pub fn paused(&mut self, id: NodeId) -> Option<u64> {
        let until = self.node(id).paused_until;
        (self.now < until).then_some(until)
    }

    /// Gives messages to the network.
    pub fn send(&mut self, envelopes: Vec<Envelope>) {
        let twisted: Vec<Envelope> =
            envelopes.into_iter().flat_map(|envelope| self.twisted(envelope)).collect();
        for envelope in twisted {
            let times = self.times_sent(&envelope);
            for _ in 0..times {
                let jitter = self.chance.between(0, self.plan.jitter + 1);
                let delay = self.plan.delay / 2 + self.chance.between(0, self.plan.delay + 1);
                self.after(delay + jitter, Happening::Arrive(envelope.clone()));
            }
        }
    }

    fn times_sent(&mut self, envelope: &Envelope) -> u64 {
        if self.blocked.contains(&(envelope.from, envelope.to)) {
            if self.chance.once_in(20) {
                let what = Happening::CutOff(envelope.from, envelope.to);
                self.after(self.plan.delay, what);
            }
            return 0;
        }
        if !self.calm && self.chance.per_mille(self.plan.loss) {
            self.trace.line(self.now, format_args!("lost: {envelope}"));
            self.coverage.count(Event::MessageLost);
            return 0;
        }
        if !self.calm && self.chance.per_mille(self.plan.doubling) {
            self.coverage.count(Event::MessageDoubled);
            return 2;
        }
        1
    }

    /// Gives a message of a producer, or to one, to the network; it may get lost.
    pub fn call(&mut self, what: Happening) {
        if !self.calm && self.chance.per_mille(self.plan.client_loss) {
            return;
        }
        let delay = self.chance.around(self.plan.delay);
        self.after(delay, what);
    }

    /// Whether everything is done: every batch acknowledged, every replica equally far.
    #[must_use]
    pub fn settled(&self) -> bool {
        let acked = self.producers.iter().all(|producer| producer.unacked.is_empty());
        let waiting = self.nodes.iter().any(|node| !node.requests.is_empty());
        acked && !waiting && self.placed() && self.replicas_equal()
    }

    /// Whether the group is where the placement says.
    fn placed(&self) -> bool {
        let mut leaders = self.nodes.iter().filter(|node| node.leads());
        !self.moves() || leaders.any(|node| self.next_step_of(node.id) == Some(Step::Done))
    }

    fn replicas_equal(&self) -> bool {
        let Some(leader) = self.nodes.iter().find(|node| node.leads()) else { return false };
        let Some(replica) = &leader.replica else { return false };
        let (members, status) = (replica.members(), replica.status());
        let state = replica.machine().state();
        let mut of_members = self.nodes.iter().filter(|node| members.contains(node.id));
        status.applied == status.last_index
            && of_members.all(|node| {
                node.replica.as_ref().is_some_and(|replica| {
                    replica.status().applied == status.applied && replica.machine().state() == state
                })
            })
    }
}

/// How long the load waits for an answer before it tries elsewhere.
pub const PATIENCE: u64 = SECOND;
