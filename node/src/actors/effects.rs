//! Carries out what a replica asks for: writes to the log writer, envelopes to the outbox.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alluvium_core::ids::{GroupId, NodeId, RequestId, Term};
use alluvium_core::replica::{
    Applied, Checkpoint, Envelope, Fetch, Goal, Input, LogPosition, Machine, Members, Persisted,
    Progress, Replica, Reply, Role, Status, Step, lets_go, next_step,
};
use alluvium_store::{LogWriter, SubmitError, WriteTask};

use crate::cluster::{Cluster, Outbox};

/// Tells the owning actor that its writes are durable.
pub type PersistedNotice = Box<dyn Fn(Persisted) + Send + Sync>;

/// A replica with its ways to the disk and to the other nodes.
pub struct ReplicaShell<M: Machine> {
    group: GroupId,
    replica: Replica<M>,
    writer: LogWriter,
    outbox: Arc<Outbox>,
    cluster: Arc<Cluster>,
    notice: Arc<PersistedNotice>,
    /// Writes for which the log writer had no room; bounded by the append budget.
    backlog: VecDeque<WriteTask>,
    /// See [`ReplicaShell::telling`].
    alone: Arc<AtomicBool>,
}

/// What a step led to, for the actor to act on.
#[derive(Debug)]
pub struct Stepped<O> {
    /// Commands applied, in log order.
    pub applied: Vec<Applied<O>>,
    /// Answers to requests that will not be applied, and to reads.
    pub replies: Vec<Reply>,
    /// This replica is behind its leader's log and needs what the log no longer has.
    pub fetch: Option<Fetch>,
    /// A follower needs a checkpoint to begin from.
    pub checkpoint_wanted: bool,
    /// A checkpoint of the leader has taken the place of everything before.
    pub installed: Option<LogPosition>,
}

impl<M: Machine> fmt::Debug for ReplicaShell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaShell")
            .field("status", &self.replica.status())
            .finish_non_exhaustive()
    }
}

/// What every replica of a node shares.
#[derive(Clone, Debug)]
pub struct Ways {
    /// To the disk.
    pub writer: LogWriter,
    /// To the other nodes.
    pub outbox: Arc<Outbox>,
    /// Told who leads.
    pub cluster: Arc<Cluster>,
}

impl<M: Machine> ReplicaShell<M> {
    /// Around a restored replica.
    pub fn new(
        group: GroupId,
        replica: Replica<M>,
        ways: Ways,
        notice: PersistedNotice,
    ) -> ReplicaShell<M> {
        let Ways { writer, outbox, cluster } = ways;
        let (notice, backlog) = (Arc::new(notice), VecDeque::new());
        let alone = Arc::default();
        ReplicaShell { group, replica, writer, outbox, cluster, notice, backlog, alone }
    }

    /// Tells readers through `alone` that they need not ask: what this node has applied holds
    /// everything acknowledged. It is taken back before a message leaves that could let another
    /// node acknowledge.
    #[must_use]
    pub fn telling(self, alone: Arc<AtomicBool>) -> ReplicaShell<M> {
        ReplicaShell { alone, ..self }
    }

    /// Everything that was applied can be read: readers need not ask while this node is alone.
    pub fn tell(&self) {
        let is_alone = self.replica.answers_alone();
        if is_alone != self.alone.load(Ordering::Relaxed) {
            self.alone.store(is_alone, Ordering::Release);
        }
    }

    /// Hands one input to the core and carries out the effects.
    pub fn step(&mut self, input: Input) -> Stepped<M::Outcome> {
        let effects = self.replica.step(input);
        if !self.replica.answers_alone() {
            self.alone.store(false, Ordering::Release);
        }
        self.outbox.send(effects.sends);
        if let Some(stopped) = &effects.stopped {
            let status = self.replica.status();
            tracing::error!(error = %stopped, applied = %status.applied, "a replica cannot go on");
        }
        for refused in &effects.refused {
            tracing::warn!(group = %self.group, %refused, "a message was not understood");
        }
        if let Some(change) = effects.role_changed {
            self.cluster.led_by(self.group, change.leader);
        }
        match effects.writes {
            Some(writes) => {
                let (notice, outbox) = (self.notice.clone(), self.outbox.clone());
                let done = Box::new(move |sends: Vec<Envelope>, persisted: Persisted| {
                    notice(persisted);
                    outbox.send(sends);
                });
                self.backlog.push_back(WriteTask { writes, held: effects.held, done });
            }
            None => drop(effects.held),
        }
        self.submit_backlog();
        Stepped {
            applied: effects.applied,
            replies: effects.replies,
            fetch: effects.fetch,
            checkpoint_wanted: effects.checkpoint_wanted,
            installed: effects.installed,
        }
    }

    /// Hands over what waits, in order, until the log writer has no room. Called again with each
    /// step, and so at least with each tick.
    fn submit_backlog(&mut self) {
        while let Some(task) = self.backlog.pop_front() {
            match self.writer.submit(task) {
                Ok(()) => {}
                Err(SubmitError::Full(task)) => {
                    self.backlog.push_front(*task);
                    return;
                }
                // Only a store that is being closed takes no writes; what waits was never
                // acknowledged.
                Err(SubmitError::Stopped) => return self.backlog.clear(),
            }
        }
    }

    /// Where the replica stands.
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// Whether it leads its group.
    pub fn leads(&self) -> bool {
        self.replica.status().role == Role::Leader
    }

    /// Whether its members are not being changed.
    pub fn is_settled(&self) -> bool {
        self.replica.can_checkpoint()
    }

    /// Who belongs to its group.
    pub fn members(&self) -> Members {
        self.replica.members()
    }

    /// How far the others are, where this replica leads.
    pub fn progress(&self) -> Vec<Progress> {
        self.replica.progress()
    }

    /// What to do next so that the group becomes what it shall be. Nothing while there is something
    /// to wait for, or nothing to do.
    pub fn next_input(&self, goal: &Goal<'_>, requests: &mut u64) -> Option<Input> {
        let (members, status) = (self.members(), self.status());
        let step = next_step(goal, &members, self.is_settled(), &self.progress(), &status)?;
        match step {
            Step::AddLearners(members) | Step::Promote(members) | Step::RemoveLearners(members) => {
                *requests += 1;
                let request = RequestId(*requests);
                tracing::info!(group = %self.group, ?members, "the group's members change");
                Some(Input::ChangeMembers { request, members })
            }
            Step::Transfer(to) => Some(Input::TransferLeader { to }),
            Step::Done => None,
        }
    }

    /// Whether a node may throw its replica away.
    pub fn lets_go(&self, goal: &Goal<'_>, asker: NodeId, term: Term) -> bool {
        lets_go(goal, &self.members(), self.is_settled(), &self.status(), asker, term)
    }

    /// The voter to hand leadership to: the one that lacks the least of the log.
    pub fn successor(&self) -> Option<NodeId> {
        let me = self.cluster.me();
        let voters = self.members().voters;
        let progress = self.progress().into_iter();
        let others = progress.filter(|it| it.node != me && it.active && voters.contains(&it.node));
        others.max_by_key(|it| it.matched).map(|it| it.node)
    }

    /// The state machine.
    pub fn machine(&self) -> &M {
        self.replica.machine()
    }

    /// The state as of the last applied command; none while members are being changed.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.replica.can_checkpoint().then(|| self.replica.checkpoint())
    }
}
