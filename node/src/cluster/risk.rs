//! Whether a node may be stopped now, judged by what it knows.
//!
//! A node knows who is alive and where replicas are. How far they are it knows of partitions that
//! it owns; of others their owners would know, who stay. What it does not know counts as good:
//! where a partition has another owner, a replica that is behind costs a moment, not an event.

use std::collections::BTreeSet;

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::replica::Progress;
use serde::Serialize;

/// Entries that a replica makes up for within a moment.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// How far the replicas of a group are, as its owner knows.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The last index of the owner's log.
    pub last: Index,
    /// Of each replica.
    pub replicas: Vec<Progress>,
}

/// Why a group would stand still, or be lost, without this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// No other node has a replica.
    OnlyReplica,
    /// Too few of the others are alive.
    NoQuorum {
        /// Other replicas that are alive.
        alive: usize,
        /// Replicas that must agree.
        needed: usize,
    },
    /// Enough are alive, and too few of them have what this node, the owner, has.
    Behind {
        /// Other replicas that are alive and nearly as far.
        close: usize,
        /// Replicas that must agree.
        needed: usize,
    },
}

/// A group that would suffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// `group_id` of `system.partitions`; 0 is the catalogue.
    pub group_id: u64,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// A group with a replica on the node in question.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which.
    pub group: GroupId,
    /// Every replica, the node's own too.
    pub replicas: Vec<NodeId>,
    /// How far they are, where the node owns the group.
    pub reached: Option<Reached>,
}

/// What stopping node `me` now would put at risk.
pub fn of_stopping(me: NodeId, alive: &BTreeSet<NodeId>, held: &[Held]) -> Vec<Risk> {
    let risks = held.iter().filter_map(|held| {
        let others = held.replicas.iter().filter(|node| **node != me && alive.contains(node));
        let others: Vec<NodeId> = others.copied().collect();
        let reason = reason(&others, held.replicas.len(), held.reached.as_ref())?;
        Some(Risk { group_id: held.group.0, reason })
    });
    risks.collect()
}

fn reason(alive: &[NodeId], replicas: usize, reached: Option<&Reached>) -> Option<Reason> {
    if replicas == 1 {
        return Some(Reason::OnlyReplica);
    }
    let needed = replicas / 2 + 1;
    if alive.len() < needed {
        return Some(Reason::NoQuorum { alive: alive.len(), needed });
    }
    let reached = reached?;
    let is_close = |node: &&NodeId| {
        let progress = reached.replicas.iter().find(|it| it.node == **node);
        progress.is_some_and(|it| it.active && reached.last.0 <= it.matched.0 + LAG_ENTRIES_MAX)
    };
    let close = alive.iter().filter(is_close).count();
    (close < needed).then_some(Reason::Behind { close, needed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn alive(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn held(group: u64, replicas: &[u64], reached: Option<Reached>) -> Held {
        let replicas = replicas.iter().copied().map(NodeId).collect();
        Held { group: GroupId(group), replicas, reached }
    }

    fn reached(last: u64, others: [(u64, u64, bool); 2]) -> Option<Reached> {
        let progress = |(node, matched, active)| Progress {
            node: NodeId(node),
            matched: Index(matched),
            active,
        };
        Some(Reached { last: Index(last), replicas: others.map(progress).to_vec() })
    }

    #[test]
    fn what_others_hold_and_reach_is_safe() {
        let groups = [
            held(0, &[1, 2, 3], None),
            held(5, &[1, 2, 3], reached(5_000, [(2, 5_000, true), (3, 4_500, true)])),
        ];
        assert_eq!(of_stopping(ME, &alive(&[1, 2, 3]), &groups), []);
        let five = [held(0, &[1, 2, 3, 4, 5], None)];
        assert_eq!(of_stopping(ME, &alive(&[1, 2, 3, 4]), &five), []);
    }

    #[test]
    fn what_would_suffer_is_named_with_its_reason() {
        let risks = |nodes: &[u64], held: Held| of_stopping(ME, &alive(nodes), &[held]);
        let risk = |group_id, reason| [Risk { group_id, reason }];
        let found = risks(&[1], held(0, &[1], None));
        assert_eq!(found, risk(0, Reason::OnlyReplica));
        let found = risks(&[1, 2], held(5, &[1, 2, 3], None));
        assert_eq!(found, risk(5, Reason::NoQuorum { alive: 1, needed: 2 }));
        let two = risks(&[1, 2], held(5, &[1, 2], None));
        assert_eq!(two, risk(5, Reason::NoQuorum { alive: 1, needed: 2 }));
        for others in [[(2, 5_000, true), (3, 3_000, true)], [(2, 5_000, true), (3, 5_000, false)]]
        {
            let found = risks(&[1, 2, 3], held(5, &[1, 2, 3], reached(5_000, others)));
            assert_eq!(found, risk(5, Reason::Behind { close: 1, needed: 2 }));
        }
    }

    #[test]
    fn a_risk_reads_as_one_object() {
        let risk = Risk { group_id: 5, reason: Reason::NoQuorum { alive: 1, needed: 2 } };
        let text = serde_json::to_string(&risk).unwrap();
        assert_eq!(text, r#"{"group_id":5,"reason":"no_quorum","alive":1,"needed":2}"#);
    }
}
