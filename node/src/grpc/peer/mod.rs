//! Node to node: the peer port and its other side.
//!
//! [`service`] answers other nodes, [`calls`] asks them, [`link`] carries Raft's messages. Only
//! [`convert`] knows both the wire's forms and ours.

mod calls;
mod convert;
mod link;
mod scan;
mod service;
mod snapshots;
mod views;

pub use calls::{
    Answered, ChunkAnswers, PEER_MESSAGE_BYTES_MAX, PartAnswers, PartSender, PeerError, Peers,
};
pub(crate) use calls::{hello, join};
pub use convert::{Fetched, Greeting, Joining, Welcome};
pub use link::run_links;
pub use scan::RemoteRows;
pub use service::{PeerDoor, PeerService, Standing};
pub use snapshots::Snapshots;
pub use views::{RemoteAudit, RemoteView, ViewAsk, ViewQuestion};
