//! Who belongs to a group.

use crate::ids::NodeId;

/// The replicas of a group, by the nodes that hold them. Both lists ascend and share no node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that elect, and whose majority agrees on entries.
    pub voters: Vec<NodeId>,
    /// Those that receive the log and count for nothing.
    pub learners: Vec<NodeId>,
}

impl Members {
    /// These voters in any order, and no learners.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Members {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Members { voters, learners: Vec::new() }
    }

    /// These in any order. Who is in both is a voter.
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Members {
        let mut members = Members::of_voters(voters);
        let mut learners = Members::of_voters(learners).voters;
        learners.retain(|node| !members.voters.contains(node));
        members.learners = learners;
        members
    }

    /// Whether both lists ascend, share no node, and make a group: two voters are worse than one,
    /// because either of them stops the group.
    #[must_use]
    pub fn make_a_group(&self) -> bool {
        let Members { voters, learners } = self;
        let plain = *self == Members::new(voters.iter().copied(), learners.iter().copied());
        plain && !matches!(voters.len(), 0 | 2)
    }

    /// Whether the node holds a replica, of either kind.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}
