//! Where the time of a round goes.

use std::fmt;
use std::time::{Duration, Instant};

/// The parts of a round, in their order.
pub const PHASES: [&str; 6] = ["owners", "load", "fault", "healing", "ending", "checks"];

/// How long each part of one round, or of many, took.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    taken: [Duration; PHASES.len()],
    done: usize,
    since: Instant,
}

impl Phases {
    /// The first part begins.
    pub fn begin() -> Phases {
        Phases { taken: [Duration::ZERO; PHASES.len()], done: 0, since: Instant::now() }
    }

    /// A part ends and the next begins.
    pub fn next(&mut self) {
        let now = Instant::now();
        self.taken[self.done] = now - self.since;
        (self.done, self.since) = (self.done + 1, now);
    }

    /// Adds those of another round.
    pub fn add(&mut self, other: &Phases) {
        for (sum, taken) in self.taken.iter_mut().zip(other.taken) {
            *sum += taken;
        }
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, taken)) in PHASES.iter().zip(self.taken).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {:.1}", taken.as_secs_f64())?;
        }
        Ok(())
    }
}
