//! The store against a real disk: restarts, crashes between two steps, merging, retention, damage.

mod crash;
mod damage;
mod merging;
mod model;
mod restart;
mod rig;
