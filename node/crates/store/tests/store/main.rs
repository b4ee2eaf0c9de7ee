//! The store against a real disk: restarts, crashes between two steps, merging, retention, damage,
//! and what views keep.

mod crash;
mod damage;
mod events;
mod merging;
mod model;
mod restart;
mod rig;
mod views;
