//! Who must have an entry before anybody executes it.
//!
//! Every configuration the group was ever in is seen when its first replica enters it. An entry is
//! agreed under the configuration of that moment or, when that one was not executed yet by who
//! counted, the one before.

use alluvium_core::ids::{Index, NodeId};
use alluvium_core::invariant::Invariant;
use alluvium_core::replica::LogPosition;

use crate::coverage::Event;
use crate::shell::replica;
use crate::violation::{Violation, ensure};
use crate::world::World;

/// A configuration of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters.
    pub voters: Vec<NodeId>,
    /// While voters change: those before, whose majority counts too.
    pub outgoing: Vec<NodeId>,
}

impl Configuration {
    /// Whether this one may come right after another: in two steps, through both majorities.
    pub(crate) fn follows(&self, before: &Configuration) -> bool {
        if before.outgoing.is_empty() {
            self.outgoing == before.voters
        } else {
            self.outgoing.is_empty() && self.voters == before.voters
        }
    }

    pub(crate) fn agrees(&self, has: impl Fn(NodeId) -> bool) -> bool {
        let majority = |voters: &[NodeId]| {
            voters.len() < 2 * voters.iter().filter(|voter| has(**voter)).count()
        };
        majority(&self.voters) && (self.outgoing.is_empty() || majority(&self.outgoing))
    }
}

impl World {
    /// I8: looks at the configuration a replica is in after a step. One that nobody was in before
    /// must follow the newest one.
    pub(crate) fn see_configuration(&mut self, id: NodeId) -> Result<(), Violation> {
        let replica = replica(self.node(id).replica.as_ref());
        let applied = replica.status().applied;
        let (voters, outgoing) = (replica.members().voters, replica.outgoing_voters());
        let now = Configuration { voters, outgoing };
        let (seen, newest) = self.configurations.last().expect("the founders are one");
        if applied < *seen {
            return Ok(());
        }
        if *newest == now {
            return Ok(());
        }
        ensure(Invariant::OneChangeOfVoters, now.follows(newest), || {
            format!("{id} goes from {newest:?} to {now:?} at {applied}")
        })?;
        self.trace.line(self.now, format_args!("{id} is the first in {now:?}"));
        self.coverage.count(Event::ConfigurationEntered);
        self.configurations.push((applied, now));
        Ok(())
    }

    /// I6.
    pub(crate) fn durable_on_majority(
        &mut self,
        id: NodeId,
        at: LogPosition,
    ) -> Result<(), Violation> {
        let has = |voter: NodeId| self.nodes.iter().any(|node| node.id == voter && node.has(at));
        let mut lately = self.configurations.iter().rev().take(2);
        let durable = lately.any(|(_, configuration)| configuration.agrees(has));
        ensure(Invariant::CommittedIsDurable, durable, || {
            format!("{id} executed {at}, which is not on the disks of a majority")
        })
    }
}

/// Where the group began.
pub(crate) fn founded(voters: &[NodeId]) -> Vec<(Index, Configuration)> {
    vec![(Index(0), Configuration { voters: voters.to_vec(), outgoing: Vec::new() })]
}
