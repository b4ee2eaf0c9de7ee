//! The faults of a cluster.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What happens to a cluster in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// kill -9 of a partition's owner.
    KillOwner,
    /// kill -9 of all nodes, one after the other.
    KillAll,
    /// The owner stands still, longer than an election takes.
    PauseOwner,
    /// The owner is in the minority of two halves that cannot reach each other.
    Split,
    /// The owner hears nobody, or nobody hears it.
    OneWay,
    /// Clients reach the owner, other nodes do not.
    IsolateOwner,
}

/// All of them.
pub const FAULTS: [Fault; 6] = [
    Fault::KillOwner,
    Fault::KillAll,
    Fault::PauseOwner,
    Fault::Split,
    Fault::OneWay,
    Fault::IsolateOwner,
];

impl Fault {
    /// Whether it needs links that can be cut.
    pub fn cuts_links(self) -> bool {
        match self {
            Fault::KillOwner | Fault::KillAll | Fault::PauseOwner => false,
            Fault::Split | Fault::OneWay | Fault::IsolateOwner => true,
        }
    }

    /// How long it goes on: once others have taken over, if they can, else from its begin. Those
    /// who took over have been elected, so even nothing is longer than an election takes.
    pub fn length(self, is_taken_over: bool) -> Range<Duration> {
        let millis = |start, end| Duration::from_millis(start)..Duration::from_millis(end);
        match self {
            Fault::KillAll => millis(0, 500),
            Fault::KillOwner
            | Fault::PauseOwner
            | Fault::Split
            | Fault::OneWay
            | Fault::IsolateOwner => match is_taken_over {
                true => millis(0, 1_000),
                false => millis(2_000, 5_000),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fault::KillOwner => "kill-owner",
            Fault::KillAll => "kill-all",
            Fault::PauseOwner => "pause-owner",
            Fault::Split => "split",
            Fault::OneWay => "one-way",
            Fault::IsolateOwner => "isolate-owner",
        })
    }
}
