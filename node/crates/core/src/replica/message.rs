//! What replicas of a group say to each other, and its bytes.
//!
//! Version 1, little-endian, no padding:
//!
//! ```text
//! u8 version (1) | u8 kind | u8 flags (1 = reject, 2 = has checkpoint)
//! u64 term | u64 log_term | u64 index | u64 commit | u64 commit_term | u64 reject_hint
//! u32 context bytes | context
//! u32 entry count | for each: u8 kind | u64 index | u64 term | u32 context bytes | u32 data bytes
//!                             | context | data
//! with a checkpoint: u64 index | u64 term | u32 voter count | u64 for each
//!                    u32 learner count | u64 for each
//! ```
//!
//! A checkpoint travels without its state, which the follower fetches.
//!
//! Reading never panics and never copies an entry's data: it becomes a slice of the envelope.
//! Sender, receiver and group travel in the envelope, not here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::entry::{Checkpoint, EntryKind, LogEntry, LogPosition};
use super::members::Members;
use crate::ids::{Index, NodeId, Term};

const VERSION: u8 = 1;
const FLAG_REJECT: u8 = 1;
const FLAG_CHECKPOINT: u8 = 2;
const HEADER_BYTES: usize = 3 + 6 * 8;
const ENTRY_HEADER_BYTES: usize = 1 + 8 + 8 + 4 + 4;

/// The kinds of messages that go between nodes. Requests for proposals and reads do not: those are
/// answered with the owner's name instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    Append = 1,
    AppendAnswer = 2,
    Vote = 3,
    VoteAnswer = 4,
    PreVote = 5,
    PreVoteAnswer = 6,
    Heartbeat = 7,
    HeartbeatAnswer = 8,
    Checkpoint = 9,
    TimeoutNow = 10,
}

impl MessageKind {
    fn from_code(code: u8) -> Option<MessageKind> {
        let kind = match code {
            1 => MessageKind::Append,
            2 => MessageKind::AppendAnswer,
            3 => MessageKind::Vote,
            4 => MessageKind::VoteAnswer,
            5 => MessageKind::PreVote,
            6 => MessageKind::PreVoteAnswer,
            7 => MessageKind::Heartbeat,
            8 => MessageKind::HeartbeatAnswer,
            9 => MessageKind::Checkpoint,
            10 => MessageKind::TimeoutNow,
            _ => return None,
        };
        Some(kind)
    }
}

/// A message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerMessage {
    pub kind: MessageKind,
    pub term: Term,
    pub log_term: Term,
    pub index: Index,
    pub commit: Index,
    pub commit_term: Term,
    pub reject: bool,
    pub reject_hint: Index,
    pub context: Bytes,
    pub entries: Vec<LogEntry>,
    pub checkpoint: Option<Checkpoint>,
}

/// The bytes of an envelope are not a message this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message from {from} not understood: {reason}")]
pub struct InvalidMessage {
    /// Who sent it.
    pub from: NodeId,
    /// What was found.
    pub reason: &'static str,
}

impl PeerMessage {
    /// A message that says nothing beside its kind and term.
    pub(super) fn new(kind: MessageKind, term: Term) -> PeerMessage {
        PeerMessage {
            kind,
            term,
            log_term: Term(0),
            index: Index(0),
            commit: Index(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: Index(0),
            context: Bytes::new(),
            entries: Vec::new(),
            checkpoint: None,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        let reject = if self.reject { FLAG_REJECT } else { 0 };
        let checkpoint = if self.checkpoint.is_some() { FLAG_CHECKPOINT } else { 0 };
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(reject | checkpoint);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.log_term.0);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.commit.0);
        out.put_u64_le(self.commit_term.0);
        out.put_u64_le(self.reject_hint.0);
        put_length(&mut out, self.context.len());
        out.put_slice(&self.context);
        put_length(&mut out, self.entries.len());
        for entry in &self.entries {
            out.put_u8(kind_code(entry.kind));
            out.put_u64_le(entry.index.0);
            out.put_u64_le(entry.term.0);
            put_length(&mut out, entry.context.len());
            put_length(&mut out, entry.data.len());
            out.put_slice(&entry.context);
            out.put_slice(&entry.data);
        }
        if let Some(checkpoint) = &self.checkpoint {
            out.put_u64_le(checkpoint.position.index.0);
            out.put_u64_le(checkpoint.position.term.0);
            put_nodes(&mut out, &checkpoint.members.voters);
            put_nodes(&mut out, &checkpoint.members.learners);
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<PeerMessage, &'static str> {
        let mut input = Reader { rest: bytes.clone() };
        if input.u8()? != VERSION {
            return Err("unknown version");
        }
        let kind = MessageKind::from_code(input.u8()?).ok_or("unknown kind")?;
        let flags = input.u8()?;
        if flags & !(FLAG_REJECT | FLAG_CHECKPOINT) != 0 {
            return Err("unknown flag");
        }
        let mut message = PeerMessage::new(kind, Term(input.u64()?));
        message.log_term = Term(input.u64()?);
        message.index = Index(input.u64()?);
        message.commit = Index(input.u64()?);
        message.commit_term = Term(input.u64()?);
        message.reject = flags & FLAG_REJECT != 0;
        message.reject_hint = Index(input.u64()?);
        let context_bytes = input.length()?;
        message.context = input.bytes(context_bytes)?;
        message.entries = input.entries(message.index)?;
        if flags & FLAG_CHECKPOINT != 0 {
            message.checkpoint = Some(input.checkpoint()?);
        }
        if !input.rest.is_empty() {
            return Err("bytes after the end");
        }
        // To Raft's code a message without a term is one from its own node.
        if message.term == Term(0) {
            return Err("no term");
        }
        if (kind == MessageKind::Checkpoint) != message.checkpoint.is_some() {
            return Err("checkpoint does not fit the kind");
        }
        Ok(message)
    }

    fn encoded_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(entry_bytes).sum();
        let checkpoint = self.checkpoint.as_ref().map_or(0, checkpoint_bytes);
        HEADER_BYTES + 8 + self.context.len() + entries + checkpoint
    }
}

fn checkpoint_bytes(checkpoint: &Checkpoint) -> usize {
    let Members { voters, learners } = &checkpoint.members;
    24 + 8 * (voters.len() + learners.len())
}

fn put_nodes(out: &mut BytesMut, nodes: &[NodeId]) {
    put_length(out, nodes.len());
    for node in nodes {
        out.put_u64_le(node.0);
    }
}

fn entry_bytes(entry: &LogEntry) -> usize {
    ENTRY_HEADER_BYTES + entry.context.len() + entry.data.len()
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32_le(u32::try_from(length).expect("limits keep messages far below 4 GiB"));
}

fn kind_code(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

fn kind_from_code(code: u8) -> Result<EntryKind, &'static str> {
    match code {
        0 => Ok(EntryKind::Normal),
        1 => Ok(EntryKind::ConfChange),
        2 => Ok(EntryKind::ConfChangeV2),
        _ => Err("unknown entry kind"),
    }
}

/// Takes values off the front, and says so when there are too few bytes.
struct Reader {
    rest: Bytes,
}

impl Reader {
    const SHORT: &'static str = "too short";

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.rest.try_get_u8().map_err(|_| Self::SHORT)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.rest.try_get_u64_le().map_err(|_| Self::SHORT)
    }

    fn length(&mut self) -> Result<usize, &'static str> {
        self.rest.try_get_u32_le().map(|length| length as usize).map_err(|_| Self::SHORT)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if self.rest.len() < length {
            return Err(Self::SHORT);
        }
        Ok(self.rest.split_to(length))
    }

    /// Entries follow each other from `before` on: Raft's own code relies on it.
    fn entries(&mut self, before: Index) -> Result<Vec<LogEntry>, &'static str> {
        let count = self.length()?;
        if self.rest.len() / ENTRY_HEADER_BYTES < count {
            return Err(Self::SHORT);
        }
        let mut entries = Vec::with_capacity(count);
        let mut last = before.0;
        for _ in 0..count {
            let kind = kind_from_code(self.u8()?)?;
            let index = self.u64()?;
            let term = Term(self.u64()?);
            if last.checked_add(1) != Some(index) {
                return Err("entries do not follow each other");
            }
            last = index;
            let context_bytes = self.length()?;
            let data_bytes = self.length()?;
            let context = self.bytes(context_bytes)?;
            let data = self.bytes(data_bytes)?;
            entries.push(LogEntry { index: Index(index), term, kind, context, data });
        }
        Ok(entries)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, &'static str> {
        let position = LogPosition { index: Index(self.u64()?), term: Term(self.u64()?) };
        let members = Members { voters: self.nodes()?, learners: self.nodes()? };
        Ok(Checkpoint { position, members, state: Bytes::new() })
    }

    fn nodes(&mut self) -> Result<Vec<NodeId>, &'static str> {
        let count = self.length()?;
        if self.rest.len() / 8 < count {
            return Err(Self::SHORT);
        }
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(NodeId(self.u64()?));
        }
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, proptest};
    use proptest::{collection, option};

    fn entry(index: u64) -> impl Strategy<Value = LogEntry> {
        let bytes = collection::vec(any::<u8>(), 0..40);
        (0u8..3, any::<u64>(), bytes.clone(), bytes).prop_map(move |(kind, term, context, data)| {
            LogEntry {
                index: Index(index),
                term: Term(term),
                kind: kind_from_code(kind).expect("0 to 2 are kinds"),
                context: context.into(),
                data: data.into(),
            }
        })
    }

    fn checkpoint() -> impl Strategy<Value = Checkpoint> {
        let nodes = || collection::vec(any::<u64>().prop_map(NodeId), 0..4);
        let members = (nodes(), nodes());
        (any::<u64>(), any::<u64>(), members).prop_map(|(index, term, (voters, learners))| {
            Checkpoint {
                position: LogPosition { index: Index(index), term: Term(term) },
                members: Members { voters, learners },
                state: Bytes::new(),
            }
        })
    }

    fn message() -> impl Strategy<Value = PeerMessage> {
        let entries =
            (0usize..4).prop_flat_map(|count| (8..8 + count as u64).map(entry).collect::<Vec<_>>());
        let numbers = any::<[u64; 5]>()
            .prop_map(|[term, rest @ ..]| [term.max(1), rest[0], rest[1], rest[2], rest[3]]);
        let context = collection::vec(any::<u8>(), 0..20);
        (1u8..=10, numbers, any::<bool>(), context, entries, option::of(checkpoint())).prop_map(
            |(kind, numbers, reject, context, entries, checkpoint)| {
                let kind = match checkpoint {
                    Some(_) => MessageKind::Checkpoint,
                    None if kind == 9 => MessageKind::Append,
                    None => MessageKind::from_code(kind).expect("1 to 10 are kinds"),
                };
                PeerMessage {
                    kind,
                    term: Term(numbers[0]),
                    log_term: Term(numbers[1]),
                    index: Index(7),
                    commit: Index(numbers[2]),
                    commit_term: Term(numbers[3]),
                    reject,
                    reject_hint: Index(numbers[4]),
                    context: context.into(),
                    entries,
                    checkpoint,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            let bytes = message.encode();
            assert_eq!(bytes.len(), message.encoded_bytes());
            assert_eq!(PeerMessage::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_cut_or_changed_message_never_panics(
            message in message(), cut in any::<usize>(), at in any::<usize>(), to in any::<u8>(),
        ) {
            let bytes = message.encode();
            let cut = cut % bytes.len();
            assert!(PeerMessage::decode(&bytes.slice(..cut)).is_err());
            let mut changed = bytes.to_vec();
            let at = at % changed.len();
            changed[at] = to;
            let _either = PeerMessage::decode(&changed.into());
        }

        #[test]
        fn garbage_is_refused(garbage in collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = vec![0xff];
            bytes.extend(garbage);
            assert!(PeerMessage::decode(&bytes.into()).is_err());
        }
    }

    #[test]
    fn data_is_not_copied() {
        let data = vec![7u8; 100_000];
        let entry = LogEntry {
            index: Index(8),
            term: Term(1),
            kind: EntryKind::Normal,
            context: Bytes::new(),
            data: data.into(),
        };
        let message = PeerMessage {
            log_term: Term(1),
            index: Index(7),
            entries: vec![entry],
            ..PeerMessage::new(MessageKind::Append, Term(1))
        };
        let bytes = message.encode();
        let read = PeerMessage::decode(&bytes).expect("just written");
        let inside = bytes.as_ptr_range();
        assert!(inside.contains(&read.entries[0].data.as_ptr()));
    }
}
