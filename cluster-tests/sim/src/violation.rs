//! A promise that did not hold in a run.

use std::fmt;

use alluvium_core::invariant::Invariant;

/// Which promise, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise; none when the code stopped by itself.
    pub invariant: Option<Invariant>,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// Of a promise of the oracle.
    #[must_use]
    pub fn new(invariant: Invariant, seen: String) -> Violation {
        Violation { invariant: Some(invariant), seen }
    }

    /// The code stopped by itself: an assertion of its own, or of a library.
    #[must_use]
    pub fn panic(seen: String) -> Violation {
        Violation { invariant: None, seen }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invariant {
            Some(invariant) => write!(f, "{invariant}: {}", self.seen),
            None => write!(f, "stopped: {}", self.seen),
        }
    }
}

/// Checks a promise; what was seen is only put into words when it is broken.
///
/// # Errors
/// When it does not hold.
pub fn ensure(
    invariant: Invariant,
    holds: bool,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, seen())) }
}
