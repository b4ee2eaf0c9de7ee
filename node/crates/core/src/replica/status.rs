//! What can be seen of a replica from outside.

use super::effects::Role;
use super::{Machine, Replica};
use crate::ids::{Index, NodeId, Term};

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of the term, when known.
    pub leader: Option<NodeId>,
    /// Highest index known to be agreed.
    pub commit: Index,
    /// Highest index executed.
    pub applied: Index,
    /// Last index of the log, durable or not.
    pub last_index: Index,
    /// First index still in the log in memory; one after `last_index` when that is empty.
    pub first_index: Index,
    /// Last index that a durable checkpoint contains.
    pub covered: Index,
    /// A change of members is on its way, or may be: another one would be refused. Only a leader
    /// knows.
    pub changing: bool,
    /// Size of the log after `covered`, which is what another checkpoint would free at most.
    pub log_bytes: u64,
}

/// How far a member is, as far as the leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The member, voter or learner; the leader itself too.
    pub node: NodeId,
    /// Everything up to here is durable there.
    pub matched: Index,
    /// It was heard within the longest election timeout.
    pub active: bool,
}

impl<M: Machine> Replica<M> {
    /// Whether a read is answered by what is applied here, with nobody to be asked: this node
    /// leads, decides alone, and has executed everything agreed. What is acknowledged from now on
    /// is applied here first, for as long as this holds.
    #[must_use]
    pub fn answers_alone(&self) -> bool {
        self.stopped.is_none()
            && self.consensus.may_read()
            && self.consensus.alone()
            && self.applied.index == self.consensus.commit()
    }
}
