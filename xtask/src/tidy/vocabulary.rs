//! One word, one meaning: names in code keep to docs/VOCABULARY.md, and what a user can type or
//! read (tables of `system`, metrics, variables) stands in the documents.

use anyhow::{Context, Result};

use super::source::{Source, is_word, word_starts};
use super::{Finding, markdown};

/// Where the words stand that our names do not use.
pub const NAMES: &str = "## Words our names do not use";
/// Where the words stand that say nothing about a file.
pub const FILES: &str = "## Words our files are not named by";

/// A word that names do not use, and what to say instead.
pub type Avoided = Vec<(String, String)>;

/// What introduces a name of ours.
const INTRODUCERS: [&str; 8] = ["fn", "struct", "enum", "trait", "mod", "const", "static", "type"];

/// Reads the table.
pub fn table(vocabulary: &str, heading: &str) -> Result<Avoided> {
    let rows = markdown::table(vocabulary, heading);
    let rows = rows.with_context(|| format!("docs/VOCABULARY.md has no table {heading:?}"))?;
    let mut avoided = Avoided::new();
    for row in rows {
        let words = row.first().map(|cell| markdown::quoted(cell)).unwrap_or_default();
        let instead = row.get(1).cloned().unwrap_or_default();
        avoided.extend(words.into_iter().map(|word| (word, instead.clone())));
    }
    Ok(avoided)
}

/// Names defined in a file that use a word of another trade.
pub fn check_names(avoided: &Avoided, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, code) in source.code.iter().enumerate() {
        for introducer in INTRODUCERS {
            for place in word_starts(code, introducer) {
                let rest = code[place + introducer.len()..].trim_start();
                let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
                findings.extend(check_name(avoided, &name, &source.path, number + 1));
            }
        }
    }
    findings
}

/// Folders and files named by a word that says nothing.
pub fn check_file(avoided: &Avoided, path: &str) -> Vec<Finding> {
    let names = path.split('/').map(|name| name.trim_end_matches(".rs"));
    names.flat_map(|name| check_name(avoided, name, path, 0)).collect()
}

fn check_name(avoided: &Avoided, name: &str, path: &str, line: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in parts(name) {
        if let Some((word, instead)) = avoided.iter().find(|(word, _)| *word == part) {
            let what = format!("`{name}` uses \"{word}\": say {instead}");
            findings.push(Finding::new(path, line, what));
        }
    }
    findings
}

/// A kind of word that a user meets: how it begins in a string of our code, and which document
/// explains it.
struct Public {
    prefix: &'static str,
    document: &'static str,
}

const OPERATIONS: &str = "docs/OPERATIONS.md";

const PUBLIC: [Public; 3] = [
    Public { prefix: "system.", document: "docs/SQL.md" },
    Public { prefix: "alluvium_", document: OPERATIONS },
    Public { prefix: "ALLUVIUM_", document: OPERATIONS },
];

/// Crates have names like metrics; filters of the log speak of them.
const CRATES: [&str; 5] =
    ["alluvium_core", "alluvium_node", "alluvium_proto", "alluvium_query", "alluvium_store"];

/// Tables, metrics and variables in strings outside tests that no document explains. `read` gives a
/// document's text.
pub fn check_documents(source: &Source, read: impl Fn(&str) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = source.path.starts_with("node/");
    for (line, text) in source.strings.iter().filter(|(line, _)| ours && !source.test[*line]) {
        for public in &PUBLIC {
            for word in words_with(text, public.prefix) {
                let known = CRATES.contains(&word.as_str()) || word == "alluvium_views";
                if !known && !read(public.document).contains(&word) {
                    let what = format!("explain `{word}` in {}", public.document);
                    findings.push(Finding::new(&source.path, line + 1, what));
                }
            }
        }
    }
    for (line, word) in declared(source) {
        if ours && !source.test[line] && !read(OPERATIONS).contains(&word) {
            let what = format!("explain `{word}` in {OPERATIONS}");
            findings.push(Finding::new(&source.path, line + 1, what));
        }
    }
    findings
}

/// What a node is told and what it tells, by the call or field that declares it: metrics, which get
/// their prefix from the registry, and keys of the configuration.
fn declared(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let keys = source.path.ends_with("config/keys.rs");
    for (line, code) in source.code.iter().enumerate() {
        let metric = code.contains(".register(\"")
            || code.contains(".register_with_unit(\"")
            || code.trim_end().ends_with(".register(")
            || code.trim_end().ends_with(".register_with_unit(");
        let key = keys && code.trim_start().starts_with("name: \"");
        let first = source.strings.iter().find(|(at, _)| line <= *at);
        match first {
            Some((at, text)) if metric => found.push((*at, format!("alluvium_{text}"))),
            Some((at, text)) if key => found.push((*at, format!("`{text}`"))),
            _ => {}
        }
    }
    found
}

/// Words of a text that begin with `prefix` and go on.
fn words_with(text: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in text.match_indices(prefix) {
        let before = text[..place].chars().next_back();
        if before.is_some_and(|c| is_word(c) || matches!(c, '-' | '/' | '.')) {
            continue;
        }
        let rest = &text[place + prefix.len()..];
        let tail: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if !tail.is_empty() {
            found.push(format!("{prefix}{tail}"));
        }
    }
    found
}

/// The words of a name: `BatchQueue` and `batch_queue` are both batch, queue.
fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut previous_lower = false;
    for c in name.chars() {
        let starts = c.is_uppercase() && previous_lower;
        if (starts || !is_word(c) || c == '_') && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if is_word(c) && c != '_' {
            part.extend(c.to_lowercase());
        }
        previous_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}
