//! Statements one after another, without a person.

use std::io::Write;

use alluvium_query::print::Format;
use alluvium_query::split_statements;

use super::SqlArgs;
use super::print::{Printed, note, print_answer};
use super::subscribe::{self, Subscribe};
use crate::cli::{CliError, say};
use crate::clock::Stopwatch;
use crate::grpc::client::{Client, ClientError, Freshness, Retry};

/// Statements with semicolons between them.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where they stand, if in a file.
    pub file: Option<String>,
    /// The statements.
    pub text: String,
}

/// Runs all statements of all scripts, up to the first that fails unless told to go on.
pub async fn run(
    client: &Client,
    args: &SqlArgs,
    scripts: &[Script],
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let freshness = args.freshness.freshness();
    let mut failed = 0;
    for script in scripts {
        for (line, sql) in script.statements()? {
            let watch = Stopwatch::start();
            match answer(client, &sql, &freshness, args.format, out).await {
                Ok(printed) => {
                    if args.format == Format::Table {
                        // Beside the tables, not in them: scripts may keep the tables.
                        out.flush()?;
                        say(&note(&printed, watch.elapsed()));
                    }
                }
                Err(CliError::Client(error)) => {
                    out.flush()?;
                    let error = CliError::Failed(format!("{}{error}", script.place(line)));
                    if !args.keep_going {
                        return Err(error);
                    }
                    error.report();
                    failed += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    out.flush()?;
    match failed {
        0 => Ok(()),
        1 => Err(CliError::Failed("1 statement failed".into())),
        _ => Err(CliError::Failed(format!("{failed} statements failed"))),
    }
}

/// Runs one statement. A subscription is printed until the process is told to end.
pub(super) async fn answer(
    client: &Client,
    sql: &str,
    freshness: &Freshness,
    format: Format,
    out: &mut dyn Write,
) -> Result<Printed, CliError> {
    match Subscribe::parse(sql) {
        Some(Ok(asked)) => match subscribe::run(client, &asked, format, out).await? {},
        Some(Err(reason)) => {
            Err(CliError::Client(ClientError::Refused { message: reason, retry: Retry::Never }))
        }
        None => {
            let mut answer = client.query(sql, freshness).await?;
            print_answer(&mut answer, format, out).await
        }
    }
}

impl Script {
    /// The statements, each with the line it begins on.
    fn statements(&self) -> Result<Vec<(usize, String)>, CliError> {
        let statements = split_statements(&self.text)
            .map_err(|error| CliError::Failed(format!("{}{error}", self.place(0))))?;
        let mut placed = Vec::new();
        let mut from = 0;
        for sql in statements {
            // Statements come in order and as they were written, so each is found after the last.
            let start = self.text[from..].find(&sql).map_or(from, |at| from + at);
            let line = 1 + self.text[..start].matches('\n').count();
            // A comment belongs to the statement it stands before; the line meant is that of the
            // first word.
            let comments = sql.lines().take_while(|line| is_comment(line)).count();
            from = start + sql.len();
            placed.push((line + comments, sql));
        }
        Ok(placed)
    }

    /// What stands before a message about a statement.
    fn place(&self, line: usize) -> String {
        match &self.file {
            Some(file) if line == 0 => format!("{file}: "),
            Some(file) => format!("{file}:{line}: "),
            None => String::new(),
        }
    }
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_know_their_lines() {
        let text = "-- streams\n\nCREATE STREAM a (x BIGINT);\n\n-- what there is\nSELECT 1;\
                    SELECT ';' AS x;\n";
        let script = Script { file: Some("s.sql".into()), text: text.into() };
        let lines: Vec<_> =
            script.statements().unwrap().into_iter().map(|(line, sql)| (line, sql.len())).collect();
        assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 6, 6]);
        assert_eq!(script.place(6), "s.sql:6: ");
        assert_eq!(Script { file: None, text: String::new() }.place(6), "");
    }

    #[test]
    fn a_script_of_nothing_has_no_statements() {
        for text in ["", " \n;;\n", "-- nothing\n"] {
            let script = Script { file: None, text: text.into() };
            assert_eq!(script.statements().unwrap().len(), 0, "{text:?}");
        }
    }
}
