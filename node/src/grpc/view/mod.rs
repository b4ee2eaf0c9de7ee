//! Views without SQL: groups by their keys, and groups as they change.
//!
//! A view can be had so when its finishing part computes each row from one group, or leaves the
//! group out. Everything that a call needs is prepared once for each life of a view ([`groups`]);
//! the calls reach the node through a [`ViewDoor`].

mod door;
mod finality;
mod groups;
mod lookup;
mod subscribe;
#[cfg(test)]
mod tests;

pub use door::{DoorError, GroupsChanged, GroupsRead, ViewDoor, Wait};
pub use groups::{BadKeys, Finish, ReadKeys, ViewGroups, WrittenKeys};
pub use lookup::{LookedUp, Lookup, lookup};
pub use subscribe::{Begin, CHANGE, Parts, Subscribe, Subscribed, subscribe};
