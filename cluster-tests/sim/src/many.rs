//! Many seeds on all cores. Each seed is a run of its own, so which core takes it changes nothing.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::coverage::Coverage;
use crate::run::{Keep, Report, Scene, run};

/// What came of many runs.
#[derive(Debug)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Those that broke a promise, in order.
    pub failed: Vec<u64>,
    /// What happened in all of them.
    pub coverage: Coverage,
    /// Simulated microseconds.
    pub simulated: u64,
    /// Events in the logs at the end.
    pub event_count: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Runs seeds. `failure` is told of each run that broke a promise, as soon as that is known.
///
/// # Panics
/// When a core's thread does, which is a mistake of the simulator.
pub fn run_many(seeds: Range<u64>, scene: Scene, mut failure: impl FnMut(&Report)) -> Summary {
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (done, reports) = mpsc::sync_channel::<Report>(threads);
    let mut summary = Summary {
        seeds: seeds.end - seeds.start,
        failed: Vec::new(),
        coverage: Coverage::new(scene.expected()),
        simulated: 0,
        event_count: 0,
        seconds: 0.0,
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = seeds.end <= seed;
                    if over || done.send(run(seed, scene, Keep::Last)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for report in reports {
            summary.coverage.merge(&report.coverage);
            summary.simulated += report.simulated;
            summary.event_count += report.event_count;
            if report.violation.is_some() {
                failure(&report);
                summary.failed.push(report.seed);
            }
        }
    });
    summary.failed.sort_unstable();
    summary.seconds = started.elapsed().as_secs_f64();
    summary
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated as f64 / 3.6e9;
        let (seeds, failed, seconds) = (self.seeds, self.failed.len(), self.seconds);
        write!(
            f,
            "{seeds} seeds, {failed} failed, {hours:.2} simulated hours in {seconds:.1} s, \
             {:.1} seeds/s, {} events; {}",
            seeds as f64 / seconds,
            self.event_count,
            self.coverage,
        )
    }
}
