//! Scripts of the catalogue.
//!
//! ```text
//! create NAME [partitions=N] [retention=DURATION] [if_not_exists=true] [at=TIME]
//! drop NAME [if_exists=true]
//! open NAME                    a producer
//! show                         the whole state
//! restart                      through a checkpoint
//! decode HEX                   applies these bytes
//! check_name NAME              may a stream be called so?
//! check_producer_name NAME     may a producer?
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use alluvium_core::ids::{Index, ProducerId};
use alluvium_core::meta::{Meta, MetaCommand, MetaOutcome, check_name, check_producer_name};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use super::{micros, number, run_scripts, unhex};

#[test]
fn scripts() {
    run_scripts::<MetaRunner>("meta");
}

#[derive(Default)]
struct MetaRunner {
    meta: Meta,
    applied: u64,
}

impl goldenscript::Runner for MetaRunner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "create" => self.apply(&create(&mut args)?.encode())?,
            "drop" => {
                let name = args.next_pos().ok_or("drop NAME")?.to_owned();
                let if_exists = number(args.take_key("if_exists"), false)?;
                self.apply(&MetaCommand::DropStream { name, if_exists }.encode())?
            }
            "open" => {
                let name = args.next_pos().ok_or("open NAME")?.to_owned();
                self.apply(&MetaCommand::OpenProducer { name }.encode())?
            }
            "decode" => {
                let bytes = unhex(args.next_pos().ok_or("decode HEX")?)?;
                self.apply(&Bytes::from(bytes))?
            }
            "show" => show(&self.meta),
            "restart" => {
                let checkpoint = self.meta.checkpoint();
                self.meta = Meta::restore(&checkpoint)?;
                format!("restored from {} bytes\n", checkpoint.len())
            }
            "check_name" => {
                check_name(args.next_pos().ok_or("check_name NAME")?)?;
                "good\n".into()
            }
            "check_producer_name" => {
                check_producer_name(args.next_pos().ok_or("check_producer_name NAME")?)?;
                "good\n".into()
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl MetaRunner {
    fn apply(&mut self, bytes: &Bytes) -> Result<String, Box<dyn Error>> {
        self.applied += 1;
        let text = match self.meta.apply(Index(self.applied), bytes)? {
            MetaOutcome::StreamCreated(stream) => format!("created {}", show_stream(&stream)),
            MetaOutcome::StreamExists { name } => format!("stream {name} exists"),
            MetaOutcome::StreamDropped(stream) => format!("dropped {}", show_stream(&stream)),
            MetaOutcome::StreamUnknown { name } => format!("no stream {name}"),
            MetaOutcome::NothingToDo => "nothing to do".into(),
            MetaOutcome::ProducerOpened { id, epoch } => format!("opened {id}, epoch {epoch}"),
        };
        Ok(text + "\n")
    }
}

fn create(args: &mut ArgumentConsumer<'_>) -> Result<MetaCommand, Box<dyn Error>> {
    let column =
        |name: &str, column_type, nullable| Column { name: name.into(), column_type, nullable };
    let schema = StreamSchema::new(vec![
        column("id", ColumnType::BigInt, false),
        column("tags", ColumnType::List(Box::new(ColumnType::Text)), true),
    ])?;
    let retention = args.take_key("retention").map(micros).transpose()?;
    let definition = StreamDefinition {
        name: args.next_pos().ok_or("create NAME")?.to_owned(),
        schema,
        partition_by: vec![0],
        event_time: None,
        partitions: number(args.take_key("partitions"), 1)?,
        retention: retention.map(|micros| Duration::from_micros(micros.unsigned_abs())),
        replicas: 1,
    };
    Ok(MetaCommand::CreateStream {
        definition,
        if_not_exists: number(args.take_key("if_not_exists"), false)?,
        created_at: Time(args.take_key("at").map_or(Ok(0), micros)?),
    })
}

fn show_stream(stream: &Stream) -> String {
    let groups: Vec<_> = stream.groups.iter().map(ToString::to_string).collect();
    let (name, id, at) = (&stream.definition.name, stream.id, stream.created_at);
    let mut text = format!("{name} as {id} in groups {} at {at}", groups.join(" "));
    if let Some(retention) = stream.definition.retention {
        write!(text, ", kept for {}s", retention.as_secs()).unwrap();
    }
    text
}

fn show(meta: &Meta) -> String {
    let mut text = String::new();
    for stream in meta.streams().values() {
        writeln!(text, "{}", show_stream(stream)).unwrap();
    }
    for id in (1..).map(ProducerId) {
        let Some(name) = meta.producer_name(id) else {
            break;
        };
        let (known, epoch) = meta.producer(name).expect("a producer with a name is known by it");
        assert_eq!(known, id);
        writeln!(text, "producer {name} as {id}, epoch {epoch}").unwrap();
    }
    text
}
