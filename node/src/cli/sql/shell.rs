//! The shell: a line editor around the statements.

use std::io::Write;
use std::path::PathBuf;

use alluvium_query::access::redacted;
use alluvium_query::print::{Format, to_text};
use alluvium_query::split_statements;
use alluvium_query::wire::decode_batches;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use super::SqlArgs;
use super::complete::{Names, SqlHelper, is_farewell};
use super::print::{Printed, note};
use super::script;
use crate::cli::{CliError, say};
use crate::clock::Stopwatch;
use crate::config::Variables;
use crate::grpc::client::{Client, ClientError, Freshness, Part};

/// Lines of history that are kept.
const HISTORY_MAX: usize = 10_000;

/// Streams whose columns are offered for completion: fetching more would delay the prompt.
const DESCRIBED_MAX: usize = 32;

const HELP: &str = "\
statements end with a semicolon and may take several lines

  \\d            streams
  \\d STREAM     columns of a stream
  \\format F     table, csv, json or ndjson
  \\timing       say or do not say how long answers took and what they reflect
  \\q            leave (so does Ctrl-D)

Ctrl-C gives up the line, or the statement that is running.";

/// Reads and runs statements until the person leaves.
pub fn run(runtime: &Runtime, client: &Client, args: &SqlArgs) -> Result<(), CliError> {
    let addr = client.addr();
    match runtime.block_on(client.status()) {
        Ok(status) => say(&format!("alluvium {} at {addr}; \\? for help", status.version)),
        // Who may not look at nodes may ask, unless they are not let in at all.
        Err(ClientError::Refused { .. }) => {
            runtime.block_on(client.query("SELECT 1", &Freshness::Latest))?;
            say(&format!("alluvium at {addr}; \\? for help"));
        }
        Err(error) => return Err(error.into()),
    }
    let mut shell = Shell {
        runtime,
        client,
        freshness: args.freshness.freshness(),
        format: args.format,
        timing: true,
        editor: editor()?,
    };
    let history = Variables::of_this_process().history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = shell.editor.load_history(file);
    }
    shell.fetch_names();
    let ended = shell.read_lines();
    if let Some(file) = &history {
        save_history(&mut shell.editor, file);
    }
    ended
}

type LineEditor = Editor<SqlHelper, FileHistory>;

fn editor() -> Result<LineEditor, CliError> {
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)
        .map_err(terminal)?
        .history_ignore_dups(true)
        .map_err(terminal)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = LineEditor::with_config(config).map_err(terminal)?;
    editor.set_helper(Some(SqlHelper::default()));
    Ok(editor)
}

fn terminal(error: ReadlineError) -> CliError {
    CliError::Failed(format!("use this terminal: {error}"))
}

/// History is a convenience: where it cannot be kept, that is said and nothing else happens.
fn save_history(editor: &mut LineEditor, file: &PathBuf) {
    let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    let saved = made.map_err(ReadlineError::from).and_then(|()| editor.save_history(file));
    if let Err(error) = saved {
        say(&format!("the history was not kept in {}: {error}", file.display()));
    }
}

struct Shell<'a> {
    runtime: &'a Runtime,
    client: &'a Client,
    freshness: Freshness,
    format: Format,
    timing: bool,
    editor: LineEditor,
}

/// Whether there is a next line.
enum Next {
    Line,
    Leave,
}

impl Shell<'_> {
    fn read_lines(&mut self) -> Result<(), CliError> {
        loop {
            match self.editor.readline("alluvium> ") {
                Ok(input) => {
                    if !input.trim().is_empty() {
                        // Only what a full history or a repeated line makes it refuse.
                        // Passwords are left out: the history is a file.
                        let _ = self.editor.add_history_entry(redacted(input.trim()).as_ref());
                    }
                    match self.take(input.trim())? {
                        Next::Line => {}
                        Next::Leave => return Ok(()),
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(terminal(error)),
            }
        }
    }

    fn take(&mut self, input: &str) -> Result<Next, CliError> {
        if is_farewell(input) {
            return Ok(Next::Leave);
        }
        if let Some(command) = input.strip_prefix('\\') {
            return self.command(command);
        }
        match split_statements(input) {
            Ok(statements) => {
                for sql in statements {
                    if !self.statement(&sql)? {
                        break;
                    }
                }
            }
            Err(error) => say(&format!("error: {error}")),
        }
        Ok(Next::Line)
    }

    fn command(&mut self, command: &str) -> Result<Next, CliError> {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.trim().trim_end_matches(';');
        match (name.trim_end_matches(';'), rest) {
            ("q" | "quit", _) => return Ok(Next::Leave),
            ("?" | "h" | "help", _) => say(HELP),
            ("d" | "dt", "") => {
                self.statement("SHOW STREAMS")?;
            }
            ("d", stream) => {
                self.statement(&format!("DESCRIBE {stream}"))?;
            }
            ("timing", _) => {
                self.timing = !self.timing;
                say(if self.timing { "timing is on" } else { "timing is off" });
            }
            ("format", wanted) => match wanted.parse::<Format>() {
                Ok(format) => self.format = format,
                Err(reason) => say(&reason),
            },
            (other, _) => say(&format!("\\{other} is no command; \\? lists them")),
        }
        Ok(Next::Line)
    }

    /// Runs one statement; false when it failed or was given up. Only a broken output ends the
    /// shell.
    fn statement(&mut self, sql: &str) -> Result<bool, CliError> {
        let watch = Stopwatch::start();
        let running = async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => Ok(None),
                done = self.answer(sql) => done.map(Some),
            }
        };
        match self.runtime.block_on(running) {
            Ok(Some(printed)) => {
                if self.timing && self.format == Format::Table {
                    say(&note(&printed, watch.elapsed()));
                }
                if !printed.has_rows {
                    self.fetch_names();
                }
                Ok(true)
            }
            Ok(None) => {
                say("given up");
                Ok(false)
            }
            Err(error @ CliError::Output(_)) => Err(error),
            Err(error) => {
                error.report();
                Ok(false)
            }
        }
    }

    async fn answer(&self, sql: &str) -> Result<Printed, CliError> {
        let mut out = std::io::stdout().lock();
        let printed =
            script::answer(self.client, sql, &self.freshness, self.format, &mut out).await?;
        out.flush()?;
        Ok(printed)
    }

    /// Asks the node for names to complete. Without them the shell works as well.
    fn fetch_names(&mut self) {
        let Ok(names) = self.runtime.block_on(names(self.client)) else {
            return;
        };
        if let Some(helper) = self.editor.helper_mut() {
            helper.names = names;
        }
    }
}

async fn names(client: &Client) -> Result<Names, ClientError> {
    let streams = first_column(client, "SHOW STREAMS").await?;
    let mut columns: Vec<String> = Vec::new();
    for stream in streams.iter().take(DESCRIBED_MAX) {
        for column in first_column(client, &format!("DESCRIBE \"{stream}\"")).await? {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    Ok(Names { streams, columns })
}

/// The first column of an answer, as text.
async fn first_column(client: &Client, sql: &str) -> Result<Vec<String>, ClientError> {
    let mut answer = client.query(sql, &Freshness::Latest).await?;
    let mut values = Vec::new();
    while let Some(part) = answer.next().await? {
        let Part::Rows(bytes) = part else { continue };
        // Names that cannot be read are names that cannot be completed, no more.
        let Ok((schema, batches)) = decode_batches(bytes) else { continue };
        let lines = to_text(Format::NdJson, &schema, &batches).unwrap_or_default();
        values.extend(lines.lines().filter_map(first_value));
    }
    Ok(values)
}

/// The first value of an object, if it is text.
fn first_value(line: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(line).ok()?;
    let first = object.as_object()?.values().next()?;
    first.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_the_first_column() {
        assert_eq!(first_value("{\"z\":\"flights\",\"a\":\"x\"}"), Some("flights".into()));
        assert_eq!(first_value("{\"z\":1}"), None);
        assert_eq!(first_value(""), None);
    }
}
