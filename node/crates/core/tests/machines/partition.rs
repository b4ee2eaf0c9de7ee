//! Scripts of one partition.
//!
//! ```text
//! part   [producer=N [epoch=N] sequence=N [position=N]] [events=N]   waits for the next append
//! append [at=TIME] [as for part]                                     parts that wait, and this one
//! retain start=N
//! clock  now=TIME
//! fence  producer=N epoch=N [now=TIME]
//! show                                                               the whole state
//! restart                                                            through a checkpoint
//! decode HEX                                                         applies these bytes
//! ```

use std::error::Error;
use std::fmt::Write as _;

use alluvium_core::ids::{Epoch, Offset, ProducerId, Sequence};
use alluvium_core::partition::{
    Append, Appended, Command, Outcome, Part, PartOutcome, Partition, Stamp,
};
use alluvium_core::time::Time;
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use super::{Driven, bytes, micros, number, run_scripts};

#[test]
fn scripts() {
    run_scripts::<PartitionRunner>("partition");
}

#[derive(Default)]
struct PartitionRunner {
    driven: Driven<Partition>,
    waiting: Vec<Part>,
}

impl goldenscript::Runner for PartitionRunner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "part" => {
                self.waiting.push(part(&mut args)?);
                String::new()
            }
            "append" => self.append(&mut args)?,
            "retain" => {
                let start = Offset(number(args.take_key("start"), 0)?);
                self.apply(&Command::Retain { start }.encode())?
            }
            "clock" => {
                let now = Time(micros(args.take_key("now").ok_or("now=TIME")?)?);
                self.apply(&Command::Clock { now }.encode())?
            }
            "fence" => {
                let producer = ProducerId(number(args.take_key("producer"), 0)?);
                let epoch = Epoch(number(args.take_key("epoch"), 1)?);
                let now = Time(args.take_key("now").map_or(Ok(0), micros)?);
                self.apply(&Command::Fence { producer, epoch, now }.encode())?
            }
            "decode" => self.apply(&bytes(&mut args)?)?,
            "show" => show(&self.driven.machine),
            "restart" => self.driven.restart()?,
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl PartitionRunner {
    fn append(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let appended_at = Time(args.take_key("at").map_or(Ok(0), micros)?);
        let mut parts = std::mem::take(&mut self.waiting);
        if args.clone_is_not_empty() {
            parts.push(part(args)?);
        }
        let event_count: u32 = parts.iter().map(|part| part.event_count).sum();
        let payload = Bytes::from(vec![b'x'; event_count as usize]);
        let command = Command::Append(Append { appended_at, parts: parts.clone(), payload });
        match self.driven.apply(&command.encode())? {
            Outcome::Appended(appended) => Ok(show_appended(&parts, &appended)),
            other @ (Outcome::Retained { .. } | Outcome::Clock | Outcome::Fenced { .. }) => {
                Err(format!("an append gave {other:?}").into())
            }
        }
    }

    fn apply(&mut self, bytes: &Bytes) -> Result<String, Box<dyn Error>> {
        match self.driven.apply(bytes)? {
            Outcome::Appended(appended) => Ok(format!("{appended:?}\n")),
            Outcome::Retained { start } => Ok(format!("starts at {start}\n")),
            Outcome::Clock => Ok(format!("time is {}\n", self.driven.machine.time())),
            Outcome::Fenced { known } => {
                let (epoch, next, position) = (known.epoch, known.next, known.position());
                Ok(format!("epoch {epoch} goes on with #{next} after position {position}\n"))
            }
        }
    }
}

/// Whether arguments are left, without taking one.
trait Left {
    fn clone_is_not_empty(&self) -> bool;
}

impl Left for ArgumentConsumer<'_> {
    fn clone_is_not_empty(&self) -> bool {
        self.reject_next().is_err()
    }
}

fn part(args: &mut ArgumentConsumer<'_>) -> Result<Part, Box<dyn Error>> {
    let event_count = number(args.take_key("events"), 0)?;
    let Some(producer) = args.take_key("producer") else {
        return Ok(Part { producer: None, event_count });
    };
    let stamp = Stamp {
        producer: ProducerId(number(Some(producer), 0)?),
        epoch: Epoch(number(args.take_key("epoch"), 1)?),
        sequence: Sequence(number(Some(args.take_key("sequence").ok_or("sequence=N")?), 0)?),
        position: number(args.take_key("position"), 0)?,
    };
    Ok(Part { producer: Some(stamp), event_count })
}

fn show_appended(parts: &[Part], appended: &Appended) -> String {
    let mut text = String::new();
    let Appended { first, end, appended_at, .. } = appended;
    writeln!(text, "{first}..{end} at {appended_at}").unwrap();
    for (part, outcome) in parts.iter().zip(&appended.parts) {
        let who = match &part.producer {
            None => "nobody".to_owned(),
            Some(stamp) => format!("{} #{}", stamp.producer, stamp.sequence),
        };
        let what = match outcome {
            PartOutcome::Appended { first, end } => format!("appended {first}..{end}"),
            PartOutcome::Duplicate { offsets: Some((first, end)) } => {
                format!("duplicate of {first}..{end}")
            }
            PartOutcome::Duplicate { offsets: None } => "duplicate, offsets forgotten".into(),
            PartOutcome::Fenced { current } => format!("fenced by epoch {current}"),
            PartOutcome::OutOfSequence { expected } => {
                format!("out of sequence, expects #{expected}")
            }
        };
        writeln!(text, "  {who}: {what}").unwrap();
    }
    let rows: u32 = parts.iter().map(|part| part.event_count).sum();
    let kept: u64 = appended.kept.iter().map(|rows| u64::from(rows.end - rows.start)).sum();
    assert_eq!(kept, end.since(*first), "as many rows are kept as offsets are given");
    if kept != u64::from(rows) {
        let kept: Vec<_> = appended.kept.iter().map(|rows| format!("{rows:?}")).collect();
        writeln!(text, "  kept rows [{}] of {rows}", kept.join(", ")).unwrap();
    }
    text
}

fn show(partition: &Partition) -> String {
    let mut text = String::new();
    let (start, end, time) = (partition.start(), partition.end(), partition.time());
    writeln!(text, "events {start}..{end}, time {time}").unwrap();
    for (id, state) in partition.producers() {
        let (epoch, next, at) = (state.epoch, state.next, state.last_appended_at);
        let position = state.position();
        writeln!(text, "  {id} epoch {epoch} next #{next} at {at}, position {position}").unwrap();
        let window: Vec<_> = state
            .window
            .iter()
            .map(|batch| format!("#{} {}..{}", batch.sequence, batch.first, batch.end))
            .collect();
        writeln!(text, "     remembers {}", window.join(", ")).unwrap();
    }
    text
}
