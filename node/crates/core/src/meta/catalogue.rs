//! The state of the meta group and how commands change it.
//!
//! Invariants: an id is given to one thing only, also after that is gone; every group of a stream,
//! and the meta group, has a placement.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::access::{Access, AccessCommand, InvalidAccess};
use super::checkpoint;
use super::command::MetaCommand;
use super::members::{Introduction, Member, Members};
use super::outcome::{MetaOutcome, TableKind};
use super::placement::{Placement, Placements, Report};
use super::views::{CreateView, Views};
use crate::ids::{Epoch, GroupId, Index, NodeId, ProducerId, StreamId};
use crate::replica::{CorruptCheckpoint, CorruptCommand, Machine};
use crate::stream::{Stream, StreamDefinition};
use crate::time::Time;
use crate::view::ViewEntry;

pub(super) const FIRST_ID: u64 = 1;
const FIRST_EPOCH: Epoch = Epoch(1);

/// The catalogue, the members and the placement. The default is that of a cluster which just began:
/// nothing in it, and the meta group on its first node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub(super) next_stream: u64,
    pub(super) next_group: u64,
    pub(super) next_producer: u64,
    pub(super) streams: BTreeMap<String, Arc<Stream>>,
    pub(super) producers: BTreeMap<String, Producer>,
    /// The names of `producers`, the other way round.
    pub(super) producer_names: BTreeMap<ProducerId, String>,
    pub(super) views: Views,
    pub(super) members: Members,
    pub(super) placements: Placements,
    /// Shared with whoever decides by it.
    pub(super) access: Arc<Access>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub id: ProducerId,
    pub epoch: Epoch,
}

impl Default for Meta {
    fn default() -> Meta {
        Meta {
            next_stream: FIRST_ID,
            // Group 0 is the meta group itself.
            next_group: GroupId::META.0 + 1,
            next_producer: FIRST_ID,
            streams: BTreeMap::new(),
            producers: BTreeMap::new(),
            producer_names: BTreeMap::new(),
            views: Views::default(),
            members: Members::default(),
            placements: Placements::default(),
            access: Arc::default(),
        }
    }
}

impl Meta {
    /// The streams, by name.
    #[must_use]
    pub fn streams(&self) -> &BTreeMap<String, Arc<Stream>> {
        &self.streams
    }

    /// One stream.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.get(name)
    }

    /// The views, by name.
    #[must_use]
    pub fn views(&self) -> &BTreeMap<String, ViewEntry> {
        self.views.entries()
    }

    /// One view.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<&ViewEntry> {
        self.views.entries().get(name)
    }

    /// The views that read a stream or view, in order.
    #[must_use]
    pub fn dependants(&self, name: &str) -> Vec<String> {
        self.views.dependants(name)
    }

    /// The name a producer was opened by.
    #[must_use]
    pub fn producer_name(&self, producer: ProducerId) -> Option<&str> {
        self.producer_names.get(&producer).map(String::as_str)
    }

    /// The id and the newest epoch of a producer.
    #[must_use]
    pub fn producer(&self, name: &str) -> Option<(ProducerId, Epoch)> {
        self.producers.get(name).map(|producer| (producer.id, producer.epoch))
    }

    /// The members, by id, with those that were removed.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members.rows
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.rows.get(&node)
    }

    /// Where the groups are and shall be, the meta group first.
    #[must_use]
    pub fn placements(&self) -> &BTreeMap<GroupId, Placement> {
        self.placements.rows()
    }

    /// Where one group is and shall be.
    #[must_use]
    pub fn placement(&self, group: GroupId) -> Option<&Placement> {
        self.placements.rows().get(&group)
    }

    /// What the cluster may speak. A newer kind of command or message waits until this is raised.
    #[must_use]
    pub fn cluster_version(&self) -> u32 {
        self.members.version
    }

    /// The newest version that every member can serve; `None` without members.
    #[must_use]
    pub fn version_served(&self) -> Option<u32> {
        self.members.standing().map(|member| member.versions.1).min()
    }

    /// Who may touch what.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Whether a stream or a view has this name.
    #[must_use]
    pub fn is_table(&self, name: &str) -> bool {
        self.streams.contains_key(name) || self.view(name).is_some()
    }

    fn create_stream(
        &mut self,
        definition: StreamDefinition,
        if_not_exists: bool,
        created_at: Time,
    ) -> MetaOutcome {
        let name = definition.name.clone();
        if self.view(&name).is_some() {
            return MetaOutcome::NameTaken { name, what: TableKind::View };
        }
        match (self.streams.contains_key(&name), if_not_exists) {
            (true, true) => return MetaOutcome::NothingToDo,
            (true, false) => return MetaOutcome::StreamExists { name },
            (false, _) => {}
        }
        let id = StreamId(take(&mut self.next_stream));
        let groups =
            (0..definition.partitions).map(|_| GroupId(take(&mut self.next_group))).collect();
        let stream = Arc::new(Stream { id, definition, groups, created_at });
        let replicas = stream.definition.replicas;
        self.placements.create(&stream.groups, replicas, &self.members);
        self.streams.insert(name, Arc::clone(&stream));
        MetaOutcome::StreamCreated(stream)
    }

    fn drop_stream(&mut self, name: String, if_exists: bool) -> MetaOutcome {
        if self.view(&name).is_some() {
            return MetaOutcome::NameTaken { name, what: TableKind::View };
        }
        let dependants = self.dependants(&name);
        if !dependants.is_empty() {
            return MetaOutcome::HasDependants { name, dependants };
        }
        match (self.streams.remove(&name), if_exists) {
            (Some(stream), _) => {
                self.placements.remove(&stream.groups);
                MetaOutcome::StreamDropped(stream)
            }
            (None, true) => MetaOutcome::NothingToDo,
            (None, false) => MetaOutcome::StreamUnknown { name },
        }
    }

    fn open_producer(&mut self, name: String) -> MetaOutcome {
        if let Some(producer) = self.producers.get_mut(&name) {
            let epoch = producer.epoch.0.checked_add(1).expect("nobody opens 2^32 times");
            producer.epoch = Epoch(epoch);
            return MetaOutcome::ProducerOpened { id: producer.id, epoch: producer.epoch };
        }
        let producer =
            Producer { id: ProducerId(take(&mut self.next_producer)), epoch: FIRST_EPOCH };
        self.producer_names.insert(producer.id, name.clone());
        self.producers.insert(name, producer);
        MetaOutcome::ProducerOpened { id: producer.id, epoch: producer.epoch }
    }

    fn execute(&mut self, index: Index, command: MetaCommand) -> MetaOutcome {
        match command {
            MetaCommand::CreateStream { definition, if_not_exists, created_at } => {
                self.create_stream(definition, if_not_exists, created_at)
            }
            MetaCommand::DropStream { name, if_exists } => self.drop_stream(name, if_exists),
            MetaCommand::OpenProducer { name } => self.open_producer(name),
            MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at } => {
                let create = CreateView { definition, if_not_exists, or_replace, created_at };
                self.views.create(create, &self.streams)
            }
            MetaCommand::SwitchView { name, id } => self.views.switch(name, id),
            MetaCommand::PartCaughtUp { name, id, partition } => {
                self.views.part_caught_up(name, id, partition, &self.streams)
            }
            MetaCommand::DropView { name, if_exists } => {
                self.views.drop_view(name, if_exists, &self.streams)
            }
            MetaCommand::RebuildView { name, created_at } => self.views.rebuild(name, created_at),
            MetaCommand::ResumeView { name } => self.views.resume(name),
            MetaCommand::CancelView { name } => self.views.cancel(name),
            MetaCommand::Join { token, name, addresses, locality, versions, at } => {
                let joining = Introduction { token, name, addresses, locality, versions, at };
                self.members.join(joining)
            }
            MetaCommand::Announce { node, token, name, addresses, locality, versions, at } => {
                let announced = Introduction { token, name, addresses, locality, versions, at };
                self.members.announce(node, announced)
            }
            MetaCommand::SetMemberState { node, state, at } => {
                let held = self.placements.held_by(node);
                self.members.set_state(node, state, at, &held)
            }
            MetaCommand::SetAlive { node, alive, at } => self.members.set_alive(node, alive, at),
            MetaCommand::Place { group, wanted, leader } => {
                self.placements.place(group, wanted, leader, index, &self.members)
            }
            MetaCommand::Moved { group, voters, as_of, by } => {
                let report = Report { voters, as_of, by };
                self.placements.moved(group, report, &self.members)
            }
            MetaCommand::RaiseVersion { version } => self.members.raise_version(version),
            MetaCommand::Access(command) => self.change_access(command),
            MetaCommand::Owned { owner, create } => self.create_owned(index, &owner, *create),
        }
    }

    fn change_access(&mut self, command: AccessCommand) -> MetaOutcome {
        let is_table = |name: &str| self.streams.contains_key(name) || self.views.has(name);
        match self.access.execute(command, &is_table) {
            Ok(next) if next == *self.access => MetaOutcome::NothingToDo,
            Ok(next) => {
                self.access = Arc::new(next);
                MetaOutcome::AccessChanged
            }
            Err(invalid) => MetaOutcome::AccessRefused(invalid),
        }
    }

    /// What is replaced keeps its owner.
    fn create_owned(&mut self, index: Index, owner: &str, create: MetaCommand) -> MetaOutcome {
        if !self.access.roles().contains_key(owner) {
            let name = owner.to_owned();
            return MetaOutcome::AccessRefused(InvalidAccess::RoleUnknown { name });
        }
        let outcome = self.execute(index, create);
        if let MetaOutcome::StreamCreated(stream) = &outcome {
            Arc::make_mut(&mut self.access).own(&stream.definition.name, owner);
        }
        if let MetaOutcome::ViewCreated(view) = &outcome {
            Arc::make_mut(&mut self.access).own(&view.definition.name, owner);
        }
        outcome
    }

    /// Rights on what is gone go with it: what comes later under the same name is something else.
    fn forget_rights(&mut self, outcome: &MetaOutcome) {
        if let MetaOutcome::StreamDropped(stream) = outcome {
            Arc::make_mut(&mut self.access).forget_table(&stream.definition.name);
        }
        if let MetaOutcome::ViewDropped(entry) = outcome {
            Arc::make_mut(&mut self.access).forget_table(&entry.current.definition.name);
        }
    }
}

/// Gives out an id. A counter only goes up, so an id is never given out twice.
pub(super) fn take(next: &mut u64) -> u64 {
    let id = *next;
    *next = id.checked_add(1).expect("nobody makes 2^64 of anything");
    id
}

impl Machine for Meta {
    type Outcome = MetaOutcome;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<MetaOutcome, CorruptCommand> {
        let outcome = self.execute(index, MetaCommand::decode(command)?);
        self.views.forget_ended();
        self.forget_rights(&outcome);
        Ok(outcome)
    }

    fn checkpoint(&self) -> Bytes {
        checkpoint::encode(self)
    }

    fn restore(bytes: &[u8]) -> Result<Meta, CorruptCheckpoint> {
        let restored = checkpoint::decode(bytes);
        restored.map_err(|malformed| CorruptCheckpoint::new(format!("meta: {malformed}")))
    }
}
