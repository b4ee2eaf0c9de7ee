//! How the rest of the node reaches a partition, wherever it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::SendError;
use actix::{Addr, Handler, Message};
use alluvium_core::ids::{Epoch, GroupId, NodeId, Offset, PartitionNumber, ProducerId, Term};
use alluvium_core::partition::{Part, ProducerState};
use alluvium_store::{PartitionLog, PartitionView};
use alluvium_views::rows;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::asking::{Answer, Question};
use super::{
    Append, Fence, Inspect, Inspected, LetGo, Origin, PartitionActor, Read, ReadError, Stop,
};
use crate::actors::inbox::StepDown;
use crate::grpc::peer::{Peers, RemoteRows};
use crate::ingest::{AppendError, Forwarder, PartReply};

/// How long a question looks for the owner: an election and a half.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a reader waits for this node's replica to be as far as the owner is: many times what a
/// replica in its place takes, much less than one that is coming.
pub const LAG_MAX: Duration = Duration::from_millis(300);

/// One partition. Shared behind an `Arc`, never its address cloned: each clone of an address would
/// add a place to the mailbox.
#[derive(Debug)]
pub struct PartitionHandle {
    /// Name of its stream.
    pub stream: String,
    /// Its place in the stream.
    pub number: PartitionNumber,
    /// Its Raft group.
    pub group: GroupId,
    /// Whether this node holds it, and can serve it.
    pub serving: Serving,
    /// Where parts for other owners wait.
    pub forwarder: Arc<Forwarder>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Arrow form of its events in the log.
    pub log_schema: SchemaRef,
    /// Its replica leaves this node; another handle takes the place of this one.
    pub has_left: AtomicBool,
}

/// Whether this node holds a partition, and can serve it.
#[derive(Debug)]
pub enum Serving {
    /// Its actor runs.
    Running {
        /// The mailbox.
        addr: Addr<PartitionActor>,
        /// Tail and segments, readable without the actor.
        log: Arc<PartitionLog>,
        /// Tells of each advance of the event log.
        advanced: Arc<watch::Sender<Offset>>,
        /// Everything acknowledged is in `log`, as long as this is so.
        alone: Arc<AtomicBool>,
    },
    /// What is on disk failed its checks: answering from it could be wrong.
    Damaged {
        /// What was found, and where.
        reason: String,
    },
    /// Other nodes hold it.
    Elsewhere,
}

impl PartitionHandle {
    /// The mailbox, unless the partition is damaged or elsewhere.
    fn addr(&self) -> Result<&Addr<PartitionActor>, ReadError> {
        let partition = self.number;
        match &self.serving {
            Serving::Running { addr, log, .. } => match log.damage() {
                None => Ok(addr),
                Some(found) => Err(ReadError::NotServed { partition, reason: found.to_string() }),
            },
            Serving::Damaged { reason } => {
                Err(ReadError::NotServed { partition, reason: reason.clone() })
            }
            Serving::Elsewhere => Err(ReadError::NoOwner { partition, owner: self.owner() }),
        }
    }

    /// The replica leaves this node: what comes from now on goes to the owner.
    pub fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
        if let Serving::Running { advanced, .. } = &self.serving {
            // Who waits for it looks where it is now.
            advanced.send_modify(|_| {});
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Whether this node's replica is one to read from: it is here, and shall be.
    pub fn is_here(&self) -> bool {
        let runs = !matches!(self.serving, Serving::Elsewhere) && !self.has_left();
        runs && self.peers.cluster().hosts(self.group)
    }

    /// Who owns it, as far as is known.
    pub fn owner(&self) -> Option<NodeId> {
        self.peers.cluster().owner(self.group)
    }

    /// Why the partition is not served, where its files failed their checks.
    pub fn damage(&self) -> Option<String> {
        match self.addr() {
            Err(ReadError::NotServed { reason, .. }) => Some(reason),
            Ok(_)
            | Err(ReadError::NoOwner { .. } | ReadError::Busy { .. } | ReadError::Moved { .. }) => {
                None
            }
        }
    }

    /// Hands an append to the partition, wherever its owner is; answered through its reply.
    pub fn append(&self, append: Append) -> Result<(), AppendError> {
        match &self.serving {
            _ if self.has_left() => {
                self.forwarder.push(append);
                Ok(())
            }
            Serving::Elsewhere => {
                self.forwarder.push(append);
                Ok(())
            }
            Serving::Running { .. } | Serving::Damaged { .. } => {
                self.append_here(append).map_err(|(_, error)| error)
            }
        }
    }

    /// Hands an append to the replica of this node.
    pub fn append_here(&self, append: Append) -> Result<(), (PartReply, AppendError)> {
        let addr = match self.addr() {
            Ok(addr) => addr,
            Err(ReadError::NoOwner { owner, .. }) => {
                return Err((append.reply, AppendError::NotOwner { owner }));
            }
            Err(error) => {
                let (stream, partition) = (self.stream.clone(), self.number);
                let reason = error.to_string();
                return Err((append.reply, AppendError::Damaged { stream, partition, reason }));
            }
        };
        match addr.try_send(append) {
            Ok(()) => Ok(()),
            Err(SendError::Full(append)) => {
                let reason = "too many appends wait for one partition";
                Err((append.reply, AppendError::Busy { reason }))
            }
            Err(SendError::Closed(append))
                if append.origin == Origin::Client && self.has_left() =>
            {
                self.forwarder.push(append);
                Ok(())
            }
            Err(SendError::Closed(append)) if self.has_left() => {
                Err((append.reply, AppendError::NotOwner { owner: None }))
            }
            Err(SendError::Closed(append)) => Err((append.reply, AppendError::Stopping)),
        }
    }

    /// The events of a part that came in the form of the log.
    pub fn decode_part(&self, part: &Part, payload: &Bytes) -> Result<Option<RecordBatch>, String> {
        if part.event_count == 0 {
            return Ok(None);
        }
        let rows = rows::decode_payload(payload.clone(), &self.log_schema)
            .map_err(|error| format!("the part cannot be read: {error}"))?;
        if rows.num_rows() as u64 != u64::from(part.event_count) {
            return Err(format!("{} events announced, {} sent", part.event_count, rows.num_rows()));
        }
        Ok(Some(rows))
    }

    /// A pinned view that holds everything acknowledged before the call, of this node's replica,
    /// whoever owns the partition.
    pub async fn read(&self) -> Result<Arc<PartitionView>, ReadError> {
        match self.ask_owner(Question::Frontier).await? {
            Answer::View(view) => Ok(view),
            Answer::Frontier(end) => self.reach(end).await,
            Answer::Rows(_) | Answer::Fenced(_) => unreachable!("a frontier was asked for"),
        }
    }

    /// The offset after the last event acknowledged before the call.
    pub async fn end(&self) -> Result<Offset, ReadError> {
        match self.ask_owner(Question::Frontier).await? {
            Answer::View(view) => Ok(view.end),
            Answer::Frontier(end) => Ok(end),
            Answer::Rows(_) | Answer::Fenced(_) => unreachable!("a frontier was asked for"),
        }
    }

    /// A pinned view that holds everything before `offset`: of this node's replica as it is, if
    /// that is far enough, else as [`PartitionHandle::read`].
    pub async fn read_past(&self, offset: Offset) -> Result<Arc<PartitionView>, ReadError> {
        match self.view_past(offset)? {
            Some(view) => Ok(view),
            None => self.read().await,
        }
    }

    fn view_past(&self, offset: Offset) -> Result<Option<Arc<PartitionView>>, ReadError> {
        let Serving::Running { log, .. } = &self.serving else { return Ok(None) };
        // Damage is told before anything is answered.
        self.addr()?;
        Ok(Some(log.view()).filter(|view| offset <= view.end))
    }

    /// As [`PartitionHandle::read`], or as [`PartitionHandle::read_past`] an offset; `None` when
    /// this node's replica is so far behind that another node answers sooner: it has just come, or
    /// was away.
    pub async fn read_soon(
        &self,
        past: Option<Offset>,
    ) -> Result<Option<Arc<PartitionView>>, ReadError> {
        if let Some(offset) = past
            && let Some(view) = self.view_past(offset)?
        {
            return Ok(Some(view));
        }
        match self.ask_owner(Question::Frontier).await? {
            Answer::View(view) => Ok(Some(view)),
            Answer::Frontier(end) => {
                let reached = tokio::time::timeout(LAG_MAX, self.reach(end)).await;
                reached.map_or(Ok(None), |reached| reached.map(Some))
            }
            Answer::Rows(_) | Answer::Fenced(_) => unreachable!("a frontier was asked for"),
        }
    }

    /// Every event acknowledged before the call, from the owner: for a partition that other nodes
    /// hold.
    pub async fn read_elsewhere(&self) -> Result<RemoteRows, ReadError> {
        match self.ask_owner(Question::Rows).await? {
            Answer::Rows(rows) => Ok(rows),
            // It has come to this node meanwhile: the caller asks again.
            Answer::View(_) | Answer::Frontier(_) | Answer::Fenced(_) => {
                Err(ReadError::Moved { partition: self.number })
            }
        }
    }

    /// A pinned view, where this node is the owner.
    pub async fn read_here(&self) -> Result<Arc<PartitionView>, ReadError> {
        if let Serving::Running { log, alone, .. } = &self.serving
            && alone.load(Ordering::Acquire)
        {
            return self.addr().map(|_| log.view());
        }
        let (reply, answer) = oneshot::channel();
        self.ask(Read(reply), answer).await
    }

    /// A pinned view of this node's replica once it has applied everything before `end`.
    pub async fn reach(&self, end: Offset) -> Result<Arc<PartitionView>, ReadError> {
        let partition = self.number;
        if self.has_left() {
            return Err(ReadError::Moved { partition });
        }
        let Serving::Running { log, advanced, .. } = &self.serving else {
            let reason = "this node holds no replica of it".into();
            return Err(ReadError::NotServed { partition, reason });
        };
        let mut advanced = advanced.subscribe();
        let reached = advanced.wait_for(|at| end <= *at || self.has_left());
        let reached = matches!(tokio::time::timeout(PATIENCE, reached).await, Ok(Ok(_)));
        // A replica that its group has left behind advances no more.
        if self.has_left() || !self.peers.cluster().hosts(self.group) {
            return Err(ReadError::Moved { partition });
        }
        if !reached {
            let reason = format!("its replica on this node is behind offset {end}; try again");
            return Err(ReadError::NotServed { partition, reason });
        }
        Ok(log.view())
    }

    /// Begins a producer's new life; what is known of it comes back.
    pub async fn fence(
        &self,
        producer: ProducerId,
        epoch: Epoch,
    ) -> Result<ProducerState, ReadError> {
        match self.ask_owner(Question::Fence { producer, epoch }).await? {
            Answer::Fenced(state) => Ok(state),
            Answer::View(_) | Answer::Frontier(_) | Answer::Rows(_) => {
                unreachable!("a fence was asked for")
            }
        }
    }

    /// Begins a producer's new life, where this node is the owner.
    pub async fn fence_here(
        &self,
        producer: ProducerId,
        epoch: Epoch,
    ) -> Result<ProducerState, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Fence { producer, epoch, reply }, answer).await
    }

    async fn ask<M, T>(
        &self,
        message: M,
        answer: oneshot::Receiver<Result<T, ReadError>>,
    ) -> Result<T, ReadError>
    where
        M: Message<Result = ()> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        let partition = self.number;
        let stopped = || match self.has_left() {
            true => ReadError::Moved { partition },
            false => ReadError::NotServed { partition, reason: "it has stopped".into() },
        };
        match self.addr()?.try_send(message) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(stopped())),
            Err(SendError::Full(_)) => Err(ReadError::Busy { partition }),
            Err(SendError::Closed(_)) => Err(stopped()),
        }
    }

    /// What the partition says of itself; nothing when it is damaged, stopped or elsewhere.
    pub async fn inspect(&self) -> Option<Inspected> {
        let Serving::Running { addr, .. } = &self.serving else {
            return None;
        };
        let (reply, answer) = oneshot::channel();
        addr.try_send(Inspect(reply)).ok()?;
        answer.await.ok()
    }

    /// Whether a node may throw its replica away, where this node's replica leads.
    pub async fn let_go_here(&self, asker: NodeId, term: Term) -> bool {
        let Serving::Running { addr, .. } = &self.serving else {
            return false;
        };
        let (reply, answer) = oneshot::channel();
        addr.try_send(LetGo { asker, term, reply }).is_ok() && answer.await.unwrap_or(false)
    }

    /// Its tail and segments, if this node can serve it.
    pub fn log(&self) -> Option<&Arc<PartitionLog>> {
        match &self.serving {
            Serving::Running { log, .. } => Some(log),
            Serving::Damaged { .. } | Serving::Elsewhere => None,
        }
    }

    /// Hands leadership to another replica, if there is one and this one leads, and waits for it.
    pub async fn step_down(&self) {
        if let Serving::Running { addr, .. } = &self.serving {
            let (done, stepped_down) = oneshot::channel();
            if addr.send(StepDown(done)).await.is_ok() {
                // Its end is all that matters, however it came.
                let _ = stepped_down.await;
            }
        }
    }

    /// Ends the partition's actor and waits for it.
    pub async fn stop(&self) {
        if let Serving::Running { addr, .. } = &self.serving {
            let (done, stopped) = oneshot::channel();
            if addr.send(Stop(done)).await.is_ok() {
                // Its end is all that matters, however it came.
                let _ = stopped.await;
            }
        }
    }
}
