//! A target of fuzzing: what replicas say to each other.

use bytes::Bytes;
use cluster_fuzz::Target;

use super::entry::{Checkpoint, EntryKind, LogEntry, LogPosition};
use super::members::Members;
use super::message::{MessageKind, PeerMessage};
use crate::ids::{Index, NodeId, Term};

fn messages() -> Vec<PeerMessage> {
    let entry = |index| LogEntry {
        index: Index(index),
        term: Term(2),
        kind: EntryKind::Normal,
        context: Bytes::from_static(b"c"),
        data: Bytes::from_static(b"data"),
    };
    let members = Members { voters: vec![NodeId(1), NodeId(2)], learners: vec![NodeId(3)] };
    let position = LogPosition { index: Index(9), term: Term(2) };
    vec![
        PeerMessage {
            index: Index(7),
            log_term: Term(2),
            commit: Index(7),
            entries: vec![entry(8), entry(9)],
            ..PeerMessage::new(MessageKind::Append, Term(3))
        },
        PeerMessage {
            reject: true,
            reject_hint: Index(4),
            ..PeerMessage::new(MessageKind::AppendAnswer, Term(3))
        },
        PeerMessage {
            context: Bytes::from_static(b"read"),
            ..PeerMessage::new(MessageKind::Heartbeat, Term(3))
        },
        PeerMessage {
            checkpoint: Some(Checkpoint { position, members, state: Bytes::new() }),
            ..PeerMessage::new(MessageKind::Checkpoint, Term(3))
        },
    ]
}

#[test]
fn peer_message() {
    let seeds = messages().iter().map(|message| message.encode().to_vec()).collect();
    Target::new("peer_message", env!("CARGO_MANIFEST_DIR")).run(seeds, |input| {
        let Ok(message) = PeerMessage::decode(&Bytes::copy_from_slice(input)) else { return };
        let written = message.encode();
        assert_eq!(written, input, "there is one way to write a message");
        assert_eq!(PeerMessage::decode(&written), Ok(message));
    });
}
