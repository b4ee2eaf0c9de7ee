//! One run from one seed, and many.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use alluvium_core::invariant::Invariant;

use crate::cluster::{Cluster, Twist};
use crate::coverage::{Coverage, Event};
use crate::mutant::Mutant;
use crate::plan::SECOND;
use crate::violation::Violation;
use crate::world::World;

/// How long a cluster without faults may take until everything is acknowledged and equal: twenty
/// election timeouts, and a producer's patience on top.
const CONVERGES_WITHIN: u64 = 45 * SECOND;

/// The same for a whole cluster: a node that was lost just before has to count as dead, be replaced
/// and be emptied, and groups move two at a time, one to each node.
const CLUSTER_RESTS_WITHIN: u64 = 120 * SECOND;

/// Steps a run may take: far more than any takes. Reaching it means that it runs in a circle.
const STEPS_MAX: u64 = 20_000_000;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Which promise was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened, counted.
    pub coverage: Coverage,
    /// Simulated microseconds.
    pub simulated: u64,
    /// Events in the log at the end.
    pub event_count: u64,
    /// Hash and number of the trace's lines.
    pub digest: (u64, u64),
    /// The last lines of the trace, or all of them.
    pub lines: Vec<String>,
}

/// Which lines of the trace to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All.
    All,
    /// The last few hundred.
    Last,
}

/// What is simulated, and how it is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// One group that moves.
    Group(Option<Mutant>),
    /// A whole cluster.
    Cluster(Option<Twist>),
}

impl Scene {
    /// What is to happen in it now and then.
    #[must_use]
    pub fn expected(self) -> &'static [Event] {
        match self {
            Scene::Group(_) => &Event::OF_GROUP,
            Scene::Cluster(_) => &Event::OF_CLUSTER,
        }
    }

    /// As options of the command line: nothing for a group without a mutant.
    #[must_use]
    pub fn options(self) -> String {
        match self {
            Scene::Group(None) => String::new(),
            Scene::Group(Some(mutant)) => format!(" --mutant {}", mutant.name()),
            Scene::Cluster(None) => String::from(" --cluster"),
            Scene::Cluster(Some(twist)) => format!(" --cluster --mutant {}", twist.name()),
        }
    }
}

/// A world that time goes by in.
trait Simulated {
    fn step(&mut self) -> Result<(), Violation>;
    /// The time, once the faults are over.
    fn calm_at(&self) -> (u64, bool);
    /// What is not done yet; none when all is at rest.
    fn unrest(&self) -> Option<String>;
    /// How long it may take from the end of the faults until all is at rest.
    fn rest_within(&self) -> u64;
    fn report(self, seed: u64, violation: Option<Violation>) -> Report;
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, scene: Scene, keep: Keep) -> Report {
    let keep_all = keep == Keep::All;
    match scene {
        Scene::Group(mutant) => simulate(seed, scene, || World::new(seed, mutant, keep_all)),
        Scene::Cluster(twist) => simulate(seed, scene, || Cluster::new(seed, twist, keep_all)),
    }
}

fn simulate<S: Simulated>(
    seed: u64,
    scene: Scene,
    begin: impl FnOnce() -> Result<S, Violation>,
) -> Report {
    let mut world = match guard(begin) {
        Ok(world) => world,
        Err(violation) => return Report::failed_to_start(seed, scene, violation),
    };
    let violation = guard(|| live(&mut world)).err();
    world.report(seed, violation)
}

impl Report {
    fn failed_to_start(seed: u64, scene: Scene, violation: Violation) -> Report {
        Report {
            seed,
            violation: Some(violation),
            coverage: Coverage::new(scene.expected()),
            simulated: 0,
            event_count: 0,
            digest: (0, 0),
            lines: Vec::new(),
        }
    }
}

impl Simulated for World {
    fn step(&mut self) -> Result<(), Violation> {
        World::step(self)
    }

    fn calm_at(&self) -> (u64, bool) {
        (self.now, self.calm)
    }

    fn unrest(&self) -> Option<String> {
        (!self.settled()).then(|| unsettled(self))
    }

    fn rest_within(&self) -> u64 {
        CONVERGES_WITHIN
    }

    fn report(self, seed: u64, violation: Option<Violation>) -> Report {
        Report {
            seed,
            violation,
            coverage: self.coverage.clone(),
            simulated: self.now,
            event_count: self.oracle.event_count(),
            digest: self.trace.digest(),
            lines: self.trace.into_lines(),
        }
    }
}

impl Simulated for Cluster {
    fn step(&mut self) -> Result<(), Violation> {
        Cluster::step(self)
    }

    fn calm_at(&self) -> (u64, bool) {
        (self.now, self.calm)
    }

    fn unrest(&self) -> Option<String> {
        Cluster::unrest(self)
    }

    fn rest_within(&self) -> u64 {
        CLUSTER_RESTS_WITHIN
    }

    fn report(self, seed: u64, violation: Option<Violation>) -> Report {
        Report {
            seed,
            violation,
            simulated: self.now,
            event_count: self.groups.values().map(|group| group.oracle.event_count()).sum(),
            digest: self.trace.digest(),
            lines: self.trace.into_lines(),
            coverage: self.coverage,
        }
    }
}

/// Runs until the faults are over and everything has come to rest.
fn live(world: &mut impl Simulated) -> Result<(), Violation> {
    let mut steps = 0;
    let mut deadline = u64::MAX;
    loop {
        world.step()?;
        steps += 1;
        let (now, calm) = world.calm_at();
        if calm && deadline == u64::MAX {
            deadline = now + world.rest_within();
        }
        let over = deadline < now || STEPS_MAX < steps;
        // Whether everything is settled takes a look at everybody: not after every single step.
        if calm && steps % 64 == 0 || over {
            match world.unrest() {
                None => return Ok(()),
                Some(unrest) if over => {
                    let seen = format!("without faults the cluster did not come to rest: {unrest}");
                    return Err(Violation::new(Invariant::Converges, seen));
                }
                Some(_) => {}
            }
        }
    }
}

fn unsettled(world: &World) -> String {
    let mut seen = String::new();
    for node in &world.nodes {
        let status = node.replica.as_ref().map(|replica| replica.status());
        seen += &format!("\n  {} {status:?} {} callers wait", node.id, node.requests.len());
    }
    for producer in &world.producers {
        let unacked: Vec<u64> = producer.unacked.iter().map(|batch| batch.sequence).collect();
        seen += &format!("\n  producer {} {:?} waits for {unacked:?}", producer.id, producer.life);
    }
    seen
}

thread_local! {
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic of the code under test into a violation, and keeps it from being printed.
fn guard<T>(work: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SIMULATING.get() {
                usual(info);
            }
        }));
    });
    SIMULATING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    SIMULATING.set(false);
    result.unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::panic(text.unwrap_or_else(|| String::from("no message"))))
    })
}
