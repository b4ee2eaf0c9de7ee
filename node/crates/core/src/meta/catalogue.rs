//! The state of the meta group and how commands change it.
//!
//! Checkpoint, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 2 | next stream id u64 | next group id u64 | next producer id u64
//! stream count u32   | each, in name order: id u64 | created_at i64 | groups: list of u64
//!                                           | definition
//! producer count u32 | each, in name order: name text | id u64 | epoch u32
//! views, as in [`super::views`]; version 1 ends before them and has none
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::command::MetaCommand;
use super::definition::{decode_definition, encode_definition};
use super::outcome::{MetaOutcome, TableKind};
use super::views::{CreateView, Views};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{Epoch, GroupId, Index, ProducerId, StreamId};
use crate::replica::{CorruptCheckpoint, CorruptCommand, Machine};
use crate::stream::{Stream, StreamDefinition};
use crate::time::Time;
use crate::view::ViewEntry;

const CHECKPOINT_VERSION: u8 = 2;
const CHECKPOINT_VERSION_WITHOUT_VIEWS: u8 = 1;
pub(super) const FIRST_ID: u64 = 1;
const FIRST_EPOCH: Epoch = Epoch(1);

/// The catalogue. The default is an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    next_stream: u64,
    next_group: u64,
    next_producer: u64,
    streams: BTreeMap<String, Arc<Stream>>,
    producers: BTreeMap<String, Producer>,
    /// The names of `producers`, the other way round.
    producer_names: BTreeMap<ProducerId, String>,
    views: Views,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    id: ProducerId,
    epoch: Epoch,
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
            (Some(stream), _) => MetaOutcome::StreamDropped(stream),
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
}

/// Gives out an id. A counter only goes up, so an id is never given out twice.
pub(super) fn take(next: &mut u64) -> u64 {
    let id = *next;
    *next = id.checked_add(1).expect("nobody makes 2^64 of anything");
    id
}

impl Machine for Meta {
    type Outcome = MetaOutcome;

    fn apply(&mut self, _index: Index, command: &Bytes) -> Result<MetaOutcome, CorruptCommand> {
        let outcome = match MetaCommand::decode(command)? {
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
            MetaCommand::DropView { name, if_exists } => {
                self.views.drop_view(name, if_exists, &self.streams)
            }
            MetaCommand::RebuildView { name, created_at } => self.views.rebuild(name, created_at),
            MetaCommand::ResumeView { name } => self.views.resume(name),
            MetaCommand::CancelView { name } => self.views.cancel(name),
        };
        Ok(outcome)
    }

    fn checkpoint(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(CHECKPOINT_VERSION);
        writer.u64(self.next_stream);
        writer.u64(self.next_group);
        writer.u64(self.next_producer);
        writer.count(self.streams.len());
        for stream in self.streams.values() {
            writer.u64(stream.id.0);
            writer.i64(stream.created_at.0);
            writer.count(stream.groups.len());
            for group in &stream.groups {
                writer.u64(group.0);
            }
            encode_definition(&mut writer, &stream.definition);
        }
        writer.count(self.producers.len());
        for (name, producer) in &self.producers {
            writer.text(name);
            writer.u64(producer.id.0);
            writer.u32(producer.epoch.0);
        }
        self.views.encode(&mut writer);
        writer.finish()
    }

    fn restore(bytes: &[u8]) -> Result<Meta, CorruptCheckpoint> {
        restore(bytes).map_err(|malformed| CorruptCheckpoint::new(format!("meta: {malformed}")))
    }
}

fn restore(bytes: &[u8]) -> Result<Meta, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.version_up_to(CHECKPOINT_VERSION)?;
    let mut meta = Meta {
        next_stream: reader.u64()?,
        next_group: reader.u64()?,
        next_producer: reader.u64()?,
        ..Meta::default()
    };
    for _ in 0..reader.count(32)? {
        let stream = restore_stream(&mut reader)?;
        meta.streams.insert(stream.definition.name.clone(), Arc::new(stream));
    }
    for _ in 0..reader.count(16)? {
        let name = reader.text()?.to_owned();
        let producer = Producer { id: ProducerId(reader.u64()?), epoch: Epoch(reader.u32()?) };
        meta.producer_names.insert(producer.id, name.clone());
        meta.producers.insert(name, producer);
    }
    if CHECKPOINT_VERSION_WITHOUT_VIEWS < version {
        meta.views = Views::decode(&mut reader)?;
    }
    reader.end()?;
    check_ids(&meta)?;
    meta.views.check(&meta.streams)?;
    Ok(meta)
}

fn restore_stream(reader: &mut Reader<'_>) -> Result<Stream, Malformed> {
    let id = StreamId(reader.u64()?);
    let created_at = Time(reader.i64()?);
    let mut groups = Vec::new();
    for _ in 0..reader.count(8)? {
        groups.push(GroupId(reader.u64()?));
    }
    let definition = decode_definition(reader)?;
    if groups.len() != definition.partitions as usize {
        let (name, partitions) = (&definition.name, definition.partitions);
        let reason = format!("{} groups for {partitions} partitions of \"{name}\"", groups.len());
        return Err(Malformed::inconsistent(reason));
    }
    Ok(Stream { id, definition, groups, created_at })
}

/// An id given out twice would mix the events of two partitions, so a checkpoint that allows it is
/// not believed.
fn check_ids(meta: &Meta) -> Result<(), Malformed> {
    let mut groups = BTreeSet::from([GroupId::META]);
    for stream in meta.streams.values() {
        let name = &stream.definition.name;
        if meta.next_stream <= stream.id.0 {
            return Err(Malformed::inconsistent(format!("id of \"{name}\" is not given out yet")));
        }
        for &group in &stream.groups {
            if meta.next_group <= group.0 || !groups.insert(group) {
                let reason = format!("group {group} of \"{name}\" is not its own");
                return Err(Malformed::inconsistent(reason));
            }
        }
    }
    let last_producer = meta.producer_names.last_key_value().map_or(0, |(id, _)| id.0);
    let is_one_to_one = meta.producer_names.len() == meta.producers.len();
    if meta.next_producer <= last_producer || !is_one_to_one {
        return Err(Malformed::inconsistent("producer ids are not their own"));
    }
    Ok(())
}
