//! SQL answers over real events are DuckDB's answers.
//!
//! The statements lie in `slt/*.slt`, the questions in `examples/*/questions.sql`. DuckDB answered
//! them over the same rows (`slt/duckdb.py`); here the engine answers them, with the events in the
//! tail, in segments, and in both. All files run; what differs is listed at the end.

mod database;
mod feed;
mod show;

use std::path::{Path, PathBuf};

use database::{Database, State};
use sqllogictest::{Normalizer, Record, Runner, strict_column_validator};

/// Statements that the corpus must have, so that it cannot quietly become empty.
const STATEMENTS_MIN: usize = 350;

#[tokio::test]
async fn answers_equal_duckdb_over_the_tail() {
    run_all(State::TailOnly).await;
}

#[tokio::test]
async fn answers_equal_duckdb_over_segments() {
    run_all(State::SealedOnly).await;
}

#[tokio::test]
async fn answers_equal_duckdb_over_segments_and_tail() {
    run_all(State::Mixed).await;
}

async fn run_all(state: State) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = Database::open(folder.path(), state).await;
    let mut failures = Vec::new();
    let mut statement_count = 0;
    for path in scripts() {
        statement_count += run_script(&database, &path, &mut failures).await;
    }
    let mut question_count = 0;
    for example in feed::examples() {
        question_count += ask_questions(&database, &example, &mut failures).await;
    }
    let differing = failures.len();
    assert!(failures.is_empty(), "{differing} differ, {state:?}:\n\n{}", failures.join("\n\n"));
    assert!(STATEMENTS_MIN <= statement_count, "only {statement_count} statements ran");
    assert_eq!(question_count, 15, "each of the three examples asks five questions");
}

fn scripts() -> Vec<PathBuf> {
    let folder = feed::package_folder().join("slt");
    let entries = folder.read_dir().expect("the scripts lie beside the sources");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut scripts: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "slt")).collect();
    scripts.sort();
    scripts
}

/// Runs one file; returns how many statements it has.
async fn run_script(database: &Database, path: &Path, failures: &mut Vec<String>) -> usize {
    let mut runner = Runner::new(|| async { Ok(database.clone()) });
    runner.with_column_validator(strict_column_validator);
    runner.with_validator(same_rows);
    let mut statement_count = 0;
    for record in sqllogictest::parse_file(path).expect("a well-formed script") {
        // A record under a condition is one that the engine is known to fail at: it does not count.
        if let Record::Statement { conditions, .. } | Record::Query { conditions, .. } = &record {
            statement_count += usize::from(conditions.is_empty());
        }
        if let Err(error) = runner.run_async(record).await {
            failures.push(error.display(false).to_string());
        }
    }
    statement_count
}

/// Values are joined as the scripts have them, and compared without any tolerance.
fn same_rows(_: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    actual.iter().map(|row| row.join("|")).eq(expected.iter().cloned())
}

/// Asks the questions of one example; returns how many there are.
async fn ask_questions(database: &Database, example: &Path, failures: &mut Vec<String>) -> usize {
    let read = |name| std::fs::read_to_string(example.join(name)).expect("a readable file");
    let questions = alluvium_query::split_statements(&read("questions.sql")).expect("statements");
    let answers = read("answers.txt");
    let answers: Vec<&str> = answers.trim_end().split("\n\n").collect();
    assert_eq!(
        questions.len(),
        answers.len(),
        "{} has an answer to each question",
        example.display()
    );
    for (question, expected) in questions.iter().zip(answers) {
        let actual = answer(database, question).await;
        if actual != expected {
            let place = example.display();
            failures.push(format!("{place}\nexpected: {expected}\nactual: {actual}"));
        }
    }
    questions.len()
}

/// The question's comment, the column names, and the rows, as `answers.txt` has them.
async fn answer(database: &Database, question: &str) -> String {
    let mut lines: Vec<String> =
        question.lines().take_while(|line| line.starts_with("--")).map(String::from).collect();
    match database.ask(question).await {
        Ok((schema, batches)) => {
            let names: Vec<&str> =
                schema.fields().iter().map(|field| field.name().as_str()).collect();
            lines.push(names.join("|"));
            lines.extend(batches.iter().flat_map(show::rows).map(|row| row.join("|")));
        }
        Err(error) => lines.push(error.to_string()),
    }
    lines.join("\n")
}
