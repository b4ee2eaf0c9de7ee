//! Carries out what a replica asks for: writes to the log writer, envelopes to peers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use alluvium_core::replica::{
    Applied, Checkpoint, Envelope, Input, Machine, Persisted, Replica, Reply, Status,
};
use alluvium_store::{LogWriter, SubmitError, WriteTask};

/// Tells the owning actor that its writes are durable.
pub type PersistedNotice = Box<dyn Fn(Persisted) + Send + Sync>;

/// A replica with its way to the disk.
pub struct ReplicaShell<M: Machine> {
    replica: Replica<M>,
    writer: LogWriter,
    notice: Arc<PersistedNotice>,
    /// Writes for which the log writer had no room; bounded by the append budget.
    backlog: VecDeque<WriteTask>,
}

/// What a step led to, for the actor to act on.
#[derive(Debug)]
pub struct Stepped<O> {
    /// Commands applied, in log order.
    pub applied: Vec<Applied<O>>,
    /// Answers to requests that will not be applied, and to reads.
    pub replies: Vec<Reply>,
}

impl<M: Machine> fmt::Debug for ReplicaShell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaShell")
            .field("status", &self.replica.status())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> ReplicaShell<M> {
    /// Around a restored replica.
    pub fn new(replica: Replica<M>, writer: LogWriter, notice: PersistedNotice) -> ReplicaShell<M> {
        ReplicaShell { replica, writer, notice: Arc::new(notice), backlog: VecDeque::new() }
    }

    /// Hands one input to the core and carries out the effects.
    pub fn step(&mut self, input: Input) -> Stepped<M::Outcome> {
        let effects = self.replica.step(input);
        send(effects.sends);
        if let Some(stopped) = &effects.stopped {
            let status = self.replica.status();
            tracing::error!(error = %stopped, applied = %status.applied, "a replica cannot go on");
        }
        match effects.writes {
            Some(writes) => {
                let notice = self.notice.clone();
                let done = Box::new(move |sends: Vec<Envelope>, persisted: Persisted| {
                    notice(persisted);
                    send(sends);
                });
                self.backlog.push_back(WriteTask { writes, held: effects.held, done });
            }
            None => drop(effects.held),
        }
        self.submit_backlog();
        Stepped { applied: effects.applied, replies: effects.replies }
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

    /// The state machine.
    pub fn machine(&self) -> &M {
        self.replica.machine()
    }

    /// The state as of the last applied command; none while voters are being changed.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.replica.can_checkpoint().then(|| self.replica.checkpoint())
    }
}

/// Every group of this version has one voter, so nothing is ever addressed to another node.
fn send(envelopes: Vec<Envelope>) {
    for envelope in envelopes {
        tracing::warn!(group = %envelope.group, to = %envelope.to, "no link to the addressed node");
    }
}
