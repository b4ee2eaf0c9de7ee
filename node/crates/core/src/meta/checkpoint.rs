//! The stored form of the whole state of the meta group.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 5 | next stream id u64 | next group id u64 | next producer id u64
//! stream count u32   | each, in name order: id u64 | created_at i64 | groups: list of u64
//!                                           | definition
//! producer count u32 | each, in name order: name text | id u64 | epoch u32
//! views, as in [`super::views`]
//! members, as in [`super::member_form`]
//! placements, as in [`super::placement`]
//! access, as in `super::access`
//! ```
//!
//! Versions 1 and 2 were written when a cluster was one node: they end before the members, and
//! version 1 before the views. Their groups are on the first node. Version 3 does not say as of
//! when placements were reported. Version 4 ends before the access: it has the built-in roles
//! alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::access::{decode_access, encode_access};
use super::catalogue::{Meta, Producer};
use super::definition::{decode_definition, encode_definition};
use super::member_form::{decode_members, encode_members};
use super::placement::{Placements, WithAsOf};
use super::views::{Views, WithPartitions};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{Epoch, GroupId, ProducerId, StreamId};
use crate::stream::Stream;
use crate::time::Time;

const VERSION: u8 = 5;
const VERSION_WITHOUT_VIEWS: u8 = 1;
const VERSION_WITHOUT_MEMBERS: u8 = 2;
const VERSION_WITHOUT_AS_OF: u8 = 3;
const VERSION_WITHOUT_ACCESS: u8 = 4;

/// The bytes of a state.
pub(super) fn encode(meta: &Meta) -> Bytes {
    let mut writer = Writer::new();
    writer.u8(VERSION);
    writer.u64(meta.next_stream);
    writer.u64(meta.next_group);
    writer.u64(meta.next_producer);
    writer.count(meta.streams.len());
    for stream in meta.streams.values() {
        writer.u64(stream.id.0);
        writer.i64(stream.created_at.0);
        writer.count(stream.groups.len());
        for group in &stream.groups {
            writer.u64(group.0);
        }
        encode_definition(&mut writer, &stream.definition);
    }
    writer.count(meta.producers.len());
    for (name, producer) in &meta.producers {
        writer.text(name);
        writer.u64(producer.id.0);
        writer.u32(producer.epoch.0);
    }
    meta.views.encode(&mut writer);
    encode_members(&mut writer, &meta.members);
    meta.placements.encode(&mut writer);
    encode_access(&mut writer, &meta.access);
    writer.finish()
}

/// The state of these bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Meta, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.version_up_to(VERSION)?;
    let mut meta = Meta {
        next_stream: reader.u64()?,
        next_group: reader.u64()?,
        next_producer: reader.u64()?,
        ..Meta::default()
    };
    for _ in 0..reader.count(32)? {
        let stream = decode_stream(&mut reader)?;
        meta.streams.insert(stream.definition.name.clone(), Arc::new(stream));
    }
    for _ in 0..reader.count(16)? {
        let name = reader.text()?.to_owned();
        let producer = Producer { id: ProducerId(reader.u64()?), epoch: Epoch(reader.u32()?) };
        meta.producer_names.insert(producer.id, name.clone());
        meta.producers.insert(name, producer);
    }
    match version {
        VERSION_WITHOUT_VIEWS => {}
        VERSION_WITHOUT_MEMBERS => meta.views = Views::decode(&mut reader, WithPartitions::No)?,
        _ => meta.views = Views::decode(&mut reader, WithPartitions::Yes)?,
    }
    let groups = meta.streams.values().flat_map(|stream| stream.groups.iter().copied());
    if VERSION_WITHOUT_MEMBERS < version {
        meta.members = decode_members(&mut reader)?;
        let with = if version == VERSION_WITHOUT_AS_OF { WithAsOf::No } else { WithAsOf::Yes };
        meta.placements = Placements::decode(&mut reader, with)?;
        meta.placements.check(groups, &meta.members)?;
    } else {
        meta.placements = Placements::on_first_node(groups);
    }
    if VERSION_WITHOUT_ACCESS < version {
        let is_table = |name: &str| meta.is_table(name);
        meta.access = Arc::new(decode_access(&mut reader, &is_table)?);
    }
    reader.end()?;
    check_ids(&meta)?;
    meta.views.check(&meta.streams)?;
    Ok(meta)
}

fn decode_stream(reader: &mut Reader<'_>) -> Result<Stream, Malformed> {
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
