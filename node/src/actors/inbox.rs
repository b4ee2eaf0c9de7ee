//! Where messages of other nodes' replicas go: to the replica of their group on this node.

use std::collections::BTreeMap;

use actix::prelude::SendError;
use actix::{Message, Recipient};
use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::replica::Envelope;
use arc_swap::ArcSwap;

/// A message from another replica of the group.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Envelope);

/// Messages to this node are not getting through.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CutOff(pub NodeId);

/// Hands leadership to another voter, if there is one; answered when this replica does not lead.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StepDown(pub tokio::sync::oneshot::Sender<()>);

/// How one replica is reached.
#[derive(Clone, Debug)]
struct Entrance {
    messages: Recipient<Deliver>,
    cut_off: Recipient<CutOff>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    groups: ArcSwap<BTreeMap<GroupId, Entrance>>,
}

impl Inbox {
    /// A replica is there.
    pub fn open(&self, group: GroupId, messages: Recipient<Deliver>, cut_off: Recipient<CutOff>) {
        let entrance = Entrance { messages, cut_off };
        self.groups.rcu(|groups| {
            let mut groups = BTreeMap::clone(groups);
            groups.insert(group, entrance.clone());
            groups
        });
    }

    /// A replica is gone.
    pub fn close(&self, group: GroupId) {
        self.groups.rcu(|groups| {
            let mut groups = BTreeMap::clone(groups);
            groups.remove(&group);
            groups
        });
    }

    /// Hands a message over. One for a replica that is not here or has no room is dropped: Raft
    /// sends again what matters.
    pub fn deliver(&self, envelope: Envelope) {
        let groups = self.groups.load();
        let Some(entrance) = groups.get(&envelope.group) else { return };
        match entrance.messages.try_send(Deliver(envelope)) {
            Ok(()) | Err(SendError::Full(_) | SendError::Closed(_)) => {}
        }
    }

    /// Tells every replica that messages to a node are not getting through.
    pub fn cut_off(&self, node: NodeId) {
        for entrance in self.groups.load().values() {
            match entrance.cut_off.try_send(CutOff(node)) {
                Ok(()) | Err(SendError::Full(_) | SendError::Closed(_)) => {}
            }
        }
    }
}
