//! What a log entry of the meta group asks for, and its bytes.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 1 | kind u8
//! kind 1, create stream: if_not_exists flag | created_at i64 | definition
//! kind 2, drop stream:   if_exists flag | name text
//! kind 3, open producer: name text
//! ```

use bytes::Bytes;

use super::definition::{decode_definition, encode_definition};
use super::names::check_producer_name;
use crate::codec::{Malformed, Reader, Writer};
use crate::replica::CorruptCommand;
use crate::stream::StreamDefinition;
use crate::time::Time;

/// What an entry of the meta group asks for. The proposer has checked names and definition
/// ([`super::check_name`], [`super::definition::check_definition`]): what does not pass them cannot
/// be decoded.
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
}

const VERSION: u8 = 1;
const KIND_CREATE_STREAM: u8 = 1;
const KIND_DROP_STREAM: u8 = 2;
const KIND_OPEN_PRODUCER: u8 = 3;

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
        found => {
            let what = "kind of meta command";
            return Err(Malformed::Unknown { what, found: u64::from(found), at });
        }
    };
    reader.end()?;
    Ok(command)
}
