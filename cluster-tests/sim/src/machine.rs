//! The machine under test: a real partition, and beside it a hash of everything it was told.
//!
//! The hash chain covers every command with its index, so two replicas with the same chain executed
//! the same commands in the same order; it travels with checkpoints, so a replica that began from
//! one must arrive at the same chain as one that executed everything.

use alluvium_core::ids::Index;
use alluvium_core::partition::{Command, Outcome, Partition};
use alluvium_core::replica::{CorruptCheckpoint, CorruptCommand, Machine};
use bytes::Bytes;

use crate::hash::Hash;

/// A partition that remembers what it was told.
#[derive(Clone, Debug, Default)]
pub struct Witnessed {
    partition: Partition,
    chain: Hash,
    /// A hash of chain and partition after each command since the start of this replica.
    steps: Vec<(Index, u64)>,
    /// Overlooks who sent a batch: see [`crate::mutant::Mutant::DuplicateNotRecognised`].
    forgetful: bool,
}

const TAIL_BYTES: usize = 9;

impl Witnessed {
    /// A fresh one.
    #[must_use]
    pub fn new(forgetful: bool) -> Witnessed {
        Witnessed { forgetful, ..Witnessed::default() }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// A hash of the state after each command, since this replica started.
    #[must_use]
    pub fn steps(&self) -> &[(Index, u64)] {
        &self.steps
    }

    /// A hash of the state now.
    #[must_use]
    pub fn state(&self) -> u64 {
        let mut hash = self.chain;
        hash.add(&self.partition.checkpoint());
        hash.value()
    }

    fn seen(&self, command: &Bytes) -> Bytes {
        if !self.forgetful {
            return command.clone();
        }
        match Command::decode(command) {
            Ok(Command::Append(mut append)) => {
                append.parts.iter_mut().for_each(|part| part.producer = None);
                Command::Append(append).encode()
            }
            Ok(Command::Retain { .. } | Command::Clock { .. } | Command::Fence { .. }) | Err(_) => {
                command.clone()
            }
        }
    }
}

impl Machine for Witnessed {
    type Outcome = Outcome;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Outcome, CorruptCommand> {
        let outcome = self.partition.apply(index, &self.seen(command))?;
        self.chain.add_number(index.0);
        self.chain.add(command);
        self.steps.push((index, self.state()));
        Ok(outcome)
    }

    fn checkpoint(&self) -> Bytes {
        let mut bytes = self.partition.checkpoint().to_vec();
        bytes.extend(self.chain.value().to_le_bytes());
        bytes.push(u8::from(self.forgetful));
        bytes.into()
    }

    fn restore(bytes: &[u8]) -> Result<Witnessed, CorruptCheckpoint> {
        let (partition, tail) = bytes
            .split_last_chunk::<TAIL_BYTES>()
            .ok_or_else(|| CorruptCheckpoint::new("too short"))?;
        let (chain, forgetful) = tail.split_at(8);
        let chain = u64::from_le_bytes(chain.try_into().expect("eight bytes"));
        Ok(Witnessed {
            partition: Partition::restore(partition)?,
            chain: Hash::resume(chain),
            steps: Vec::new(),
            forgetful: forgetful == [1],
        })
    }
}
