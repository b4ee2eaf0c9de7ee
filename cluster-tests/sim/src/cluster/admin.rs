//! What people say to a cluster: begin, join, make a stream, drain, stay, leave.

use alluvium_core::ids::{GroupId, NodeId};
use alluvium_core::meta::{Locality, MemberState, MetaCommand};
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;

use super::catalogue::addresses;
use super::node::{Asker, Change, Node};
use super::{Client, Cluster, Happening, Twist};
use crate::load::Producer;
use crate::plan::SECOND;
use crate::violation::Violation;

/// Fewest nodes a person lets a cluster have.
const NODES_MIN: usize = 3;
/// Most nodes at a time.
const NODES_MAX: usize = 6;

/// A directory that is to be a node.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    token: u128,
    joined: bool,
    /// The node whose disk will lie, kept with the first directory.
    pub liar: Option<NodeId>,
}

impl Cluster {
    /// The first node begins the cluster.
    pub(super) fn found(&mut self) -> Result<(), Violation> {
        self.joiners.push(Joiner { token: 1, joined: true, liar: None });
        self.nodes.insert(NodeId(1), Node::new(NodeId(1), 1));
        self.start(NodeId(1))
    }

    /// A fresh directory is going to ask for a place.
    pub(super) fn want_to_join(&mut self, later: u64) {
        let place = self.joiners.len();
        let token = place as u128 + 1;
        self.joiners.push(Joiner { token, joined: false, liar: None });
        self.after(later, Happening::Join(place));
    }

    /// A directory asks some node, until it has an id.
    pub(super) fn join(&mut self, place: usize) -> Result<(), Violation> {
        if self.joiners[place].joined {
            return Ok(());
        }
        self.after(SECOND, Happening::Join(place));
        if self.twist == Some(Twist::TokenDrawnAgain) {
            self.joiners[place].token = u128::from(self.chance.seed());
        }
        let token = self.joiners[place].token;
        let asked = self.some_node();
        let Some(node) = self.nodes.get(&asked).filter(|node| node.up) else { return Ok(()) };
        // From any member to the leader it knows.
        let leader = node.replica(GroupId::META).and_then(|replica| replica.status().leader);
        let Some(leader) = leader else { return Ok(()) };
        let lost = !self.calm && self.chance.per_mille(self.plan.client_loss);
        let there = self.nodes.get(&leader).is_some_and(|node| node.up);
        if lost || !there || self.paused(leader).is_some() {
            return Ok(());
        }
        let at = self.clock(leader);
        let command = MetaCommand::Join {
            token,
            name: format!("d{place}"),
            addresses: addresses(),
            locality: Locality::new(),
            versions: (1, 1),
            at,
        };
        self.change_here(leader, Change { command, asker: Asker::Joiner(place) })
    }

    /// A directory hears the id it was given, and starts.
    pub(super) fn joined(&mut self, place: usize, id: NodeId) -> Result<(), Violation> {
        let joiner = &mut self.joiners[place];
        if std::mem::replace(&mut joiner.joined, true) {
            return Ok(());
        }
        let mut node = Node::new(id, joiner.token);
        node.lies = self.joiners[0].liar == Some(id);
        self.nodes.insert(id, node);
        self.trace.line(self.now, format_args!("directory {place} is {id}"));
        self.start(id)
    }

    /// Someone makes a stream, until it is there.
    pub(super) fn create(&mut self, number: usize) -> Result<(), Violation> {
        if self.made.contains(&number) {
            return Ok(());
        }
        self.after(2 * SECOND, Happening::Create(number));
        let node = self.some_node();
        if !self.nodes[&node].up || self.paused(node).is_some() {
            return Ok(());
        }
        let created_at = self.clock(node);
        let definition = self.definition(number);
        let command = MetaCommand::CreateStream { definition, if_not_exists: true, created_at };
        self.change(node, Change { command, asker: Asker::Creator(number) })
    }

    fn definition(&self, number: usize) -> StreamDefinition {
        let id = Column { name: "id".into(), column_type: ColumnType::BigInt, nullable: false };
        StreamDefinition {
            name: name_of(number),
            schema: StreamSchema::new(vec![id]).expect("one column is a schema"),
            partition_by: vec![0],
            event_time: None,
            partitions: self.plan.streams[number],
            retention: None,
            replicas: 3,
        }
    }

    /// A stream is there, as the leader of the meta group says: producers begin.
    pub(super) fn stream_made(&mut self, id: NodeId, number: usize) {
        let meta = self.nodes.get(&id).and_then(|node| node.meta());
        let Some(stream) = meta.and_then(|meta| meta.stream(&name_of(number))).cloned() else {
            return;
        };
        if !self.made.insert(number) {
            return;
        }
        for &group in &stream.groups {
            for _ in 0..self.plan.producer_count {
                let place = self.clients.len();
                let mut producer = Producer::new(place as u64);
                producer.owner = self.some_node();
                self.clients.push(Client { producer, group });
                self.after(self.plan.think, Happening::Produce(place));
            }
        }
    }

    /// Someone says something to the cluster.
    pub(super) fn administer(&mut self) -> Result<(), Violation> {
        self.sometime(self.plan.administer_every, Happening::Administer);
        if self.calm {
            return Ok(());
        }
        let at = self.some_node();
        let Some(meta) = self.nodes[&at].meta() else { return Ok(()) };
        let standing: Vec<(NodeId, MemberState)> = meta
            .members()
            .values()
            .filter(|member| member.stands())
            .map(|member| (member.node, member.state))
            .collect();
        let stay = standing.iter().filter(|(id, state)| {
            *state != MemberState::Leaving && self.nodes.get(id).is_some_and(|node| !node.gone)
        });
        let staying: Vec<NodeId> = stay.map(|(id, _)| *id).collect();
        if staying.is_empty() {
            return Ok(());
        }
        let node = *self.chance.pick(&staying);
        let joining = self.joiners.iter().any(|joiner| !joiner.joined);
        match self.chance.between(0, 5) {
            0 if standing.len() < NODES_MAX && !joining => {
                self.want_to_join(0);
                Ok(())
            }
            1 if NODES_MIN < staying.len() => self.set_state(at, node, MemberState::Leaving),
            2 | 3 => self.set_state(at, node, MemberState::Draining),
            _ => self.set_state(at, node, MemberState::Active),
        }
    }

    /// A person says at one node what another is to do.
    pub(super) fn set_state(
        &mut self,
        at: NodeId,
        node: NodeId,
        state: MemberState,
    ) -> Result<(), Violation> {
        if !self.nodes[&at].up || self.paused(at).is_some() {
            return Ok(());
        }
        self.trace.line(self.now, format_args!("{node} shall be {state}, somebody says at {at}"));
        let command = MetaCommand::SetMemberState { node, state, at: self.clock(at) };
        self.change(at, Change { command, asker: Asker::Nobody })
    }

    /// Nodes that are lost are given up, until the catalogue knows; in the end drained ones are to
    /// serve again, so that every group has room.
    pub(super) fn care(&mut self) -> Result<(), Violation> {
        let again = self.chance.around(4 * SECOND);
        self.after(again, Happening::Care);
        let at = self.some_node();
        let Some(meta) = self.nodes[&at].meta() else { return Ok(()) };
        let lost = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.gone);
        let mut due = Vec::new();
        for member in meta.members().values() {
            match member.state {
                MemberState::Active | MemberState::Draining if lost(&member.node) => {
                    due.push((member.node, MemberState::Leaving));
                }
                MemberState::Draining if self.calm => {
                    due.push((member.node, MemberState::Active));
                }
                MemberState::Active
                | MemberState::Draining
                | MemberState::Leaving
                | MemberState::Removed => {}
            }
        }
        for (node, state) in due {
            self.set_state(at, node, state)?;
        }
        Ok(())
    }
}

fn name_of(number: usize) -> String {
    format!("s{number}")
}
