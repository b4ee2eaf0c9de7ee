//! `alluvium sql`: a shell for people, scripts for everything else.
//!
//! With `-e` or `-f`, or with something piped in, statements run one after another and the first
//! that fails ends the run. At a terminal without either, the shell opens.

pub mod complete;
pub mod print;
pub mod script;
pub mod shell;
pub mod subscribe;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use alluvium_query::print::Format;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::runtime::Runtime;

use self::script::Script;
use super::freshness::FreshnessArgs;
use super::{CliError, ConnectArgs};

/// What may be typed after `sql`.
#[derive(Clone, Debug, Args)]
pub struct SqlArgs {
    /// Which node.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Run these statements and end; repeat for more
    #[arg(short = 'e', long = "execute", value_name = "SQL")]
    pub execute: Vec<String>,
    /// Run the statements of this file and end (- reads standard input); repeat for more
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "execute")]
    pub files: Vec<PathBuf>,
    /// How answers are written; json is one array of objects for each statement
    #[arg(long, default_value = "table", value_parser = formats())]
    pub format: Format,
    /// Go on after a statement that fails; the exit code still says that one did
    #[arg(long)]
    pub keep_going: bool,
    /// How fresh answers must be.
    #[command(flatten)]
    pub freshness: FreshnessArgs,
}

/// Formats by name, as flags and `\\format` take them.
pub const FORMATS: [&str; 4] = ["table", "csv", "json", "ndjson"];

fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(FORMATS).try_map(|name| name.parse::<Format>())
}

/// Runs the statements, or the shell.
pub fn run(runtime: &Runtime, args: &SqlArgs) -> Result<(), CliError> {
    let scripts = scripts(args)?;
    // Read first, connect then: a file that is missing is no reason to look for a node.
    let client = runtime.block_on(args.connect.connect())?;
    let Some(scripts) = scripts else {
        return shell::run(runtime, &client, args);
    };
    let mut out = std::io::stdout().lock();
    runtime.block_on(script::run(&client, args, &scripts, &mut out))
}

/// What to run; none where a person should type.
fn scripts(args: &SqlArgs) -> Result<Option<Vec<Script>>, CliError> {
    if !args.execute.is_empty() {
        let texts = args.execute.iter();
        return Ok(Some(texts.map(|sql| Script { file: None, text: sql.clone() }).collect()));
    }
    if args.files.is_empty() {
        if std::io::stdin().is_terminal() {
            return Ok(None);
        }
        return Ok(Some(vec![Script { file: None, text: read_stdin()? }]));
    }
    let mut scripts = Vec::new();
    for file in &args.files {
        let text = match file.to_str() {
            Some("-") => read_stdin()?,
            Some(_) | None => std::fs::read_to_string(file)
                .map_err(|error| CliError::Usage(format!("read {}: {error}", file.display())))?,
        };
        scripts.push(Script { file: Some(file.display().to_string()), text });
    }
    Ok(Some(scripts))
}

fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(CliError::Usage(format!("read standard input: {error}"))),
    }
}
