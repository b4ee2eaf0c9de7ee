//! How the rest of the node reaches a partition.

use std::sync::Arc;

use actix::prelude::SendError;
use actix::{Addr, Handler, Message};
use alluvium_core::ids::{Epoch, GroupId, Offset, PartitionNumber, ProducerId};
use alluvium_core::partition::ProducerState;
use alluvium_store::{PartitionLog, PartitionView};
use tokio::sync::{oneshot, watch};

use super::{Append, Fence, Inspect, Inspected, PartitionActor, Read, ReadError, Stop};
use crate::ingest::AppendError;

/// One partition on this node. Shared behind an `Arc`, never its address cloned: each clone of an
/// address would add a place to the mailbox.
#[derive(Debug)]
pub struct PartitionHandle {
    /// Name of its stream.
    pub stream: String,
    /// Its place in the stream.
    pub number: PartitionNumber,
    /// Its Raft group.
    pub group: GroupId,
    /// Whether it can be served.
    pub serving: Serving,
}

/// Whether a partition can be served.
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
    },
    /// What is on disk failed its checks: answering from it could be wrong.
    Damaged {
        /// What was found, and where.
        reason: String,
    },
}

impl PartitionHandle {
    /// The mailbox, unless the partition is damaged.
    fn addr(&self) -> Result<&Addr<PartitionActor>, String> {
        match &self.serving {
            Serving::Running { addr, log, .. } => match log.damage() {
                None => Ok(addr),
                Some(found) => Err(found.to_string()),
            },
            Serving::Damaged { reason } => Err(reason.clone()),
        }
    }

    /// Why the partition is not served, where its files failed their checks.
    pub fn damage(&self) -> Option<String> {
        self.addr().err()
    }

    /// Hands an append to the partition; answered through its reply.
    pub fn append(&self, append: Append) -> Result<(), AppendError> {
        let addr = self.addr().map_err(|reason| AppendError::Damaged {
            stream: self.stream.clone(),
            partition: self.number,
            reason,
        })?;
        match addr.try_send(append) {
            Ok(()) => Ok(()),
            Err(SendError::Full(_)) => {
                Err(AppendError::Busy { reason: "too many appends wait for one partition" })
            }
            Err(SendError::Closed(_)) => Err(AppendError::Stopping),
        }
    }

    /// A pinned view that holds everything acknowledged before the call.
    pub async fn read(&self) -> Result<Arc<PartitionView>, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Read(reply), answer).await
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
        let stopped = || ReadError::NotServed { partition, reason: "it has stopped".into() };
        let addr = self.addr().map_err(|reason| ReadError::NotServed { partition, reason })?;
        match addr.try_send(message) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(stopped())),
            Err(SendError::Full(_)) => Err(ReadError::Busy { partition }),
            Err(SendError::Closed(_)) => Err(stopped()),
        }
    }

    /// Begins a producer's new life here; what is known of it comes back.
    pub async fn fence(
        &self,
        producer: ProducerId,
        epoch: Epoch,
    ) -> Result<ProducerState, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Fence { producer, epoch, reply }, answer).await
    }

    /// What the partition says of itself; nothing when it is damaged or stopped.
    pub async fn inspect(&self) -> Option<Inspected> {
        let Serving::Running { addr, .. } = &self.serving else {
            return None;
        };
        let (reply, answer) = oneshot::channel();
        addr.try_send(Inspect(reply)).ok()?;
        answer.await.ok()
    }

    /// Its tail and segments, if it can be served.
    pub fn log(&self) -> Option<&Arc<PartitionLog>> {
        match &self.serving {
            Serving::Running { log, .. } => Some(log),
            Serving::Damaged { .. } => None,
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
