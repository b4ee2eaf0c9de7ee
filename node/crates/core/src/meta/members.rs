//! The nodes of the cluster as the meta group knows them, and how commands change them.
//!
//! The only authority on who belongs to the cluster. It knows whether a node was heard of lately
//! only because somebody tells it ([`super::MetaCommand::SetAlive`]); it starts and stops nothing.
//!
//! Invariants: an id is given to one data directory only, told by its token, and never again, also
//! not after its node was removed; who was removed stays removed.

use std::collections::BTreeMap;
use std::fmt;

use super::catalogue::take;
use super::outcome::MetaOutcome;
use crate::ids::{GroupId, NodeId};
use crate::time::Time;

/// Members that are not removed, at most: far more than one meta group can serve, and an end for
/// whoever joins again and again under new tokens.
pub const MEMBERS_MAX: usize = 256;

/// The node that began the cluster. It never asked for an id.
pub const FIRST_NODE: NodeId = NodeId(1);

const FIRST_VERSION: u32 = 1;

/// Groups named in an answer that people read.
const GROUPS_NAMED_MAX: usize = 3;

/// Where a node can be reached, as others reach it: `HOST:PORT` each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC of clients.
    pub client: String,
    /// Other nodes.
    pub peer: String,
    /// Health and metrics.
    pub http: String,
    /// The PostgreSQL protocol.
    pub pg: String,
}

/// Where a node stands, as tiers of key and value, the widest first: `cloud=aws`, `region=…`,
/// `zone=…`.
pub type Locality = Vec<(String, String)>;

/// What a member is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Everything.
    Active,
    /// Give its partitions to other owners and take none; its replicas stay.
    Draining,
    /// Give away its replicas too. It is removed when it holds none.
    Leaving,
    /// Nothing any more. Its id is never given out again.
    Removed,
}

/// A node as the meta group knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Given once.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Where it stands.
    pub locality: Locality,
    /// What it is meant to do.
    pub state: MemberState,
    /// Whether it was heard of lately.
    pub alive: bool,
    /// When `state` or `alive` last changed.
    pub changed_at: Time,
    /// The lowest and the highest cluster version it can serve.
    pub versions: (u32, u32),
    /// Drawn by its data directory, so that a copy or another directory is not taken for it.
    pub token: u128,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    pub token: u128,
    pub name: String,
    pub addresses: Addresses,
    pub locality: Locality,
    pub versions: (u32, u32),
    pub at: Time,
}

/// The members, with those that were removed, and what the cluster may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members {
    pub next_id: u64,
    pub version: u32,
    pub rows: BTreeMap<NodeId, Member>,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberState::Active => "active",
            MemberState::Draining => "draining",
            MemberState::Leaving => "leaving",
            MemberState::Removed => "removed",
        })
    }
}

impl Member {
    /// Whether it still belongs to the cluster.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.state != MemberState::Removed
    }

    /// Whether it may be given replicas and partitions to own.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        self.state == MemberState::Active && self.alive
    }

    fn serves(&self, version: u32) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

impl Default for Members {
    fn default() -> Members {
        // The first node has its id without asking.
        let next_id = FIRST_NODE.0 + 1;
        Members { next_id, version: FIRST_VERSION, rows: BTreeMap::new() }
    }
}

impl Members {
    pub fn join(&mut self, introduction: Introduction) -> MetaOutcome {
        if let Some(node) = self.holder(introduction.token) {
            let stands = self.rows.get(&node).is_some_and(Member::stands);
            return match stands {
                true => MetaOutcome::Joined { node },
                false => MetaOutcome::MemberRemoved { node },
            };
        }
        if MEMBERS_MAX <= self.standing().count() {
            let reason = format!("the cluster has {MEMBERS_MAX} nodes and takes no more");
            return MetaOutcome::JoinRefused { reason };
        }
        if let Some(reason) = self.version_misfit(introduction.versions) {
            return MetaOutcome::JoinRefused { reason };
        }
        let node = NodeId(take(&mut self.next_id));
        self.add(node, introduction);
        MetaOutcome::Joined { node }
    }

    pub fn announce(&mut self, node: NodeId, introduction: Introduction) -> MetaOutcome {
        let refused = |reason| MetaOutcome::MemberRefused { node, reason };
        match self.rows.get(&node) {
            Some(member) if !member.stands() => return MetaOutcome::MemberRemoved { node },
            Some(member) if member.token != introduction.token => {
                let reason = format!(
                    "{node} is \"{}\" with another data directory; this one is a copy, or of \
                     another cluster",
                    member.name
                );
                return refused(reason);
            }
            Some(_) => {}
            None if node != FIRST_NODE => return MetaOutcome::MemberUnknown { node },
            None => {
                if let Some(holder) = self.holder(introduction.token) {
                    return refused(format!("this data directory joined as {holder}"));
                }
                if self.rows.is_empty() {
                    // Nobody else is there who could not follow.
                    self.version = self.version.max(introduction.versions.0);
                }
            }
        }
        if let Some(reason) = self.version_misfit(introduction.versions) {
            return refused(reason);
        }
        self.add(node, introduction);
        MetaOutcome::Announced
    }

    /// `held` are the groups the node has or shall have a replica of.
    pub fn set_state(
        &mut self,
        node: NodeId,
        state: MemberState,
        at: Time,
        held: &[GroupId],
    ) -> MetaOutcome {
        let Some(member) = self.rows.get(&node) else {
            return MetaOutcome::MemberUnknown { node };
        };
        if member.state == state {
            return MetaOutcome::NothingToDo;
        }
        if !member.stands() {
            return MetaOutcome::MemberRemoved { node };
        }
        let refusal = match state {
            MemberState::Active => None,
            MemberState::Draining => (member.state == MemberState::Leaving)
                .then(|| format!("{node} is leaving; make it active first")),
            MemberState::Leaving => self
                .is_last(node)
                .then(|| format!("{node} is the last node that stays; a cluster needs one")),
            MemberState::Removed => (!held.is_empty()).then(|| holds(node, held)),
        };
        if let Some(reason) = refusal {
            return MetaOutcome::MemberRefused { node, reason };
        }
        let member = self.rows.get_mut(&node).expect("it was there");
        member.state = state;
        member.alive &= state != MemberState::Removed;
        member.changed_at = at;
        MetaOutcome::MemberChanged { node, state }
    }

    pub fn set_alive(&mut self, node: NodeId, alive: bool, at: Time) -> MetaOutcome {
        let Some(member) = self.rows.get_mut(&node) else {
            return MetaOutcome::MemberUnknown { node };
        };
        if !member.stands() {
            return MetaOutcome::MemberRemoved { node };
        }
        if member.alive == alive {
            return MetaOutcome::NothingToDo;
        }
        member.alive = alive;
        member.changed_at = at;
        MetaOutcome::MemberChanged { node, state: member.state }
    }

    pub fn raise_version(&mut self, version: u32) -> MetaOutcome {
        if version <= self.version {
            return MetaOutcome::NothingToDo;
        }
        if let Some(member) = self.standing().find(|member| !member.serves(version)) {
            let (node, (min, max)) = (member.node, member.versions);
            let reason = format!("{node} serves versions {min} to {max}");
            return MetaOutcome::VersionRefused { version, reason };
        }
        self.version = version;
        MetaOutcome::VersionRaised { version }
    }

    /// The members that are not removed.
    pub fn standing(&self) -> impl Iterator<Item = &Member> {
        self.rows.values().filter(|member| member.stands())
    }

    fn add(&mut self, node: NodeId, introduction: Introduction) {
        let Introduction { token, name, addresses, locality, versions, at } = introduction;
        let known = self.rows.get(&node);
        let state = known.map_or(MemberState::Active, |member| member.state);
        let changed_at = known.filter(|member| member.alive).map_or(at, |member| member.changed_at);
        let alive = true;
        let member =
            Member { node, name, addresses, locality, state, alive, changed_at, versions, token };
        self.rows.insert(node, member);
    }

    fn holder(&self, token: u128) -> Option<NodeId> {
        self.rows.values().find(|member| member.token == token).map(|member| member.node)
    }

    fn version_misfit(&self, (min, max): (u32, u32)) -> Option<String> {
        let version = self.version;
        let fits = (min..=max).contains(&version);
        (!fits).then(|| {
            format!("the cluster speaks version {version}; this node serves {min} to {max}")
        })
    }

    /// Whether nobody else would stay.
    fn is_last(&self, node: NodeId) -> bool {
        let stays = |member: &Member| match member.state {
            MemberState::Active | MemberState::Draining => true,
            MemberState::Leaving | MemberState::Removed => false,
        };
        !self.rows.values().any(|member| member.node != node && stays(member))
    }
}

fn holds(node: NodeId, held: &[GroupId]) -> String {
    let named: Vec<_> = held.iter().take(GROUPS_NAMED_MAX).map(ToString::to_string).collect();
    let more = if GROUPS_NAMED_MAX < held.len() { ", …" } else { "" };
    let (count, groups) = (held.len(), if held.len() == 1 { "group" } else { "groups" });
    format!("{node} still holds a replica of {count} {groups}: {}{more}", named.join(", "))
}
