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
//! ```

use bytes::Bytes;

use super::definition::{decode_definition, encode_definition};
use super::names::check_producer_name;
use super::view_form::{decode_view_definition, encode_view_definition};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::ViewId;
use crate::replica::CorruptCommand;
use crate::stream::StreamDefinition;
use crate::time::Time;
use crate::view::ViewDefinition;

/// What an entry of the meta group asks for. The proposer has checked names and definition
/// ([`super::check_name`], [`super::definition::check_definition`], [`super::check_view`]): what
/// does not pass them cannot be decoded.
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

impl MetaCommand {
    /// The bytes of this command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(VERSION);
        match self {
            MetaCommand::CreateStream { definition, if_not_exists, created_at } => {
                writer.u8(KIND_CREATE_STREAM);
                writer.flag(*if_not_exists);
                writer.i64(created_at.0);
                encode_definition(&mut writer, definition);
            }
            MetaCommand::DropStream { name, if_exists } => {
                writer.u8(KIND_DROP_STREAM);
                writer.flag(*if_exists);
                writer.text(name);
            }
            MetaCommand::OpenProducer { name } => {
                writer.u8(KIND_OPEN_PRODUCER);
                writer.text(name);
            }
            MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at } => {
                writer.u8(KIND_CREATE_VIEW);
                writer.flag(*if_not_exists);
                writer.flag(*or_replace);
                writer.i64(created_at.0);
                encode_view_definition(&mut writer, definition);
            }
            MetaCommand::SwitchView { name, id } => {
                writer.u8(KIND_SWITCH_VIEW);
                writer.text(name);
                writer.u64(id.0);
            }
            MetaCommand::DropView { name, if_exists } => {
                writer.u8(KIND_DROP_VIEW);
                writer.flag(*if_exists);
                writer.text(name);
            }
            MetaCommand::RebuildView { name, created_at } => {
                writer.u8(KIND_REBUILD_VIEW);
                writer.i64(created_at.0);
                writer.text(name);
            }
            MetaCommand::ResumeView { name } => {
                writer.u8(KIND_RESUME_VIEW);
                writer.text(name);
            }
            MetaCommand::CancelView { name } => {
                writer.u8(KIND_CANCEL_VIEW);
                writer.text(name);
            }
        }
        writer.finish()
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
    let command = match reader.u8()? {
        KIND_CREATE_STREAM => {
            let if_not_exists = reader.flag()?;
            let created_at = Time(reader.i64()?);
            let definition = decode_definition(&mut reader)?;
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
            let definition = decode_view_definition(&mut reader)?;
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
        found => {
            let what = "kind of meta command";
            return Err(Malformed::Unknown { what, found: u64::from(found), at });
        }
    };
    reader.end()?;
    Ok(command)
}
