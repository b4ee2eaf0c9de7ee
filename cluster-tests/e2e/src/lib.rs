//! Drives real `alluvium` processes from outside: starts, kills and restarts them, loads them over
//! gRPC, and audits what they answer.
//!
//! Knows the wire and nothing of the node's insides: what it proves holds for the program a user
//! runs. It is not the simulator (`cluster-tests/sim`), which explores orders of events that real
//! time seldom produces.
//!
//! In reading order: [`node`] is a process, [`client`] speaks to it, [`rows`] says what the audited
//! events look like, [`ledger`] remembers what was sent and acknowledged, [`load`] sends, [`audit`]
//! compares, [`chaos`] puts these together under SIGKILL. [`views`] compares views with the stream
//! they fold, [`chaos_views`] does so under SIGKILL, [`late`] sends events out of order.
//! [`cluster`] is several processes that can be cut off from each other, [`history`] decides
//! whether what their clients saw is linearizable, [`chaos_cluster`] puts these together.
//! [`small_disk`] is a disk to fill up, [`slow_disk`] one that takes its time, [`false_clock`] a
//! clock that can be set. [`events`] and [`measure`] serve the benchmarks.

pub mod audit;
pub mod chaos;
pub mod chaos_cluster;
pub mod chaos_views;
pub mod client;
pub mod cluster;
pub mod events;
pub mod false_clock;
pub mod history;
pub mod late;
pub mod ledger;
pub mod load;
pub mod measure;
pub mod node;
pub mod rows;
pub mod slow_disk;
pub mod small_disk;
pub mod views;
