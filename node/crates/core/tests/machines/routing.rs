//! Scripts of routing: fixed vectors, so that where events lie never changes unseen.
//!
//! ```text
//! route [partitions=N] VALUE…    null, bool=true, int=5, float=1.5, text=abc, bytes=HEX,
//!                                numeric=UNSCALED/SCALE, interval=HEX
//! spread partitions=N keys=N     how evenly the keys 0, 1, 2 … fall
//! hash TEXT                      XXH64 of the bytes as they are
//! ```

use std::error::Error;
use std::fmt::Write as _;

use alluvium_core::routing::{INTERVAL, KeyBytes, hash};
use goldenscript::Argument;

use super::{hex, number, run_scripts, unhex};

#[test]
fn scripts() {
    run_scripts::<RoutingRunner>("routing");
}

#[derive(Default)]
struct RoutingRunner;

impl goldenscript::Runner for RoutingRunner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let partitions = number(args.take_key("partitions"), 8)?;
        match command.name.as_str() {
            "route" => {
                let mut key = KeyBytes::new();
                for argument in args {
                    push(&mut key, argument)?;
                }
                let (bytes, partition) = (hex(key.as_slice()), key.partition(partitions));
                Ok(format!("{bytes}\n  {:016x} partition {partition}\n", hash(key.as_slice())))
            }
            "spread" => {
                let keys: i64 = number(args.take_key("keys"), 1_000)?;
                let mut counts = vec![0; partitions as usize];
                let mut key = KeyBytes::new();
                for value in 0..keys {
                    key.clear();
                    key.push_i64(value);
                    counts[key.partition(partitions).0 as usize] += 1;
                }
                Ok(format!("{counts:?}\n"))
            }
            "hash" => {
                let text = args.next_pos().unwrap_or_default();
                Ok(format!("{:016x}\n", hash(text.as_bytes())))
            }
            name => Err(format!("unknown command {name}").into()),
        }
    }
}

fn push(key: &mut KeyBytes, argument: &Argument) -> Result<(), Box<dyn Error>> {
    let (kind, value) = match argument {
        Argument::Positional(kind) => (kind.as_str(), ""),
        Argument::KeyValue(kind, value) => (kind.as_str(), value.as_str()),
        other => return Err(format!("{other} is no value").into()),
    };
    match kind {
        "null" => key.push_null(),
        "bool" => key.push_bool(value.parse()?),
        "int" => key.push_i64(value.parse()?),
        "float" => key.push_f64(value.parse()?),
        "text" => key.push_text(value),
        "bytes" => key.push_bytes(&unhex(value)?),
        "numeric" => {
            let (unscaled, scale) = value.split_once('/').ok_or("numeric=UNSCALED/SCALE")?;
            key.push_i128(unscaled.parse()?, scale.parse()?);
        }
        "interval" => key.push_other(INTERVAL, &unhex(value)?),
        kind => {
            let mut message = String::new();
            write!(message, "unknown kind {kind}")?;
            return Err(message.into());
        }
    }
    Ok(())
}
