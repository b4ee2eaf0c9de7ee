//! One run from one seed, and many.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use alluvium_core::invariant::Invariant;

use crate::coverage::Coverage;
use crate::mutant::Mutant;
use crate::plan::SECOND;
use crate::violation::Violation;
use crate::world::World;

/// How long a cluster without faults may take until everything is acknowledged and equal: twenty
/// election timeouts, and a producer's patience on top.
const CONVERGES_WITHIN: u64 = 45 * SECOND;

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

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>, keep: Keep) -> Report {
    let started = guard(|| World::new(seed, mutant, keep == Keep::All));
    let mut world = match started {
        Ok(world) => world,
        Err(violation) => return Report::failed_to_start(seed, violation),
    };
    let violation = guard(|| live(&mut world)).err();
    Report {
        seed,
        violation,
        coverage: world.coverage.clone(),
        simulated: world.now,
        event_count: world.oracle.event_count(),
        digest: world.trace.digest(),
        lines: world.trace.into_lines(),
    }
}

impl Report {
    fn failed_to_start(seed: u64, violation: Violation) -> Report {
        Report {
            seed,
            violation: Some(violation),
            coverage: Coverage::default(),
            simulated: 0,
            event_count: 0,
            digest: (0, 0),
            lines: Vec::new(),
        }
    }
}

/// Runs until the faults are over and the cluster has converged.
fn live(world: &mut World) -> Result<(), Violation> {
    let mut steps = 0;
    let mut deadline = u64::MAX;
    loop {
        world.step()?;
        steps += 1;
        if world.calm && deadline == u64::MAX {
            deadline = world.now + CONVERGES_WITHIN;
        }
        // Whether everything is settled takes a look at everybody: not after every single step.
        if world.calm && steps % 64 == 0 && world.settled() {
            return Ok(());
        }
        if deadline < world.now || STEPS_MAX < steps {
            return Err(Violation::new(Invariant::Converges, unsettled(world)));
        }
    }
}

fn unsettled(world: &World) -> String {
    let mut seen = String::from("without faults the cluster did not come to rest:");
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
