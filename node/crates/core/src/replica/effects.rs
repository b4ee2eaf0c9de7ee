//! What a replica asks of the shell, with the order in the types.
//!
//! Nothing in [`Held`] can be reached before the [`Writes`] of the same step were turned into
//! [`Durable`], which the store does after fsync.

use super::entry::{Checkpoint, Envelope, HardState, LogEntry, LogPosition};
use super::input::Persisted;
use super::machine::CorruptCommand;
use super::message::InvalidMessage;
use crate::ids::{GroupId, Index, NodeId, RequestId, Term};
use crate::invariant::{Invariant, hold};

/// What one step asks for.
#[must_use]
#[derive(Debug)]
pub struct Effects<O> {
    /// To be sent at once: their promise does not depend on this step's writes.
    pub sends: Vec<Envelope>,
    /// To be made durable, in the order of the steps.
    pub writes: Option<Writes>,
    /// To be sent when `writes` are durable; empty without `writes`.
    pub held: Held,
    /// Commands agreed and executed, in log order.
    pub applied: Vec<Applied<O>>,
    /// Answers to requests other than through `applied`.
    pub replies: Vec<Reply>,
    /// The role, term or known leader is another than before the step.
    pub role_changed: Option<RoleChange>,
    /// The machine was replaced by a checkpoint of the leader, which is durable by now. Whatever
    /// the shell derived from the former machine is void.
    pub installed: Option<LogPosition>,
    /// A checkpoint of the leader is needed here: to be fetched from the node named, staged, and
    /// handed over as [`super::Input::Fetched`]. A fetch that is under way is given up for this
    /// one: it was for a former leader.
    pub fetch: Option<Fetch>,
    /// A follower is behind the log: a checkpoint is to be taken now, made durable and handed over
    /// as [`super::Input::OfferCheckpoint`], while members change the one that is stored. Said
    /// again after a while when nothing was offered.
    pub checkpoint_wanted: bool,
    /// Messages that were not understood and had no effect.
    pub refused: Vec<InvalidMessage>,
    /// The replica cannot go on: it answers every request with a refusal from now on.
    pub stopped: Option<Stopped>,
}

impl<O> Default for Effects<O> {
    fn default() -> Effects<O> {
        Effects {
            sends: Vec::new(),
            writes: None,
            held: Held::default(),
            applied: Vec::new(),
            replies: Vec::new(),
            role_changed: None,
            installed: None,
            fetch: None,
            checkpoint_wanted: false,
            refused: Vec::new(),
            stopped: None,
        }
    }
}

/// A checkpoint to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Who has it.
    pub from: NodeId,
    /// It reaches this position at least; a later one is as good.
    pub position: LogPosition,
}

/// Writes of one step. Writes of a group become durable in the order they were asked for.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Writes {
    /// The group they belong to.
    pub group: GroupId,
    /// Number of the step; grows within the life of a replica.
    pub step: u64,
    /// Replaces everything stored for the group: state, log and position. Written first.
    pub install: Option<Checkpoint>,
    /// Replaces the stored one.
    pub hard_state: Option<HardState>,
    /// Whatever is stored at or after the index of the first of these is replaced.
    pub entries: Vec<LogEntry>,
    /// A later crash must not undo these writes. Always true today; writes that may be lost are
    /// not asked for.
    pub must_sync: bool,
}

impl Writes {
    /// Declares the writes durable. For the store, after fsync.
    #[must_use]
    pub fn into_durable(self) -> Durable {
        Durable { group: self.group, step: self.step }
    }

    /// Bytes of the entries and of the checkpoint.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let install = self.install.as_ref().map_or(0, |install| install.state.len() as u64);
        install + self.entries.iter().map(LogEntry::size_bytes).sum::<u64>()
    }
}

/// Proof that the writes of one step survived fsync. Releases once.
#[derive(Debug)]
pub struct Durable {
    group: GroupId,
    step: u64,
}

/// What must not be seen outside before the writes of its step are durable.
#[derive(Debug, Default)]
pub struct Held {
    pub(super) group: GroupId,
    pub(super) step: u64,
    pub(super) envelopes: Vec<Envelope>,
}

impl Held {
    /// The envelopes to send, and the word to hand to the replica. Hand it over no later than the
    /// envelopes go out.
    ///
    /// # Panics
    /// When the proof is of other writes.
    #[must_use]
    pub fn release(self, proof: Durable) -> (Vec<Envelope>, Persisted) {
        let same = self.group == proof.group && self.step == proof.step;
        hold(Invariant::ProofMatchesWrites, same);
        (self.envelopes, Persisted { group: self.group, step: self.step })
    }

    /// How many envelopes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.envelopes.len()
    }

    /// Whether no envelope waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }
}

/// One command executed on this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<O> {
    /// Index of its entry.
    pub index: Index,
    /// Term of its entry.
    pub term: Term,
    /// Who waits for it, when it was proposed here.
    pub request: Option<RequestId>,
    /// What the machine said.
    pub outcome: O,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not done; another node may be the owner.
    NotOwner {
        /// Who asked.
        request: RequestId,
        /// The owner, when known.
        owner: Option<NodeId>,
    },
    /// Not done; try again later.
    Busy {
        /// Who asked.
        request: RequestId,
    },
    /// The term changed before the command was agreed: it may or may not be done. Try again with
    /// the same sequence.
    Lost {
        /// Who asked.
        request: RequestId,
    },
    /// Everything acknowledged before the request is applied here.
    ReadReady {
        /// Who asked.
        request: RequestId,
        /// The index that was waited for.
        index: Index,
    },
    /// The change of members is agreed.
    MembersChanged {
        /// Who asked.
        request: RequestId,
    },
}

impl Reply {
    /// Who asked.
    #[must_use]
    pub fn request(&self) -> RequestId {
        match self {
            Reply::NotOwner { request, .. }
            | Reply::Busy { request }
            | Reply::Lost { request }
            | Reply::ReadReady { request, .. }
            | Reply::MembersChanged { request } => *request,
        }
    }
}

/// What a replica is to its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads: its node is the owner.
    Leader,
}

/// The role of a replica after a step that changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of that term, when known.
    pub leader: Option<NodeId>,
}

/// Why a replica cannot go on. Trying again does not help; a person must look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// An agreed entry is not a command.
    #[error("entry {index} of the log is corrupt")]
    CorruptEntry {
        /// Where.
        index: Index,
        /// What was found.
        source: CorruptCommand,
    },
    /// A checkpoint sent by the leader is not a checkpoint.
    #[error("the checkpoint at {index} is corrupt")]
    CorruptCheckpoint {
        /// Where.
        index: Index,
        /// What was found.
        source: super::machine::CorruptCheckpoint,
    },
}
