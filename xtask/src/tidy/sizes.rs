//! Small enough to be proofread: files, functions and lines have a size, and files say what they
//! are.

use super::Finding;
use super::source::Source;

/// Lines a file may have.
pub const FILE_LINES_MAX: usize = 500;
/// Lines a function may have, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Columns a line may have, as in rustfmt.toml.
pub const LINE_COLUMNS_MAX: usize = 100;

/// Everything too long, and a missing module doc.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let count = source.lines.len() - usize::from(source.lines.last().is_some_and(String::is_empty));
    if FILE_LINES_MAX < count {
        let what = format!("{count} lines are more than {FILE_LINES_MAX}: make it two files");
        findings.push(Finding::new(&source.path, FILE_LINES_MAX + 1, what));
    }
    for (name, first, last) in source.functions() {
        let count = last - first + 1;
        if FUNCTION_LINES_MAX < count {
            let what = format!("`{name}` has {count} lines, more than {FUNCTION_LINES_MAX}");
            findings.push(Finding::new(&source.path, first + 1, what));
        }
    }
    for (number, line) in source.lines.iter().enumerate() {
        let columns = line.chars().count();
        let exempt = is_table(line) || is_one_string(source, number);
        if LINE_COLUMNS_MAX < columns && !exempt {
            let what = format!(
                "{columns} columns are more than {LINE_COLUMNS_MAX} \
                 (comments: cargo xtask tidy --fix)"
            );
            findings.push(Finding::new(&source.path, number + 1, what));
        }
    }
    let first = source.lines.iter().find(|line| !line.trim().is_empty());
    if !first.is_some_and(|line| line.starts_with("//!")) {
        let what = "begin with a module doc (`//!`): what it is, what it is not".to_string();
        findings.push(Finding::new(&source.path, 1, what));
    }
    findings
}

/// A row of a table in a comment cannot be broken.
fn is_table(line: &str) -> bool {
    let inner = line.trim_start();
    inner.starts_with("//") && inner.trim_start_matches(['/', '!', ' ']).starts_with('|')
}

/// True when it is a string's content that makes the line long: a string is data, and breaking an
/// expected answer in the middle makes it harder to read, not easier.
fn is_one_string(source: &Source, number: usize) -> bool {
    let inside: usize = source
        .strings
        .iter()
        .filter(|(line, text)| (*line..=*line + text.matches('\n').count()).contains(&number))
        .map(|(line, text)| {
            text.split('\n').nth(number - line).map_or(0, |part| part.chars().count())
        })
        .sum();
    0 < inside && source.lines[number].chars().count() <= LINE_COLUMNS_MAX + inside
}
