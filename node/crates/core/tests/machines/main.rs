//! Golden scripts and random tests of the state machines. Scripts lie in `testscripts/`; after a
//! wanted change run with `UPDATE_GOLDENFILES=1` and read the difference.

mod meta;
mod partition;
mod random;
mod routing;

use std::path::Path;

/// Runs every script of a folder, each with a runner of its own.
fn run_scripts<R: goldenscript::Runner + Default>(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    for script in scripts {
        let run = goldenscript::run(&mut R::default(), &script);
        run.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    }
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
