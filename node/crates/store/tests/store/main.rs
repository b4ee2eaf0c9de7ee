//! The store against a real disk: restarts, crashes between two steps, merging, retention, damage,
//! snapshots from node to node, and what views keep.

mod crash;
mod damage;
mod events;
mod installing;
mod merging;
mod model;
mod restart;
mod rig;
mod snapshots;
mod transfer;
mod views;
