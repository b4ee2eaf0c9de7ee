//! The machine of a group of a whole cluster: the real catalogue or a real partition, and beside it
//! a hash of everything it was told.

use alluvium_core::ids::{GroupId, Index};
use alluvium_core::meta::{Meta, MetaCommand, MetaOutcome};
use alluvium_core::partition::{Outcome, Partition};
use alluvium_core::replica::{CorruptCheckpoint, CorruptCommand, Machine};
use bytes::Bytes;

use crate::hash::Hash;
use crate::machine::Witnessed;

const TAG_CATALOGUE: u8 = 0;
const TAG_PARTITION: u8 = 1;
const CHAIN_BYTES: usize = 8;

/// The catalogue, which remembers what it was told.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    meta: Meta,
    chain: Hash,
    steps: Vec<(Index, u64)>,
    /// Overlooks where groups were moved: see [`super::Twist::MovedOverlooked`].
    pub overlooks_moves: bool,
}

/// The machine of one group.
#[derive(Clone, Debug)]
pub enum Hosted {
    /// Of the meta group.
    Catalogue(Box<Catalogue>),
    /// Of any other.
    Partition(Witnessed),
}

/// What a command did.
#[derive(Clone, Debug)]
pub enum Done {
    /// In the meta group.
    Catalogue(MetaOutcome),
    /// In any other.
    Partition(Outcome),
}

impl Hosted {
    /// The bytes of a fresh one.
    #[must_use]
    pub fn blank(group: GroupId, forgetful: bool) -> Bytes {
        let hosted = if group == GroupId::META {
            Hosted::Catalogue(Box::default())
        } else {
            Hosted::Partition(Witnessed::new(forgetful))
        };
        hosted.checkpoint()
    }

    /// A hash of the state after each command, since this replica started.
    #[must_use]
    pub fn steps(&self) -> &[(Index, u64)] {
        match self {
            Hosted::Catalogue(catalogue) => &catalogue.steps,
            Hosted::Partition(partition) => partition.steps(),
        }
    }

    /// A hash of the state now.
    #[must_use]
    pub fn state(&self) -> u64 {
        match self {
            Hosted::Catalogue(catalogue) => catalogue.state(),
            Hosted::Partition(partition) => partition.state(),
        }
    }

    /// The catalogue, if it is one.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Hosted::Catalogue(catalogue) => Some(&catalogue.meta),
            Hosted::Partition(_) => None,
        }
    }

    /// The partition, if it is one.
    #[must_use]
    pub fn partition(&self) -> Option<&Partition> {
        match self {
            Hosted::Catalogue(_) => None,
            Hosted::Partition(partition) => Some(partition.partition()),
        }
    }
}

impl Catalogue {
    fn state(&self) -> u64 {
        let mut hash = self.chain;
        hash.add(&self.meta.checkpoint());
        hash.value()
    }

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<MetaOutcome, CorruptCommand> {
        let moved = matches!(MetaCommand::decode(command)?, MetaCommand::Moved { .. });
        let outcome = if moved && self.overlooks_moves {
            MetaOutcome::NothingToDo
        } else {
            self.meta.apply(index, command)?
        };
        self.chain.add_number(index.0);
        self.chain.add(command);
        self.steps.push((index, self.state()));
        Ok(outcome)
    }
}

impl Machine for Hosted {
    type Outcome = Done;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Done, CorruptCommand> {
        match self {
            Hosted::Catalogue(catalogue) => catalogue.apply(index, command).map(Done::Catalogue),
            Hosted::Partition(partition) => partition.apply(index, command).map(Done::Partition),
        }
    }

    fn checkpoint(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Hosted::Catalogue(catalogue) => {
                bytes.push(TAG_CATALOGUE);
                bytes.extend(catalogue.chain.value().to_le_bytes());
                bytes.extend(catalogue.meta.checkpoint());
            }
            Hosted::Partition(partition) => {
                bytes.push(TAG_PARTITION);
                bytes.extend(partition.checkpoint());
            }
        }
        bytes.into()
    }

    fn restore(bytes: &[u8]) -> Result<Hosted, CorruptCheckpoint> {
        match bytes.split_first() {
            Some((&TAG_CATALOGUE, rest)) => {
                let (chain, meta) = rest
                    .split_first_chunk::<CHAIN_BYTES>()
                    .ok_or_else(|| CorruptCheckpoint::new("too short"))?;
                let chain = Hash::resume(u64::from_le_bytes(*chain));
                let meta = Meta::restore(meta)?;
                Ok(Hosted::Catalogue(Box::new(Catalogue { meta, chain, ..Catalogue::default() })))
            }
            Some((&TAG_PARTITION, rest)) => Witnessed::restore(rest).map(Hosted::Partition),
            Some(_) | None => Err(CorruptCheckpoint::new("of no machine")),
        }
    }
}
