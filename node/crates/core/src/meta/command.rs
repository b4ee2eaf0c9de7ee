//! What a log entry of the meta group asks for, and its bytes.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 1 | kind u8
//! kind 1, create stream: if_not_exists flag | created_at i64 | definition
//! kind 2, drop stream:   if_exists flag | name text
//! kind 3, open producer: name text
//! kind 4, create view:   if_not_exists flag | or_replace flag | created_at i64 | view definition
//! kind 5, switch view:   name text | id u64
//! kind 6, drop view:     if_exists flag | name text
//! kind 7, rebuild view:  created_at i64 | name text
//! kind 8, resume view:   name text
//! kind 9, cancel view:   name text
//! kind 10, join:             introduction
//! kind 11, announce:         node u64 | introduction
//! kind 12, set member state: node u64 | state | at i64
//! kind 13, set alive:        node u64 | alive flag | at i64
//! kind 14, place:            group u64 | wanted: nodes | leader u64
//! kind 15, moved:            group u64 | voters: nodes; as of 0 by 0, as older versions wrote it
//! kind 16, part caught up:   name text | id u64 | partition u32
//! kind 17, raise version:    version u32
//! kind 18, moved as of:      group u64 | voters: nodes | as_of u64 | by u64
//! kind 19, access:        command of roles, grants and policies, as in `access::form`
//! kind 20, owned:         owner text | create stream or create view, as bytes
//! ```
//!
//! Introduction, state and nodes are as in `member_form`.

use bytes::Bytes;

use super::access::{AccessCommand, decode_access_command, encode_access_command};
use super::definition::{decode_definition, encode_definition};
use super::member_form::{
    decode_introduction, decode_nodes, decode_state, encode_introduction, encode_nodes,
    encode_state,
};
use super::members::{Addresses, Introduction, Locality, MemberState};
use super::names::check_producer_name;
use super::view_form::{decode_view_definition, encode_view_definition};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{GroupId, Index, NodeId, PartitionNumber, ViewId};
use crate::replica::CorruptCommand;
use crate::stream::StreamDefinition;
use crate::time::Time;
use crate::view::ViewDefinition;

/// What an entry of the meta group asks for. The proposer has checked names and definition
/// ([`super::check_name`], [`super::definition::check_definition`], [`super::check_view`],
/// [`super::check_member`]): what does not pass them cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaCommand {
    /// Add a stream.
    CreateStream {
        /// What it is.
        definition: StreamDefinition,
        /// A stream of this name is no error.
        if_not_exists: bool,
        /// The proposer's time.
        created_at: Time,
    },
    /// Drop a stream with its events.
    DropStream {
        /// Which.
        name: String,
        /// No stream of this name is no error.
        if_exists: bool,
    },
    /// Begin a new life of a producer, its first or a further one.
    OpenProducer {
        /// Which.
        name: String,
    },
    /// Add a view, or begin another life of one.
    CreateView {
        /// What it is.
        definition: ViewDefinition,
        /// A view of this name is no error; it stays as it is.
        if_not_exists: bool,
        /// A view of this name is replaced: at once where there is nothing to build, else when the
        /// new life has caught up.
        or_replace: bool,
        /// The proposer's time.
        created_at: Time,
    },
    /// A life of a view has caught up: readers are to see it. Nothing happens when it is not the
    /// one being built.
    SwitchView {
        /// Which.
        name: String,
        /// The life.
        id: ViewId,
    },
    /// Drop a view with its state.
    DropView {
        /// Which.
        name: String,
        /// No view of this name is no error.
        if_exists: bool,
    },
    /// Build the view again beside itself, from the log.
    RebuildView {
        /// Which.
        name: String,
        /// The proposer's time.
        created_at: Time,
    },
    /// Let a parked view go on.
    ResumeView {
        /// Which.
        name: String,
    },
    /// Give up what is being built: the next life, or the whole view while its first life has not
    /// caught up.
    CancelView {
        /// Which.
        name: String,
    },
    /// A data directory without an id asks to be a member. The same token gets the same id.
    Join {
        /// Drawn by the data directory.
        token: u128,
        /// What people call the node.
        name: String,
        /// Where it is reached.
        addresses: Addresses,
        /// Where it stands.
        locality: Locality,
        /// The lowest and the highest cluster version it can serve.
        versions: (u32, u32),
        /// The proposer's time.
        at: Time,
    },
    /// A node with an id has started, or is heard of again: it is alive and as it says.
    Announce {
        /// Its id.
        node: NodeId,
        /// As when it joined.
        token: u128,
        /// What people call the node.
        name: String,
        /// Where it is reached.
        addresses: Addresses,
        /// Where it stands.
        locality: Locality,
        /// The lowest and the highest cluster version it can serve.
        versions: (u32, u32),
        /// The proposer's time.
        at: Time,
    },
    /// What a member is meant to do from now on.
    SetMemberState {
        /// Which.
        node: NodeId,
        /// What.
        state: MemberState,
        /// The proposer's time.
        at: Time,
    },
    /// A member was not heard of for a while, or is again.
    SetAlive {
        /// Which.
        node: NodeId,
        /// Whether it is.
        alive: bool,
        /// The proposer's time.
        at: Time,
    },
    /// Where a group shall be.
    Place {
        /// Which.
        group: GroupId,
        /// Voters there shall be.
        wanted: Vec<NodeId>,
        /// Which of them shall own it.
        leader: NodeId,
    },
    /// Where a group is, by its owner. Nothing happens when the catalogue knows it as of a later
    /// place of the group's log: who owned the group before may say so late.
    Moved {
        /// Which.
        group: GroupId,
        /// The voters it has.
        voters: Vec<NodeId>,
        /// Up to where the owner had executed the group's log when it had these.
        as_of: Index,
        /// The placement it acts by: [`super::Placement::placed_at`].
        by: Index,
    },
    /// One partition of a life of a view has caught up, by its owner. When all have, readers are to
    /// see the life.
    PartCaughtUp {
        /// The view.
        name: String,
        /// The life.
        id: ViewId,
        /// The partition of the stream it folds.
        partition: PartitionNumber,
    },
    /// What the cluster may speak from now on.
    RaiseVersion {
        /// The version.
        version: u32,
    },
    /// Change roles, grants, owners or policies.
    Access(AccessCommand),
    /// Add a stream or a view that shall belong to somebody.
    Owned {
        /// The role.
        owner: String,
        /// [`MetaCommand::CreateStream`] or [`MetaCommand::CreateView`].
        create: Box<MetaCommand>,
    },
}

const VERSION: u8 = 1;
const KIND_CREATE_STREAM: u8 = 1;
const KIND_DROP_STREAM: u8 = 2;
const KIND_OPEN_PRODUCER: u8 = 3;
const KIND_CREATE_VIEW: u8 = 4;
const KIND_SWITCH_VIEW: u8 = 5;
const KIND_DROP_VIEW: u8 = 6;
const KIND_REBUILD_VIEW: u8 = 7;
const KIND_RESUME_VIEW: u8 = 8;
const KIND_CANCEL_VIEW: u8 = 9;
const KIND_JOIN: u8 = 10;
const KIND_ANNOUNCE: u8 = 11;
const KIND_SET_MEMBER_STATE: u8 = 12;
const KIND_SET_ALIVE: u8 = 13;
const KIND_PLACE: u8 = 14;
const KIND_MOVED_AS_OF_0: u8 = 15;
const KIND_PART_CAUGHT_UP: u8 = 16;
const KIND_RAISE_VERSION: u8 = 17;
const KIND_MOVED: u8 = 18;
const KIND_ACCESS: u8 = 19;
const KIND_OWNED: u8 = 20;

impl MetaCommand {
    /// The bytes of this command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(VERSION);
        writer.u8(self.kind());
        self.encode_body(&mut writer);
        writer.finish()
    }

    fn kind(&self) -> u8 {
        match self {
            MetaCommand::CreateStream { .. } => KIND_CREATE_STREAM,
            MetaCommand::DropStream { .. } => KIND_DROP_STREAM,
            MetaCommand::OpenProducer { .. } => KIND_OPEN_PRODUCER,
            MetaCommand::CreateView { .. } => KIND_CREATE_VIEW,
            MetaCommand::SwitchView { .. } => KIND_SWITCH_VIEW,
            MetaCommand::DropView { .. } => KIND_DROP_VIEW,
            MetaCommand::RebuildView { .. } => KIND_REBUILD_VIEW,
            MetaCommand::ResumeView { .. } => KIND_RESUME_VIEW,
            MetaCommand::CancelView { .. } => KIND_CANCEL_VIEW,
            MetaCommand::Join { .. } => KIND_JOIN,
            MetaCommand::Announce { .. } => KIND_ANNOUNCE,
            MetaCommand::SetMemberState { .. } => KIND_SET_MEMBER_STATE,
            MetaCommand::SetAlive { .. } => KIND_SET_ALIVE,
            MetaCommand::Place { .. } => KIND_PLACE,
            MetaCommand::Moved { .. } => KIND_MOVED,
            MetaCommand::PartCaughtUp { .. } => KIND_PART_CAUGHT_UP,
            MetaCommand::RaiseVersion { .. } => KIND_RAISE_VERSION,
            MetaCommand::Access(_) => KIND_ACCESS,
            MetaCommand::Owned { .. } => KIND_OWNED,
        }
    }

    fn encode_body(&self, writer: &mut Writer) {
        match self {
            MetaCommand::CreateStream { definition, if_not_exists, created_at } => {
                writer.flag(*if_not_exists);
                writer.i64(created_at.0);
                encode_definition(writer, definition);
            }
            MetaCommand::DropStream { name, if_exists }
            | MetaCommand::DropView { name, if_exists } => {
                writer.flag(*if_exists);
                writer.text(name);
            }
            MetaCommand::OpenProducer { name }
            | MetaCommand::ResumeView { name }
            | MetaCommand::CancelView { name } => writer.text(name),
            MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at } => {
                writer.flag(*if_not_exists);
                writer.flag(*or_replace);
                writer.i64(created_at.0);
                encode_view_definition(writer, definition);
            }
            MetaCommand::SwitchView { name, id } => {
                writer.text(name);
                writer.u64(id.0);
            }
            MetaCommand::RebuildView { name, created_at } => {
                writer.i64(created_at.0);
                writer.text(name);
            }
            MetaCommand::Join { token, name, addresses, locality, versions, at } => {
                encode_introduction(writer, *token, name, addresses, locality, *versions, *at);
            }
            MetaCommand::Announce { node, token, name, addresses, locality, versions, at } => {
                writer.u64(node.0);
                encode_introduction(writer, *token, name, addresses, locality, *versions, *at);
            }
            MetaCommand::SetMemberState { node, state, at } => {
                writer.u64(node.0);
                encode_state(writer, *state);
                writer.i64(at.0);
            }
            MetaCommand::SetAlive { node, alive, at } => {
                writer.u64(node.0);
                writer.flag(*alive);
                writer.i64(at.0);
            }
            MetaCommand::Place { group, wanted, leader } => {
                writer.u64(group.0);
                encode_nodes(writer, wanted);
                writer.u64(leader.0);
            }
            MetaCommand::Moved { group, voters, as_of, by } => {
                writer.u64(group.0);
                encode_nodes(writer, voters);
                writer.u64(as_of.0);
                writer.u64(by.0);
            }
            MetaCommand::PartCaughtUp { name, id, partition } => {
                writer.text(name);
                writer.u64(id.0);
                writer.u32(partition.0);
            }
            MetaCommand::RaiseVersion { version } => writer.u32(*version),
            MetaCommand::Access(command) => encode_access_command(writer, command),
            MetaCommand::Owned { owner, create } => {
                writer.text(owner);
                writer.bytes(&create.encode());
            }
        }
    }

    /// The command of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<MetaCommand, CorruptCommand> {
        decode(bytes).map_err(|malformed| CorruptCommand::new(format!("meta command: {malformed}")))
    }
}

fn decode(bytes: &[u8]) -> Result<MetaCommand, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.version(VERSION)?;
    let at = reader.position();
    let kind = reader.u8()?;
    let command = match kind {
        KIND_CREATE_STREAM..=KIND_CANCEL_VIEW => decode_of_tables(kind, &mut reader)?,
        KIND_JOIN..=KIND_MOVED => decode_of_cluster(kind, &mut reader)?,
        KIND_ACCESS => MetaCommand::Access(decode_access_command(&mut reader)?),
        KIND_OWNED => decode_owned(&mut reader)?,
        found => {
            let what = "kind of meta command";
            return Err(Malformed::Unknown { what, found: u64::from(found), at });
        }
    };
    reader.end()?;
    Ok(command)
}

/// Reads a table that shall belong to somebody. Nothing else is owned, so nothing nests.
fn decode_owned(reader: &mut Reader<'_>) -> Result<MetaCommand, Malformed> {
    let owner = reader.text()?.to_owned();
    let bytes = reader.bytes()?;
    match bytes.get(1) {
        Some(&(KIND_CREATE_STREAM | KIND_CREATE_VIEW)) => {}
        _ => return Err(Malformed::inconsistent("only streams and views have an owner")),
    }
    Ok(MetaCommand::Owned { owner, create: Box::new(decode(bytes)?) })
}

/// Reads what changes streams, producers and views.
fn decode_of_tables(kind: u8, reader: &mut Reader<'_>) -> Result<MetaCommand, Malformed> {
    let command = match kind {
        KIND_CREATE_STREAM => {
            let if_not_exists = reader.flag()?;
            let created_at = Time(reader.i64()?);
            let definition = decode_definition(reader)?;
            MetaCommand::CreateStream { definition, if_not_exists, created_at }
        }
        KIND_DROP_STREAM => {
            let if_exists = reader.flag()?;
            MetaCommand::DropStream { name: reader.text()?.to_owned(), if_exists }
        }
        KIND_OPEN_PRODUCER => {
            let name = reader.text()?;
            check_producer_name(name)
                .map_err(|invalid| Malformed::inconsistent(invalid.to_string()))?;
            MetaCommand::OpenProducer { name: name.to_owned() }
        }
        KIND_CREATE_VIEW => {
            let (if_not_exists, or_replace) = (reader.flag()?, reader.flag()?);
            let created_at = Time(reader.i64()?);
            let definition = decode_view_definition(reader)?;
            MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at }
        }
        KIND_SWITCH_VIEW => {
            let name = reader.text()?.to_owned();
            MetaCommand::SwitchView { name, id: ViewId(reader.u64()?) }
        }
        KIND_DROP_VIEW => {
            let if_exists = reader.flag()?;
            MetaCommand::DropView { name: reader.text()?.to_owned(), if_exists }
        }
        KIND_REBUILD_VIEW => {
            let created_at = Time(reader.i64()?);
            MetaCommand::RebuildView { name: reader.text()?.to_owned(), created_at }
        }
        KIND_RESUME_VIEW => MetaCommand::ResumeView { name: reader.text()?.to_owned() },
        KIND_CANCEL_VIEW => MetaCommand::CancelView { name: reader.text()?.to_owned() },
        kind => unreachable!("kind {kind} changes no table"),
    };
    Ok(command)
}

/// Reads what changes members and placements, and what their nodes report.
fn decode_of_cluster(kind: u8, reader: &mut Reader<'_>) -> Result<MetaCommand, Malformed> {
    let command = match kind {
        KIND_JOIN => {
            let Introduction { token, name, addresses, locality, versions, at } =
                decode_introduction(reader)?;
            MetaCommand::Join { token, name, addresses, locality, versions, at }
        }
        KIND_ANNOUNCE => {
            let node = NodeId(reader.u64()?);
            let Introduction { token, name, addresses, locality, versions, at } =
                decode_introduction(reader)?;
            MetaCommand::Announce { node, token, name, addresses, locality, versions, at }
        }
        KIND_SET_MEMBER_STATE => {
            let node = NodeId(reader.u64()?);
            let state = decode_state(reader)?;
            MetaCommand::SetMemberState { node, state, at: Time(reader.i64()?) }
        }
        KIND_SET_ALIVE => {
            let node = NodeId(reader.u64()?);
            let alive = reader.flag()?;
            MetaCommand::SetAlive { node, alive, at: Time(reader.i64()?) }
        }
        KIND_PLACE => {
            let group = GroupId(reader.u64()?);
            let wanted = decode_nodes(reader)?;
            MetaCommand::Place { group, wanted, leader: NodeId(reader.u64()?) }
        }
        KIND_MOVED_AS_OF_0 => {
            let group = GroupId(reader.u64()?);
            let voters = decode_nodes(reader)?;
            MetaCommand::Moved { group, voters, as_of: Index(0), by: Index(0) }
        }
        KIND_MOVED => {
            let group = GroupId(reader.u64()?);
            let voters = decode_nodes(reader)?;
            let (as_of, by) = (Index(reader.u64()?), Index(reader.u64()?));
            MetaCommand::Moved { group, voters, as_of, by }
        }
        KIND_PART_CAUGHT_UP => {
            let name = reader.text()?.to_owned();
            let id = ViewId(reader.u64()?);
            MetaCommand::PartCaughtUp { name, id, partition: PartitionNumber(reader.u32()?) }
        }
        KIND_RAISE_VERSION => MetaCommand::RaiseVersion { version: reader.u32()? },
        kind => unreachable!("kind {kind} changes nothing of the cluster"),
    };
    Ok(command)
}
