//! Questions that only the owner of a partition answers, wherever it is.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{Epoch, NodeId, Offset, ProducerId};
use alluvium_core::partition::ProducerState;
use alluvium_store::PartitionView;

use super::ReadError;
use super::handle::{PATIENCE, PartitionHandle};
use crate::clock::Stopwatch;
use crate::grpc::peer::{Answered, PeerError, RemoteRows};

/// Between two tries, unless something changes before.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// What can be asked of an owner only.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    Frontier,
    Rows,
    Fence { producer: ProducerId, epoch: Epoch },
}

#[derive(Debug)]
pub(super) enum Answer {
    /// Pinned here.
    View(Arc<PartitionView>),
    /// Where the owner's event log ends.
    Frontier(Offset),
    Rows(RemoteRows),
    Fenced(ProducerState),
}

impl PartitionHandle {
    /// Asks whoever owns the partition, until somebody answers or patience ends.
    pub(super) async fn ask_owner(&self, question: Question) -> Result<Answer, ReadError> {
        let watch = Stopwatch::start();
        let cluster = self.peers.cluster();
        let mut changes = cluster.changes();
        let (mut reason, mut hint) = (None, None);
        loop {
            changes.mark_unchanged();
            let known = cluster.owner(self.group);
            if self.has_left() {
                return Err(ReadError::Moved { partition: self.number });
            }
            let owner = match self.answer_here(question).await {
                Ok(answer) => return Ok(answer),
                Err(ReadError::NoOwner { owner, .. }) => owner,
                Err(error) => return Err(error),
            };
            if owner == Some(cluster.me()) {
                let why = "this node owns it and does not reach most of its replicas; try again";
                reason = Some(why.to_owned());
            }
            // What the one asked before said is newer than what this node's replica heard.
            let follows = hint.is_some();
            let named = hint.take().or(owner);
            let others = named.map_or_else(|| cluster.candidates(self.group), |owner| vec![owner]);
            for node in others.into_iter().filter(|node| *node != cluster.me()) {
                let answer = tokio::select! {
                    answer = self.answer_there(node, question) => answer,
                    // One that stands still would keep the question for long.
                    () = cluster.owned_by_another(self.group, node, known) => break,
                };
                match answer {
                    Ok(Answered::Here(answer)) => {
                        cluster.led_by(self.group, Some(node));
                        return Ok(answer);
                    }
                    Ok(Answered::Elsewhere(named)) => {
                        reason = Some(not_owner(node, named));
                        hint = named.filter(|named| *named != node);
                        if hint.is_some() {
                            break;
                        }
                    }
                    Ok(Answered::NotServed(why)) => reason = Some(why),
                    Err(error) => reason = Some(error.to_string()),
                }
            }
            if PATIENCE < watch.elapsed() {
                let partition = self.number;
                return Err(match reason {
                    Some(reason) => ReadError::NotServed { partition, reason },
                    None => ReadError::NoOwner { partition, owner: None },
                });
            }
            // Two that name each other are not asked without a pause.
            if hint.is_none() || follows {
                // Its own end says nothing: time goes on either way.
                let _ = tokio::time::timeout(TRY_AGAIN, changes.changed()).await;
            }
        }
    }

    async fn answer_here(&self, question: Question) -> Result<Answer, ReadError> {
        match question {
            Question::Frontier | Question::Rows => self.read_here().await.map(Answer::View),
            Question::Fence { producer, epoch } => {
                self.fence_here(producer, epoch).await.map(Answer::Fenced)
            }
        }
    }

    async fn answer_there(
        &self,
        node: NodeId,
        question: Question,
    ) -> Result<Answered<Answer>, PeerError> {
        Ok(match question {
            Question::Frontier => {
                self.peers.frontier(node, self.group).await?.map(Answer::Frontier)
            }
            Question::Rows => self.peers.scan(node, self.group).await?.map(Answer::Rows),
            Question::Fence { producer, epoch } => {
                self.peers.fence(node, self.group, producer, epoch).await?.map(Answer::Fenced)
            }
        })
    }
}

/// What a node says that was asked as the owner and is not.
fn not_owner(node: NodeId, hint: Option<NodeId>) -> String {
    match hint {
        Some(owner) if owner == node => format!("node {node} is about to own it; try again"),
        Some(owner) => format!("node {node} says that node {owner} owns it; try again"),
        None => format!("node {node} knows nobody who owns it; try again"),
    }
}
