//! What a log entry asks a partition to do, and its bytes.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! version u8 = 1 | kind u8
//! kind 1, append: part count u16 | payload length u32 | appended_at i64
//!                 each part:  stamped flag | event count u32
//!                 if stamped: producer u64 | epoch u32 | sequence u64 | position u64
//!                 zeroes up to a multiple of 64, then the payload (neither where it is empty)
//! kind 2, retain: start u64
//! kind 3, clock:  now i64
//! kind 4, fence:  producer u64 | epoch u32 | now i64
//! ```
//!
//! The payload starts at a multiple of 64 bytes so that an Arrow reader can use the columns in
//! place when the buffer itself is aligned. Decoding shares the payload with the buffer it came in.

use bytes::Bytes;

use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{Epoch, Offset, ProducerId, Sequence};
use crate::replica::CorruptCommand;
use crate::time::Time;

/// What an entry asks a partition to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Add events.
    Append(Append),
    /// Forget the events before `start`.
    Retain {
        /// The first offset to keep.
        start: Offset,
    },
    /// Time goes on, also where nothing is appended: producers idle for too long are forgotten.
    Clock {
        /// The owner's time.
        now: Time,
    },
    /// A producer begins a new life: nothing of its former lives counts after this, and what is
    /// known of it here is told, so that it can go on where it was.
    Fence {
        /// The producer.
        producer: ProducerId,
        /// Its new life.
        epoch: Epoch,
        /// The owner's time.
        now: Time,
    },
}

/// Batches of several callers, appended as one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// When the owner accepted them.
    pub appended_at: Time,
    /// The batches in order; at most [`PARTS_MAX`].
    pub parts: Vec<Part>,
    /// The events of all parts in order, as the shell encodes them. May be empty when no part has
    /// events.
    pub payload: Bytes,
}

/// One caller's batch, as far as it falls into this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Who sends it, so that a retry is seen. Without it every append counts.
    pub producer: Option<Stamp>,
    /// How many events; 0 where the batch has none for this partition, which still takes its
    /// sequence.
    pub event_count: u32,
}

/// Who sends a batch and which of his batches it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer.
    pub producer: ProducerId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Which batch.
    pub sequence: Sequence,
    /// Where the producer's source stands after this batch. Kept and given back, not interpreted.
    pub position: u64,
}

/// Parts one append may have: more callers than wait at one partition at a time. Fits the `u16` of
/// the layout.
pub const PARTS_MAX: usize = 16_384;

/// The payload starts at a multiple of this.
pub const PAYLOAD_ALIGNMENT: usize = 64;

const VERSION: u8 = 1;
const KIND_APPEND: u8 = 1;
const KIND_RETAIN: u8 = 2;
const KIND_CLOCK: u8 = 3;
const KIND_FENCE: u8 = 4;

const HEADER_BYTES: usize = 16;
const PART_BYTES_MIN: usize = 5;
const PART_BYTES_MAX: usize = PART_BYTES_MIN + 28;

impl Command {
    /// The bytes of this command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Command::Append(append) => append.encode(),
            Command::Retain { start } => {
                let mut writer = begin(KIND_RETAIN, HEADER_BYTES);
                writer.u64(start.0);
                writer.finish()
            }
            Command::Clock { now } => {
                let mut writer = begin(KIND_CLOCK, HEADER_BYTES);
                writer.i64(now.0);
                writer.finish()
            }
            Command::Fence { producer, epoch, now } => {
                let mut writer = begin(KIND_FENCE, 2 * HEADER_BYTES);
                writer.u64(producer.0);
                writer.u32(epoch.0);
                writer.i64(now.0);
                writer.finish()
            }
        }
    }

    /// The command of these bytes. The payload of an append is a slice of them, not a copy.
    pub fn decode(bytes: &Bytes) -> Result<Command, CorruptCommand> {
        decode(bytes)
            .map_err(|malformed| CorruptCommand::new(format!("partition command: {malformed}")))
    }
}

impl Append {
    /// The events of all parts.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.event_count)).sum()
    }

    fn encode(&self) -> Bytes {
        assert!(self.parts.len() <= PARTS_MAX, "the shell cuts appends at PARTS_MAX parts");
        let head_bytes = HEADER_BYTES + PART_BYTES_MAX * self.parts.len() + PAYLOAD_ALIGNMENT;
        let mut writer = begin(KIND_APPEND, head_bytes + self.payload.len());
        writer.u16(u16::try_from(self.parts.len()).expect("PARTS_MAX fits"));
        writer.count(self.payload.len());
        writer.i64(self.appended_at.0);
        for part in &self.parts {
            writer.flag(part.producer.is_some());
            writer.u32(part.event_count);
            if let Some(stamp) = &part.producer {
                writer.u64(stamp.producer.0);
                writer.u32(stamp.epoch.0);
                writer.u64(stamp.sequence.0);
                writer.u64(stamp.position);
            }
        }
        if !self.payload.is_empty() {
            writer.pad(PAYLOAD_ALIGNMENT);
            writer.raw(&self.payload);
        }
        writer.finish()
    }
}

fn begin(kind: u8, capacity: usize) -> Writer {
    let mut writer = Writer::with_capacity(capacity);
    writer.u8(VERSION);
    writer.u8(kind);
    writer
}

fn decode(bytes: &Bytes) -> Result<Command, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.version(VERSION)?;
    let at = reader.position();
    let command = match reader.u8()? {
        KIND_APPEND => Command::Append(decode_append(&mut reader, bytes)?),
        KIND_RETAIN => Command::Retain { start: Offset(reader.u64()?) },
        KIND_CLOCK => Command::Clock { now: Time(reader.i64()?) },
        KIND_FENCE => Command::Fence {
            producer: ProducerId(reader.u64()?),
            epoch: Epoch(reader.u32()?),
            now: Time(reader.i64()?),
        },
        found => {
            let what = "kind of partition command";
            return Err(Malformed::Unknown { what, found: u64::from(found), at });
        }
    };
    reader.end()?;
    Ok(command)
}

fn decode_append(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Append, Malformed> {
    let part_count = usize::from(reader.u16()?);
    if PARTS_MAX < part_count {
        return Err(Malformed::inconsistent(format!("{part_count} parts in one append")));
    }
    let payload_bytes = reader.u32()? as usize;
    let appended_at = Time(reader.i64()?);
    let mut parts = Vec::with_capacity(part_count.min(reader.remaining() / PART_BYTES_MIN));
    let mut event_count = 0_u64;
    for _ in 0..part_count {
        let part = decode_part(reader)?;
        event_count += u64::from(part.event_count);
        parts.push(part);
    }
    // Rows of the payload are counted in 32 bits.
    if u64::from(u32::MAX) < event_count {
        return Err(Malformed::inconsistent(format!("{event_count} events in one append")));
    }
    if payload_bytes == 0 {
        return Ok(Append { appended_at, parts, payload: Bytes::new() });
    }
    let padding = reader.position().next_multiple_of(PAYLOAD_ALIGNMENT) - reader.position();
    if reader.raw(padding)?.iter().any(|&byte| byte != 0) {
        return Err(Malformed::inconsistent("the padding before the payload is not zero"));
    }
    let start = reader.position();
    reader.raw(payload_bytes)?;
    Ok(Append { appended_at, parts, payload: bytes.slice(start..start + payload_bytes) })
}

fn decode_part(reader: &mut Reader<'_>) -> Result<Part, Malformed> {
    let stamped = reader.flag()?;
    let event_count = reader.u32()?;
    if !stamped {
        return Ok(Part { producer: None, event_count });
    }
    let stamp = Stamp {
        producer: ProducerId(reader.u64()?),
        epoch: Epoch(reader.u32()?),
        sequence: Sequence(reader.u64()?),
        position: reader.u64()?,
    };
    Ok(Part { producer: Some(stamp), event_count })
}
