//! The catalogue, the members and the placement: the state machine of the meta group (group 0).
//!
//! It knows which streams and views exist, which Raft group each partition is, which producers
//! were opened, which nodes form the cluster, and which of them hold and own what. It gives out ids
//! and never gives one out twice, also not after what it named is gone. It starts and stops
//! nothing: the shell compares what it runs with what stands here.
//!
//! [`command`] is what the log holds, [`catalogue`] applies it (`views` what concerns views,
//! [`members`] nodes, [`placement`] replicas), [`outcome`] is what that did, [`names`] says what a
//! name may be, [`definition`], [`view_form`] and [`member_form`] are the stored forms of streams,
//! views and members, [`access`] says who may touch what, `checkpoint` is the stored form of all.
//! [`locality`] says how far from each other nodes stand, [`plan`](mod@plan) what is to be moved
//! next.

pub mod access;
pub mod catalogue;
mod checkpoint;
pub mod command;
pub mod definition;
pub mod locality;
pub mod member_form;
pub mod members;
pub mod names;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod view_form;
mod views;

pub use catalogue::Meta;
pub use command::MetaCommand;
pub use member_form::{InvalidMember, check_locality, check_member};
pub use members::{Addresses, FIRST_NODE, Locality, Member, MemberState};
pub use names::{InvalidName, check_member_name, check_name, check_producer_name, check_role_name};
pub use outcome::{MetaOutcome, TableKind};
pub use placement::Placement;
pub use plan::{NodeReport, plan};
pub use view_form::{InvalidView, check_view};
