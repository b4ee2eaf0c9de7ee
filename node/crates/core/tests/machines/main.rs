//! Golden scripts and random tests of the state machines.

mod access;
mod catalogue;
mod members;
mod meta;
mod partition;
mod planner;
mod random;
mod routing;
#[path = "../scripts/mod.rs"]
mod scripts;

use std::error::Error;

use alluvium_core::ids::Index;
use alluvium_core::replica::{CorruptCommand, Machine};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;
use scripts::run_scripts;

/// A machine and what scripts of every machine do with it.
#[derive(Default)]
struct Driven<M> {
    machine: M,
    applied: u64,
}

impl<M: Machine> Driven<M> {
    fn apply(&mut self, command: &Bytes) -> Result<M::Outcome, CorruptCommand> {
        self.applied += 1;
        self.machine.apply(Index(self.applied), command)
    }

    /// Goes on from its own checkpoint.
    fn restart(&mut self) -> Result<String, Box<dyn Error>> {
        let checkpoint = self.machine.checkpoint();
        self.machine = M::restore(&checkpoint)?;
        assert_eq!(self.machine.checkpoint(), checkpoint, "what was restored is what was kept");
        Ok(format!("restored from {} bytes\n", checkpoint.len()))
    }
}

/// The next argument without a key.
fn positional(args: &mut ArgumentConsumer<'_>, what: &str) -> Result<String, String> {
    args.next_pos().map(str::to_owned).ok_or_else(|| format!("{what} is missing"))
}

/// The next argument, bytes in hex.
fn bytes(args: &mut ArgumentConsumer<'_>) -> Result<Bytes, String> {
    unhex(&positional(args, "HEX")?).map(Bytes::from)
}

/// Reads an argument as a number, or the default where it is not given.
fn number<T: std::str::FromStr>(value: Option<&str>, default: T) -> Result<T, String> {
    let Some(value) = value else {
        return Ok(default);
    };
    value.parse().map_err(|_| format!("{value} is not a number"))
}

/// Reads a time or a duration in microseconds: `5`, `3s`, `2h`, `7d`.
fn micros(value: &str) -> Result<i64, String> {
    let units = [("s", 1_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000_i64)];
    for (suffix, factor) in units {
        if let Some(count) = value.strip_suffix(suffix) {
            return Ok(number::<i64>(Some(count), 0)? * factor);
        }
    }
    number(Some(value), 0)
}

/// Reads bytes written in hex.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) {
        return Err("hex comes in pairs".into());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| error.to_string()))
        .collect()
}

/// Writes bytes in hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
