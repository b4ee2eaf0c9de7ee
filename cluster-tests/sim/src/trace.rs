//! What happened, line by line. A hash of all lines tells whether two runs were the same; the last
//! ones are kept for whoever has to understand a failure.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use crate::hash::Hash;

/// Lines kept when not all are asked for: enough to see what led to a failure.
const KEPT_MAX: usize = 400;

/// The lines of a run.
pub struct Trace {
    kept: VecDeque<String>,
    keep_all: bool,
    hash: Hash,
    line: String,
    lines: u64,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(keep_all: bool) -> Trace {
        Trace {
            kept: VecDeque::new(),
            keep_all,
            hash: Hash::default(),
            line: String::new(),
            lines: 0,
        }
    }

    /// Adds a line.
    pub fn line(&mut self, at: u64, text: fmt::Arguments<'_>) {
        self.line.clear();
        write!(self.line, "{:>11.6} {text}", at as f64 / 1e6).expect("writing to memory");
        self.hash.add(self.line.as_bytes());
        self.lines += 1;
        let reused = if !self.keep_all && self.kept.len() == KEPT_MAX {
            self.kept.pop_front()
        } else {
            None
        };
        let kept = std::mem::replace(&mut self.line, reused.unwrap_or_default());
        self.kept.push_back(kept);
    }

    /// A hash of all lines, and their number.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        (self.hash.value(), self.lines)
    }

    /// The lines kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.kept.into()
    }
}
