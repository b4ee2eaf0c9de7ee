//! Producers of doors whose clients say a name and a sequence with each batch, and nothing before.
//!
//! A producer is opened when its name is first seen here. Where it was opened again elsewhere
//! since, this life of it is over: it is opened once more and the batch tried again, which is safe,
//! since a sequence is recognised in every life.

use std::collections::BTreeMap;

use alluvium_core::ids::{Epoch, ProducerId, Sequence};
use alluvium_core::meta::{MetaCommand, MetaOutcome, check_producer_name};
use alluvium_core::partition::Stamp;
use arrow::record_batch::RecordBatch;
use parking_lot::Mutex;

use super::append::append;
use crate::actors::meta::ChangeError;
use crate::bootstrap::Node;
use crate::ingest::{AppendAck, AppendError};

/// Producers remembered here; past that, all are opened again when they are next seen.
const KNOWN_MAX: usize = 10_000;

/// The producers opened here, by their name and stream.
#[derive(Debug, Default)]
pub struct Producers(Mutex<BTreeMap<(String, String), Life>>);

/// A life of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its id.
    pub id: ProducerId,
    /// This life of it.
    pub epoch: Epoch,
    /// The first sequence that not every partition held when it was opened.
    pub next: Sequence,
}

/// Why a batch of a producer was not appended.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The name is none.
    #[error("{reason}")]
    Name {
        /// What names are.
        reason: String,
    },
    /// As an append says.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The catalogue could not be changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A partition did not answer.
    #[error("{reason}")]
    Unavailable {
        /// As it says.
        reason: String,
    },
}

/// Opens a producer: the former life of it is over, in every partition of the stream.
pub async fn open(node: &Node, name: &str, stream: &str) -> Result<Life, ProducerError> {
    check_producer_name(name).map_err(|error| ProducerError::Name { reason: error.to_string() })?;
    let served = node.stream(stream).await?;
    let outcome = node.meta.change(MetaCommand::OpenProducer { name: name.to_owned() }).await?;
    let MetaOutcome::ProducerOpened { id, epoch } = outcome else {
        let reason = format!("opening a producer led to {outcome:?}");
        return Err(ProducerError::Unavailable { reason });
    };
    let fences = served.partitions.iter().map(|partition| partition.fence(id, epoch));
    let states = futures::future::try_join_all(fences).await;
    let states =
        states.map_err(|error| ProducerError::Unavailable { reason: error.to_string() })?;
    let next = states.iter().map(|state| state.next).min().unwrap_or_default();
    Ok(Life { id, epoch, next })
}

impl Producers {
    /// Appends a batch of a producer exactly once, however often it is sent.
    pub async fn append(
        &self,
        node: &Node,
        (name, sequence): (&str, Sequence),
        stream: &str,
        batch: RecordBatch,
    ) -> Result<AppendAck, ProducerError> {
        let key = (name.to_owned(), stream.to_owned());
        let known = self.0.lock().get(&key).copied();
        let mut life = match known {
            Some(life) => life,
            None => self.open(node, &key).await?,
        };
        let mut is_second = known.is_none();
        loop {
            let stamp = Stamp { producer: life.id, epoch: life.epoch, sequence, position: 0 };
            match append(node, stream, Some(stamp), batch.clone()).await {
                Err(AppendError::Fenced { .. }) if !is_second => {
                    is_second = true;
                    life = self.open(node, &key).await?;
                }
                done => return Ok(done?),
            }
        }
    }

    async fn open(&self, node: &Node, key: &(String, String)) -> Result<Life, ProducerError> {
        let life = open(node, &key.0, &key.1).await?;
        let mut known = self.0.lock();
        if KNOWN_MAX <= known.len() {
            known.clear();
        }
        known.insert(key.clone(), life);
        Ok(life)
    }
}
