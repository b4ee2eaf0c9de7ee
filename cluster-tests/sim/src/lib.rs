//! One group that moves, or a whole cluster ([`cluster`]), on one thread, from one seed.
//!
//! Real replicas of a real partition, over a simulated network, simulated disks and a simulated
//! clock. A seed draws a plan (which faults, how often, how much load) and then everything that
//! happens, so a failure is replayed by its seed. What no single node can check is checked by an
//! oracle that sees everything, when it happens.
//!
//! Reading order: [`plan`] (what a seed draws), [`world`] (events in order), `shell` (what a node
//! does with its replica), `checkpoints`, [`disk`], [`load`], [`placement`] (how the group moves),
//! `faults`, `links`, [`oracle`] and [`quorum`] (the promises), [`mutant`] (being wrong on
//! purpose),
//! [`run`](mod@run).
//!
//! Not simulated: bytes on a real disk (the store's tests), real processes and sockets (the
//! end-to-end tests). A disk that lied about its syncs and lost its power is replaced: Raft cannot
//! bear a voter that forgets.

pub mod agenda;
pub mod chance;
mod checkpoints;
mod clients;
pub mod cluster;
pub mod coverage;
pub mod disk;
mod faults;
pub mod hash;
mod links;
pub mod load;
pub mod machine;
pub mod many;
pub mod mutant;
pub mod node;
pub mod oracle;
pub mod placement;
pub mod plan;
pub mod quorum;
pub mod run;
mod serve;
pub mod shapes;
mod shell;
pub mod trace;
mod twist;
pub mod violation;
pub mod world;

pub use cluster::Twist;
pub use coverage::Coverage;
pub use many::{Summary, run_many};
pub use mutant::Mutant;
pub use run::{Keep, Report, Scene, run};
