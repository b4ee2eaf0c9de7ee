//! Scripts of the catalogue.
//!
//! ```text
//! create NAME [partitions=N] [retention=DURATION] [if_not_exists=true] [at=TIME]
//! drop NAME [if_exists=true]
//! open NAME                    a producer
//! view NAME READS… [folds=ID] [materialized=BOOL] [query=TEXT] [query_bytes=N]
//!      [retention=DURATION]
//!      [lateness=DURATION] [emit_final_after=DURATION] [on_error=park]
//!      [if_not_exists=true] [or_replace=true] [at=TIME]
//! switch NAME ID               the life ID of the view has caught up
//! drop_view NAME [if_exists=true]
//! rebuild NAME [at=TIME]
//! resume NAME
//! cancel NAME
//! show                         the whole state
//! restart                      through a checkpoint
//! restore HEX                  from these bytes
//! decode HEX                   applies these bytes
//! check_name NAME              may a stream be called so?
//! check_producer_name NAME     may a producer?
//! check_view …                 as for view: may it be proposed?
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{ProducerId, StreamId, ViewId};
use alluvium_core::meta::{
    Meta, MetaCommand, MetaOutcome, check_name, check_producer_name, check_view,
};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_core::view::{OnError, View, ViewDefinition, ViewEntry, ViewOptions};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use super::{Driven, bytes, micros, number, positional, run_scripts};

#[test]
fn scripts() {
    run_scripts::<MetaRunner>("meta");
}

#[derive(Default)]
struct MetaRunner {
    driven: Driven<Meta>,
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
            "show" => show(&self.driven.machine),
            "restart" => self.driven.restart()?,
            "restore" => {
                self.driven.machine = Meta::restore(&bytes(&mut args)?)?;
                String::new()
            }
            "decode" => self.apply(&bytes(&mut args)?)?,
            "check_name" => {
                check_name(&positional(&mut args, "NAME")?)?;
                "good\n".into()
            }
            "check_producer_name" => {
                check_producer_name(&positional(&mut args, "NAME")?)?;
                "good\n".into()
            }
            "check_view" => {
                check_view(&view(&mut args)?)?;
                "good\n".into()
            }
            name => {
                let command = meta_command(name, &mut args)?;
                self.apply(&command.encode())?
            }
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl MetaRunner {
    fn apply(&mut self, bytes: &Bytes) -> Result<String, Box<dyn Error>> {
        Ok(show_outcome(self.driven.apply(bytes)?) + "\n")
    }
}

fn meta_command(
    name: &str,
    args: &mut ArgumentConsumer<'_>,
) -> Result<MetaCommand, Box<dyn Error>> {
    let command = match name {
        "create" => create(args)?,
        "drop" => {
            let if_exists = number(args.take_key("if_exists"), false)?;
            MetaCommand::DropStream { name: positional(args, "NAME")?, if_exists }
        }
        "open" => MetaCommand::OpenProducer { name: positional(args, "NAME")? },
        "view" => MetaCommand::CreateView {
            if_not_exists: number(args.take_key("if_not_exists"), false)?,
            or_replace: number(args.take_key("or_replace"), false)?,
            created_at: time(args)?,
            definition: view(args)?,
        },
        "switch" => {
            let name = positional(args, "NAME")?;
            let id = number(Some(&positional(args, "ID")?), 0)?;
            MetaCommand::SwitchView { name, id: ViewId(id) }
        }
        "drop_view" => {
            let if_exists = number(args.take_key("if_exists"), false)?;
            MetaCommand::DropView { name: positional(args, "NAME")?, if_exists }
        }
        "rebuild" => {
            let created_at = time(args)?;
            MetaCommand::RebuildView { name: positional(args, "NAME")?, created_at }
        }
        "resume" => MetaCommand::ResumeView { name: positional(args, "NAME")? },
        "cancel" => MetaCommand::CancelView { name: positional(args, "NAME")? },
        name => return Err(format!("unknown command {name}").into()),
    };
    Ok(command)
}

fn show_outcome(outcome: MetaOutcome) -> String {
    match outcome {
        MetaOutcome::StreamCreated(stream) => format!("created {}", show_stream(&stream)),
        MetaOutcome::StreamExists { name } => format!("stream {name} exists"),
        MetaOutcome::StreamDropped(stream) => format!("dropped {}", show_stream(&stream)),
        MetaOutcome::StreamUnknown { name } => format!("no stream {name}"),
        MetaOutcome::NothingToDo => "nothing to do".into(),
        MetaOutcome::ProducerOpened { id, epoch } => format!("opened {id}, epoch {epoch}"),
        MetaOutcome::ViewCreated(view) => format!("created {}", show_view(&view)),
        MetaOutcome::ViewBuilding { next, abandoned } => {
            format!("building {}{}", show_view(&next), show_ended(abandoned.as_slice()))
        }
        MetaOutcome::ViewSwitched { view, ended } => {
            format!("switched to {}{}", show_view(&view), show_ended(&ended))
        }
        MetaOutcome::ViewCancelled(view) => format!("cancelled {}", show_view(&view)),
        MetaOutcome::ViewResumed { name, resumed } => format!("resumed {name}, time {resumed}"),
        MetaOutcome::ViewDropped(entry) => format!("dropped {}", show_entry(&entry)),
        MetaOutcome::ViewExists { name } => format!("view {name} exists"),
        MetaOutcome::ViewUnknown { name } => format!("no view {name}"),
        MetaOutcome::NameTaken { name, what } => format!("{name} is a {what}"),
        MetaOutcome::HasDependants { name, dependants } => {
            format!("{name} is read by {}", dependants.join(", "))
        }
        MetaOutcome::ReadsUnknown { name } => format!("nothing to read: {name}"),
        MetaOutcome::ReadsItself { name, through } => format!("{name} reads itself by {through}"),
    }
}

fn time(args: &mut ArgumentConsumer<'_>) -> Result<Time, String> {
    Ok(Time(args.take_key("at").map_or(Ok(0), micros)?))
}

fn view(args: &mut ArgumentConsumer<'_>) -> Result<ViewDefinition, Box<dyn Error>> {
    let duration = |text: Option<&str>| -> Result<Option<Duration>, String> {
        let micros = text.map(micros).transpose()?;
        Ok(micros.map(|micros| Duration::from_micros(micros.unsigned_abs())))
    };
    let options = ViewOptions {
        retention: duration(args.take_key("retention"))?,
        lateness: duration(args.take_key("lateness"))?.unwrap_or_default(),
        emit_final_after: duration(args.take_key("emit_final_after"))?,
        on_error: match args.take_key("on_error") {
            Some("park") => OnError::Park,
            Some(other) => return Err(format!("on_error={other}").into()),
            None => OnError::Quarantine,
        },
    };
    let folds = args.take_key("folds").map(|id| number(Some(id), 0)).transpose()?;
    let materialized = number(args.take_key("materialized"), folds.is_some())?;
    let bytes = number(args.take_key("query_bytes"), 8)?;
    let query = args.take_key("query").map_or("x".repeat(bytes), str::to_owned);
    let name = positional(args, "NAME")?;
    let reads = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
    Ok(ViewDefinition { name, query, materialized, reads, folds: folds.map(StreamId), options })
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
        name: positional(args, "NAME")?,
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
        created_at: time(args)?,
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

fn show_view(view: &View) -> String {
    let ViewDefinition { name, query, materialized, reads, folds, options } = &view.definition;
    let mut text = format!("{name} as {} at {}", view.id, view.created_at);
    match (folds, materialized) {
        (Some(stream), _) => write!(text, ", folds {stream}").unwrap(),
        (None, true) => text.push_str(", materialized"),
        (None, false) => {}
    }
    write!(text, ", reads {}", reads.join(" ")).unwrap();
    if query != "xxxxxxxx" {
        write!(text, ", {query:?}").unwrap();
    }
    if *options != ViewOptions::default() {
        write!(text, ", {options:?}").unwrap();
    }
    text
}

fn show_ended(ended: &[Arc<View>]) -> String {
    ended.iter().map(|view| format!("; ends {}", view.id)).collect()
}

fn show_entry(entry: &ViewEntry) -> String {
    let mut text = show_view(&entry.current);
    if !entry.built {
        text.push_str(", not built");
    }
    if let Some(next) = &entry.next {
        write!(text, "; next {}", show_view(next)).unwrap();
    }
    if entry.resumed != 0 {
        write!(text, "; resumed {}", entry.resumed).unwrap();
    }
    text
}

fn show(meta: &Meta) -> String {
    let mut text = String::new();
    for stream in meta.streams().values() {
        writeln!(text, "{}", show_stream(stream)).unwrap();
    }
    for entry in meta.views().values() {
        writeln!(text, "view {}", show_entry(entry)).unwrap();
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
